import { MantineProvider } from "@mantine/core";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it, vi } from "vitest";
import { Desk } from "../core/desk";
import { defaultPrefs } from "../core/prefs";
import { applyHello, emptyThread } from "../core/state";
import type { Capabilities } from "../core/types";
import { wordsOf } from "../i18n";
import { chat as aChat, anna, capabilities, message, sent } from "../test/build";
import { Composer } from "./Composer";
import { DeskContext, PrefsContext, WordsContext } from "./context";
import type { DialogRequest } from "./dialogs";

let desk: Desk;
let send: ReturnType<typeof vi.spyOn>;
const chat = aChat({ read_seq: 3, last_seq: 3, last_message: message(3) });
const allCan = capabilities();
const field = () => screen.getByRole<HTMLTextAreaElement>("textbox");

function show(caps: Capabilities = allCan, onDialog: (request: DialogRequest) => void = () => undefined): void {
  desk.store.set((s) => ({
    ...applyHello(s, { operator: anna, cursor: "1", chats: [chat] }),
    capabilities: { a1: caps },
    threads: {
      c1: {
        ...emptyThread,
        loaded: true,
        items: [sent(2, { status: "sent", text: "message 2" }), message(3, { text: "message 3" })],
      },
    },
  }));
  render(
    <MantineProvider>
      <PrefsContext value={{ prefs: { ...defaultPrefs(), enterSends: true }, setPrefs: () => undefined }}>
        <WordsContext value={wordsOf("en")}>
          <DeskContext value={desk}>
            <Composer chat={chat} name="Maria" onDialog={onDialog} />
          </DeskContext>
        </WordsContext>
      </PrefsContext>
    </MantineProvider>,
  );
}

beforeEach(() => {
  desk = new Desk({ session: { token: "t" }, onSignedOut: () => undefined });
  send = vi.spyOn(desk, "send").mockImplementation(() => undefined);
});

it("Enter sends, Shift+Enter breaks the line, and the field is empty afterwards", async () => {
  show();
  await userEvent.type(field(), "one{Shift>}{Enter}{/Shift}two{Enter}");
  expect(send).toHaveBeenCalledExactlyOnceWith({ chat_id: "c1", kind: "text", text: "one\ntwo" });
  expect(field().value).toBe("");
});

it("nothing but spaces is not sent, nor what an input method confirms with Enter", async () => {
  show();
  await userEvent.type(field(), "   {Enter}");
  fireEvent.change(field(), { target: { value: "か" } });
  fireEvent.keyDown(field(), { key: "Enter", isComposing: true });
  expect(send).not.toHaveBeenCalled();
});

it("what is too long can't be sent and says so", async () => {
  show();
  fireEvent.change(field(), { target: { value: "x".repeat(201) } });
  await userEvent.type(field(), "{Enter}");
  expect(send).not.toHaveBeenCalled();
  expect(screen.getByRole("alert").textContent).toContain("200");
});

it("arrow up edits the last message of one's own; Escape brings the draft back", async () => {
  show();
  await userEvent.type(field(), "{ArrowUp}");
  expect(field().value).toBe("message 2");
  await userEvent.type(field(), "{Escape}");
  expect(field().value).toBe("");
});

it("arrow up does nothing where the channel can't edit", async () => {
  show({ ...allCan, edit: false });
  await userEvent.type(field(), "{ArrowUp}");
  expect(field().value).toBe("");
});

it("a reply carries the quoted message", async () => {
  show();
  act(() => desk.drafts.reply("c1", message(3, { text: "message 3" })));
  expect(screen.getByText("message 3")).toBeTruthy();
  await userEvent.type(field(), "yes{Enter}");
  expect(send).toHaveBeenCalledWith({ chat_id: "c1", kind: "text", text: "yes", reply_to: "m3" });
});

it("a file over the channel's limit is refused before it is uploaded", async () => {
  const upload = vi.spyOn(desk.rest, "upload");
  show();
  const big = new File([new Uint8Array(1001)], "big.png", { type: "image/png" });
  fireEvent.paste(field(), { clipboardData: { files: [big], types: ["Files"] } });
  expect(upload).not.toHaveBeenCalled();
  expect(desk.drafts.get("c1").attachments).toHaveLength(0);
});

it("a pasted file is uploaded and sent with the text", async () => {
  const done = Promise.resolve({ id: "f1", name: "a.png", mime: "image/png", size: 3 });
  vi.spyOn(desk.rest, "upload").mockReturnValue({ done, abort: () => undefined });
  URL.createObjectURL = () => "blob:1";
  URL.revokeObjectURL = () => undefined;
  show();
  const file = new File(["abc"], "a.png", { type: "image/png" });
  await act(async () => {
    fireEvent.paste(field(), { clipboardData: { files: [file], types: ["Files"] } });
    await done;
  });
  await userEvent.type(field(), "look{Enter}");
  expect(send).toHaveBeenCalledWith(
    expect.objectContaining({ kind: "image", text: "look", files: [expect.objectContaining({ id: "f1" })] }),
  );
});

it("a channel without files says why", async () => {
  show({ ...allCan, send: ["text"] });
  const button = screen.getByRole("button", { name: /files/i });
  expect(button.getAttribute("aria-disabled")).toBe("true");
});

it("a draft outlives the window", async () => {
  show();
  await userEvent.type(field(), "not yet");
  const next = new Desk({ session: { token: "t" }, onSignedOut: () => undefined });
  next.store.set((s) => ({ ...s, me: anna }));
  expect(next.drafts.get("c1").text).toBe("not yet");
});

it("buttons go with the message that is written, and only with that", async () => {
  show();
  act(() => desk.drafts.setKeyboard("c1", { kind: "reply", rows: [[{ text: "Yes", payload: "Yes" }]] }));
  expect(screen.getByText("Quick replies")).toBeTruthy();
  await userEvent.type(field(), "Shall we?{Enter}and then{Enter}");
  expect(desk.send).toHaveBeenCalledTimes(2);
  expect(vi.mocked(desk.send).mock.calls.map(([m]) => [m.text, m.keyboard?.rows?.length])).toEqual([
    ["Shall we?", 1],
    ["and then", undefined],
  ]);
});

it("Alt+K opens the buttons, unless the channel has none", async () => {
  const onDialog = vi.fn();
  show(allCan, onDialog);
  await userEvent.type(field(), "{Alt>}k{/Alt}");
  expect(onDialog).toHaveBeenCalledExactlyOnceWith({ type: "keyboard", chat });
  cleanup();
  show({ ...allCan, reply_keyboard: false, inline_keyboard: false }, onDialog);
  await userEvent.type(field(), "{Alt>}k{/Alt}");
  expect(onDialog).toHaveBeenCalledOnce();
});
