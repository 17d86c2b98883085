import { ActionIcon, Button, Menu, Tooltip } from "@mantine/core";
import {
  IconFilter,
  type IconInbox,
  IconKeyboard,
  IconLogout,
  IconMessagePlus,
  IconMessages,
  IconMoodSmile,
  IconSearch,
  IconSettings,
  IconX,
} from "@tabler/icons-react";
import { type KeyboardEvent, useEffect, useRef } from "react";
import type { Chat, Presence } from "../core/types";
import type { Key } from "../i18n";
import { ChatLine } from "./ChatLine";
import { useDesk, useDeskState, useNow, useWords } from "./context";
import type { DialogRequest } from "./dialogs";
import { Mark } from "./Mark";
import { Avatar, PlatformIcon, platformName, platforms } from "./platform";
import { failed } from "./toast";
import type { AllChats } from "./useAllChats";

export type Tab = "mine" | "queue" | "all";
const tabs: readonly Tab[] = ["mine", "queue", "all"];

interface Props {
  tab: Tab;
  setTab: (tab: Tab) => void;
  query: string;
  setQuery: (query: string) => void;
  platform: string;
  setPlatform: (platform: string) => void;
  list: readonly Chat[];
  counts: { mine: number; queue: number };
  all: AllChats;
  selected: string | null;
  onOpen: (chat: Chat) => void;
  onAccept: (chat: Chat) => void;
  onSkip: (chat: Chat) => void;
  onTakeNext: () => void;
  onDialog: (request: DialogRequest) => void;
  signOut: () => void;
}

export function Sidebar(p: Props) {
  const { t, number } = useWords();
  const now = useNow(10_000);
  const me = useDeskState((s) => s.me);
  const listRef = useRef<HTMLUListElement>(null);

  // The chosen chat stays in sight when it is chosen by keys.
  // biome-ignore lint/correctness/useExhaustiveDependencies: selected is what it follows
  useEffect(() => {
    listRef.current?.querySelector("[aria-current='true']")?.scrollIntoView({ block: "nearest" });
  }, [p.selected]);

  const onTabKey = (event: KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(p.tab) + step + tabs.length) % tabs.length] as Tab;
    p.setTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };

  const filtered = p.query.trim() !== "" || p.platform !== "";
  return (
    <nav className="sidebar" aria-label={t("list.label")}>
      <header className="sidebar-head">
        <Mark size={30} />
        <h1 className="wordmark">{t("app.name")}</h1>
        <AccountMenu onDialog={p.onDialog} signOut={p.signOut} />
      </header>

      <div className="search">
        <IconSearch size={16} aria-hidden />
        <input
          id="search"
          type="search"
          placeholder={t("list.search")}
          aria-label={t("list.search")}
          autoComplete="off"
          value={p.query}
          onChange={(e) => p.setQuery(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key !== "Enter" || e.nativeEvent.isComposing || !p.list[0]) return;
            // The chat's field takes the focus at once, and must not get the line break.
            e.preventDefault();
            p.onOpen(p.list[0]);
          }}
        />
        {p.query && (
          <button type="button" className="search-clear" aria-label={t("list.clear")} onClick={() => p.setQuery("")}>
            <IconX size={14} aria-hidden />
          </button>
        )}
        <Menu position="bottom-end" shadow="md">
          <Menu.Target>
            <button
              type="button"
              className="search-filter"
              aria-label={t("list.platform")}
              data-active={p.platform ? "" : undefined}
            >
              {p.platform ? <PlatformIcon platform={p.platform} size={13} /> : <IconFilter size={16} aria-hidden />}
            </button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item onClick={() => p.setPlatform("")}>{t("list.anyPlatform")}</Menu.Item>
            <Menu.Divider />
            {platforms.map((name) => (
              <Menu.Item key={name} leftSection={<PlatformIcon platform={name} />} onClick={() => p.setPlatform(name)}>
                {platformName(name)}
              </Menu.Item>
            ))}
          </Menu.Dropdown>
        </Menu>
      </div>

      <div className="tabs" role="tablist" aria-label={t("list.label")} onKeyDown={onTabKey}>
        {tabs.map((name) => {
          const count = name === "all" ? 0 : p.counts[name];
          return (
            <button
              key={name}
              id={`tab-${name}`}
              type="button"
              role="tab"
              aria-selected={p.tab === name}
              aria-controls="chat-list"
              tabIndex={p.tab === name ? 0 : -1}
              onClick={() => p.setTab(name)}
            >
              {t(`list.${name}` as Key)}
              {count > 0 && (
                <span className="count" data-kind={name}>
                  {number(count)}
                </span>
              )}
            </button>
          );
        })}
      </div>

      <div className="list" id="chat-list" role="tabpanel" aria-labelledby={`tab-${p.tab}`}>
        {p.tab === "queue" && p.counts.queue > 0 && (
          <div className="take-next">
            <Tooltip label="N" openDelay={500}>
              <Button fullWidth size="sm" onClick={p.onTakeNext}>
                {t("list.takeNext")}
              </Button>
            </Tooltip>
          </div>
        )}
        {p.list.length > 0 ? (
          <ul ref={listRef}>
            {p.list.map((chat) => (
              <ChatLine
                key={chat.id}
                chat={chat}
                now={now}
                me={me?.id}
                selected={chat.id === p.selected}
                onOpen={p.onOpen}
                onAccept={p.onAccept}
                onSkip={p.onSkip}
              />
            ))}
          </ul>
        ) : (
          <Nothing tab={p.tab} filtered={filtered} all={p.all} />
        )}
        {p.tab === "all" && p.all.more && (
          <div className="list-more">
            <Button variant="light" size="xs" loading={p.all.loading} onClick={p.all.loadMore}>
              {t("list.more")}
            </Button>
          </div>
        )}
      </div>
    </nav>
  );
}

function Nothing({ tab, filtered, all }: { tab: Tab; filtered: boolean; all: AllChats }) {
  const { t } = useWords();
  const me = useDeskState((s) => s.me);
  if (!me || (tab === "all" && all.loading)) {
    return (
      <div className="list-skeleton" aria-hidden>
        {[0, 1, 2, 3, 4].map((i) => (
          <div key={i} />
        ))}
      </div>
    );
  }
  if (tab === "all" && all.failed) {
    return (
      <div className="list-empty">
        <p>{t("list.allFailed")}</p>
        <Button variant="light" size="xs" onClick={all.reload}>
          {t("history.retry")}
        </Button>
      </div>
    );
  }
  const [icon, title, hint]: [typeof IconInbox, Key, Key] = filtered
    ? [IconSearch, "list.noneFound", "list.noneFoundHint"]
    : tab === "all"
      ? [IconMessages, "list.noneAll", "list.noneAllHint"]
      : tab === "mine"
        ? [IconMessages, "list.noneMine", "list.noneMineHint"]
        : [IconMoodSmile, "list.noneQueue", "list.noneQueueHint"];
  const Icon = icon;
  return (
    <div className="list-empty">
      <Icon size={32} stroke={1.4} aria-hidden />
      <strong>{t(title)}</strong>
      <p>{t(hint)}</p>
    </div>
  );
}

function AccountMenu({ onDialog, signOut }: { onDialog: (request: DialogRequest) => void; signOut: () => void }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const me = useDeskState((s) => s.me);
  const connection = useDeskState((s) => s.connection);
  const presence: Presence = me?.presence ?? "online";
  const online = connection.phase === "online";
  const set = (status: Presence) => {
    desk.setPresence(status).catch((e) => failed(words, e));
  };
  return (
    <div className="account">
      <Tooltip label={`${t("start.title")} (C)`} openDelay={500}>
        <ActionIcon
          variant="subtle"
          color="gray"
          size={34}
          aria-label={t("start.title")}
          onClick={() => onDialog({ type: "start" })}
        >
          <IconMessagePlus size={19} stroke={1.6} aria-hidden />
        </ActionIcon>
      </Tooltip>
      <Tooltip label={t("menu.shortcuts")} openDelay={500}>
        <ActionIcon
          variant="subtle"
          color="gray"
          size={34}
          className="wide-only"
          aria-label={t("menu.shortcuts")}
          onClick={() => onDialog({ type: "shortcuts" })}
        >
          <IconKeyboard size={19} stroke={1.6} aria-hidden />
        </ActionIcon>
      </Tooltip>
      <Menu position="bottom-end" shadow="lg" width={230}>
        <Menu.Target>
          <button
            type="button"
            className="account-button"
            aria-label={`${t("menu.account")}. ${t("presence.set", { status: t(`presence.${presence}`) })}`}
          >
            <Avatar id={me?.id ?? ""} name={me?.name ?? ""} size={32} />
            <span className="presence" data-status={online ? presence : "lost"} />
          </button>
        </Menu.Target>
        <Menu.Dropdown>
          <div className="account-who">
            <strong>{me?.name}</strong>
            <span>{me ? t(`role.${me.role}`) : ""}</span>
            <span className="account-connection">{online ? t("connection.online") : t("connection.connecting")}</span>
          </div>
          <Menu.Divider />
          {(["online", "away"] as const).map((status) => (
            <Menu.Item
              key={status}
              leftSection={<span className="presence-dot" data-status={status} />}
              rightSection={presence === status ? "✓" : undefined}
              disabled={!online}
              onClick={() => set(status)}
            >
              {t(`presence.${status}`)}
            </Menu.Item>
          ))}
          <Menu.Divider />
          <Menu.Item
            leftSection={<IconSettings size={16} aria-hidden />}
            onClick={() => onDialog({ type: "settings" })}
          >
            {t("menu.settings")}
          </Menu.Item>
          <Menu.Item
            leftSection={<IconKeyboard size={16} aria-hidden />}
            rightSection={<kbd>?</kbd>}
            onClick={() => onDialog({ type: "shortcuts" })}
          >
            {t("menu.shortcuts")}
          </Menu.Item>
          <Menu.Item leftSection={<IconLogout size={16} aria-hidden />} onClick={signOut}>
            {t("menu.logout")}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
