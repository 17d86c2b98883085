// Messages on their way to the server. They are kept in the browser's storage
// until the server has them, so a reload or a crash loses none; each carries a
// client_id, so sending again is safe: the server answers with the first.
import { newId } from "./id";
import { ConnectionLost, RpcError } from "./rpc";
import type { FileInfo, Keyboard, Kind, Message } from "./types";

export interface Outgoing {
  client_id: string;
  chat_id: string;
  kind: Kind;
  text?: string;
  /** Uploaded already. */
  files?: FileInfo[];
  contact?: { name?: string; phone: string };
  location?: { lat: number; lon: number; title?: string };
  keyboard?: Keyboard;
  reply_to?: string;
  /** ms since 1970: the order within a chat. */
  created_at: number;
  state: "waiting" | "failed";
  error?: { reason: string; detail: string };
}

export interface OutboxStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface OutboxOptions {
  /** Whose messages: other people may use this browser, too. */
  operatorId: string;
  storage: OutboxStorage;
  send: (item: Outgoing) => Promise<Message>;
  onSent: (message: Message) => void;
  onChange: (items: readonly Outgoing[]) => void;
}

// One key a message: two windows of one operator don't overwrite each other.
const prefix = "switchboard.outbox.";
const retryFirst = 1_000;
const retryLongest = 15_000;

export class Outbox {
  private readonly options: OutboxOptions;
  private items: Outgoing[] = [];
  /** Chats whose head is being sent: the order within a chat is kept. */
  private busy = new Set<string>();
  private retryTimers = new Map<string, ReturnType<typeof setTimeout>>();
  private attempts = new Map<string, number>();
  private open = false;
  private lastTime = 0;

  constructor(options: OutboxOptions) {
    this.options = options;
    this.items = this.stored();
  }

  list(): readonly Outgoing[] {
    return this.items;
  }

  /** The connection is there: send what waits. */
  resume(): void {
    this.open = true;
    this.attempts.clear();
    for (const chatId of new Set(this.items.map((i) => i.chat_id))) this.pump(chatId);
  }

  pause(): void {
    this.open = false;
  }

  stop(): void {
    this.open = false;
    for (const timer of this.retryTimers.values()) clearTimeout(timer);
    this.retryTimers.clear();
  }

  add(draft: Omit<Outgoing, "client_id" | "created_at" | "state">): Outgoing {
    // Several messages of one moment keep their order.
    this.lastTime = Math.max(Date.now(), this.lastTime + 1);
    const item: Outgoing = { ...draft, client_id: newId(), created_at: this.lastTime, state: "waiting" };
    this.put(item);
    this.pump(item.chat_id);
    return item;
  }

  retry(clientId: string): void {
    const item = this.items.find((i) => i.client_id === clientId);
    if (!item) return;
    this.put({ ...item, state: "waiting", error: undefined });
    this.pump(item.chat_id);
  }

  discard(clientId: string): void {
    const item = this.items.find((i) => i.client_id === clientId);
    if (!item) return;
    this.remove(clientId);
    this.pump(item.chat_id);
  }

  /** An event shows that the server has a message. */
  seen(message: Message): void {
    if (message.client_id && this.items.some((i) => i.client_id === message.client_id)) this.remove(message.client_id);
  }

  private pump(chatId: string): void {
    if (!this.open || this.busy.has(chatId) || this.retryTimers.has(chatId)) return;
    const head = this.items.find((i) => i.chat_id === chatId && i.state === "waiting");
    if (!head) return;
    this.busy.add(chatId);
    void this.deliver(head).finally(() => {
      this.busy.delete(chatId);
      this.pump(chatId);
    });
  }

  private async deliver(item: Outgoing): Promise<void> {
    try {
      const message = await this.options.send(item);
      this.attempts.delete(item.chat_id);
      // First the message, then the removal, so that it is never on neither list.
      this.options.onSent(message);
      this.remove(item.client_id);
    } catch (error) {
      if (!this.items.some((i) => i.client_id === item.client_id)) return; // an event was faster
      if (error instanceof RpcError && !error.passing) {
        this.put({ ...item, state: "failed", error: { reason: error.reason, detail: error.detail } });
        return;
      }
      // Passing, or nobody knows: the same again, after a pause or a reconnect.
      const attempt = (this.attempts.get(item.chat_id) ?? 0) + 1;
      this.attempts.set(item.chat_id, attempt);
      const delay =
        error instanceof ConnectionLost ? retryFirst : Math.min(retryLongest, retryFirst * 2 ** (attempt - 1));
      this.retryTimers.set(
        item.chat_id,
        setTimeout(() => {
          this.retryTimers.delete(item.chat_id);
          this.pump(item.chat_id);
        }, delay),
      );
    }
  }

  private put(item: Outgoing): void {
    const others = this.items.filter((i) => i.client_id !== item.client_id);
    this.items = [...others, item].sort((a, b) => a.created_at - b.created_at);
    try {
      this.options.storage.setItem(this.key(item.client_id), JSON.stringify(item));
    } catch {
      // Storage is full or forbidden: the message lives in this window only.
    }
    this.options.onChange(this.items);
  }

  private remove(clientId: string): void {
    this.items = this.items.filter((i) => i.client_id !== clientId);
    this.options.storage.removeItem(this.key(clientId));
    this.options.onChange(this.items);
  }

  private key(clientId: string): string {
    return `${prefix}${this.options.operatorId}.${clientId}`;
  }

  private stored(): Outgoing[] {
    const mine = `${prefix}${this.options.operatorId}.`;
    const found: Outgoing[] = [];
    for (let i = 0; i < this.options.storage.length; i++) {
      const key = this.options.storage.key(i);
      if (!key?.startsWith(mine)) continue;
      try {
        const item = JSON.parse(this.options.storage.getItem(key) ?? "") as Outgoing;
        if (item.client_id && item.chat_id) found.push(item);
      } catch {
        // Not ours, or cut off: it can't be sent.
      }
    }
    return found.sort((a, b) => a.created_at - b.created_at);
  }
}
