import { ActionIcon, Button, Menu, Tooltip } from "@mantine/core";
import {
  IconArrowLeft,
  IconArrowsExchange,
  IconChecks,
  IconDots,
  IconLayoutSidebarRight,
  IconPlayerTrackNext,
} from "@tabler/icons-react";
import { useEffect, useState } from "react";
import { isOfferedTo, isWaiting, waitingSince } from "../core/state";
import type { Chat } from "../core/types";
import { urgency } from "./ChatLine";
import { Composer } from "./Composer";
import { useDesk, useDeskState, useNow, useWords } from "./context";
import type { DialogRequest } from "./dialogs";
import { MessageList } from "./MessageList";
import { Avatar, platformName } from "./platform";
import { nameOf } from "./preview";
import { failed } from "./toast";

interface Props {
  chat: Chat;
  details: boolean;
  onDetails: () => void;
  onAccept: (chat: Chat) => void;
  onAct: (action: "skip" | "decline", chat: Chat) => void;
  onDialog: (request: DialogRequest) => void;
}

/** Whether the customer is typing; renewed when the sign runs out. */
function useTyping(chatId: string): boolean {
  const until = useDeskState((s) => s.typing[chatId] ?? 0);
  const [, renew] = useState(0);
  const left = until - Date.now();
  useEffect(() => {
    if (left <= 0) return;
    const timer = setTimeout(() => renew((n) => n + 1), left + 20);
    return () => clearTimeout(timer);
  }, [left]);
  return left > 0;
}

export function Conversation({ chat, details, onDetails, onAccept, onAct, onDialog }: Props) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const me = useDeskState((s) => s.me);
  const colleagues = useDeskState((s) => s.colleagues);
  const typing = useTyping(chat.id);
  const now = useNow(10_000);

  const name = nameOf(chat, words);
  const waiting = isWaiting(chat);
  const offered = isOfferedTo(chat, me?.id);
  const mine = chat.state === "open" && chat.operator_id === me?.id;
  const manager = me?.role === "supervisor" || me?.role === "admin";
  const writable = chat.state === "open" && (mine || manager);
  const since = waitingSince(chat);

  return (
    <main className="conversation" aria-label={t("history.label", { name })}>
      <header className="chat-head">
        <ActionIcon
          className="narrow-only"
          variant="subtle"
          color="gray"
          size={36}
          aria-label={t("chat.back")}
          onClick={() => void desk.select(null)}
        >
          <IconArrowLeft size={20} aria-hidden />
        </ActionIcon>
        <Avatar
          id={chat.customer?.id ?? chat.id}
          name={name}
          picture={chat.customer?.avatar}
          platform={chat.platform}
        />
        <div className="chat-who">
          <h2>{name}</h2>
          <p aria-live="polite">
            {typing ? (
              <em className="typing">
                {t("chat.typing")}
                <i aria-hidden />
                <i aria-hidden />
                <i aria-hidden />
              </em>
            ) : (
              <>
                {platformName(chat.platform)}
                {since !== null && (
                  <span
                    className="chat-wait"
                    data-kind={urgency(now - since)}
                    title={t("chat.waits", { time: words.span(now - since) })}
                  >
                    {t("chat.waiting", { time: words.span(now - since) })}
                  </span>
                )}
                {since === null && <span className="chat-state">{t(`chat.state.${chat.state}`)}</span>}
              </>
            )}
          </p>
        </div>
        <div className="chat-actions">
          {(mine || (manager && chat.state === "open")) && (
            <>
              <Button
                className="wide-only"
                variant="default"
                size="sm"
                leftSection={<IconArrowsExchange size={16} aria-hidden />}
                onClick={() => onDialog({ type: "transfer", chat })}
              >
                {t("chat.transfer")}
              </Button>
              <Tooltip label="X" openDelay={500}>
                <Button
                  className="wide-only"
                  variant="light"
                  size="sm"
                  leftSection={<IconChecks size={16} aria-hidden />}
                  onClick={() => onDialog({ type: "close", chat })}
                >
                  {t("chat.close")}
                </Button>
              </Tooltip>
              <Menu position="bottom-end" shadow="md">
                <Menu.Target>
                  <ActionIcon
                    className="narrow-only"
                    variant="subtle"
                    color="gray"
                    size={36}
                    aria-label={t("message.actions")}
                  >
                    <IconDots size={20} aria-hidden />
                  </ActionIcon>
                </Menu.Target>
                <Menu.Dropdown>
                  <Menu.Item onClick={() => onDialog({ type: "transfer", chat })}>{t("chat.transfer")}</Menu.Item>
                  <Menu.Item onClick={() => onDialog({ type: "close", chat })}>{t("chat.close")}</Menu.Item>
                </Menu.Dropdown>
              </Menu>
            </>
          )}
          <Tooltip label={`${t("chat.details")} (D)`} openDelay={500}>
            <ActionIcon
              variant={details ? "light" : "subtle"}
              color={details ? "indigo" : "gray"}
              size={36}
              aria-label={t("chat.details")}
              aria-pressed={details}
              onClick={onDetails}
            >
              <IconLayoutSidebarRight size={19} stroke={1.7} aria-hidden />
            </ActionIcon>
          </Tooltip>
        </div>
      </header>

      <MessageList chat={chat} name={name} writable={writable} onDialog={onDialog} />

      {writable ? (
        <Composer chat={chat} name={name} onDialog={onDialog} />
      ) : (
        <footer className="chat-foot">
          {waiting ? (
            <>
              <p>{t(offered ? "chat.isOffered" : "chat.isWaiting")}</p>
              <div>
                <Button size="sm" onClick={() => onAccept(chat)} rightSection={<kbd className="on-accent">A</kbd>}>
                  {t("chat.accept")}
                </Button>
                <Button
                  size="sm"
                  variant="default"
                  leftSection={<IconPlayerTrackNext size={15} aria-hidden />}
                  title={`${t("chat.skipHint")} (S)`}
                  onClick={() => onAct("skip", chat)}
                >
                  {t("chat.skip")}
                </Button>
                {offered && (
                  <Button
                    size="sm"
                    variant="default"
                    title={t("chat.declineHint")}
                    onClick={() => onAct("decline", chat)}
                  >
                    {t("chat.decline")}
                  </Button>
                )}
              </div>
            </>
          ) : chat.state === "closed" ? (
            <>
              <p>{t("chat.isClosed")}</p>
              <div>
                <Button size="sm" variant="light" onClick={() => desk.reopen(chat).catch((e) => failed(words, e))}>
                  {t("chat.reopen")}
                </Button>
              </div>
            </>
          ) : (
            <p>
              {chat.operator_id && colleagues[chat.operator_id]
                ? t("chat.notMine", { name: colleagues[chat.operator_id]?.name ?? "" })
                : t("chat.notMineUnknown")}
            </p>
          )}
        </footer>
      )}
    </main>
  );
}
