import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Desk } from "../core/desk";
import { type Prefs, readPrefs, writePrefs } from "../core/prefs";
import type { Session } from "../core/rest";
import { forgetSession, readSession, writeSession } from "../core/session";
import { wordsOf } from "../i18n";
import { announce } from "./arrivals";
import { DeskContext, PrefsContext, WordsContext } from "./context";
import { Login } from "./Login";
import { Workplace } from "./Workplace";

export function App() {
  const [prefs, setAllPrefs] = useState(readPrefs);
  const prefsNow = useRef(prefs);
  const setPrefs = useCallback((change: Partial<Prefs>) => {
    const next = { ...prefsNow.current, ...change };
    prefsNow.current = next;
    writePrefs(next);
    setAllPrefs(next);
  }, []);
  const words = useMemo(() => wordsOf(prefs.language), [prefs.language]);
  useEffect(() => {
    document.documentElement.lang = prefs.language;
  }, [prefs.language]);

  const [token, setToken] = useState<string | null>(() => readSession()?.token ?? null);
  const [expired, setExpired] = useState(false);
  const [desk, setDesk] = useState<Desk | null>(null);

  useEffect(() => {
    if (!token) return;
    const made = new Desk({
      session: { token },
      onSignedOut: () => {
        forgetSession();
        setExpired(true);
        setToken(null);
      },
      onArrival: (event, state) => announce(event, state, made, prefsNow.current),
    });
    made.start();
    setDesk(made);
    return () => {
      made.stop();
      setDesk(null);
    };
  }, [token]);

  const signedIn = useCallback((session: Session, stay: boolean) => {
    writeSession({ token: session.token, expires_at: session.expires_at }, stay);
    setExpired(false);
    setToken(session.token);
  }, []);

  const signOut = useCallback(async () => {
    // Even if the server can't be told now, this browser forgets the session.
    await desk?.rest.logOut().catch(() => undefined);
    forgetSession();
    setExpired(false);
    setToken(null);
  }, [desk]);

  return (
    <PrefsContext value={useMemo(() => ({ prefs, setPrefs }), [prefs, setPrefs])}>
      <WordsContext value={words}>
        {token && desk ? (
          <DeskContext value={desk}>
            <Workplace signOut={signOut} />
          </DeskContext>
        ) : token ? null : (
          <Login onSignedIn={signedIn} expired={expired} />
        )}
      </WordsContext>
    </PrefsContext>
  );
}
