import { Fragment, type ReactNode } from "react";

// Addresses in a text. Only http and https become links: what a customer writes
// must not be able to run anything.
const address = /https?:\/\/[^\s<>"'`]+/gi;
/** Punctuation that ends a sentence rather than an address. */
const trailing = /[.,:;!?»”'"]+$/;

export interface Piece {
  text: string;
  href?: string;
}

export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const match of text.matchAll(address)) {
    let shown = match[0].replace(trailing, "");
    // A bracket belongs to the address if it was opened in it.
    while (shown.endsWith(")") && shown.split(")").length > shown.split("(").length) shown = shown.slice(0, -1);
    let href: string;
    try {
      const url = new URL(shown);
      if (url.protocol !== "http:" && url.protocol !== "https:") continue;
      href = url.href;
    } catch {
      continue;
    }
    if (match.index > end) found.push({ text: text.slice(end, match.index) });
    found.push({ text: shown, href });
    end = match.index + shown.length;
  }
  if (end < text.length) found.push({ text: text.slice(end) });
  return found;
}

export function Linkified({ text }: { text: string }): ReactNode {
  return pieces(text).map((piece, i) =>
    piece.href ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: pieces have no identity beyond their place
      <a key={i} href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
        {piece.text}
      </a>
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: as above
      <Fragment key={i}>{piece.text}</Fragment>
    ),
  );
}
