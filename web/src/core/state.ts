// What the desk knows, and how each event changes it. Everything here is pure:
// an event applied twice, or late, changes nothing.
import type { Capabilities, Chat, FileInfo, Hello, HubEvent, Message, Operator, Presence, Status } from "./types";

/** How long a customer's typing sign stays without another one, in ms. */
export const typingLife = 6000;

/** The loaded part of a chat's history: messages without a gap, ascending by seq. */
export interface Thread {
  items: Message[];
  /** The first message of the chat is loaded. */
  complete: boolean;
  loaded: boolean;
  loading: "first" | "older" | "newer" | null;
  /** Newer messages exist that were not seen: fetch what follows the last item. */
  stale: boolean;
  error: string | null;
  /** What events told while a page was under way, which may be older than they: see takeEarly. */
  early?: readonly Message[];
}

export type Phase = "idle" | "connecting" | "online" | "waiting" | "replaced" | "signed_out";

export interface Connection {
  phase: Phase;
  /** When the next attempt is made (ms since 1970), in phase waiting. */
  retryAt: number | null;
  attempt: number;
}

export interface Colleague {
  id: string;
  name: string;
  status: Presence;
  skills?: string[];
}

export interface DeskState {
  connection: Connection;
  me: Operator | null;
  cursor: string | null;
  chats: Record<string, Chat>;
  threads: Record<string, Thread>;
  colleagues: Record<string, Colleague>;
  /** chat id -> until when (ms) the customer is shown as typing. */
  typing: Record<string, number>;
  capabilities: Record<string, Capabilities>;
  selected: string | null;
  /** In the selected chat, the last seq that was read when it was opened. */
  dividerAfter: number | null;
}

export const initialState: DeskState = {
  connection: { phase: "idle", retryAt: null, attempt: 0 },
  me: null,
  cursor: null,
  chats: {},
  threads: {},
  colleagues: {},
  typing: {},
  capabilities: {},
  selected: null,
  dividerAfter: null,
};

export const emptyThread: Thread = {
  items: [],
  complete: false,
  loaded: false,
  loading: null,
  stale: false,
  error: null,
};

// ---- messages --------------------------------------------------------------

// As on the server: a status only moves forward, and the ends stay.
const rank: Record<Status, number> = {
  received: 0,
  queued: 1,
  sending: 2,
  sent: 3,
  failed: 4,
  expired: 4,
  canceled: 4,
  delivered: 5,
  read: 6,
};

const final = new Set<Status>(["failed", "expired", "canceled"]);

function advances(from: Status, to: Status): boolean {
  return !final.has(from) && rank[to] > rank[from];
}

const fileRank = { pending: 0, failed: 1, too_large: 2, ready: 3 } as const;

function mergeFiles(a: FileInfo[] | null | undefined, b: FileInfo[] | null | undefined): FileInfo[] | null | undefined {
  if (!a || !b || a.length !== b.length) return b ?? a;
  return b.map((file, i) => {
    const known = a[i];
    return known && known.id === file.id && fileRank[known.state] > fileRank[file.state] ? known : file;
  });
}

/** Two views of one message, the newer one of each part winning, whatever came first. */
export function mergeMessage(known: Message, incoming: Message): Message {
  if (known === incoming) return known;
  const content = (known.edited_at ?? "") > (incoming.edited_at ?? "") ? known : incoming;
  const status = advances(incoming.status, known.status) || final.has(known.status) ? known : incoming;
  return {
    ...content,
    files: mergeFiles(known.files, content.files),
    status: status.status,
    status_at: status.status_at,
    error: status.error,
    deleted_at: incoming.deleted_at ?? known.deleted_at,
    client_id: incoming.client_id ?? known.client_id,
  };
}

/** The index of seq in items, or where it would stand. */
function place(items: readonly Message[], seq: number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((items[middle] as Message).seq < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A message of the live stream into the loaded part of its chat. */
export function addLive(thread: Thread, message: Message): Thread {
  if (!thread.loaded) return keepEarly(thread, message);
  const at = place(thread.items, message.seq);
  const there = thread.items[at];
  if (there?.seq === message.seq) {
    const items = thread.items.slice();
    items[at] = mergeMessage(there, message);
    return { ...thread, items };
  }
  const last = thread.items.at(-1);
  const next = last ? last.seq + 1 : 1;
  // Without any item loaded there is nothing yet, so the first must be seq 1.
  if (message.seq === next) return { ...thread, items: [...thread.items, message], complete: thread.complete || !last };
  if (message.seq > next) return keepEarly(thread.stale ? thread : { ...thread, stale: true }, message);
  return keepEarly(thread, message); // older than what is loaded: history brings it
}

function keepEarly(thread: Thread, message: Message): Thread {
  return thread.loading ? { ...thread, early: [...(thread.early ?? []), message] } : thread;
}

/** A thread whose page has come, with what events told in the meantime. */
export function takeEarly(thread: Thread): Thread {
  return (thread.early ?? []).reduce(addLive, { ...thread, early: undefined });
}

/** A page of history joined with what is loaded. */
export function addPage(thread: Thread, page: readonly Message[]): Message[] {
  const bySeq = new Map(thread.items.map((m) => [m.seq, m]));
  for (const m of page) {
    const known = bySeq.get(m.seq);
    // A live event may have overtaken the page, so the page is the older view.
    bySeq.set(m.seq, known ? mergeMessage(m, known) : m);
  }
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq);
}

/** The part at the end that has no gap; what stands before a gap is loaded again when scrolled to. */
export function withoutGap(items: readonly Message[]): Message[] {
  let start = items.length - 1;
  while (start > 0 && (items[start - 1] as Message).seq === (items[start] as Message).seq - 1) start--;
  return items.slice(Math.max(start, 0));
}

// ---- chats -----------------------------------------------------------------

/** A chat as told by the server, joined with what live events brought already. */
export function mergeChat(known: Chat | undefined, incoming: Chat): Chat {
  if (!known) return incoming;
  const a = known.last_message;
  const b = incoming.last_message;
  if (!a || (b && b.seq > a.seq)) return incoming;
  if (b && b.seq === a.seq) return { ...incoming, last_message: mergeMessage(a, b) };
  // Known messages are newer: an answer that was overtaken by an event.
  return {
    ...incoming,
    last_message: a,
    last_seq: known.last_seq,
    unread: known.unread,
    last_customer_message_at: known.last_customer_message_at,
  };
}

/** What a new message means for its chat's line in the list. */
function noteMessage(chat: Chat, message: Message): Chat {
  const last = chat.last_message;
  const lastSeq = Math.max(chat.last_seq ?? 0, last?.seq ?? 0);
  if (message.seq > lastSeq) {
    const inbound = message.direction === "in";
    return {
      ...chat,
      last_seq: message.seq,
      last_message: message,
      unread: inbound && message.seq > (chat.read_seq ?? 0) ? chat.unread + 1 : chat.unread,
      last_customer_message_at: inbound ? message.created_at : chat.last_customer_message_at,
    };
  }
  if (last && last.id === message.id) return { ...chat, last_message: mergeMessage(last, message) };
  return chat;
}

export function putChat(state: DeskState, incoming: Chat): DeskState {
  if (!incoming.customer) {
    // Redacted: no longer ours to read. What we know of it goes, too.
    if (!state.chats[incoming.id]) return state;
    const chats = { ...state.chats };
    delete chats[incoming.id];
    const threads = { ...state.threads };
    delete threads[incoming.id];
    const selected = state.selected === incoming.id ? null : state.selected;
    return { ...state, chats, threads, selected };
  }
  return { ...state, chats: { ...state.chats, [incoming.id]: mergeChat(state.chats[incoming.id], incoming) } };
}

export function putThread(state: DeskState, chatId: string, change: (t: Thread) => Thread): DeskState {
  const before = state.threads[chatId] ?? emptyThread;
  const after = change(before);
  return after === before ? state : { ...state, threads: { ...state.threads, [chatId]: after } };
}

/** A message told by an event or by the answer to a call. */
export function putMessage(state: DeskState, message: Message): DeskState {
  let next = state;
  const chat = next.chats[message.chat_id];
  if (chat) {
    const noted = noteMessage(chat, message);
    if (noted !== chat) next = { ...next, chats: { ...next.chats, [chat.id]: noted } };
  }
  const thread = next.threads[message.chat_id];
  if (thread) {
    const added = addLive(thread, message);
    if (added !== thread) next = { ...next, threads: { ...next.threads, [message.chat_id]: added } };
  }
  if (message.direction === "in" && next.typing[message.chat_id]) {
    const typing = { ...next.typing };
    delete typing[message.chat_id];
    next = { ...next, typing };
  }
  return next;
}

export function applyEvent(state: DeskState, event: HubEvent, now: number): DeskState {
  const next = applyContent(state, event, now);
  return next.cursor === event.cursor ? next : { ...next, cursor: event.cursor };
}

function applyContent(state: DeskState, event: HubEvent, now: number): DeskState {
  switch (event.type) {
    case "message.new":
    case "message.updated":
      return event.message ? putMessage(state, event.message) : state;
    case "chat.offered":
    case "chat.updated":
      return event.chat ? putChat(state, event.chat) : state;
    case "customer.typing":
      return event.chat_id ? { ...state, typing: { ...state.typing, [event.chat_id]: now + typingLife } } : state;
    case "operator.presence": {
      const o = event.operator;
      if (!o) return state;
      const known = state.colleagues[o.id];
      const colleagues = { ...state.colleagues, [o.id]: { ...known, id: o.id, name: o.name, status: o.status } };
      const me = state.me?.id === o.id ? { ...state.me, presence: o.status } : state.me;
      return { ...state, colleagues, me };
    }
    default:
      return state; // of a newer server: only the cursor moves
  }
}

/** The answer to hello: our chats as they are now. */
export function applyHello(state: DeskState, hello: Hello): DeskState {
  const fresh: Record<string, Chat> = {};
  for (const chat of hello.chats) if (chat.customer) fresh[chat.id] = mergeChat(undefined, chat);
  const chats: Record<string, Chat> = {};
  for (const [id, chat] of Object.entries(state.chats)) {
    // Waiting chats and our own open ones that are not in the answer are gone;
    // the others (closed, or of colleagues) were looked up and stay as known.
    const listed = isWaiting(chat) || (chat.state === "open" && chat.operator_id === hello.operator.id);
    if (!listed && !fresh[id]) chats[id] = chat;
  }
  Object.assign(chats, fresh);
  // Updates of messages were missed, too: the selected thread is loaded again.
  const threads = hello.resync ? {} : state.threads;
  return { ...state, me: hello.operator, cursor: hello.cursor, chats, threads };
}

// ---- selections ------------------------------------------------------------

export function isWaiting(chat: Chat): boolean {
  return chat.state === "new" || chat.state === "offered";
}

export function isOfferedTo(chat: Chat, operatorId: string | undefined): boolean {
  return chat.state === "offered" && chat.operator_id !== null && chat.operator_id === operatorId;
}

function time(at: string | null | undefined): number {
  return at ? Date.parse(at) : 0;
}

/** The chats that wait: those offered to the operator first, then the longest wait. */
export function queueOf(state: DeskState): Chat[] {
  const me = state.me?.id;
  return Object.values(state.chats)
    .filter((c) => c.state === "new" || (c.state === "offered" && (c.operator_id === null || c.operator_id === me)))
    .sort(
      (a, b) =>
        Number(isOfferedTo(b, me)) - Number(isOfferedTo(a, me)) ||
        time(a.queued_at ?? a.last_customer_message_at) - time(b.queued_at ?? b.last_customer_message_at) ||
        a.id.localeCompare(b.id),
    );
}

/** The chats that the operator serves, the latest message first. */
export function mineOf(state: DeskState): Chat[] {
  const me = state.me?.id;
  return Object.values(state.chats)
    .filter((c) => c.state === "open" && c.operator_id === me)
    .sort((a, b) => lastActivity(b) - lastActivity(a) || a.id.localeCompare(b.id));
}

export function lastActivity(chat: Chat): number {
  return time(chat.last_message?.created_at ?? chat.last_customer_message_at ?? chat.created_at);
}

/** Since when the customer waits for an answer, or null. */
export function waitingSince(chat: Chat): number | null {
  if (chat.state === "closed") return null;
  if (isWaiting(chat)) return time(chat.queued_at ?? chat.last_customer_message_at) || null;
  return chat.last_message?.direction === "in" ? time(chat.last_message.created_at) : null;
}

export function unreadTotal(state: DeskState): number {
  return mineOf(state).reduce((sum, c) => sum + c.unread, 0);
}

/** Whether each word of a search is in what is known of a chat. */
export function matches(chat: Chat, query: string): boolean {
  if (!query) return true;
  const c = chat.customer;
  const text = [c?.name, c?.username, c?.phone, c?.external_id, chat.last_message?.text].join("\n").toLocaleLowerCase();
  return query
    .toLocaleLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
