import { useMediaQuery } from "@mantine/hooks";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { matches, mineOf, queueOf, unreadTotal } from "../core/state";
import type { Chat } from "../core/types";
import { Banner } from "./Banner";
import { Conversation } from "./Conversation";
import { useDesk, useDeskState, usePrefs, useWords } from "./context";
import { Details } from "./Details";
import { type DialogRequest, Dialogs } from "./dialogs";
import { keyOf } from "./keys";
import { Mark } from "./Mark";
import { Sidebar, type Tab } from "./Sidebar";
import { failed } from "./toast";
import { useAllChats } from "./useAllChats";

export function Workplace({ signOut }: { signOut: () => void }) {
  const desk = useDesk();
  const words = useWords();
  const { prefs, setPrefs } = usePrefs();
  const state = useDeskState((s) => s);
  const { selected } = state;
  const [tab, setTab] = useState<Tab>("mine");
  const [query, setQuery] = useState("");
  const [platform, setPlatform] = useState("");
  const [dialog, setDialog] = useState<DialogRequest | null>(null);
  const all = useAllChats(tab === "all", platform);
  // Where there is room the details stand beside the conversation, as chosen;
  // elsewhere they cover it, so they are opened each time.
  const roomy = useMediaQuery("(min-width: 1181px)", true, { getInitialValueInEffect: false });
  const [covering, setCovering] = useState<string | null>(null);
  const details = roomy ? prefs.details : covering !== null && covering === selected;
  const toggleDetails = useCallback(() => {
    if (roomy) setPrefs({ details: !prefs.details });
    else setCovering((c) => (c === desk.store.get().selected ? null : desk.store.get().selected));
  }, [roomy, prefs.details, setPrefs, desk]);

  const mine = useMemo(() => mineOf(state), [state]);
  const queue = useMemo(() => queueOf(state), [state]);
  const unread = useMemo(() => unreadTotal(state), [state]);
  const list = useMemo(() => {
    const source = tab === "mine" ? mine : tab === "queue" ? queue : all.chats.map((c) => state.chats[c.id] ?? c);
    return source.filter((c) => (!platform || c.platform === platform) && matches(c, query.trim()));
  }, [tab, mine, queue, all.chats, state.chats, platform, query]);

  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) ${words.t("app.name")}` : words.t("app.name");
  }, [unread, words]);

  // The queue is where to look when there is nothing of one's own.
  const looked = useRef(false);
  useEffect(() => {
    if (looked.current || state.connection.phase !== "online") return;
    looked.current = true;
    if (mine.length === 0 && queue.length > 0) setTab("queue");
  }, [state.connection.phase, mine.length, queue.length]);

  const open = useCallback((chat: Chat) => void desk.select(chat.id, chat), [desk]);

  const takeNext = useCallback(() => {
    desk.takeNext().then(
      (chat) => {
        if (chat) setTab("mine");
      },
      (e) => failed(words, e),
    );
  }, [desk, words]);

  const accept = useCallback(
    (chat: Chat) => {
      desk
        .act("accept", chat.id)
        .then(() => {
          setTab("mine");
          return desk.select(chat.id);
        })
        .catch((e) => failed(words, e));
    },
    [desk, words],
  );

  const act = useCallback(
    (action: "skip" | "decline", chat: Chat) => {
      desk.act(action, chat.id).catch((e) => failed(words, e));
    },
    [desk, words],
  );

  // What the keys need, as it is now.
  const now = useRef({ list, state, dialog, tab });
  now.current = { list, state, dialog, tab };

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { list, state, dialog } = now.current;
      if (event.defaultPrevented || event.isComposing || dialog) return;
      if (document.querySelector("dialog[open], [role='dialog'], [role='menu']")) return;
      const chat = state.selected ? state.chats[state.selected] : undefined;
      const move = (step: 1 | -1) => {
        const at = list.findIndex((c) => c.id === state.selected);
        const next = at < 0 ? (step > 0 ? list[0] : list.at(-1)) : list[at + step];
        if (next) open(next);
      };
      const target = event.target as HTMLElement;
      const typing = target.matches("input, textarea, select, [contenteditable='true']");
      const key = keyOf(event);
      const run = (action: () => void) => {
        event.preventDefault();
        action();
      };
      if (event.altKey && !event.ctrlKey && !event.metaKey) {
        if (key === "ArrowDown") run(() => move(1));
        else if (key === "ArrowUp") run(() => move(-1));
        return;
      }
      if (key === "Escape" && typing) {
        run(() => target.blur());
        return;
      }
      if (typing || event.ctrlKey || event.metaKey) return;
      switch (key) {
        case "j":
          return run(() => move(1));
        case "k":
          return run(() => move(-1));
        case "/":
          return run(() => document.getElementById("search")?.focus());
        case "?":
          return run(() => setDialog({ type: "shortcuts" }));
        case "1":
          return run(() => setTab("mine"));
        case "2":
          return run(() => setTab("queue"));
        case "3":
          return run(() => setTab("all"));
        case "n":
          return run(takeNext);
        case "c":
          return run(() => setDialog({ type: "start" }));
        case "d":
          return run(toggleDetails);
        case "i":
          return run(() => document.getElementById("composer")?.focus());
        case "Escape":
          return run(() => void desk.select(null));
      }
      if (!chat) return;
      const waiting = chat.state === "new" || chat.state === "offered";
      const serving = chat.state === "open" && chat.operator_id === state.me?.id;
      if (key === "a" && waiting) run(() => accept(chat));
      else if (key === "s" && waiting) run(() => act("skip", chat));
      else if (key === "x" && serving) run(() => setDialog({ type: "close", chat }));
      else if (key === "r" && serving) {
        const caps = state.capabilities[chat.account_id];
        const last = state.threads[chat.id]?.items.findLast((m) => m.direction === "in" && !m.deleted_at);
        if (last && caps?.reply_to !== false) {
          run(() => {
            desk.drafts.reply(chat.id, last);
            document.getElementById("composer")?.focus();
          });
        }
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [desk, open, takeNext, accept, act, toggleDetails]);

  // A closed tab takes unfinished uploads with it.
  useEffect(() => {
    const onLeave = (event: BeforeUnloadEvent) => {
      if (desk.drafts.uploading()) event.preventDefault();
    };
    window.addEventListener("beforeunload", onLeave);
    return () => window.removeEventListener("beforeunload", onLeave);
  }, [desk]);

  const chat = selected ? state.chats[selected] : undefined;
  return (
    <div className="desk" data-open={chat ? "" : undefined} data-details={chat && details ? "" : undefined}>
      <Banner />
      <Sidebar
        tab={tab}
        setTab={setTab}
        query={query}
        setQuery={setQuery}
        platform={platform}
        setPlatform={setPlatform}
        list={list}
        counts={{ mine: unread, queue: queue.length }}
        all={all}
        selected={selected}
        onOpen={open}
        onAccept={accept}
        onSkip={(c) => act("skip", c)}
        onTakeNext={takeNext}
        onDialog={setDialog}
        signOut={signOut}
      />
      {chat ? (
        <Conversation
          key={chat.id}
          chat={chat}
          details={details}
          onDetails={toggleDetails}
          onAccept={accept}
          onAct={act}
          onDialog={setDialog}
        />
      ) : (
        <main className="nothing">
          <Mark size={56} />
          <h2>{words.t("chat.none")}</h2>
          <p>{words.t("chat.noneHint")}</p>
          <dl className="nothing-keys">
            <div>
              <dt>{words.t("keys.take")}</dt>
              <dd>
                <kbd>N</kbd>
              </dd>
            </div>
            <div>
              <dt>
                {words.t("keys.next")} / {words.t("keys.previous")}
              </dt>
              <dd>
                <kbd>J</kbd> <kbd>K</kbd>
              </dd>
            </div>
            <div>
              <dt>{words.t("keys.search")}</dt>
              <dd>
                <kbd>/</kbd>
              </dd>
            </div>
            <div>
              <dt>{words.t("keys.title")}</dt>
              <dd>
                <kbd>?</kbd>
              </dd>
            </div>
          </dl>
        </main>
      )}
      {chat && details && <Details chat={chat} onClose={toggleDetails} />}
      <Dialogs request={dialog} onClose={() => setDialog(null)} onStarted={() => setTab("mine")} />
    </div>
  );
}
