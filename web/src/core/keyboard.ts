// Keyboards as operators write them: a row a line, buttons parted by "|", and a
// link after a button's text makes it open that link.
import { count } from "./limits";
import type { Capabilities, KeyButton, Keyboard, Limit } from "./types";

export type KeyboardKind = Keyboard["kind"];

/** What a channel has, the more usual first. */
export function keyboardKinds(caps: Capabilities | undefined): KeyboardKind[] {
  const kinds: KeyboardKind[] = [];
  if (!caps || caps.reply_keyboard) kinds.push("reply");
  if (!caps || caps.inline_keyboard) kinds.push("inline");
  if (!caps || caps.reply_keyboard) kinds.push("remove");
  return kinds;
}

const link = /^(.*\S)\s+(https?:\/\/\S+)$/i;

export function rowsOfText(text: string): KeyButton[][] {
  const rows: KeyButton[][] = [];
  for (const line of text.split("\n")) {
    const row: KeyButton[] = [];
    for (const part of line.split("|")) {
      const label = part.trim();
      if (!label) continue;
      const [, name, url] = link.exec(label) ?? [];
      // What is pressed comes back as the payload.
      row.push(name && url ? { text: name, action: "url", url } : { text: label, payload: label });
    }
    if (row.length > 0) rows.push(row);
  }
  return rows;
}

export function textOfRows(rows: readonly (readonly KeyButton[])[]): string {
  return rows.map((row) => row.map((b) => (b.action === "url" ? `${b.text} ${b.url}` : b.text)).join(" | ")).join("\n");
}

export type KeyboardProblem =
  | { reason: "empty" }
  | { reason: "rows" | "columns" | "buttons"; max: number }
  | { reason: "text"; max: number; text: string };

const over = (text: string, limit: Limit | undefined) =>
  limit !== undefined && limit.max > 0 && count(text, limit.unit) > limit.max;

/** What the channel would refuse, or null. */
export function keyboardProblem(keyboard: Keyboard, caps: Capabilities | undefined): KeyboardProblem | null {
  if (keyboard.kind === "remove") return null;
  const rows = keyboard.rows ?? [];
  const buttons = rows.flat();
  if (buttons.length === 0) return { reason: "empty" };
  if (!caps) return null;
  if (caps.button_rows > 0 && rows.length > caps.button_rows) return { reason: "rows", max: caps.button_rows };
  if (caps.button_columns > 0 && rows.some((row) => row.length > caps.button_columns))
    return { reason: "columns", max: caps.button_columns };
  if (caps.buttons > 0 && buttons.length > caps.buttons) return { reason: "buttons", max: caps.buttons };
  const long = buttons.find((b) => over(b.text, caps.button_text) || over(b.payload ?? "", caps.button_payload));
  if (long) {
    const limits = [caps.button_text, long.payload ? caps.button_payload : undefined];
    return {
      reason: "text",
      max: Math.min(...limits.map((l) => l?.max || Number.POSITIVE_INFINITY)),
      text: long.text,
    };
  }
  return null;
}
