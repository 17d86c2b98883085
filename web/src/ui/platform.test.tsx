import { act, fireEvent, render, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Desk } from "../core/desk";
import { ownFile } from "../core/files";
import { wordsOf } from "../i18n";
import { DeskContext, WordsContext } from "./context";
import { Avatar } from "./platform";

const one = "0198aaaa-0000-7000-8000-000000000001";
const two = "0198aaaa-0000-7000-8000-000000000002";
let desk: Desk;
let asked: string[];
let lost: string[];

beforeEach(() => {
  asked = [];
  lost = [];
  desk = new Desk({ session: { token: "t" }, onSignedOut: () => undefined });
  vi.spyOn(desk.rest, "file").mockImplementation((id) => {
    asked.push(id);
    return lost.includes(id) ? Promise.reject(new Error("404")) : Promise.resolve(new Blob([id]));
  });
  let made = 0;
  URL.createObjectURL = () => `blob:${++made}`;
  URL.revokeObjectURL = () => undefined;
});

afterEach(() => vi.unstubAllGlobals());

function tree(picture?: string) {
  return (
    <WordsContext value={wordsOf("en")}>
      <DeskContext value={desk}>
        <Avatar id="c1" name="Maria Lopez" picture={picture} platform="viber" />
      </DeskContext>
    </WordsContext>
  );
}

const img = (root: Element) => root.querySelector("img");
const initialsOf = (root: Element) => root.querySelector("[data-initials]")?.getAttribute("data-initials");

it("only addresses of ours are files", () => {
  expect(ownFile(`/files/${one}`)).toBe(one);
  for (const other of [
    "",
    undefined,
    "https://cdn.example/a.jpg",
    `https://evil.example/files/${one}`,
    "/files/",
    `/files/../${one}`,
    "//x/files/1",
  ])
    expect(ownFile(other)).toBeUndefined();
});

it("shows the picture over the initials once it is drawn, and says nothing new to readers", async () => {
  const { container } = render(tree(`/files/${one}`));
  expect(initialsOf(container)).toBe("ML");
  expect(img(container)?.dataset.state).toBeUndefined();
  await waitFor(() => expect(img(container)?.getAttribute("src")).toMatch(/^blob:/));
  fireEvent.load(img(container) as Element);
  expect(img(container)?.dataset.state).toBe("ready");
  expect(img(container)?.getAttribute("alt")).toBe("");
  expect(initialsOf(container)).toBe("ML");
});

it("keeps to the initials without a picture, with one elsewhere, with one that is gone or that no browser draws", async () => {
  lost = [two];
  for (const picture of [undefined, "", "https://cdn.example/a.jpg"]) {
    const { container } = render(tree(picture));
    expect(img(container)).toBeNull();
  }
  expect(asked).toEqual([]);
  const gone = render(tree(`/files/${two}`));
  await act(async () => undefined);
  expect(asked).toEqual([two]);
  expect(img(gone.container)?.getAttribute("src")).toBeNull();
  const broken = render(tree(`/files/${one}`));
  await waitFor(() => expect(img(broken.container)?.getAttribute("src")).toBeTruthy());
  fireEvent.error(img(broken.container) as Element);
  expect(img(broken.container)).toBeNull();
});

it("another picture replaces the first, and none takes it away", async () => {
  const { container, rerender } = render(tree(`/files/${one}`));
  await waitFor(() => expect(img(container)?.getAttribute("src")).toBeTruthy());
  const first = img(container)?.getAttribute("src");
  rerender(tree(`/files/${two}`));
  expect(img(container)?.getAttribute("src")).not.toBe(first);
  await waitFor(() => expect(img(container)?.getAttribute("src")).toBeTruthy());
  expect(asked).toEqual([one, two]);
  rerender(tree(""));
  expect(img(container)).toBeNull();
});

it("fetches nothing before the place comes near the screen", async () => {
  const watched: Element[] = [];
  let come: (near: boolean) => void = () => undefined;
  class Observer {
    constructor(tell: (entries: { isIntersecting: boolean; target: Element }[], observer: Observer) => void) {
      come = (near) =>
        tell(
          watched.map((target) => ({ isIntersecting: near, target })),
          this,
        );
    }
    observe(element: Element) {
      watched.push(element);
    }
    unobserve() {}
  }
  vi.stubGlobal("IntersectionObserver", Observer);
  const { container } = render(tree(`/files/${one}`));
  await act(async () => undefined);
  expect(watched).toEqual([img(container)]);
  expect(asked).toEqual([]);
  act(() => come(false));
  expect(asked).toEqual([]);
  act(() => come(true));
  await waitFor(() => expect(img(container)?.getAttribute("src")).toBeTruthy());
  expect(asked).toEqual([one]);
});
