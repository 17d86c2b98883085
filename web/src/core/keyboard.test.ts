import { expect, it } from "vitest";
import { capabilities } from "../test/build";
import { keyboardKinds, keyboardProblem, rowsOfText, textOfRows } from "./keyboard";
import { phoneOf } from "./phone";

it("buttons are written a row a line, parted by bars, with links after their texts", () => {
  const text = "Yes | No \n\n | \nOur prices https://example.org/p?a=1 | https://example.org";
  const rows = rowsOfText(text);
  expect(rows).toEqual([
    [
      { text: "Yes", payload: "Yes" },
      { text: "No", payload: "No" },
    ],
    [
      { text: "Our prices", action: "url", url: "https://example.org/p?a=1" },
      { text: "https://example.org", payload: "https://example.org" },
    ],
  ]);
  expect(textOfRows(rows)).toBe("Yes | No\nOur prices https://example.org/p?a=1 | https://example.org");
  expect(rowsOfText(textOfRows(rows))).toEqual(rows);
  expect(rowsOfText(" \n|")).toEqual([]);
});

it("what the channel would refuse is told before", () => {
  const problem = (text: string, caps = capabilities()) =>
    keyboardProblem({ kind: "inline", rows: rowsOfText(text) }, caps);
  expect(problem("")).toEqual({ reason: "empty" });
  expect(problem("a|b|c\nd")).toBeNull();
  expect(problem("a\nb\nc\nd")).toEqual({ reason: "rows", max: 3 });
  expect(problem("a|b|c|d")).toEqual({ reason: "columns", max: 3 });
  expect(problem("a|b|c\nd|e|f\ng|h|i")).toEqual({ reason: "buttons", max: 8 });
  expect(problem(`a|${"x".repeat(21)}`)).toEqual({ reason: "text", max: 20, text: "x".repeat(21) });
  expect(problem("a\nb\nc\nd", capabilities({ button_rows: 0 }))).toBeNull();
  expect(keyboardProblem({ kind: "inline", rows: rowsOfText("a|b|c|d") }, undefined)).toBeNull();
  expect(keyboardProblem({ kind: "remove" }, capabilities())).toBeNull();
});

it("only what the channel has is offered", () => {
  expect(keyboardKinds(capabilities())).toEqual(["reply", "inline", "remove"]);
  expect(keyboardKinds(capabilities({ inline_keyboard: false }))).toEqual(["reply", "remove"]);
  expect(keyboardKinds(capabilities({ reply_keyboard: false }))).toEqual(["inline"]);
  expect(keyboardKinds(capabilities({ reply_keyboard: false, inline_keyboard: false }))).toEqual([]);
});

it("a phone number is known in the forms that people write", () => {
  for (const text of ["+7 (900) 123-45-67", "8 900 123-45-67", "89001234567", "7 900 123 45 67"])
    expect(phoneOf(text)).toBe("+79001234567");
  expect(phoneOf("+44 20 7946 0018")).toBe("+442079460018");
  for (const text of ["", "12", "Maria", "maria 79001234567", "+1234567890123456", "+0 123 456 789"])
    expect(phoneOf(text)).toBeNull();
});
