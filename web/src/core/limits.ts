// What a channel can and can't, from its capabilities: the same rules by which
// the server refuses, asked before the operator has written in vain.
import type { Capabilities, FileKind, Kind, Limit } from "./types";

export function count(text: string, unit: Limit["unit"]): number {
  switch (unit) {
    case "utf16":
      return text.length;
    case "bytes":
      return new TextEncoder().encode(text).length;
    default: {
      let n = 0;
      for (const _ of text) n++;
      return n;
    }
  }
}

/** The kind that a file of a media type is sent as. */
export function kindOf(mime: string, caps: Capabilities | undefined): FileKind {
  const family = mime.split("/", 1)[0];
  const natural: FileKind =
    family === "image" && mime !== "image/svg+xml"
      ? "image"
      : family === "video"
        ? "video"
        : family === "audio"
          ? "audio"
          : "document";
  if (!caps || caps.send?.includes(natural)) return natural;
  return "document";
}

/** Longest text of one message in all, with the parts it may be split into; 0 when unknown. */
export function longest(caps: Capabilities): number {
  return caps.text.max * Math.max(1, caps.max_parts);
}

export function canSend(caps: Capabilities | undefined, kind: Kind): boolean {
  return !caps || (caps.send ?? []).includes(kind);
}

export function canSendFiles(caps: Capabilities | undefined): boolean {
  const kinds: Kind[] = ["image", "video", "audio", "document"];
  return !caps || kinds.some((k) => (caps.send ?? []).includes(k));
}

/** Largest file of a kind, in bytes; 0 when no limit is known. */
export function fileLimit(caps: Capabilities | undefined, kind: Kind): number {
  return caps?.file_bytes?.[kind] ?? caps?.file_bytes?.document ?? 0;
}

export interface LengthNote {
  count: number;
  max: number;
  /** Messages that the text will be split into. */
  parts: number;
  over: boolean;
}

/** What to tell about a text's length, or null while it is short. */
export function lengthNote(text: string, caps: Capabilities | undefined): LengthNote | null {
  if (!caps || caps.text.max <= 0) return null;
  const n = count(text, caps.text.unit);
  const parts = Math.max(1, Math.ceil(n / caps.text.max));
  const over = parts > Math.max(1, caps.max_parts);
  // From four fifths on there is something to tell.
  if (n < caps.text.max * 0.8) return null;
  return { count: n, max: parts > 1 ? longest(caps) : caps.text.max, parts, over };
}
