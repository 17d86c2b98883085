import type { Chat, Failure, Message, Status } from "../core/types";
import type { Key, Words } from "../i18n";
import { en } from "../i18n/en";

/** Whether there are words for a key that was put together. */
export function known(key: string): key is Key {
  return Object.hasOwn(en, key);
}

/** The words for a code of a closed list, or those for "another". */
export function say(words: Words, prefix: string, code: string, params?: Record<string, string>): string {
  const key = `${prefix}.${code}`;
  return known(key) ? words.t(key, params) : words.t(`${prefix}.other` as Key, { name: code, ...params });
}

/** A message in one line. */
export function previewOf(m: Message, words: Words): string {
  if (m.deleted_at) return words.t("message.deleted");
  const text = (m.text ?? "").replace(/\s+/g, " ").trim();
  switch (m.kind) {
    case "text":
      return text || words.t("kind.text");
    case "button":
      return m.button?.text || m.button?.payload || words.t("kind.button");
    case "contact":
      return [words.t("kind.contact"), m.contact?.name || m.contact?.phone].filter(Boolean).join(": ");
    case "location":
      return [words.t("kind.location"), m.location?.title].filter(Boolean).join(": ");
    case "service":
      return say(words, "service", m.service ?? "");
    case "sticker":
      return [m.files?.[0]?.emoji, words.t("kind.sticker")].filter(Boolean).join(" ");
    case "document":
      return text || m.files?.[0]?.name || words.t("kind.document");
    case "forward":
      return text || m.forwarded?.[0]?.text || words.t("kind.forward");
    default:
      return text ? `${words.t(`kind.${m.kind}`)}: ${text}` : words.t(`kind.${m.kind}`);
  }
}

/** Why a message did not arrive, in words to act on. */
export function failureText(words: Words, status: Status, error: Failure | null): string {
  if (status === "expired") return words.t("failure.expired");
  if (status === "canceled") return words.t("status.canceled");
  return say(words, "failure", error?.kind ?? "other");
}

/** What a customer is called. */
export function nameOf(chat: Chat, words: Words): string {
  const c = chat.customer;
  return c?.name || c?.phone || c?.external_id || words.t("chat.unknown");
}
