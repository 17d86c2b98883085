import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { sent } from "../test/build";
import { Outbox, type Outgoing } from "./outbox";
import { ConnectionLost, RpcError } from "./rpc";
import type { Message } from "./types";

let sends: Outgoing[];
let answer: (item: Outgoing) => Promise<Message>;
let arrived: Message[];

function outbox(operatorId = "me"): Outbox {
  return new Outbox({
    operatorId,
    storage: localStorage,
    send: (item) => {
      sends.push(item);
      return answer(item);
    },
    onSent: (m) => arrived.push(m),
    onChange: () => undefined,
  });
}

const stored = () => Object.keys(localStorage).filter((k) => k.startsWith("switchboard.outbox."));
const text = (t: string, chat_id = "c1") => ({ chat_id, kind: "text" as const, text: t });
const accept = (item: Outgoing) => Promise.resolve(sent(1, { chat_id: item.chat_id, client_id: item.client_id }));

beforeEach(() => {
  vi.useFakeTimers();
  sends = [];
  arrived = [];
  answer = accept;
});
afterEach(() => {
  vi.useRealTimers();
});

describe("the outbox", () => {
  it("keeps a message until the server has it", async () => {
    const box = outbox();
    box.add(text("one"));
    expect(sends).toHaveLength(0);
    expect(stored()).toHaveLength(1);
    box.resume();
    await vi.advanceTimersByTimeAsync(0);
    expect(arrived).toHaveLength(1);
    expect(box.list()).toHaveLength(0);
    expect(stored()).toHaveLength(0);
  });

  it("survives a reload with the same client_id", async () => {
    const before = outbox();
    answer = () => Promise.reject(new ConnectionLost());
    before.resume();
    const item = before.add(text("one"));
    await vi.advanceTimersByTimeAsync(0);
    before.stop();
    answer = accept;
    const after = outbox();
    expect(after.list().map((i) => i.text)).toEqual(["one"]);
    after.resume();
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.client_id)).toEqual([item.client_id, item.client_id]);
  });

  it("is not read by another operator of the same browser", () => {
    outbox("me").add(text("secret"));
    expect(outbox("somebody").list()).toHaveLength(0);
  });

  it("keeps the order within a chat and does not hold other chats", async () => {
    let release: (m: Message) => void = () => undefined;
    answer = (item) => (item.text === "a1" ? new Promise((resolve) => (release = resolve)) : accept(item));
    const box = outbox();
    box.resume();
    const first = box.add(text("a1"));
    box.add(text("a2"));
    box.add(text("b1", "c2"));
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.text)).toEqual(["a1", "b1"]);
    release(sent(1, { client_id: first.client_id }));
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.text)).toEqual(["a1", "b1", "a2"]);
  });

  it("tries again what may succeed later, and nothing overtakes it", async () => {
    let times = 0;
    answer = (item) => (++times < 3 ? Promise.reject(new RpcError(1006, "unavailable", "")) : accept(item));
    const box = outbox();
    box.resume();
    box.add(text("one"));
    box.add(text("two"));
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.text)).toEqual(["one"]);
    await vi.advanceTimersByTimeAsync(1_000);
    await vi.advanceTimersByTimeAsync(2_000);
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.text)).toEqual(["one", "one", "one", "two"]);
    expect(new Set(sends.slice(0, 3).map((s) => s.client_id)).size).toBe(1);
  });

  it("shows a refusal, lets the next one pass, and sends it again when told", async () => {
    answer = (item) =>
      item.text === "bad" ? Promise.reject(new RpcError(1004, "limit_exceeded", "too long")) : accept(item);
    const box = outbox();
    box.resume();
    const bad = box.add(text("bad"));
    box.add(text("good"));
    await vi.advanceTimersByTimeAsync(0);
    expect(sends.map((s) => s.text)).toEqual(["bad", "good"]);
    expect(box.list()).toMatchObject([
      { text: "bad", state: "failed", error: { reason: "limit_exceeded", detail: "too long" } },
    ]);
    answer = accept;
    box.retry(bad.client_id);
    await vi.advanceTimersByTimeAsync(0);
    expect(box.list()).toHaveLength(0);
  });

  it("discards on demand", async () => {
    answer = () => Promise.reject(new RpcError(1003, "unsupported_by_channel", ""));
    const box = outbox();
    box.resume();
    const item = box.add(text("x"));
    await vi.advanceTimersByTimeAsync(0);
    box.discard(item.client_id);
    expect(box.list()).toHaveLength(0);
    expect(stored()).toHaveLength(0);
  });

  it("believes an event that is faster than the answer", async () => {
    answer = () => Promise.reject(new ConnectionLost());
    const box = outbox();
    box.resume();
    const item = box.add(text("x"));
    box.seen(sent(4, { client_id: item.client_id }));
    expect(box.list()).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sends).toHaveLength(1);
    expect(box.list()).toHaveLength(0);
  });

  it("sends nothing while the connection is away", async () => {
    const box = outbox();
    box.resume();
    box.pause();
    box.add(text("x"));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sends).toHaveLength(0);
  });

  it("ignores rubbish in the storage", () => {
    localStorage.setItem("switchboard.outbox.me.x", "{broken");
    localStorage.setItem("switchboard.outbox.me.y", "{}");
    expect(outbox().list()).toHaveLength(0);
  });
});
