// What is being written in each chat: text, files on their way up, the message
// that is replied to or edited. Drafts outlive a change of the chat; their
// texts outlive a reload, too.
import { newId } from "./id";
import { fileLimit, kindOf } from "./limits";
import type { Outgoing } from "./outbox";
import { errorDetailOf } from "./outcome";
import type { Upload } from "./rest";
import { Store } from "./store";
import type { Capabilities, FileKind, Keyboard, Message, Uploaded } from "./types";

export interface Attachment {
  key: string;
  file: File;
  kind: FileKind;
  /** 0 to 1 */
  progress: number;
  state: "uploading" | "ready" | "failed";
  uploaded?: Uploaded;
  detail?: string;
  /** An object URL of a picture. */
  preview?: string;
}

export interface Draft {
  text: string;
  attachments: readonly Attachment[];
  /** Buttons for the customer. */
  keyboard: Keyboard | null;
  replyTo: Message | null;
  editing: Message | null;
}

export const emptyDraft: Draft = { text: "", attachments: [], keyboard: null, replyTo: null, editing: null };

/** A file that can't be sent, and why. */
export interface Refused {
  name: string;
  size: number;
  /** The largest that the channel takes, in bytes; 0 for an empty file. */
  limit: number;
}

const prefix = "switchboard.draft.";

export class Drafts {
  readonly store = new Store<Record<string, Draft>>({});
  private readonly upload: (file: File, onProgress: (share: number) => void) => Upload;
  private readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  private readonly operatorId: () => string;
  private running = new Map<string, Upload>();

  constructor(
    upload: (file: File, onProgress: (share: number) => void) => Upload,
    operatorId: () => string,
    storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> = localStorage,
  ) {
    this.upload = upload;
    this.operatorId = operatorId;
    this.storage = storage;
  }

  get(chatId: string): Draft {
    return this.store.get()[chatId] ?? this.restore(chatId);
  }

  private restored = new Map<string, Draft>();

  private restore(chatId: string): Draft {
    const key = this.key(chatId);
    let draft = this.restored.get(key);
    if (!draft) {
      const text = this.storage.getItem(key);
      draft = text ? { ...emptyDraft, text } : emptyDraft;
      this.restored.set(key, draft);
    }
    return draft;
  }

  private key(chatId: string): string {
    return `${prefix}${this.operatorId()}.${chatId}`;
  }

  private change(chatId: string, change: (d: Draft) => Draft): void {
    this.store.set((all) => ({ ...all, [chatId]: change(all[chatId] ?? this.restore(chatId)) }));
  }

  setText(chatId: string, text: string): void {
    this.change(chatId, (d) => ({ ...d, text }));
    if (this.get(chatId).editing) return; // the text of a sent message is no draft
    try {
      if (text) this.storage.setItem(this.key(chatId), text);
      else this.storage.removeItem(this.key(chatId));
    } catch {
      // Kept in this window only.
    }
  }

  reply(chatId: string, message: Message | null): void {
    this.change(chatId, (d) => ({ ...d, replyTo: message }));
  }

  setKeyboard(chatId: string, keyboard: Keyboard | null): void {
    this.change(chatId, (d) => ({ ...d, keyboard }));
  }

  /** Begins to edit a message; what was being written comes back with stopEditing. */
  edit(chatId: string, message: Message): void {
    this.change(chatId, (d) => ({ ...d, editing: message, replyTo: null, text: message.text ?? "" }));
  }

  stopEditing(chatId: string): void {
    const text = this.storage.getItem(this.key(chatId)) ?? "";
    this.change(chatId, (d) => ({ ...d, editing: null, text }));
  }

  /** Starts to upload files; those that the channel would refuse are returned. */
  attach(chatId: string, files: readonly File[], caps: Capabilities | undefined): Refused[] {
    const refused: Refused[] = [];
    for (const file of files) {
      const kind = kindOf(file.type, caps);
      const limit = fileLimit(caps, kind);
      if (file.size === 0 || (limit > 0 && file.size > limit)) {
        refused.push({ name: file.name, size: file.size, limit: file.size === 0 ? 0 : limit });
        continue;
      }
      const preview = kind === "image" ? URL.createObjectURL(file) : undefined;
      const attachment: Attachment = { key: newId(), file, kind, progress: 0, state: "uploading", preview };
      this.change(chatId, (d) => ({ ...d, attachments: [...d.attachments, attachment] }));
      void this.run(chatId, attachment);
    }
    return refused;
  }

  retry(chatId: string, key: string): void {
    const attachment = this.get(chatId).attachments.find((a) => a.key === key);
    if (attachment?.state !== "failed") return;
    this.patch(chatId, key, { state: "uploading", progress: 0, detail: undefined });
    void this.run(chatId, attachment);
  }

  private async run(chatId: string, attachment: Attachment): Promise<void> {
    const upload = this.upload(attachment.file, (progress) => this.patch(chatId, attachment.key, { progress }));
    this.running.set(attachment.key, upload);
    try {
      const uploaded = await upload.done;
      this.patch(chatId, attachment.key, { state: "ready", progress: 1, uploaded });
    } catch (error) {
      this.patch(chatId, attachment.key, { state: "failed", detail: errorDetailOf(error) });
    } finally {
      this.running.delete(attachment.key);
    }
  }

  private patch(chatId: string, key: string, patch: Partial<Attachment>): void {
    this.change(chatId, (d) => ({
      ...d,
      attachments: d.attachments.map((a) => (a.key === key ? { ...a, ...patch } : a)),
    }));
  }

  detach(chatId: string, key: string): void {
    this.running.get(key)?.abort();
    const attachment = this.get(chatId).attachments.find((a) => a.key === key);
    if (attachment?.preview) URL.revokeObjectURL(attachment.preview);
    this.change(chatId, (d) => ({ ...d, attachments: d.attachments.filter((a) => a.key !== key) }));
  }

  /** Whether something is still on its way up, anywhere. */
  uploading(): boolean {
    return this.running.size > 0;
  }

  /** Takes the draft away and gives the messages that it makes, in their order. */
  take(chatId: string, caps: Capabilities | undefined): Omit<Outgoing, "client_id" | "created_at" | "state">[] {
    const draft = this.get(chatId);
    const messages = messagesOf(chatId, draft, caps);
    if (messages.length === 0) return messages;
    for (const a of draft.attachments) if (a.preview) URL.revokeObjectURL(a.preview);
    this.storage.removeItem(this.key(chatId));
    this.restored.delete(this.key(chatId));
    this.store.set((all) => ({ ...all, [chatId]: emptyDraft }));
    return messages;
  }
}

/** Files of one kind go together, as many as the channel takes; the text goes with the first. */
export function messagesOf(
  chatId: string,
  draft: Draft,
  caps: Capabilities | undefined,
): Omit<Outgoing, "client_id" | "created_at" | "state">[] {
  const text = draft.text.trim();
  const most = caps?.max_files || 10;
  const messages: Omit<Outgoing, "client_id" | "created_at" | "state">[] = [];
  for (const a of draft.attachments) {
    if (!a.uploaded) return []; // not yet
    const file = {
      id: a.uploaded.id,
      kind: a.kind,
      name: a.uploaded.name || a.file.name,
      mime: a.uploaded.mime,
      size: a.uploaded.size,
      state: "ready" as const,
    };
    const last = messages.at(-1);
    if (last && last.kind === a.kind && (last.files?.length ?? 0) < most) last.files?.push(file);
    else messages.push({ chat_id: chatId, kind: a.kind, files: [file] });
  }
  if (text) {
    if (messages[0]) messages[0].text = text;
    else messages.push({ chat_id: chatId, kind: "text", text });
  }
  // Under the last one it is where the customer looks.
  const last = messages.at(-1);
  if (last && draft.keyboard) last.keyboard = draft.keyboard;
  if (messages[0] && draft.replyTo) messages[0].reply_to = draft.replyTo.id;
  return messages;
}
