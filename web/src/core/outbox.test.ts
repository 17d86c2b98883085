import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { aMessage } from "../test/made";
import { Outbox, type Outgoing } from "./outbox";
import { ConnectionLost, RpcError } from "./rpc";
import type { Message } from "./types";

type Answer = { item: Outgoing; resolve: (m: Message) => void; reject: (e: Error) => void };

let answers: Answer[];
let sent: Message[];

function make(operatorId = "o1"): Outbox {
  return new Outbox({
    operatorId,
    storage: localStorage,
    send: (item) => new Promise((resolve, reject) => answers.push({ item, resolve, reject })),
    onSent: (m) => sent.push(m),
    onChange: () => undefined,
  });
}

const taken = (a: Answer | undefined) => a?.resolve(aMessage(4, { direction: "out", client_id: a.item.client_id }));
const text = (text: string, chat_id = "c1") => ({ chat_id, kind: "text" as const, text });

beforeEach(() => {
  vi.useFakeTimers();
  answers = [];
  sent = [];
});
afterEach(() => vi.useRealTimers());

it("sends one after another within a chat, and chats side by side", async () => {
  const box = make();
  box.resume();
  box.add(text("first"));
  box.add(text("second"));
  box.add(text("elsewhere", "c2"));
  expect(answers.map((a) => a.item.text)).toEqual(["first", "elsewhere"]);
  taken(answers[0]);
  await vi.advanceTimersByTimeAsync(0);
  expect(answers.map((a) => a.item.text)).toEqual(["first", "elsewhere", "second"]);
  expect(sent).toHaveLength(1);
});

it("outlives a reload and sends again under the same client_id", async () => {
  const before = make();
  const item = before.add(text("kept"));
  const after = make();
  expect(after.list()).toEqual([item]);
  expect(make("another operator").list()).toEqual([]);
  after.resume();
  expect(answers[0]?.item.client_id).toBe(item.client_id);
  taken(answers[0]);
  await vi.advanceTimersByTimeAsync(0);
  expect(localStorage.length).toBe(0);
});

it("tries again when nobody knows what happened", async () => {
  const box = make();
  box.resume();
  box.add(text("unsure"));
  answers[0]?.reject(new ConnectionLost());
  await vi.advanceTimersByTimeAsync(1_000);
  expect(answers).toHaveLength(2);
  expect(answers[1]?.item.client_id).toBe(answers[0]?.item.client_id);
});

it("shows a refusal with its reason, goes on with the next, and tries again when told", async () => {
  const box = make();
  box.resume();
  const refused = box.add(text("too long"));
  box.add(text("next"));
  answers[0]?.reject(new RpcError(1004, "limit_exceeded", "4096"));
  await vi.advanceTimersByTimeAsync(0);
  expect(box.list()[0]).toMatchObject({ state: "failed", error: { reason: "limit_exceeded", detail: "4096" } });
  expect(answers[1]?.item.text).toBe("next");
  taken(answers[1]);
  await vi.advanceTimersByTimeAsync(0);
  box.retry(refused.client_id);
  expect(answers[2]?.item.client_id).toBe(refused.client_id);
});

it("takes an event as the answer", async () => {
  const box = make();
  box.resume();
  const item = box.add(text("seen"));
  box.seen(aMessage(4, { direction: "out", client_id: item.client_id }));
  expect(box.list()).toEqual([]);
  answers[0]?.reject(new ConnectionLost());
  await vi.advanceTimersByTimeAsync(5_000);
  expect(answers).toHaveLength(1);
});
