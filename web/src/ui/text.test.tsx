import { render } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { wordsOf } from "../i18n";
import { message } from "../test/build";
import { keyOf } from "./keys";
import { Linkified, pieces } from "./linkify";
import { initials } from "./platform";
import { failureText, previewOf, say } from "./preview";

describe("links in texts", () => {
  const hrefs = (text: string) => pieces(text).flatMap((p) => (p.href ? [p.href] : []));

  it("finds http and https, and leaves punctuation outside", () => {
    expect(hrefs("see https://example.org/a?b=1, or (http://example.org/x_(y)).")).toEqual([
      "https://example.org/a?b=1",
      "http://example.org/x_(y)",
    ]);
  });

  it("makes no link of anything that could run", () => {
    expect(hrefs("javascript:alert(1) data:text/html,x vbscript:x file:///etc/passwd //evil")).toEqual([]);
  });

  it("loses no character", () => {
    for (const text of ["", "plain", "https://a.b", "x https://a.b y https://c.d", "https://", "(https://a.b)"]) {
      expect(
        pieces(text)
          .map((p) => p.text)
          .join(""),
      ).toBe(text);
    }
  });

  it("shows markup as text, and opens links without a way back", () => {
    const { container } = render(<Linkified text={'<img src=x onerror=alert(1)> https://example.org/"><script>'} />);
    expect(container.querySelector("img, script")).toBeNull();
    expect(container.textContent).toContain("<img src=x onerror=alert(1)>");
    const link = container.querySelector("a");
    expect(link?.rel).toContain("noopener");
    expect(link?.target).toBe("_blank");
  });
});

describe("words for things", () => {
  const en = wordsOf("en");

  it("gives a line for every kind", () => {
    expect(previewOf(message(1, { text: "two\n lines" }), en)).toBe("two lines");
    expect(previewOf(message(1, { kind: "image", text: "" }), en)).toBe("Photo");
    expect(previewOf(message(1, { kind: "voice", text: "" }), en)).toBe("Voice message");
    expect(
      previewOf(
        message(1, {
          kind: "document",
          text: "",
          files: [{ id: "f", kind: "document", name: "a.pdf", state: "ready" }],
        }),
        en,
      ),
    ).toBe("a.pdf");
    expect(previewOf(message(1, { kind: "service", text: "", service: "blocked" }), en)).toBe(
      "The customer blocked the account",
    );
    expect(previewOf(message(1, { kind: "service", text: "", service: "poked" }), en)).toBe("Event: poked");
    expect(previewOf(message(1, { deleted_at: "2026-11-21T10:00:00Z" }), en)).toBe("Message deleted");
  });

  it("explains failures, also unheard-of ones", () => {
    expect(failureText(en, "failed", { kind: "recipient" })).toMatch(/blocked/);
    expect(failureText(en, "failed", { kind: "cosmic_rays" })).toBe("The message could not be sent.");
    expect(failureText(en, "expired", null)).toMatch(/time was over/);
    expect(say(en, "error", "toString")).toBe("That did not work.");
  });

  it("takes initials of names, numbers and emoji", () => {
    expect(initials("Мария Ковалёва")).toBe("МК");
    expect(initials("🙂 anna")).toBe("A");
    expect(initials("")).toBe("?");
  });
});

describe("keys", () => {
  it("are the same in every layout", () => {
    expect(keyOf({ key: "о", code: "KeyJ", shiftKey: false })).toBe("j");
    expect(keyOf({ key: "J", code: "KeyJ", shiftKey: true })).toBe("j");
    expect(keyOf({ key: ".", code: "Slash", shiftKey: false })).toBe("/");
    expect(keyOf({ key: ",", code: "Slash", shiftKey: true })).toBe("?");
    expect(keyOf({ key: "?", code: "Slash", shiftKey: true })).toBe("?");
    expect(keyOf({ key: "Escape", code: "Escape", shiftKey: false })).toBe("Escape");
  });
});
