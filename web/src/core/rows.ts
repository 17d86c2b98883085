// A chat's history as rows of the screen: days, the line above new messages,
// albums, and runs of messages by one sender.
import type { Outgoing } from "./outbox";
import type { Message } from "./types";

export type Row =
  | { type: "day"; key: string; at: string }
  | { type: "new"; key: string }
  | { type: "note"; key: string; message: Message }
  | { type: "messages"; key: string; messages: Message[]; first: boolean; last: boolean }
  | { type: "outgoing"; key: string; item: Outgoing; first: boolean; last: boolean };

/** Messages of one sender closer than this stand together. */
const together = 5 * 60_000;

function dayOf(at: string): string {
  const d = new Date(at);
  return `${d.getFullYear()}-${d.getMonth()}-${d.getDate()}`;
}

function senderOf(m: Message): string {
  return `${m.direction}:${m.sender.kind}:${m.sender.id ?? m.sender.name ?? ""}`;
}

export function rowsOf(
  items: readonly Message[],
  outgoing: readonly Outgoing[],
  dividerAfter: number | null,
  me: string | undefined,
): Row[] {
  const rows: Row[] = [];
  let day = "";
  let divided = dividerAfter === null;
  // The run that goes on, and its latest time.
  let run: { sender: string; at: number; row: Extract<Row, { type: "messages" | "outgoing" }> } | null = null;

  for (let i = 0; i < items.length; i++) {
    const message = items[i] as Message;
    const today = dayOf(message.created_at);
    if (today !== day) {
      day = today;
      run = null;
      rows.push({ type: "day", key: `day:${today}`, at: message.created_at });
    }
    if (!divided && message.direction === "in" && message.seq > (dividerAfter as number)) {
      divided = true;
      run = null;
      rows.push({ type: "new", key: "new" });
    }
    if (message.kind === "service") {
      run = null;
      rows.push({ type: "note", key: message.id, message });
      continue;
    }
    const messages = [message];
    while (message.album && !message.deleted_at) {
      const next = items[i + 1];
      if (!next || next.album !== message.album || senderOf(next) !== senderOf(message) || next.deleted_at) break;
      messages.push(next);
      i++;
    }
    const sender = senderOf(message);
    const at = Date.parse(message.created_at);
    const joins: boolean = run !== null && run.sender === sender && at - run.at < together;
    if (joins && run) run.row.last = false;
    // The same key as on its way out, so that nothing flickers when it is sent.
    const key = message.client_id ? `c:${message.client_id}` : message.id;
    const row: Row = { type: "messages", key, messages, first: !joins, last: true };
    rows.push(row);
    run = { sender, at, row };
  }

  const known = new Set(items.map((m) => m.client_id).filter(Boolean));
  const mine = `out:operator:${me ?? ""}`;
  for (const item of outgoing) {
    if (known.has(item.client_id)) continue;
    const joins: boolean = run !== null && run.sender === mine && item.created_at - run.at < together;
    if (joins && run) run.row.last = false;
    const row: Row = { type: "outgoing", key: `c:${item.client_id}`, item, first: !joins, last: true };
    rows.push(row);
    run = { sender: mine, at: item.created_at, row };
  }
  return rows;
}

/** Where the row with a message is, or -1. */
export function rowOfMessage(rows: readonly Row[], id: string): number {
  return rows.findIndex(
    (r) => (r.type === "messages" && r.messages.some((m) => m.id === id)) || (r.type === "note" && r.message.id === id),
  );
}
