import { Button, Loader } from "@mantine/core";
import { IconArrowDown } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { type Row, rowOfMessage, rowsOf } from "../core/rows";
import { emptyThread } from "../core/state";
import type { Chat, Message } from "../core/types";
import { Lightbox, type LightboxRequest } from "./Attachments";
import { Bubble, OutgoingBubble } from "./Bubble";
import { useAttention, useDesk, useDeskState, useOutgoing, useWords } from "./context";
import type { DialogRequest } from "./dialogs";
import { previewOf, say } from "./preview";

interface Props {
  chat: Chat;
  name: string;
  writable: boolean;
  onDialog: (request: DialogRequest) => void;
}

/** Nearer to the end than this counts as being there. */
const endZone = 80;
/** Pages that a jump to a quoted message loads at most (60 messages each). */
const jumpPages = 40;

function estimate(row: Row | undefined): number {
  if (!row) return 60;
  switch (row.type) {
    case "day":
      return 48;
    case "new":
      return 36;
    case "note":
      return 36;
    case "outgoing":
      return 52;
    case "messages": {
      const m = row.messages[0] as Message;
      const text = m.text ?? "";
      const lines = text.split("\n").reduce((n, line) => n + Math.max(1, Math.ceil(line.length / 62)), 0);
      const picture = m.kind === "image" || m.kind === "video" ? 240 : m.kind === "sticker" ? 160 : 0;
      return 22 + (text ? lines * 21 : 0) + picture + (m.reply_to ? 46 : 0) + (row.last ? 8 : 2);
    }
  }
}

export function MessageList({ chat, name, writable, onDialog }: Props) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const thread = useDeskState((s) => s.threads[chat.id]) ?? emptyThread;
  const dividerAfter = useDeskState((s) => s.dividerAfter);
  const me = useDeskState((s) => s.me?.id);
  const outgoing = useOutgoing();
  const attentive = useAttention();
  const scroller = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const [highlight, setHighlight] = useState<string | null>(null);
  const [lightbox, setLightbox] = useState<LightboxRequest | null>(null);

  const mine = useMemo(() => outgoing.filter((o) => o.chat_id === chat.id), [outgoing, chat.id]);
  const rows = useMemo(() => rowsOf(thread.items, mine, dividerAfter, me), [thread.items, mine, dividerAfter, me]);

  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (i) => estimate(rows[i]),
    getItemKey: (i) => rows[i]?.key ?? i,
    overscan: 10,
    paddingStart: 56,
    paddingEnd: 14,
    // Older messages come in above without moving what is read; new ones are
    // followed while the end is in sight.
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: endZone,
  });

  // Begins at the new messages, or at the end.
  const placed = useRef(false);
  useLayoutEffect(() => {
    if (placed.current || !thread.loaded || rows.length === 0) return;
    placed.current = true;
    const divider = rows.findIndex((r) => r.type === "new");
    if (divider > 0) virtualizer.scrollToIndex(Math.max(0, divider - 1), { align: "start" });
    else virtualizer.scrollToIndex(rows.length - 1, { align: "end" });
  }, [thread.loaded, rows, virtualizer]);

  // One's own message is always shown, wherever one was.
  const sent = useRef(0);
  useEffect(() => {
    if (mine.length > sent.current && rows.length > 0) virtualizer.scrollToIndex(rows.length - 1, { align: "end" });
    sent.current = mine.length;
  }, [mine.length, rows.length, virtualizer]);

  const onScroll = useCallback(() => {
    const el = scroller.current;
    if (!el) return;
    setAtEnd(el.scrollHeight - el.scrollTop - el.clientHeight < endZone);
    // What failed is tried again by its button, not by every look.
    const broken = desk.store.get().threads[chat.id]?.error != null;
    if (el.scrollTop < 800 && placed.current && !broken) void desk.loadOlder(chat.id);
  }, [desk, chat.id]);

  // A short first page leaves nothing to scroll: fetch on until the screen is full.
  // biome-ignore lint/correctness/useExhaustiveDependencies: each page is looked at
  useEffect(() => {
    onScroll();
  }, [thread.items.length, thread.loading, onScroll]);

  // Seen means: on the screen, at the end, in a window that is looked at.
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new message is a new occasion
  useEffect(() => {
    if (atEnd && attentive && thread.loaded && chat.unread > 0) void desk.markRead(chat.id);
  }, [atEnd, attentive, thread.loaded, chat.unread, chat.last_seq, desk, chat.id]);

  const [arrived, setArrived] = useState("");
  const lastSeen = useRef<string | null>(null);
  useEffect(() => {
    const last = thread.items.at(-1);
    if (!last || last.id === lastSeen.current) return;
    const first = lastSeen.current === null;
    lastSeen.current = last.id;
    if (!first && last.direction === "in") setArrived(t("history.arrived", { name, text: previewOf(last, words) }));
  }, [thread.items, name, words, t]);

  const byId = useMemo(() => new Map(thread.items.map((m) => [m.id, m])), [thread.items]);

  const jump = useCallback(
    async (id: string) => {
      const rowsNow = () => {
        const s = desk.store.get();
        return rowsOf(s.threads[chat.id]?.items ?? [], [], s.dividerAfter, s.me?.id);
      };
      for (let page = 0; page < jumpPages && rowOfMessage(rowsNow(), id) < 0; page++) {
        const now = desk.store.get().threads[chat.id];
        if (!now || now.complete || now.error) break;
        await desk.loadOlder(chat.id);
      }
      const at = rowOfMessage(rowsNow(), id);
      if (at < 0) return;
      // After the rows that were loaded have been laid out.
      requestAnimationFrame(() => virtualizer.scrollToIndex(at, { align: "center" }));
      setHighlight(id);
      setTimeout(() => setHighlight((h) => (h === id ? null : h)), 1800);
    },
    [desk, chat.id, virtualizer],
  );

  const toEnd = () => {
    virtualizer.scrollToIndex(rows.length - 1, { align: "end" });
  };

  return (
    <section className="history">
      <p className="sr-only" aria-live="polite">
        {arrived}
      </p>
      <div
        className="history-scroll"
        ref={scroller}
        onScroll={onScroll}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={t("history.label", { name })}
      >
        {thread.loaded && rows.length === 0 && <p className="history-empty">{t("history.empty")}</p>}
        <div className="history-rows" style={{ height: virtualizer.getTotalSize() }}>
          {thread.loaded && rows.length > 0 && (
            <div className="history-top">
              {thread.complete ? (
                t("history.start")
              ) : thread.error ? (
                <Button variant="subtle" size="xs" onClick={() => void desk.loadOlder(chat.id)}>
                  {t("history.failed")} {t("history.retry")}
                </Button>
              ) : (
                <>
                  <Loader size={14} /> {t("history.loading")}
                </>
              )}
            </div>
          )}
          {virtualizer.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <div
                key={item.key}
                data-index={item.index}
                ref={virtualizer.measureElement}
                className="history-row"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                {row.type === "day" ? (
                  <div className="day">
                    <span>{words.day(row.at)}</span>
                  </div>
                ) : row.type === "new" ? (
                  <div className="new-line">
                    <span>{t("history.new")}</span>
                  </div>
                ) : row.type === "note" ? (
                  <div className="note">
                    {say(words, "service", row.message.service ?? "")} · {words.time(row.message.created_at)}
                  </div>
                ) : row.type === "outgoing" ? (
                  <OutgoingBubble item={row.item} first={row.first} last={row.last} byId={byId} />
                ) : (
                  <Bubble
                    messages={row.messages}
                    first={row.first}
                    last={row.last}
                    chat={chat}
                    name={name}
                    me={me}
                    byId={byId}
                    writable={writable}
                    highlight={highlight}
                    onJump={jump}
                    onOpen={setLightbox}
                    onDialog={onDialog}
                  />
                )}
              </div>
            );
          })}
        </div>
      </div>
      {!thread.loaded &&
        (thread.error ? (
          <div className="history-state">
            <p>{t("history.failed")}</p>
            <Button variant="light" size="sm" onClick={() => void desk.loadFirst(chat.id)}>
              {t("history.retry")}
            </Button>
          </div>
        ) : (
          <div className="history-state">
            <Loader size={26} aria-label={t("history.loading")} />
          </div>
        ))}
      {!atEnd && thread.loaded && (
        <button
          type="button"
          className="to-end"
          onClick={toEnd}
          aria-label={t("history.bottom")}
          title={t("history.bottom")}
        >
          <IconArrowDown size={19} aria-hidden />
          {chat.unread > 0 && <span className="unread">{chat.unread > 99 ? "99+" : chat.unread}</span>}
        </button>
      )}
      {lightbox && <Lightbox request={lightbox} onClose={() => setLightbox(null)} />}
    </section>
  );
}
