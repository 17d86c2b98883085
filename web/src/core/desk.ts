// The desk of one signed-in operator: it owns the connection, the outbox and
// the files, and is the only one that changes the state.
import { Drafts } from "./drafts";
import { FileCache } from "./files";
import { newId } from "./id";
import { Outbox, type Outgoing } from "./outbox";
import { type ChatFilter, Rest, RestError, type Session } from "./rest";
import { RpcClient, RpcError } from "./rpc";
import {
  addPage,
  applyEvent,
  applyHello,
  type DeskState,
  emptyThread,
  initialState,
  mineOf,
  putChat,
  putMessage,
  putThread,
  queueOf,
  takeEarly,
  withoutGap,
} from "./state";
import { Store } from "./store";
import type { Chat, HubEvent, Message, Presence } from "./types";

export interface DeskOptions {
  session: Pick<Session, "token">;
  onSignedOut: () => void;
  /** A new inbound message or waiting chat, for sounds and notifications. */
  onArrival?: (event: HubEvent, state: DeskState) => void;
  /** Where the server is; the page's own origin by default. */
  origin?: string;
}

export type ChatAction = "accept" | "skip" | "decline" | "close";

/** How long an operator's typing sign lasts at the customer's, about: then it is sent again. */
const typingEvery = 4_000;
/** Messages of a page of history. seq has no gaps, so a page is asked for by both its ends. */
const pageSize = 60;
/** A hole in a thread is looked at after this: the missing event may be on its way. */
const freshenAfter = 250;

export class Desk {
  readonly store = new Store<DeskState>(initialState);
  readonly outgoing = new Store<readonly Outgoing[]>([]);
  readonly rest: Rest;
  readonly rpc: RpcClient;
  readonly files: FileCache;
  readonly drafts: Drafts;
  private readonly options: DeskOptions;
  private outbox: Outbox | null = null;
  private typingSent = new Map<string, number>();
  private freshenTimers = new Map<string, ReturnType<typeof setTimeout>>();
  private asked = new Set<string>(); // accounts and chats being looked up
  private reading = new Set<string>();

  constructor(options: DeskOptions) {
    this.options = options;
    const token = () => options.session.token;
    const origin = options.origin ?? window.location.origin;
    this.rest = new Rest({ token, onSignedOut: () => this.signedOut(), base: origin });
    this.files = new FileCache((id, signal) => this.rest.file(id, signal));
    this.drafts = new Drafts(
      (file, onProgress) => this.rest.upload(file, onProgress),
      () => this.store.get().me?.id ?? "",
    );
    this.rpc = new RpcClient({
      // Browsers can't give a WebSocket a header.
      url: () => `${origin.replace(/^http/, "ws")}/ws/v1?token=${encodeURIComponent(token())}`,
      cursor: () => this.store.get().cursor,
      onConnection: (connection) => {
        this.store.set((s) => ({ ...s, connection }));
        if (connection.phase === "online") this.outbox?.resume();
        else this.outbox?.pause();
      },
      onHello: (hello) => {
        const before = this.store.get();
        this.store.set((s) => applyHello(s, hello));
        this.openOutbox(hello.operator.id);
        const selected = this.store.get().selected;
        if (selected) {
          if (hello.resync || before.threads[selected]?.error) void this.loadFirst(selected);
          this.freshen(selected);
        }
        if (Object.keys(before.colleagues).length === 0) void this.loadColleagues();
      },
      onEvent: (event) => this.event(event),
      onSignedOut: () => this.signedOut(),
    });
  }

  start(): void {
    window.addEventListener("online", this.wake);
    window.addEventListener("focus", this.wake);
    document.addEventListener("visibilitychange", this.wake);
    this.rpc.start();
  }

  stop(): void {
    window.removeEventListener("online", this.wake);
    window.removeEventListener("focus", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    for (const timer of this.freshenTimers.values()) clearTimeout(timer);
    this.freshenTimers.clear();
    this.outbox?.stop();
    this.rpc.stop();
    this.files.clear();
  }

  private wake = (): void => {
    if (document.visibilityState === "visible" && navigator.onLine !== false) this.rpc.retryNow();
  };

  private signedOut(): void {
    this.options.onSignedOut();
  }

  private openOutbox(operatorId: string): void {
    if (this.outbox) return;
    this.outbox = new Outbox({
      operatorId,
      storage: localStorage,
      send: async (item) => {
        const params: Record<string, unknown> = { chat_id: item.chat_id, client_id: item.client_id, kind: item.kind };
        if (item.text) params.text = item.text;
        if (item.files) params.files = item.files.map((f) => f.id);
        if (item.contact) params.contact = item.contact;
        if (item.location) params.location = item.location;
        if (item.keyboard) params.keyboard = item.keyboard;
        if (item.reply_to) params.reply_to = item.reply_to;
        return (await this.rpc.call<{ message: Message }>("message.send", params)).message;
      },
      onSent: (message) => this.noteMessage(message),
      onChange: (items) => this.outgoing.set(() => items),
    });
    this.outgoing.set(() => this.outbox?.list() ?? []);
  }

  // ---- events ----

  private event(event: HubEvent): void {
    const before = this.store.get();
    const known = event.message ? this.isKnown(before, event.message) : false;
    this.store.setSoon((s) => applyEvent(s, event, Date.now()));
    const state = this.store.get();
    if (event.message) {
      this.outbox?.seen(event.message);
      if (!state.chats[event.message.chat_id]) void this.lookUp(event.message.chat_id);
      if (state.threads[event.message.chat_id]?.stale) this.freshen(event.message.chat_id);
    }
    if (event.chat?.customer) this.freshen(event.chat.id);
    const arrived = event.type === "chat.offered" || (event.type === "message.new" && !known);
    if (arrived) this.options.onArrival?.(event, state);
  }

  private isKnown(state: DeskState, message: Message): boolean {
    const chat = state.chats[message.chat_id];
    return chat !== undefined && message.seq <= Math.max(chat.last_seq ?? 0, chat.last_message?.seq ?? 0);
  }

  private noteMessage(message: Message): void {
    this.store.set((s) => putMessage(s, message));
    if (this.store.get().threads[message.chat_id]?.stale) this.freshen(message.chat_id);
  }

  private async lookUp(chatId: string): Promise<void> {
    if (this.asked.has(chatId)) return;
    this.asked.add(chatId);
    try {
      const chat = await this.rest.chat(chatId);
      this.store.set((s) => putChat(s, chat));
    } catch {
      // Not ours, or no connection: the next event or hello brings it.
    } finally {
      this.asked.delete(chatId);
    }
  }

  // ---- history ----

  async select(chatId: string | null, chat?: Chat): Promise<void> {
    this.store.set((s) => {
      const next = chat ? putChat(s, chat) : s;
      if (next.selected === chatId) return next;
      const opened = chatId ? next.chats[chatId] : undefined;
      const dividerAfter =
        opened && opened.unread > 0 ? (opened.read_seq ?? (opened.last_seq ?? 0) - opened.unread) : null;
      return { ...next, selected: chatId, dividerAfter };
    });
    if (!chatId) return;
    const state = this.store.get();
    const opened = state.chats[chatId];
    if (!opened) await this.lookUp(chatId);
    const known = opened ?? this.store.get().chats[chatId];
    if (known) void this.loadCapabilities(known.account_id);
    const thread = this.store.get().threads[chatId];
    if (!thread?.loaded) await this.loadFirst(chatId);
    else this.freshen(chatId);
  }

  async loadFirst(chatId: string): Promise<void> {
    if (this.store.get().threads[chatId]?.loading) return;
    this.store.set((s) => putThread(s, chatId, (t) => ({ ...t, loading: "first", error: null })));
    try {
      const { chats } = this.store.get();
      const known = chats[chatId]?.last_seq ?? chats[chatId]?.last_message?.seq;
      const page = await this.rest.messages(
        chatId,
        known ? { after_seq: Math.max(0, known - pageSize) } : {},
        pageSize,
      );
      this.store.set((s) =>
        putThread(s, chatId, (t) => {
          const items = withoutGap(addPage(t, page.items));
          const complete = items.length === 0 || items[0]?.seq === 1;
          return takeEarly({ ...emptyThread, items, complete, loaded: true, early: t.early });
        }),
      );
      this.freshen(chatId);
    } catch (error) {
      this.threadFailed(chatId, error);
    }
  }

  async loadOlder(chatId: string): Promise<void> {
    const thread = this.store.get().threads[chatId];
    const first = thread?.items[0];
    if (!thread?.loaded || thread.loading || thread.complete || !first) return;
    this.store.set((s) => putThread(s, chatId, (t) => ({ ...t, loading: "older", error: null })));
    try {
      const range = { before_seq: first.seq, after_seq: Math.max(0, first.seq - 1 - pageSize) };
      const page = await this.rest.messages(chatId, range, pageSize);
      this.store.set((s) =>
        putThread(s, chatId, (t) => {
          const items = addPage(t, page.items);
          const complete = page.items.length === 0 || items[0]?.seq === 1;
          return takeEarly({ ...t, items, complete, loading: null });
        }),
      );
    } catch (error) {
      this.threadFailed(chatId, error);
    }
  }

  /** Fetches what follows a hole, unless the event that fills it comes first. */
  private freshen(chatId: string): void {
    if (this.freshenTimers.has(chatId)) return;
    this.freshenTimers.set(
      chatId,
      setTimeout(() => {
        this.freshenTimers.delete(chatId);
        void this.loadNewer(chatId);
      }, freshenAfter),
    );
  }

  private async loadNewer(chatId: string): Promise<void> {
    const { threads, chats } = this.store.get();
    const thread = threads[chatId];
    if (!thread?.loaded) return;
    if (thread.loading) {
      this.freshen(chatId);
      return;
    }
    const last = thread.items.at(-1)?.seq ?? 0;
    if (!thread.stale && (chats[chatId]?.last_seq ?? 0) <= last) return;
    this.store.set((s) => putThread(s, chatId, (t) => ({ ...t, loading: "newer" })));
    try {
      const page = await this.rest.messages(chatId, { after_seq: last }, 200);
      this.store.set((s) =>
        putThread(s, chatId, (t) =>
          takeEarly({
            ...t,
            items: addPage(t, page.items),
            loading: null,
            stale: false,
            error: null,
          }),
        ),
      );
      if (page.next_cursor !== null && page.items.length > 0) this.freshen(chatId);
    } catch (error) {
      this.threadFailed(chatId, error);
    }
  }

  private threadFailed(chatId: string, error: unknown): void {
    const code = error instanceof RestError ? error.code : "other";
    this.store.set((s) => putThread(s, chatId, (t) => takeEarly({ ...t, loading: null, error: code })));
  }

  async loadCapabilities(accountId: string): Promise<void> {
    if (this.store.get().capabilities[accountId] || this.asked.has(accountId)) return;
    this.asked.add(accountId);
    try {
      const capabilities = await this.rest.capabilities(accountId);
      this.store.set((s) => ({ ...s, capabilities: { ...s.capabilities, [accountId]: capabilities } }));
    } catch {
      // Unknown capabilities forbid nothing here; the server still refuses.
    } finally {
      this.asked.delete(accountId);
    }
  }

  async loadColleagues(): Promise<void> {
    try {
      const list = await this.rest.operators();
      this.store.set((s) => {
        const colleagues = { ...s.colleagues };
        for (const o of list) {
          if (o.disabled) continue;
          colleagues[o.id] = { id: o.id, name: o.name, status: o.presence ?? "offline", skills: o.skills ?? [] };
        }
        return { ...s, colleagues };
      });
    } catch {
      // Not allowed, or no connection.
    }
  }

  searchChats(filter: ChatFilter): Promise<{ items: Chat[]; next_cursor: string | null }> {
    return this.rest.chats(filter);
  }

  // ---- what the operator does ----

  async act(action: ChatAction, chatId: string): Promise<Chat> {
    const { chat } = await this.rpc.call<{ chat: Chat }>(`chat.${action}`, { chat_id: chatId });
    this.store.set((s) => putChat(s, chat));
    return chat;
  }

  /** Accepts the chat that waits longest; null when nobody waits. */
  async takeNext(): Promise<Chat | null> {
    for (const waiting of queueOf(this.store.get())) {
      try {
        const chat = await this.act("accept", waiting.id);
        await this.select(chat.id);
        return chat;
      } catch (error) {
        // Somebody was faster with this one: try the next.
        if (!(error instanceof RpcError) || (error.code !== 1005 && error.code !== 1001)) throw error;
      }
    }
    return null;
  }

  async transfer(chatId: string, to: { operator_id: string } | { skill: string }): Promise<void> {
    const { chat } = await this.rpc.call<{ chat: Chat }>("chat.transfer", { chat_id: chatId, ...to });
    this.store.set((s) => putChat(s, chat));
  }

  reopen(chat: Chat): Promise<void> {
    return this.startChat({ account_id: chat.account_id, external_id: chat.customer?.external_id ?? "" });
  }

  async startChat(
    customer: { account_id: string; external_id: string } | { account_id: string; phone: string },
  ): Promise<void> {
    const answer = await this.rpc.call<{ chat: Chat }>("chat.start", customer);
    this.store.set((s) => putChat(s, answer.chat));
    await this.select(answer.chat.id);
  }

  async setPresence(status: Presence): Promise<void> {
    await this.rpc.call("presence.set", { status });
    this.store.set((s) => (s.me ? { ...s, me: { ...s.me, presence: status } } : s));
  }

  /** The operator has seen the chat up to its last message. */
  async markRead(chatId: string): Promise<void> {
    const state = this.store.get();
    const chat = state.chats[chatId];
    if (!chat || chat.unread === 0 || chat.operator_id !== state.me?.id || chat.state !== "open") return;
    const seq = Math.max(chat.last_seq ?? 0, chat.last_message?.seq ?? 0);
    if (seq < 1 || this.reading.has(chatId)) return;
    this.reading.add(chatId);
    try {
      await this.rpc.call("chat.read", { chat_id: chatId, seq });
      this.store.set((s) => {
        const now = s.chats[chatId];
        if (!now) return s;
        const newer = Math.max(0, (now.last_seq ?? 0) - seq);
        const read = { ...now, read_seq: Math.max(now.read_seq ?? 0, seq), unread: Math.min(now.unread, newer) };
        return { ...s, chats: { ...s.chats, [chatId]: read } };
      });
    } catch {
      // It stays unread, and is tried again with the next look.
    } finally {
      this.reading.delete(chatId);
    }
  }

  clearDivider(): void {
    this.store.set((s) => (s.dividerAfter === null ? s : { ...s, dividerAfter: null }));
  }

  typing(chatId: string): void {
    const { chats, capabilities } = this.store.get();
    const chat = chats[chatId];
    if (!chat || !capabilities[chat.account_id]?.typing) return;
    const now = Date.now();
    if (now - (this.typingSent.get(chatId) ?? 0) < typingEvery) return;
    this.typingSent.set(chatId, now);
    this.rpc.call("chat.typing", { chat_id: chatId }).catch(() => undefined);
  }

  send(draft: Omit<Outgoing, "client_id" | "created_at" | "state">): void {
    this.typingSent.delete(draft.chat_id);
    this.outbox?.add(draft);
    this.clearDivider();
  }

  retrySend(clientId: string): void {
    this.outbox?.retry(clientId);
  }

  discard(clientId: string): void {
    this.outbox?.discard(clientId);
  }

  /** The same content once more, as a new message: the failed one stays in the history. */
  resend(message: Message): void {
    this.send({
      chat_id: message.chat_id,
      kind: message.kind,
      text: message.text,
      files: message.files?.length ? message.files : undefined,
      contact: message.contact ?? undefined,
      location: message.location ?? undefined,
      keyboard: message.keyboard ?? undefined,
      reply_to: message.reply_to ?? undefined,
    });
  }

  async edit(messageId: string, text: string): Promise<void> {
    this.noteMessage(
      (await this.rpc.call<{ message: Message }>("message.edit", { message_id: messageId, text })).message,
    );
  }

  async remove(messageId: string): Promise<void> {
    this.noteMessage((await this.rpc.call<{ message: Message }>("message.delete", { message_id: messageId })).message);
  }

  async forward(messageId: string, chatId: string): Promise<void> {
    const answer = await this.rpc.call<{ message: Message }>("message.forward", {
      message_id: messageId,
      chat_id: chatId,
      client_id: newId(),
    });
    this.noteMessage(answer.message);
  }

  mine(): Chat[] {
    return mineOf(this.store.get());
  }
}
