import { describe, expect, it, vi } from "vitest";
import { allCan, aMessage } from "../test/made";
import { pieces } from "../ui/linkify";
import { emptyDraft, messagesOf } from "./drafts";
import { FileCache } from "./files";
import { count, kindOf, lengthNote } from "./limits";
import { rowsOf } from "./rows";

describe("lengths", () => {
  it("are counted in the channel's unit", () => {
    expect(count("я🙂", "utf16")).toBe(3);
    expect(count("я🙂", "runes")).toBe(2);
    expect(count("я🙂", "bytes")).toBe(6);
  });

  it("are told from four fifths on", () => {
    expect(lengthNote("x".repeat(79), allCan)).toBeNull();
    expect(lengthNote("x".repeat(80), allCan)).toMatchObject({ parts: 1, over: false });
    expect(lengthNote("x".repeat(101), allCan)).toMatchObject({ parts: 2, over: false });
    expect(lengthNote("x".repeat(201), allCan)).toMatchObject({ over: true });
  });

  it("files go as what the channel can carry", () => {
    expect(kindOf("image/png", allCan)).toBe("image");
    expect(kindOf("image/svg+xml", allCan)).toBe("document");
    expect(kindOf("video/mp4", { ...allCan, send: ["text", "document"] })).toBe("document");
  });
});

it("a draft becomes as few messages as the channel allows, the text with the first", () => {
  const file = (id: string, kind: "image" | "document") => ({
    key: id,
    file: new File(["x"], `${id}.bin`),
    kind,
    progress: 1,
    state: "ready" as const,
    uploaded: { id, name: `${id}.bin`, mime: "x/y", size: 1 },
  });
  const draft = {
    ...emptyDraft,
    text: " hello ",
    replyTo: aMessage(2),
    attachments: [file("1", "image"), file("2", "image"), file("3", "image"), file("4", "document")],
  };
  const made = messagesOf("c1", draft, allCan);
  expect(made.map((m) => [m.kind, m.text, m.files?.map((f) => f.id), m.reply_to])).toEqual([
    ["image", "hello", ["1", "2"], "m2"],
    ["image", undefined, ["3"], undefined],
    ["document", undefined, ["4"], undefined],
  ]);
});

describe("rows", () => {
  it("have days, the line above what is new, albums, and what is on its way", () => {
    const items = [
      aMessage(1, { created_at: "2025-12-30T10:00:00Z" }),
      aMessage(2, { album: "x" }),
      aMessage(3, { album: "x" }),
      aMessage(4),
    ];
    const outgoing = {
      client_id: "k",
      chat_id: "c1",
      kind: "text" as const,
      text: "soon",
      created_at: Date.parse("2026-01-01T10:05:00Z"),
      state: "waiting" as const,
    };
    expect(rowsOf(items, [outgoing], 1, "o1").map((r) => r.type)).toEqual([
      "day",
      "messages",
      "day",
      "new",
      "messages",
      "messages",
      "outgoing",
    ]);
  });

  it("show a message once: not again when the server has it", () => {
    const item = { client_id: "k", chat_id: "c1", kind: "text" as const, created_at: 0, state: "waiting" as const };
    const there = aMessage(1, { direction: "out", client_id: "k" });
    const rows = rowsOf([there], [item], null, "o1");
    expect(rows.filter((r) => r.key === "c:k")).toHaveLength(1);
    expect(rows.at(-1)?.type).toBe("messages");
  });
});

it("only http and https become links", () => {
  expect(pieces("see https://a.example/x, javascript:alert(1) and (http://b.example/(y))")).toEqual([
    { text: "see " },
    { text: "https://a.example/x", href: "https://a.example/x" },
    { text: ", javascript:alert(1) and (" },
    { text: "http://b.example/(y)", href: "http://b.example/(y)" },
    { text: ")" },
  ]);
});

it("files are fetched once, and the least recently used ones are given back", async () => {
  let made = 0;
  vi.spyOn(URL, "createObjectURL").mockImplementation(() => `blob:${++made}`);
  const revoked = vi.spyOn(URL, "revokeObjectURL").mockImplementation(() => undefined);
  const load = vi.fn(async () => new Blob(["0123456789"]));
  const cache = new FileCache(load, 25);
  const [a, again] = await Promise.all([cache.acquire("a"), cache.acquire("a")]);
  expect(a).toBe(again);
  expect(load).toHaveBeenCalledTimes(1);
  await cache.acquire("b");
  cache.release("b");
  await cache.acquire("c");
  expect(revoked.mock.calls).toEqual([["blob:2"]]); // b: a and c are on the screen
});
