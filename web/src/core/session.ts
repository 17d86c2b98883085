// Where the session's token is kept: in this tab only, or, when the operator
// asked to stay signed in, in the browser.
const key = "switchboard.session";

export interface StoredSession {
  token: string;
  expires_at: string;
}

export function readSession(now = Date.now()): StoredSession | null {
  for (const storage of [sessionStorage, localStorage]) {
    try {
      const stored = JSON.parse(storage.getItem(key) ?? "null") as StoredSession | null;
      if (stored?.token && Date.parse(stored.expires_at) > now) return stored;
      storage.removeItem(key);
    } catch {
      // Unreadable is as good as none.
    }
  }
  return null;
}

export function writeSession(session: StoredSession, stay: boolean): void {
  forgetSession();
  try {
    (stay ? localStorage : sessionStorage).setItem(key, JSON.stringify(session));
  } catch {
    // Without storage the session lasts as long as the page.
  }
}

export function forgetSession(): void {
  try {
    sessionStorage.removeItem(key);
    localStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}
