import { ActionIcon, Menu, Tooltip } from "@mantine/core";
import {
  IconAlertCircle,
  IconArrowBackUp,
  IconArrowForwardUp,
  IconCheck,
  IconChecks,
  IconClock,
  IconCopy,
  IconDots,
  IconHistory,
  IconPencil,
  IconTrash,
} from "@tabler/icons-react";
import { memo, type ReactNode } from "react";
import type { Outgoing } from "../core/outbox";
import type { Chat, Message, Status } from "../core/types";
import type { Key } from "../i18n";
import { ContactCard, Files, type LightboxRequest, LocationCard } from "./Attachments";
import { useDesk, useDeskState, useWords } from "./context";
import type { DialogRequest } from "./dialogs";
import { KeyboardView } from "./KeyboardView";
import { Linkified } from "./linkify";
import { platformName } from "./platform";
import { failureText, previewOf, say } from "./preview";
import { copy } from "./toast";

interface Props {
  messages: readonly Message[];
  first: boolean;
  last: boolean;
  chat: Chat;
  name: string;
  me: string | undefined;
  byId: ReadonlyMap<string, Message>;
  writable: boolean;
  highlight: string | null;
  onJump: (id: string) => void;
  onOpen: (request: LightboxRequest) => void;
  onDialog: (request: DialogRequest) => void;
}

const failedStatuses = new Set<Status>(["failed", "expired", "canceled"]);

/** Up to three emoji and nothing else are shown large. */
const onlyEmoji =
  /^(?:\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\u200d|\ufe0f|\p{Extended_Pictographic})*\s?){1,3}$/u;

export const Bubble = memo(function Bubble(p: Props) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const head = p.messages[0] as Message;
  const tail = p.messages.at(-1) as Message;
  const out = head.direction === "out";
  const highlighted = p.messages.some((m) => m.id === p.highlight);
  const isFailed = out && failedStatuses.has(tail.status);
  const text = p.messages.map((m) => m.text).find(Boolean) ?? "";
  const files = p.messages.flatMap((m) => m.files ?? []);
  const sender = senderName(head, p.me, p.name, t);
  const bare =
    head.kind === "sticker" ||
    (head.kind === "text" && !head.reply_to && text.length <= 40 && onlyEmoji.test(text.trim()));
  const visual =
    files.length > 0 &&
    files.every((f) => (f.kind === "image" || f.kind === "video") && f.state === "ready") &&
    !head.deleted_at;

  return (
    <article
      className="message"
      data-side={out ? "out" : "in"}
      data-first={p.first ? "" : undefined}
      data-last={p.last ? "" : undefined}
      data-highlight={highlighted ? "" : undefined}
      data-bare={bare && !head.deleted_at ? "" : undefined}
      aria-label={`${sender}, ${words.full(head.created_at)}`}
    >
      {p.first && out && head.sender.id !== p.me && <p className="message-sender">{sender}</p>}
      <div className="message-line">
        <div className="bubble" data-visual={visual ? "" : undefined} data-failed={isFailed ? "" : undefined}>
          {head.deleted_at ? (
            <p className="gone">
              <IconTrash size={14} aria-hidden /> {t("message.deleted")}
            </p>
          ) : (
            <>
              {head.reply_to || head.quote ? (
                <Quote message={head} byId={p.byId} name={p.name} me={p.me} onJump={p.onJump} />
              ) : null}
              {head.forwarded?.map((f, i) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: forwards never change their order
                <blockquote key={i} className="forwarded">
                  <cite>{t("message.forwarded", { name: f.from })}</cite>
                  {f.text && (
                    <p className="text">
                      <Linkified text={f.text} />
                    </p>
                  )}
                </blockquote>
              ))}
              {files.length > 0 && <Files files={files} kind={head.kind} onOpen={p.onOpen} />}
              <Body message={head} text={text} />
              {head.keyboard && <KeyboardView keyboard={head.keyboard} />}
            </>
          )}
          <footer className="meta">
            {head.edited_at && !head.deleted_at && <span>{t("message.edited")}</span>}
            <time dateTime={tail.created_at} title={words.full(tail.created_at)}>
              {words.time(tail.created_at)}
            </time>
            {out && <StatusMark status={tail.status} at={words.full(tail.status_at)} />}
          </footer>
        </div>
        {!head.deleted_at && <Actions {...p} message={head} text={text} />}
      </div>
      {isFailed && (
        <p className="failure" role="note">
          <IconAlertCircle size={14} aria-hidden />
          <span>
            <strong>{t(`status.${tail.status}`)}.</strong> {failureText(words, tail.status, tail.error)}
            {tail.error?.detail && <small> {tail.error.detail}</small>}
          </span>
          {p.writable && (
            <button type="button" onClick={() => desk.resend(tail)}>
              {t("message.retry")}
            </button>
          )}
        </p>
      )}
    </article>
  );
});

function senderName(m: Message, me: string | undefined, customer: string, t: (key: Key) => string): string {
  if (m.direction === "in") return customer;
  if (m.sender.id && m.sender.id === me) return t("chat.you");
  switch (m.sender.kind) {
    case "campaign":
      return [t("message.campaign"), m.sender.name].filter(Boolean).join(": ");
    case "api":
      return m.sender.name || t("message.api");
    case "bot":
      return m.sender.name || t("message.bot");
    default:
      return m.sender.name || t("role.operator");
  }
}

function Body({ message: m, text }: { message: Message; text: string }) {
  const words = useWords();
  const { t } = words;
  let extra: ReactNode = null;
  switch (m.kind) {
    case "contact":
      extra = m.contact && <ContactCard contact={m.contact} />;
      break;
    case "location":
      extra = m.location && <LocationCard location={m.location} />;
      break;
    case "button":
      return (
        <p className="pressed">
          <small>{t("message.pressed")}</small>
          <span>{m.button?.text || m.button?.payload || text}</span>
        </p>
      );
    case "template":
      extra = (
        <p className="template">
          <small>{t("message.template", { name: m.template?.name ?? "" })}</small>
          {(m.template?.parameters ?? []).map((value, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: parameters are told apart by their place
            <span key={i}>{value}</span>
          ))}
        </p>
      );
      break;
    case "unsupported":
      extra = (
        <p className="unsupported">
          {m.unsupported ? t("message.unsupported", { type: m.unsupported }) : t("message.unsupportedUnknown")}
        </p>
      );
      break;
  }
  return (
    <>
      {extra}
      {text && (
        <p className="text">
          <Linkified text={text} />
        </p>
      )}
    </>
  );
}

function Quote({
  message,
  byId,
  name,
  me,
  onJump,
}: {
  message: Pick<Message, "reply_to" | "quote">;
  byId: ReadonlyMap<string, Message>;
  name: string;
  me: string | undefined;
  onJump?: (id: string) => void;
}) {
  const words = useWords();
  const { t } = words;
  const target = message.reply_to ? byId.get(message.reply_to) : undefined;
  const who = target ? senderName(target, me, name, t) : null;
  const shown = message.quote || (target ? previewOf(target, words) : t("message.replyGone"));
  const id = message.reply_to;
  return (
    <button
      type="button"
      className="quote"
      disabled={!id || !onJump}
      title={id ? t("message.jump") : undefined}
      onClick={() => id && onJump?.(id)}
    >
      {who && <strong>{who}</strong>}
      <span>{shown}</span>
    </button>
  );
}

export function StatusMark({ status, at }: { status: Status | "waiting"; at?: string }) {
  const { t } = useWords();
  const label = t(`status.${status}`);
  const Icon =
    status === "delivered" || status === "read"
      ? IconChecks
      : status === "sent"
        ? IconCheck
        : failedStatuses.has(status as Status)
          ? IconAlertCircle
          : IconClock;
  return (
    <span className="status" data-status={status} role="img" aria-label={label} title={at ? `${label} · ${at}` : label}>
      <Icon size={15} stroke={2} aria-hidden />
    </span>
  );
}

function Actions({ message: m, text, chat, me, writable, onDialog }: Props & { message: Message; text: string }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const caps = useDeskState((s) => s.capabilities[chat.account_id]);
  const platform = platformName(chat.platform);
  const own = m.direction === "out" && m.sender.kind === "operator" && m.sender.id === me;
  const sent = m.status === "sent" || m.status === "delivered" || m.status === "read";
  const editable = own && sent && (m.kind === "text" || (m.files?.length ?? 0) > 0);
  const focusComposer = () => setTimeout(() => document.getElementById("composer")?.focus(), 60);
  const reply = () => {
    desk.drafts.reply(chat.id, m);
    focusComposer();
  };
  const canReply = writable && caps?.reply_to !== false;
  return (
    <div className="message-actions">
      {canReply && (
        <Tooltip label={t("message.reply")} openDelay={400}>
          <ActionIcon variant="subtle" color="gray" size={28} aria-label={t("message.reply")} onClick={reply}>
            <IconArrowBackUp size={16} aria-hidden />
          </ActionIcon>
        </Tooltip>
      )}
      <Menu position={m.direction === "out" ? "bottom-end" : "bottom-start"} shadow="md" width={250}>
        <Menu.Target>
          <ActionIcon variant="subtle" color="gray" size={28} aria-label={t("message.actions")}>
            <IconDots size={16} aria-hidden />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {writable && (
            <Menu.Item
              leftSection={<IconArrowBackUp size={16} aria-hidden />}
              disabled={!canReply}
              title={canReply ? undefined : t("cant.reply", { platform })}
              onClick={reply}
            >
              {t("message.reply")}
              {!canReply && <small className="why">{t("cant.reply", { platform })}</small>}
            </Menu.Item>
          )}
          {text && (
            <Menu.Item leftSection={<IconCopy size={16} aria-hidden />} onClick={() => void copy(words, text)}>
              {t("message.copy")}
            </Menu.Item>
          )}
          <Menu.Item
            leftSection={<IconArrowForwardUp size={16} aria-hidden />}
            onClick={() => onDialog({ type: "forward", message: m })}
          >
            {t("message.forward")}
          </Menu.Item>
          <Menu.Item
            leftSection={<IconHistory size={16} aria-hidden />}
            onClick={() => onDialog({ type: "timeline", message: m })}
          >
            {t("message.timeline")}
          </Menu.Item>
          {writable && editable && (
            <Menu.Item
              leftSection={<IconPencil size={16} aria-hidden />}
              disabled={caps?.edit === false}
              onClick={() => {
                desk.drafts.edit(chat.id, m);
                focusComposer();
              }}
            >
              {t("message.edit")}
              {caps?.edit === false && <small className="why">{t("cant.edit", { platform })}</small>}
            </Menu.Item>
          )}
          {writable && m.direction === "in" && caps?.delete_received && (
            <Menu.Item
              color="red"
              leftSection={<IconTrash size={16} aria-hidden />}
              onClick={() => onDialog({ type: "delete", message: m })}
            >
              {t("message.delete")}
            </Menu.Item>
          )}
          {writable && own && sent && (
            <Menu.Item
              color="red"
              leftSection={<IconTrash size={16} aria-hidden />}
              disabled={caps?.delete === false}
              onClick={() => onDialog({ type: "delete", message: m })}
            >
              {t("message.delete")}
              {caps?.delete === false && <small className="why">{t("cant.delete", { platform })}</small>}
            </Menu.Item>
          )}
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}

/** A message that the server does not have yet. */
export function OutgoingBubble({
  item,
  first,
  last,
  byId,
}: {
  item: Outgoing;
  first: boolean;
  last: boolean;
  byId: ReadonlyMap<string, Message>;
}) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const me = useDeskState((s) => s.me?.id);
  const isFailed = item.state === "failed";
  return (
    <article
      className="message"
      data-side="out"
      data-first={first ? "" : undefined}
      data-last={last ? "" : undefined}
      aria-label={t(isFailed ? "message.notSent" : "status.waiting")}
    >
      <div className="message-line">
        <div className="bubble" data-pending="" data-failed={isFailed ? "" : undefined}>
          {item.reply_to && <Quote message={{ reply_to: item.reply_to }} byId={byId} name="" me={me} />}
          {item.files && <Files files={item.files} kind={item.kind} onOpen={() => undefined} />}
          {item.contact && <ContactCard contact={item.contact} />}
          {item.location && <LocationCard location={item.location} />}
          {item.text && (
            <p className="text">
              <Linkified text={item.text} />
            </p>
          )}
          {item.keyboard && <KeyboardView keyboard={item.keyboard} />}
          <footer className="meta">
            <time>{words.time(item.created_at)}</time>
            <StatusMark status={isFailed ? "failed" : "waiting"} />
          </footer>
        </div>
      </div>
      {isFailed && (
        <p className="failure" role="note">
          <IconAlertCircle size={14} aria-hidden />
          <span>
            <strong>{t("message.notSent")}.</strong> {say(words, "error", item.error?.reason ?? "other")}
            {item.error?.detail && <small> {item.error.detail}</small>}
          </span>
          <button type="button" onClick={() => desk.retrySend(item.client_id)}>
            {t("message.retry")}
          </button>
          <button type="button" onClick={() => desk.discard(item.client_id)}>
            {t("message.discard")}
          </button>
        </p>
      )}
    </article>
  );
}
