import { IconArrowBackUp, IconCheck, IconClock, IconPlayerTrackNext } from "@tabler/icons-react";
import { memo } from "react";
import { isOfferedTo, isWaiting, lastActivity, waitingSince } from "../core/state";
import type { Chat } from "../core/types";
import { useDeskState, useOutgoing, useWords } from "./context";
import { Avatar } from "./platform";
import { nameOf, previewOf } from "./preview";

interface Props {
  chat: Chat;
  now: number;
  me: string | undefined;
  selected: boolean;
  onOpen: (chat: Chat) => void;
  onAccept: (chat: Chat) => void;
  onSkip: (chat: Chat) => void;
}

/** How urgent a wait is: from 2 and from 5 minutes on it is shown in colour. */
export function urgency(ms: number): "calm" | "soon" | "late" {
  return ms < 2 * 60_000 ? "calm" : ms < 5 * 60_000 ? "soon" : "late";
}

export const ChatLine = memo(function ChatLine({ chat, now, me, selected, onOpen, onAccept, onSkip }: Props) {
  const words = useWords();
  const { t } = words;
  const typing = useDeskState((s) => s.typing[chat.id]);
  const waitsToSend = useOutgoing().some((o) => o.chat_id === chat.id && o.state === "failed");
  const name = nameOf(chat, words);
  const waiting = isWaiting(chat);
  const offered = isOfferedTo(chat, me);
  const since = waitingSince(chat);
  const activity = lastActivity(chat);
  const last = chat.last_message;
  const isTyping = typing !== undefined && typing > Date.now();
  return (
    <li className="line" data-unread={chat.unread > 0 ? "" : undefined} data-offered={offered ? "" : undefined}>
      <button type="button" className="line-open" aria-current={selected} onClick={() => onOpen(chat)}>
        <Avatar
          id={chat.customer?.id ?? chat.id}
          name={name}
          picture={chat.customer?.avatar}
          platform={chat.platform}
        />
        <span className="line-body">
          <span className="line-top">
            <span className="line-name">{name}</span>
            {activity > 0 && <time dateTime={new Date(activity).toISOString()}>{words.short(activity, now)}</time>}
          </span>
          <span className="line-bottom">
            <span className="line-preview">
              {isTyping ? (
                <em>{t("chat.typing")}</em>
              ) : last ? (
                <>
                  {last.direction === "out" && (
                    <span className="line-you">
                      <IconArrowBackUp size={13} aria-label={`${t("chat.you")}:`} />
                    </span>
                  )}
                  {previewOf(last, words)}
                </>
              ) : (
                t("history.empty")
              )}
            </span>
            {waitsToSend && <span className="line-failed" role="img" aria-label={t("message.notSent")} />}
            {chat.unread > 0 && !waiting && (
              <span className="unread" role="img" aria-label={t("chat.unread", { n: chat.unread })}>
                {chat.unread > 99 ? "99+" : chat.unread}
              </span>
            )}
          </span>
          {(since !== null || chat.state === "closed") && (
            <span className="line-tags">
              {offered && (
                <span className="tag" data-kind="offered">
                  {t("chat.offered")}
                </span>
              )}
              {since !== null && (
                <span className="tag" data-kind={urgency(now - since)}>
                  <IconClock size={12} aria-hidden /> {t("chat.waiting", { time: words.span(now - since) })}
                </span>
              )}
              {chat.skill && waiting && <span className="tag">{chat.skill}</span>}
              {chat.state === "closed" && <span className="tag">{t("chat.state.closed")}</span>}
            </span>
          )}
        </span>
      </button>
      {waiting && (
        <span className="line-actions">
          <button
            type="button"
            className="line-accept"
            title={`${t("chat.accept")} (A)`}
            onClick={() => onAccept(chat)}
          >
            <IconCheck size={15} stroke={2.2} aria-hidden /> {t("chat.accept")}
          </button>
          <button
            type="button"
            className="line-skip"
            aria-label={`${t("chat.skip")}: ${name}`}
            title={`${t("chat.skip")}. ${t("chat.skipHint")} (S)`}
            onClick={() => onSkip(chat)}
          >
            <IconPlayerTrackNext size={15} aria-hidden />
          </button>
        </span>
      )}
    </li>
  );
});
