import { createContext, use, useCallback, useEffect, useState, useSyncExternalStore } from "react";
import type { Desk } from "../core/desk";
import type { Draft } from "../core/drafts";
import type { Prefs } from "../core/prefs";
import type { DeskState } from "../core/state";
import type { Words } from "../i18n";

export const DeskContext = createContext<Desk | null>(null);
export const WordsContext = createContext<Words | null>(null);
export const PrefsContext = createContext<{ prefs: Prefs; setPrefs: (change: Partial<Prefs>) => void } | null>(null);

function provided<T>(value: T | null): T {
  if (value === null) throw new Error("used outside of its provider");
  return value;
}

export const useDesk = (): Desk => provided(use(DeskContext));
export const useWords = (): Words => provided(use(WordsContext));
export const usePrefs = () => provided(use(PrefsContext));

/** A part of the state. The selector must return the same value for the same state. */
export function useDeskState<T>(selector: (state: DeskState) => T): T {
  const { store } = useDesk();
  return useSyncExternalStore(store.subscribe, () => selector(store.get()));
}

export function useOutgoing() {
  const { outgoing } = useDesk();
  return useSyncExternalStore(outgoing.subscribe, outgoing.get);
}

export function useDraft(chatId: string): Draft {
  const { drafts } = useDesk();
  return useSyncExternalStore(drafts.store.subscribe, () => drafts.get(chatId));
}

/** The time, renewed every interval ms. */
export function useNow(interval: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), interval);
    return () => clearInterval(timer);
  }, [interval]);
  return now;
}

/** A file as an object URL, held while the component lives. */
export function useFile(
  id: string | undefined,
  wanted = true,
): { url: string | null; failed: boolean; retry: () => void } {
  const { files } = useDesk();
  const [url, setUrl] = useState<string | null>(() => (id ? files.peek(id) : null));
  const [failed, setFailed] = useState(false);
  const [attempt, setAttempt] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: attempt starts it again
  useEffect(() => {
    if (!id || !wanted) return;
    let gone = false;
    setFailed(false);
    files.acquire(id).then(
      (made) => {
        if (!gone) setUrl(made);
      },
      () => {
        if (!gone) setFailed(true);
      },
    );
    return () => {
      gone = true;
      files.release(id);
    };
  }, [files, id, wanted, attempt]);
  return { url, failed, retry: useCallback(() => setAttempt((n) => n + 1), []) };
}

let nearby: IntersectionObserver | undefined;
const waiting = new WeakMap<Element, () => void>();

/** Whether the element of ref has come near the screen; from then on for good. */
export function useSeen<T extends Element>(): [(element: T | null) => void, boolean] {
  const [seen, setSeen] = useState(typeof IntersectionObserver === "undefined");
  const ref = useCallback((element: T | null) => {
    if (!element || typeof IntersectionObserver === "undefined") return;
    nearby ??= new IntersectionObserver(
      (entries, observer) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          observer.unobserve(target);
          waiting.get(target)?.();
        }
      },
      { rootMargin: "200px" },
    );
    const observer = nearby;
    waiting.set(element, () => setSeen(true));
    observer.observe(element);
    return () => observer.unobserve(element);
  }, []);
  return [ref, seen];
}

/** Whether the window is looked at. */
export function useAttention(): boolean {
  return useSyncExternalStore(subscribeAttention, attention);
}

export function attention(): boolean {
  return document.visibilityState === "visible" && document.hasFocus();
}

function subscribeAttention(listener: () => void): () => void {
  window.addEventListener("focus", listener);
  window.addEventListener("blur", listener);
  document.addEventListener("visibilitychange", listener);
  return () => {
    window.removeEventListener("focus", listener);
    window.removeEventListener("blur", listener);
    document.removeEventListener("visibilitychange", listener);
  };
}
