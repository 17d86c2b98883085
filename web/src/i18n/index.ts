// Words of the desk: typed dictionaries and the formats of Intl.
import { en } from "./en";
import { ru } from "./ru";

export type Language = "en" | "ru";
export type Key = keyof typeof en;
export type Forms = { readonly [category in Intl.LDMLPluralRule]?: string } & { readonly other: string };
export type Dictionary = { readonly [K in Key]: (typeof en)[K] extends string ? string : Forms };

export const dictionaries: Record<Language, Dictionary> = { en, ru };

export type Params = Record<string, string | number>;

export interface Words {
  language: Language;
  locale: string;
  t: (key: Key, params?: Params) => string;
  /** "14:05" */
  time: (at: number | string) => string;
  /** "Today", "21 November" */
  day: (at: number | string, now?: number) => string;
  /** For a line of the list: the time today, else the day. */
  short: (at: number | string, now?: number) => string;
  full: (at: number | string) => string;
  /** How long something lasts: "5 min". */
  span: (ms: number) => string;
  size: (bytes: number) => string;
  number: (n: number) => string;
}

function fill(text: string, params: Params, number: Intl.NumberFormat): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = params[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? number.format(value) : value;
  });
}

export function wordsOf(language: Language): Words {
  const dictionary = dictionaries[language];
  const locale = language === "ru" ? "ru-RU" : "en-GB";
  const plural = new Intl.PluralRules(locale);
  const number = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
  const time = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
  const dayThisYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long" });
  const dayAnyYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", year: "numeric" });
  const shortDay = new Intl.DateTimeFormat(locale, { day: "2-digit", month: "2-digit" });
  const weekday = new Intl.DateTimeFormat(locale, { weekday: "short" });
  const full = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });

  const t = (key: Key, params: Params = {}): string => {
    const entry: string | Forms = dictionary[key];
    if (typeof entry === "string") return fill(entry, params, number);
    return fill(entry[plural.select(Number(params.n ?? 0))] ?? entry.other, params, number);
  };

  /** Midnights between two moments, as people count days. */
  const daysBetween = (at: Date, now: Date): number => {
    const midnight = (d: Date) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
    return Math.round((midnight(now) - midnight(at)) / 86_400_000);
  };

  const words: Words = {
    language,
    locale,
    t,
    time: (at) => time.format(new Date(at)),
    day: (at, now = Date.now()) => {
      const date = new Date(at);
      const ago = daysBetween(date, new Date(now));
      if (ago === 0) return t("time.today");
      if (ago === 1) return t("time.yesterday");
      return (date.getFullYear() === new Date(now).getFullYear() ? dayThisYear : dayAnyYear).format(date);
    },
    short: (at, now = Date.now()) => {
      const date = new Date(at);
      const ago = daysBetween(date, new Date(now));
      if (ago <= 0) return time.format(date);
      if (ago === 1) return t("time.yesterday");
      return ago < 7 ? weekday.format(date) : shortDay.format(date);
    },
    full: (at) => full.format(new Date(at)),
    span: (ms) => {
      const seconds = Math.max(0, Math.floor(ms / 1000));
      if (seconds < 60) return t("time.seconds", { n: seconds });
      if (seconds < 3600) return t("time.minutes", { n: Math.floor(seconds / 60) });
      if (seconds < 86_400) return t("time.hours", { n: Math.floor(seconds / 3600) });
      return t("time.days", { n: Math.floor(seconds / 86_400) });
    },
    size: (bytes) => {
      const units: Key[] = ["size.b", "size.kb", "size.mb", "size.gb"];
      let n = bytes;
      let unit = 0;
      while (n >= 1024 && unit < units.length - 1) {
        n /= 1024;
        unit++;
      }
      return `${number.format(unit === 0 || n >= 100 ? Math.round(n) : n)} ${t(units[unit] as Key)}`;
    },
    number: (n) => number.format(n),
  };
  return words;
}
