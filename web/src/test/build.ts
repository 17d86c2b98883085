// Things of the contract for tests.
import type { Capabilities, Chat, HubEvent, Message, Operator } from "../core/types";

export const anna: Operator = { id: "me", login: "anna", name: "Anna", role: "operator", presence: "online" };

export function message(seq: number, more: Partial<Message> = {}): Message {
  return {
    id: `m${seq}`,
    chat_id: "c1",
    account_id: "a1",
    platform: "telegram",
    seq,
    direction: "in",
    kind: "text",
    text: `text ${seq}`,
    reply_to: null,
    status: "received",
    status_at: "2026-11-21T10:00:00Z",
    error: null,
    sender: { kind: "customer", id: "cu1", name: "Maria" },
    client_id: null,
    created_at: new Date(Date.UTC(2026, 10, 21, 10, 0, seq)).toISOString(),
    edited_at: null,
    deleted_at: null,
    ...more,
  };
}

export function sent(seq: number, more: Partial<Message> = {}): Message {
  return message(seq, {
    direction: "out",
    status: "queued",
    sender: { kind: "operator", id: "me", name: "Anna" },
    ...more,
  });
}

export function chat(more: Partial<Chat> = {}): Chat {
  return {
    id: "c1",
    account_id: "a1",
    platform: "telegram",
    customer: { id: "cu1", external_id: "42", name: "Maria", phone: "", avatar: "" },
    state: "open",
    operator_id: "me",
    unread: 0,
    read_seq: 0,
    last_seq: 0,
    last_message: null,
    last_customer_message_at: null,
    ...more,
  };
}

export function event(cursor: number, more: Partial<HubEvent>): HubEvent {
  return { cursor: String(cursor), type: "message.new", chat_id: "c1", ...more };
}

export function capabilities(more: Partial<Capabilities> = {}): Capabilities {
  return {
    platform: "telegram",
    send: ["text", "image", "video", "audio", "voice", "document", "contact", "location"],
    receive: ["text"],
    reply_keyboard: true,
    inline_keyboard: true,
    request_phone: true,
    request_location: true,
    reply_to: true,
    edit: true,
    delete: true,
    delete_received: false,
    forward: true,
    forward_copy: false,
    typing: true,
    delivered: true,
    read: true,
    text: { max: 100, unit: "utf16" },
    caption: { max: 20, unit: "utf16" },
    max_parts: 2,
    file_bytes: { image: 1000, document: 5000 },
    max_files: 3,
    start_by_id: true,
    start_by_phone: false,
    button_text: { max: 20, unit: "runes" },
    button_payload: { max: 64, unit: "bytes" },
    button_rows: 3,
    button_columns: 3,
    buttons: 8,
    ...more,
  };
}
