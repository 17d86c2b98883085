// Chats and messages for tests, whole but for what a test says.
import type { Capabilities, Chat, Message, Operator } from "../core/types";

export const anOperator: Operator = { id: "o1", login: "anna", name: "Anna", role: "operator", presence: "online" };

export function aMessage(seq: number, more: Partial<Message> = {}): Message {
  const at = `2026-01-01T10:${String(seq).padStart(2, "0")}:00Z`;
  const inbound = (more.direction ?? "in") === "in";
  return {
    id: `m${seq}`,
    chat_id: "c1",
    account_id: "a1",
    platform: "telegram",
    seq,
    direction: "in",
    kind: "text",
    text: `message ${seq}`,
    reply_to: null,
    status: inbound ? "received" : "sent",
    status_at: at,
    error: null,
    sender: inbound ? { kind: "customer", id: "u1", name: "Maria" } : { kind: "operator", id: "o1", name: "Anna" },
    client_id: null,
    created_at: at,
    edited_at: null,
    deleted_at: null,
    ...more,
  };
}

export function aChat(more: Partial<Chat> = {}): Chat {
  return {
    id: "c1",
    account_id: "a1",
    platform: "telegram",
    customer: { id: "u1", external_id: "100", name: "Maria", phone: "", avatar: "" },
    state: "open",
    operator_id: "o1",
    unread: 0,
    read_seq: 3,
    last_seq: 3,
    last_message: aMessage(3),
    last_customer_message_at: "2026-01-01T10:03:00Z",
    ...more,
  };
}

export const allCan: Capabilities = {
  platform: "telegram",
  send: ["text", "image", "video", "audio", "voice", "document", "contact", "location"],
  receive: ["text"],
  reply_keyboard: true,
  inline_keyboard: true,
  reply_to: true,
  edit: true,
  delete: true,
  typing: true,
  delivered: false,
  read: false,
  text: { max: 100, unit: "utf16" },
  caption: { max: 20, unit: "utf16" },
  max_parts: 2,
  file_bytes: { image: 1000, document: 5000 },
  max_files: 2,
};
