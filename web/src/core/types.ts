// The shapes of the contract: what REST and the WebSocket speak.

export type Kind =
  | "text"
  | "image"
  | "video"
  | "audio"
  | "voice"
  | "sticker"
  | "document"
  | "contact"
  | "location"
  | "button"
  | "template"
  | "forward"
  | "service"
  | "unsupported";

export type FileKind = "image" | "video" | "audio" | "voice" | "sticker" | "document";

export interface FileInfo {
  id?: string;
  kind: Kind;
  name?: string;
  mime?: string;
  size?: number;
  state: "pending" | "ready" | "failed" | "too_large";
  width?: number;
  height?: number;
  duration?: number;
  emoji?: string;
}

export interface KeyButton {
  text: string;
  payload?: string;
  action?: "reply" | "url" | "phone" | "location";
  url?: string;
}

export interface Keyboard {
  kind: "reply" | "inline" | "remove";
  rows?: KeyButton[][];
  once?: boolean;
  placeholder?: string;
}

export type Status =
  | "received"
  | "queued"
  | "sending"
  | "sent"
  | "delivered"
  | "read"
  | "failed"
  | "expired"
  | "canceled";

export interface Failure {
  kind: string;
  code?: string;
  detail?: string;
}

export interface Message {
  id: string;
  chat_id: string;
  account_id: string;
  platform: string;
  seq: number;
  direction: "in" | "out";
  kind: Kind;
  text?: string;
  files?: FileInfo[] | null;
  contact?: { name?: string; phone: string; own?: boolean } | null;
  location?: { lat: number; lon: number; title?: string; address?: string; live?: boolean } | null;
  button?: { payload: string; text?: string } | null;
  keyboard?: Keyboard | null;
  template?: { name: string; language: string; parameters?: string[] } | null;
  forwarded?: { from: string; text?: string; at?: string }[] | null;
  quote?: string;
  album?: string;
  service?: string;
  unsupported?: string;
  reply_to: string | null;
  status: Status;
  status_at: string;
  error: Failure | null;
  sender: { kind: "customer" | "operator" | "campaign" | "api" | "bot"; id?: string; name?: string };
  client_id: string | null;
  platform_at?: string | null;
  created_at: string;
  edited_at: string | null;
  deleted_at: string | null;
}

export interface Customer {
  id: string;
  external_id: string;
  name: string;
  username?: string;
  phone: string;
  avatar: string;
  language?: string;
  country?: string;
  reachable?: boolean;
}

export interface Chat {
  id: string;
  account_id: string;
  platform: string;
  /** Absent in a chat that the operator may not read. */
  customer?: Customer;
  state: "new" | "offered" | "open" | "closed";
  operator_id: string | null;
  skill?: string;
  unread: number;
  read_seq?: number;
  last_seq?: number;
  last_message: Message | null;
  last_customer_message_at: string | null;
  queued_at?: string | null;
  created_at?: string;
}

export type Presence = "online" | "away" | "offline";

export interface Operator {
  id: string;
  login?: string;
  name: string;
  role: "operator" | "supervisor" | "admin";
  presence?: Presence;
  skills?: string[] | null;
  disabled?: boolean;
}

export interface Limit {
  max: number;
  unit: "utf16" | "runes" | "bytes";
}

export interface Capabilities {
  platform: string;
  send: Kind[] | null;
  receive: Kind[] | null;
  reply_keyboard: boolean;
  inline_keyboard: boolean;
  request_phone: boolean;
  request_location: boolean;
  reply_to: boolean;
  edit: boolean;
  delete: boolean;
  /** What the customer wrote can be deleted, on their side too. */
  delete_received: boolean;
  /** By the platform's own forward, or as a copy. */
  forward: boolean;
  forward_copy: boolean;
  typing: boolean;
  delivered: boolean;
  read: boolean;
  text: Limit;
  caption: Limit;
  max_parts: number;
  file_bytes: Partial<Record<Kind, number>> | null;
  max_files: number;
  start_by_id: boolean;
  start_by_phone: boolean;
  /** Limits of 0 are none. */
  button_text: Limit;
  button_payload: Limit;
  button_rows: number;
  button_columns: number;
  buttons: number;
}

export interface Account {
  id: string;
  platform: string;
  name: string;
  state: "active" | "paused" | "removed";
  reason?: string;
}

export interface Uploaded {
  id: string;
  name: string;
  mime: string;
  size: number;
}

/** A notification of the hub. */
export interface HubEvent {
  cursor: string;
  type: "message.new" | "message.updated" | "chat.offered" | "chat.updated" | "customer.typing" | "operator.presence";
  chat_id?: string;
  message?: Message;
  chat?: Chat;
  operator?: { id: string; name: string; status: Presence };
}

export interface Hello {
  operator: Operator;
  cursor: string;
  chats: Chat[];
  /** The cursor was too old: chats is the whole truth, and threads have gaps. */
  resync?: boolean;
}
