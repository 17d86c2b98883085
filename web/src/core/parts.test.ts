import { afterEach, describe, expect, it, vi } from "vitest";
import { capabilities, message, sent } from "../test/build";
import { Drafts, emptyDraft, messagesOf } from "./drafts";
import { FileCache } from "./files";
import { newId } from "./id";
import { count, fileLimit, kindOf, lengthNote } from "./limits";
import type { Outgoing } from "./outbox";
import { RestError, type Upload } from "./rest";
import { rowOfMessage, rowsOf } from "./rows";
import { forgetSession, readSession, writeSession } from "./session";
import { Store } from "./store";
import type { Uploaded } from "./types";

describe("limits", () => {
  it("counts as the platforms do", () => {
    expect(count("яя🙂", "utf16")).toBe(4);
    expect(count("яя🙂", "runes")).toBe(3);
    expect(count("яя🙂", "bytes")).toBe(8);
  });

  it("chooses a kind that the channel can send", () => {
    expect(kindOf("image/png", capabilities())).toBe("image");
    expect(kindOf("image/svg+xml", capabilities())).toBe("document");
    expect(kindOf("video/mp4", capabilities({ send: ["text", "document"] }))).toBe("document");
    expect(kindOf("", undefined)).toBe("document");
    expect(fileLimit(capabilities(), "image")).toBe(1000);
    expect(fileLimit(capabilities(), "video")).toBe(5000);
    expect(fileLimit(undefined, "video")).toBe(0);
  });

  it("speaks of the length near the limit only", () => {
    const caps = capabilities(); // two messages of 100
    expect(lengthNote("x".repeat(79), caps)).toBeNull();
    expect(lengthNote("x".repeat(80), caps)).toMatchObject({ max: 100, parts: 1, over: false });
    expect(lengthNote("x".repeat(101), caps)).toMatchObject({ max: 200, parts: 2, over: false });
    expect(lengthNote("x".repeat(201), caps)).toMatchObject({ max: 200, over: true });
    expect(lengthNote("x".repeat(999), undefined)).toBeNull();
  });
});

describe("rows", () => {
  const out = (more: Partial<Outgoing>): Outgoing => ({
    client_id: "k",
    chat_id: "c1",
    kind: "text",
    text: "on its way",
    created_at: Date.parse(message(9).created_at),
    state: "waiting",
    ...more,
  });

  it("separates days and marks the first new message", () => {
    const items = [
      message(1, { created_at: new Date(2026, 10, 20, 12).toISOString() }),
      message(2, { created_at: new Date(2026, 10, 21, 12).toISOString() }),
      sent(3, { created_at: new Date(2026, 10, 21, 12, 1).toISOString() }),
      message(4, { created_at: new Date(2026, 10, 21, 12, 2).toISOString() }),
    ];
    expect(rowsOf(items, [], 2, "me").map((r) => r.type)).toEqual([
      "day",
      "messages",
      "day",
      "messages",
      "messages",
      "new",
      "messages",
    ]);
    expect(rowsOf(items, [], null, "me").some((r) => r.type === "new")).toBe(false);
  });

  it("puts an album into one row", () => {
    const items = [message(1, { album: "a" }), message(2, { album: "a" }), message(3, { album: "b" }), message(4)];
    const rows = rowsOf(items, [], null, "me").filter((r) => r.type === "messages");
    expect(rows.map((r) => r.messages.length)).toEqual([2, 1, 1]);
    expect(rowOfMessage(rowsOf(items, [], null, "me"), "m2")).toBe(1);
    expect(rowOfMessage([], "m2")).toBe(-1);
  });

  it("joins a run of one sender", () => {
    const rows = rowsOf([message(1), message(2), sent(3), message(4)], [], null, "me").filter(
      (r) => r.type === "messages",
    );
    expect(rows.map((r) => [r.first, r.last])).toEqual([
      [true, false],
      [false, true],
      [true, true],
      [true, true],
    ]);
  });

  it("shows a message on its way until the history has it, under the same key", () => {
    const before = rowsOf([message(1)], [out({})], null, "me");
    expect(before.at(-1)).toMatchObject({ type: "outgoing", key: "c:k" });
    const after = rowsOf([message(1), sent(2, { client_id: "k" })], [out({})], null, "me");
    expect(after.filter((r) => r.type === "outgoing")).toHaveLength(0);
    expect(after.at(-1)?.key).toBe("c:k");
  });
});

describe("drafts", () => {
  const uploaded = (name: string): Uploaded => ({ id: `id-${name}`, name, mime: "image/png", size: 3 });
  function drafts(upload: (file: File) => Promise<Uploaded> = (f) => Promise.resolve(uploaded(f.name))) {
    const aborted: string[] = [];
    const d = new Drafts(
      (file): Upload => ({ done: upload(file), abort: () => aborted.push(file.name) }),
      () => "me",
    );
    return { d, aborted };
  }
  const file = (name: string, size = 3, type = "image/png") => new File([new Uint8Array(size)], name, { type });

  it("keeps texts over a reload, and for their chat and operator only", () => {
    drafts().d.setText("c1", "half a sentence");
    expect(drafts().d.get("c1").text).toBe("half a sentence");
    expect(drafts().d.get("c2").text).toBe("");
  });

  it("refuses files that the channel does not take, before they are uploaded", () => {
    const { d } = drafts();
    const refused = d.attach(
      "c1",
      [file("big.png", 1001), file("empty.txt", 0, "text/plain"), file("ok.png")],
      capabilities(),
    );
    expect(refused.map((r) => [r.name, r.limit])).toEqual([
      ["big.png", 1000],
      ["empty.txt", 0],
    ]);
    expect(d.get("c1").attachments.map((a) => a.file.name)).toEqual(["ok.png"]);
  });

  it("sends files by kind, with the text on the first and no more than the channel takes", async () => {
    const { d } = drafts();
    d.attach(
      "c1",
      [file("1.png"), file("2.png"), file("3.png"), file("4.png"), file("5.pdf", 3, "application/pdf")],
      capabilities(),
    );
    d.setText("c1", " look ");
    d.reply("c1", message(1));
    expect(messagesOf("c1", d.get("c1"), capabilities())).toEqual([]); // still on their way up
    await vi.waitFor(() => expect(d.get("c1").attachments.every((a) => a.state === "ready")).toBe(true));
    const messages = d.take("c1", capabilities());
    expect(messages.map((m) => [m.kind, m.files?.length, m.text, m.reply_to])).toEqual([
      ["image", 3, "look", "m1"],
      ["image", 1, undefined, undefined],
      ["document", 1, undefined, undefined],
    ]);
    expect(d.get("c1")).toEqual(emptyDraft);
    expect(localStorage.length).toBe(0);
  });

  it("shows a failed upload and tries again", async () => {
    let fail = true;
    const { d, aborted } = drafts((f) =>
      fail ? Promise.reject(new RestError(413, "too_large", "too much")) : Promise.resolve(uploaded(f.name)),
    );
    d.attach("c1", [file("1.png")], capabilities());
    await vi.waitFor(() => expect(d.get("c1").attachments[0]).toMatchObject({ state: "failed", detail: "too much" }));
    fail = false;
    const key = d.get("c1").attachments[0]?.key ?? "";
    d.retry("c1", key);
    await vi.waitFor(() => expect(d.get("c1").attachments[0]?.state).toBe("ready"));
    d.detach("c1", key);
    expect(d.get("c1").attachments).toHaveLength(0);
    expect(aborted).toHaveLength(0); // it was up already
  });

  it("gives the draft back after an edit", () => {
    const { d } = drafts();
    d.setText("c1", "being written");
    d.edit("c1", sent(5, { text: "sent before" }));
    expect(d.get("c1").text).toBe("sent before");
    d.setText("c1", "sent before!");
    d.stopEditing("c1");
    expect(d.get("c1")).toMatchObject({ text: "being written", editing: null });
  });
});

describe("files", () => {
  afterEach(() => vi.restoreAllMocks());

  it("fetches once, keeps what is shown, and gives back the rest", async () => {
    let made = 0;
    const revoked: string[] = [];
    URL.createObjectURL = () => `blob:${++made}`;
    URL.revokeObjectURL = (url) => revoked.push(url);
    const load = vi.fn((id: string) => Promise.resolve(new Blob([id.repeat(10)])));
    const cache = new FileCache(load, 25);
    const [a, again] = await Promise.all([cache.acquire("a"), cache.acquire("a")]);
    expect(a).toBe(again);
    expect(load).toHaveBeenCalledTimes(1);
    await cache.acquire("b");
    await cache.acquire("c"); // 30 bytes, but all in use
    expect(revoked).toEqual([]);
    cache.release("b");
    expect(revoked).toEqual(["blob:2"]);
    cache.release("a");
    expect(revoked).toEqual(["blob:2"]); // 20 bytes fit, though one use is left
    cache.clear();
    expect(revoked.sort()).toEqual(["blob:1", "blob:2", "blob:3"]);
  });

  it("tries again after a failure", async () => {
    const load = vi
      .fn()
      .mockRejectedValueOnce(new Error("no"))
      .mockResolvedValue(new Blob(["x"]));
    const cache = new FileCache(load);
    await expect(cache.acquire("a")).rejects.toThrow("no");
    await expect(cache.acquire("a")).resolves.toMatch(/^blob:/);
  });
});

describe("small things", () => {
  it("keeps a session where it was asked to, as long as it is valid", () => {
    const session = { token: "t", expires_at: "2030-01-01T00:00:00Z" };
    writeSession(session, false);
    expect(sessionStorage.length).toBe(1);
    expect(localStorage.length).toBe(0);
    writeSession(session, true);
    expect(sessionStorage.length).toBe(0);
    expect(readSession(Date.parse("2029-12-31"))?.token).toBe("t");
    expect(readSession(Date.parse("2030-01-02"))).toBeNull();
    writeSession(session, true);
    forgetSession();
    expect(readSession(0)).toBeNull();
  });

  it("makes ids also without a secure context", () => {
    const form = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    expect(newId()).toMatch(form);
    vi.stubGlobal("crypto", { getRandomValues: crypto.getRandomValues.bind(crypto) });
    expect(newId()).toMatch(form);
    vi.unstubAllGlobals();
  });

  it("tells readers of the store once for a burst, and not at all for no change", async () => {
    vi.useFakeTimers();
    const store = new Store(0);
    const heard = vi.fn();
    const stop = store.subscribe(heard);
    for (let i = 0; i < 100; i++) store.setSoon((n) => n + 1);
    expect(store.get()).toBe(100);
    expect(heard).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(20);
    expect(heard).toHaveBeenCalledTimes(1);
    store.set((n) => n);
    expect(heard).toHaveBeenCalledTimes(1);
    store.set((n) => n + 1);
    expect(heard).toHaveBeenCalledTimes(2);
    stop();
    vi.useRealTimers();
  });
});
