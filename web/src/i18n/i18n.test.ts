import { describe, expect, it } from "vitest";
import { dictionaries, type Forms, type Key, type Language, wordsOf } from ".";
import { en } from "./en";

const languages = Object.keys(dictionaries) as Language[];
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort();

describe.each(languages)("the dictionary %s", (language) => {
  const dictionary = dictionaries[language];

  it("has every key, and no other", () => {
    expect(Object.keys(dictionary).sort()).toEqual(Object.keys(en).sort());
  });

  it("has no empty text, and the same placeholders as English", () => {
    for (const key of Object.keys(en) as Key[]) {
      const entry: string | Forms = dictionary[key];
      const original: string | Forms = en[key];
      const texts = typeof entry === "string" ? [entry] : Object.values(entry);
      const expected = placeholders(typeof original === "string" ? original : original.other);
      for (const text of texts) {
        expect(text.trim(), key).not.toBe("");
        expect(placeholders(text), key).toEqual(expected);
      }
    }
  });

  it("has all plural forms of its language", () => {
    const wanted = new Intl.PluralRules(language).resolvedOptions().pluralCategories.slice().sort();
    for (const [key, entry] of Object.entries(dictionary) as [string, string | Forms][]) {
      if (typeof entry !== "string") expect(Object.keys(entry).sort(), key).toEqual(wanted);
    }
  });
});

describe("words", () => {
  it("declines", () => {
    const { t } = wordsOf("ru");
    expect([1, 2, 5, 11, 21, 22, 25].map((n) => t("chat.unread", { n }))).toEqual([
      "1 непрочитанное сообщение",
      "2 непрочитанных сообщения",
      "5 непрочитанных сообщений",
      "11 непрочитанных сообщений",
      "21 непрочитанное сообщение",
      "22 непрочитанных сообщения",
      "25 непрочитанных сообщений",
    ]);
    expect(wordsOf("en").t("chat.unread", { n: 1 })).toBe("1 unread message");
  });

  it("does not fill in what a value brings", () => {
    expect(wordsOf("en").t("history.arrived", { name: "{text}", text: "hi" })).toBe("{text}: hi");
  });

  it("names days as people do", () => {
    const w = wordsOf("en");
    const now = new Date(2026, 10, 21, 0, 30).getTime();
    expect(w.day(new Date(2026, 10, 21, 0, 1).getTime(), now)).toBe("Today");
    expect(w.day(new Date(2026, 10, 20, 23, 59).getTime(), now)).toBe("Yesterday");
    expect(w.day(new Date(2026, 10, 1).getTime(), now)).toBe("1 November");
    expect(w.day(new Date(2025, 10, 1).getTime(), now)).toBe("1 November 2025");
    expect(w.short(new Date(2026, 10, 21, 0, 1).getTime(), now)).toBe("00:01");
  });

  it("measures spans and sizes", () => {
    const w = wordsOf("en");
    expect([0, 59_000, 60_000, 3_600_000, 90_000_000].map(w.span)).toEqual(["0 s", "59 s", "1 min", "1 h", "1 day"]);
    expect([0, 1023, 1024, 1536, 150 * 1024, 5 << 20].map(w.size)).toEqual([
      "0 B",
      "1,023 B",
      "1 KB",
      "1.5 KB",
      "150 KB",
      "5 MB",
    ]);
    expect(wordsOf("ru").size(1536)).toBe("1,5 КБ");
  });
});
