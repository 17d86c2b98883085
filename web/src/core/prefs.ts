// What the operator has chosen, kept in the browser.
export interface Prefs {
  language: "ru" | "en";
  /** Enter sends and Shift+Enter breaks the line; else Ctrl+Enter sends. */
  enterSends: boolean;
  sound: boolean;
  notifications: boolean;
  details: boolean;
}

const key = "switchboard.prefs";

export function defaultPrefs(): Prefs {
  const language = (navigator.language || "en").toLowerCase().startsWith("ru") ? "ru" : "en";
  return { language, enterSends: true, sound: false, notifications: false, details: true };
}

export function readPrefs(): Prefs {
  const prefs = defaultPrefs();
  try {
    const stored = JSON.parse(localStorage.getItem(key) ?? "{}") as Record<string, unknown>;
    for (const name of Object.keys(prefs) as (keyof Prefs)[]) {
      if (typeof stored[name] === typeof prefs[name]) Object.assign(prefs, { [name]: stored[name] });
    }
    if (prefs.language !== "ru" && prefs.language !== "en") prefs.language = "en";
  } catch {
    // No storage, or not ours: the defaults.
  }
  return prefs;
}

export function writePrefs(prefs: Prefs): void {
  try {
    localStorage.setItem(key, JSON.stringify(prefs));
  } catch {
    // Kept for this window only.
  }
}
