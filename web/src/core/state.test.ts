import { describe, expect, it } from "vitest";
import { chat, event, message, sent } from "../test/build";
import {
  addPage,
  applyEvent,
  applyHello,
  type DeskState,
  emptyThread,
  initialState,
  mergeMessage,
  mineOf,
  putChat,
  putMessage,
  queueOf,
  takeEarly,
  typingLife,
  unreadTotal,
  waitingSince,
  withoutGap,
} from "./state";
import type { Chat, Hello, Message } from "./types";

const me = { id: "me", name: "Anna", role: "operator" as const };

function loaded(
  items: Message[],
  chats: Chat[] = [chat({ last_seq: items.length, last_message: items.at(-1) ?? null })],
): DeskState {
  return {
    ...initialState,
    me,
    chats: Object.fromEntries(chats.map((c) => [c.id, c])),
    threads: { c1: { ...emptyThread, items, loaded: true } },
  };
}

const seqs = (s: DeskState) => s.threads.c1?.items.map((m) => m.seq);

describe("events", () => {
  it("appends a new message once, however often it comes", () => {
    const first = applyEvent(loaded([message(1)]), event(5, { message: message(2) }), 0);
    expect(seqs(first)).toEqual([1, 2]);
    expect(first.chats.c1?.unread).toBe(1);
    expect(first.cursor).toBe("5");
    const again = applyEvent(first, event(5, { message: message(2) }), 0);
    expect(seqs(again)).toEqual([1, 2]);
    expect(again.chats.c1?.unread).toBe(1);
  });

  it("does not count again what hello had counted already", () => {
    const known = chat({ unread: 3, last_seq: 7, last_message: message(7) });
    const state = { ...initialState, me, chats: { c1: known } };
    const replayed = applyEvent(state, event(6, { message: message(6) }), 0);
    expect(replayed.chats.c1?.unread).toBe(3);
    expect(replayed.chats.c1?.last_message?.seq).toBe(7);
  });

  it("marks a thread with a hole instead of showing messages around it", () => {
    const state = applyEvent(loaded([message(1)]), event(5, { message: message(4) }), 0);
    expect(seqs(state)).toEqual([1]);
    expect(state.threads.c1?.stale).toBe(true);
    expect(state.chats.c1?.last_seq).toBe(4);
  });

  it("ignores what is older than the loaded part", () => {
    const state = applyEvent(loaded([message(10), message(11)]), event(5, { message: message(3) }), 0);
    expect(seqs(state)).toEqual([10, 11]);
    expect(state.threads.c1?.stale).toBe(false);
  });

  it("shows nothing of a chat that was never opened, but its line", () => {
    const state = { ...initialState, me, chats: { c1: chat() } };
    const after = applyEvent(state, event(1, { message: message(1) }), 0);
    expect(after.threads.c1).toBeUndefined();
    expect(after.chats.c1?.last_message?.text).toBe("text 1");
  });

  it("moves the cursor even for a type of a newer server", () => {
    const odd = { ...event(9, {}), type: "customer.sneezed" } as unknown as Parameters<typeof applyEvent>[1];
    const before = loaded([message(1)]);
    const after = applyEvent(before, odd, 0);
    expect(after.cursor).toBe("9");
    expect(after.chats).toBe(before.chats);
  });

  it("ends the typing sign with the message", () => {
    const typing = applyEvent(loaded([]), event(1, { type: "customer.typing" }), 1000);
    expect(typing.typing.c1).toBe(1000 + typingLife);
    expect(applyEvent(typing, event(2, { message: message(1) }), 1000).typing.c1).toBeUndefined();
  });

  it("takes a chat away that may not be read any more, with its messages", () => {
    const state = { ...loaded([message(1)]), selected: "c1" };
    const gone = applyEvent(
      state,
      event(2, { type: "chat.updated", chat: chat({ customer: undefined, operator_id: "other" }) }),
      0,
    );
    expect(gone.chats.c1).toBeUndefined();
    expect(gone.threads.c1).toBeUndefined();
    expect(gone.selected).toBeNull();
  });

  it("keeps presence of colleagues and of oneself", () => {
    const one = applyEvent(
      loaded([]),
      event(1, { type: "operator.presence", operator: { id: "b", name: "Boris", status: "away" } }),
      0,
    );
    expect(one.colleagues.b).toMatchObject({ name: "Boris", status: "away" });
    const two = applyEvent(
      one,
      event(2, { type: "operator.presence", operator: { id: "me", name: "Anna", status: "away" } }),
      0,
    );
    expect(two.me?.presence).toBe("away");
  });
});

describe("one message seen twice", () => {
  it("never goes back in status", () => {
    const read = sent(1, { status: "read" });
    expect(mergeMessage(read, sent(1, { status: "sent" })).status).toBe("read");
    expect(mergeMessage(sent(1, { status: "sent" }), read).status).toBe("read");
  });

  it("keeps a final failure, with its reason", () => {
    const failed = sent(1, { status: "failed", error: { kind: "recipient" } });
    const merged = mergeMessage(failed, sent(1, { status: "delivered" }));
    expect(merged.status).toBe("failed");
    expect(merged.error?.kind).toBe("recipient");
  });

  it("keeps the newer text, files that are ready, and a deletion", () => {
    const edited = sent(1, { text: "new", edited_at: "2026-11-21T10:05:00Z" });
    expect(mergeMessage(edited, sent(1, { text: "old" })).text).toBe("new");
    const ready = message(1, { files: [{ id: "f", kind: "image", state: "ready" }] });
    const pending = message(1, { files: [{ id: "f", kind: "image", state: "pending" }] });
    expect(mergeMessage(ready, pending).files?.[0]?.state).toBe("ready");
    expect(mergeMessage(pending, ready).files?.[0]?.state).toBe("ready");
    const deleted = message(1, { deleted_at: "2026-11-21T10:06:00Z" });
    expect(mergeMessage(deleted, message(1)).deleted_at).not.toBeNull();
  });

  it("is the same message whether the answer or the event comes first", () => {
    const answer = sent(2, { client_id: "x", status: "queued" });
    const update = sent(2, { client_id: "x", status: "sent" });
    const a = putMessage(applyEvent(loaded([message(1)]), event(2, { message: update }), 0), answer);
    const b = applyEvent(putMessage(loaded([message(1)]), answer), event(2, { message: update }), 0);
    expect(a.threads.c1?.items).toEqual(b.threads.c1?.items);
    expect(a.threads.c1?.items.at(-1)?.status).toBe("sent");
  });
});

describe("history", () => {
  it("joins a page with live messages that overtook it", () => {
    const live = sent(3, { status: "read" });
    const thread = { ...emptyThread, loaded: true, items: [live] };
    const items = addPage(thread, [message(1), message(2), sent(3, { status: "sent" })]);
    expect(items.map((m) => m.seq)).toEqual([1, 2, 3]);
    expect(items[2]?.status).toBe("read");
  });

  it("keeps what events told while a page was on its way", () => {
    const state: DeskState = { ...initialState, threads: { c1: { ...emptyThread, loading: "first" } } };
    const told = (m: Message) => applyEvent(state, { cursor: "9", type: "message.updated", message: m }, 0).threads.c1;
    const early = told(sent(2, { chat_id: "c1", status: "delivered" }))?.early;
    // The page was read before the status changed.
    const page = [message(1, { chat_id: "c1" }), sent(2, { chat_id: "c1", status: "queued" })];
    const thread = takeEarly({ ...emptyThread, items: page, loaded: true, early });
    expect(thread.items.map((m) => m.status)).toEqual(["received", "delivered"]);
    expect(thread.early).toBeUndefined();
  });

  it("cuts off what stands before a gap", () => {
    expect(withoutGap([message(1), message(2), message(5), message(6)]).map((m) => m.seq)).toEqual([5, 6]);
    expect(withoutGap([])).toEqual([]);
  });
});

describe("hello", () => {
  const hello = (chats: Chat[], more: Partial<Hello> = {}): Hello => ({ operator: me, cursor: "10", chats, ...more });

  it("drops chats that are no longer ours or waiting, and keeps looked-up ones", () => {
    const state: DeskState = {
      ...initialState,
      me,
      chats: {
        gone: chat({ id: "gone" }),
        waited: chat({ id: "waited", state: "new", operator_id: null }),
        closed: chat({ id: "closed", state: "closed" }),
        others: chat({ id: "others", operator_id: "boris" }),
      },
    };
    const after = applyHello(state, hello([chat({ id: "mine" })]));
    expect(Object.keys(after.chats).sort()).toEqual(["closed", "mine", "others"]);
    expect(after.cursor).toBe("10");
  });

  it("keeps threads when events follow, and drops them on a resync", () => {
    const state = loaded([message(1)]);
    expect(applyHello(state, hello([chat()])).threads.c1).toBe(state.threads.c1);
    expect(applyHello(state, hello([chat()], { resync: true })).threads).toEqual({});
  });
});

describe("lists", () => {
  const at = (s: number) => new Date(Date.UTC(2026, 10, 21, 12, 0, s)).toISOString();
  const state: DeskState = {
    ...initialState,
    me,
    chats: Object.fromEntries(
      [
        chat({ id: "late", state: "new", operator_id: null, queued_at: at(30) }),
        chat({ id: "early", state: "new", operator_id: null, queued_at: at(10) }),
        chat({ id: "offered", state: "offered", operator_id: "me", queued_at: at(40) }),
        chat({ id: "offered-else", state: "offered", operator_id: "boris", queued_at: at(1) }),
        chat({ id: "mine-old", unread: 2, last_message: message(1, { created_at: at(1) }) }),
        chat({ id: "mine-new", unread: 1, last_message: sent(1, { created_at: at(2) }) }),
        chat({ id: "closed", state: "closed" }),
      ].map((c) => [c.id, c]),
    ),
  };

  it("has the offered chat first and then the longest wait", () => {
    expect(queueOf(state).map((c) => c.id)).toEqual(["offered", "early", "late"]);
  });

  it("has one's own chats by their last message", () => {
    expect(mineOf(state).map((c) => c.id)).toEqual(["mine-new", "mine-old"]);
    expect(unreadTotal(state)).toBe(3);
  });

  it("knows who waits for an answer", () => {
    expect(waitingSince(state.chats["mine-old"] as Chat)).toBe(Date.parse(at(1)));
    expect(waitingSince(state.chats["mine-new"] as Chat)).toBeNull();
    expect(waitingSince(state.chats.early as Chat)).toBe(Date.parse(at(10)));
    expect(waitingSince(state.chats.closed as Chat)).toBeNull();
  });

  it("does not let an overtaken answer undo a newer message", () => {
    const newer = putMessage(loaded([]), message(1));
    const answer = putChat(newer, chat({ state: "open", last_seq: 0, last_message: null, unread: 0 }));
    expect(answer.chats.c1?.last_message?.seq).toBe(1);
    expect(answer.chats.c1?.unread).toBe(1);
  });
});
