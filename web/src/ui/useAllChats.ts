import { useCallback, useEffect, useRef, useState } from "react";
import type { Chat } from "../core/types";
import { useDesk } from "./context";

export interface AllChats {
  chats: readonly Chat[];
  loading: boolean;
  failed: boolean;
  more: boolean;
  loadMore: () => void;
  reload: () => void;
}

/** Every chat that the operator may see, by pages, the latest first. */
export function useAllChats(wanted: boolean, platform: string): AllChats {
  const desk = useDesk();
  const [chats, setChats] = useState<readonly Chat[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [loading, setLoading] = useState(false);
  const [failed, setFailed] = useState(false);
  const turn = useRef(0);

  const load = useCallback(
    async (from: string | null) => {
      const mine = ++turn.current;
      setLoading(true);
      setFailed(false);
      try {
        const page = await desk.searchChats({ platform: platform || undefined, cursor: from ?? undefined });
        if (mine !== turn.current) return; // another question was asked meanwhile
        setChats((before) => {
          const known = new Set(from ? before.map((c) => c.id) : []);
          return [...(from ? before : []), ...page.items.filter((c) => c.customer && !known.has(c.id))];
        });
        setCursor(page.next_cursor);
      } catch {
        if (mine === turn.current) setFailed(true);
      } finally {
        if (mine === turn.current) setLoading(false);
      }
    },
    [desk, platform],
  );

  useEffect(() => {
    if (wanted) void load(null);
  }, [wanted, load]);

  return {
    chats,
    loading,
    failed,
    more: cursor !== null,
    loadMore: () => void load(cursor),
    reload: () => void load(null),
  };
}
