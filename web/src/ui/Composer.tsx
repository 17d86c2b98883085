import { ActionIcon, Menu, Popover, Tooltip } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import {
  IconArrowBackUp,
  IconCheck,
  IconFile,
  IconLayoutGrid,
  IconMapPin,
  IconMoodSmile,
  IconPaperclip,
  IconPencil,
  IconPlus,
  IconRefresh,
  IconSend2,
  IconUser,
  IconX,
} from "@tabler/icons-react";
import {
  type ClipboardEvent,
  type DragEvent,
  type KeyboardEvent,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import type { Attachment } from "../core/drafts";
import { keyboardKinds } from "../core/keyboard";
import { canSend, canSendFiles, count, lengthNote } from "../core/limits";
import type { Chat } from "../core/types";
import { useDesk, useDeskState, useDraft, usePrefs, useWords } from "./context";
import type { DialogRequest } from "./dialogs";
import { emoji } from "./emoji";
import { keyOf } from "./keys";
import { platformName } from "./platform";
import { previewOf } from "./preview";
import { failed } from "./toast";

interface Props {
  chat: Chat;
  name: string;
  onDialog: (request: DialogRequest) => void;
}

/** Lines of the field before it scrolls. */
const tallest = 200;

export function Composer({ chat, name, onDialog }: Props) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const { prefs } = usePrefs();
  const draft = useDraft(chat.id);
  const caps = useDeskState((s) => s.capabilities[chat.account_id]);
  const field = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const [dropping, setDropping] = useState(0);
  const [emojiOpen, setEmojiOpen] = useState(false);
  const [saving, setSaving] = useState(false);

  const platform = platformName(chat.platform);
  const filesAllowed = canSendFiles(caps);
  const buttonsAllowed = keyboardKinds(caps).length > 0;
  const note = lengthNote(draft.text, caps);
  const longCaption =
    draft.attachments.length > 0 &&
    caps !== undefined &&
    caps.caption.max > 0 &&
    count(draft.text, caps.caption.unit) > caps.caption.max;
  const uploading = draft.attachments.some((a) => a.state !== "ready");
  const empty = draft.text.trim() === "" && draft.attachments.length === 0;
  const textForbidden = caps !== undefined && !canSend(caps, "text");
  const blocked = empty || uploading || note?.over === true || saving || textForbidden;

  // As tall as its text.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is what makes it grow
  useLayoutEffect(() => {
    const el = field.current;
    if (!el) return;
    el.style.height = "auto";
    el.style.height = `${Math.min(el.scrollHeight, tallest)}px`;
  }, [draft.text]);

  // On a touch screen the keyboard would cover the history at once.
  useEffect(() => {
    if (window.matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, []);

  const attach = (files: readonly File[]) => {
    if (files.length === 0) return;
    if (!filesAllowed) {
      notifications.show({ color: "yellow", message: t("cant.files", { platform }), withBorder: true });
      return;
    }
    for (const r of desk.drafts.attach(chat.id, files, caps)) {
      const message =
        r.limit === 0
          ? t("composer.emptyFile", { name: r.name })
          : t("composer.tooLarge", { name: r.name, size: words.size(r.size), limit: words.size(r.limit) });
      notifications.show({ color: "red", message, withBorder: true, autoClose: 7000 });
    }
    field.current?.focus();
  };

  const submit = async () => {
    if (draft.editing) {
      const text = draft.text.trim();
      if (text === (draft.editing.text ?? "").trim()) {
        desk.drafts.stopEditing(chat.id);
        return;
      }
      if (text === "" && draft.editing.kind === "text") {
        notifications.show({ color: "yellow", message: t("composer.emptyEdit"), withBorder: true });
        return;
      }
      setSaving(true);
      try {
        await desk.edit(draft.editing.id, text);
        desk.drafts.stopEditing(chat.id);
      } catch (e) {
        failed(words, e);
      } finally {
        setSaving(false);
      }
      return;
    }
    if (blocked) return;
    for (const message of desk.drafts.take(chat.id, caps)) desk.send(message);
    field.current?.focus();
  };

  const cancel = () => {
    if (draft.editing) desk.drafts.stopEditing(chat.id);
    else if (draft.replyTo) desk.drafts.reply(chat.id, null);
    else return false;
    return true;
  };

  const editLast = () => {
    if (caps?.edit === false) return false;
    const me = desk.store.get().me?.id;
    const last = desk.store
      .get()
      .threads[chat.id]?.items.findLast(
        (m) =>
          m.direction === "out" &&
          m.sender.id === me &&
          m.kind === "text" &&
          !m.deleted_at &&
          (m.status === "sent" || m.status === "delivered" || m.status === "read"),
      );
    if (!last) return false;
    desk.drafts.edit(chat.id, last);
    return true;
  };

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return; // Enter belongs to the input method
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      if (event.ctrlKey || event.metaKey || prefs.enterSends) {
        event.preventDefault();
        void submit();
      }
      return;
    }
    if (event.altKey && !event.ctrlKey && !event.metaKey) {
      const key = keyOf(event);
      if (key === "a" && filesAllowed) {
        event.preventDefault();
        picker.current?.click();
      } else if (key === "k" && buttonsAllowed) {
        event.preventDefault();
        onDialog({ type: "keyboard", chat });
      }
    }
    if (event.key === "Escape" && cancel()) {
      event.preventDefault();
      return;
    }
    if (event.key === "ArrowUp" && draft.text === "" && !event.altKey && !draft.editing && editLast())
      event.preventDefault();
  };

  const onPaste = (event: ClipboardEvent) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0) return;
    event.preventDefault();
    attach(files);
  };

  const hasFiles = (event: DragEvent) => event.dataTransfer.types.includes("Files");
  const onDrop = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    setDropping(0);
    attach([...event.dataTransfer.files]);
  };

  const insert = (text: string) => {
    const el = field.current;
    const start = el?.selectionStart ?? draft.text.length;
    const end = el?.selectionEnd ?? start;
    desk.drafts.setText(chat.id, draft.text.slice(0, start) + text + draft.text.slice(end));
    setEmojiOpen(false);
    requestAnimationFrame(() => {
      el?.focus();
      el?.setSelectionRange(start + text.length, start + text.length);
    });
  };

  const attachLabel = filesAllowed ? t("composer.attach") : t("cant.files", { platform });
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: files may be dropped here; the button beside does the same
    <footer
      className="composer"
      data-dropping={dropping > 0 ? "" : undefined}
      onDragEnter={(e) => hasFiles(e) && setDropping((n) => n + 1)}
      onDragLeave={(e) => hasFiles(e) && setDropping((n) => Math.max(0, n - 1))}
      onDragOver={(e) => hasFiles(e) && e.preventDefault()}
      onDrop={onDrop}
    >
      {dropping > 0 && (
        <div className="drop-hint">{filesAllowed ? t("composer.drop") : t("cant.files", { platform })}</div>
      )}
      {(draft.replyTo || draft.editing) && (
        <div className="context">
          {draft.editing ? <IconPencil size={17} aria-hidden /> : <IconArrowBackUp size={17} aria-hidden />}
          <div>
            <strong>
              {draft.editing
                ? t("composer.editing")
                : t("composer.replying", { name: draft.replyTo?.direction === "in" ? name : t("chat.you") })}
            </strong>
            <span>{previewOf((draft.editing ?? draft.replyTo) as NonNullable<typeof draft.replyTo>, words)}</span>
          </div>
          <ActionIcon
            variant="subtle"
            color="gray"
            size={28}
            aria-label={t("composer.cancel")}
            title="Esc"
            onClick={cancel}
          >
            <IconX size={16} aria-hidden />
          </ActionIcon>
        </div>
      )}
      {draft.attachments.length > 0 && !draft.editing && (
        <ul className="chips">
          {draft.attachments.map((a) => (
            <Chip key={a.key} chatId={chat.id} attachment={a} />
          ))}
        </ul>
      )}
      {draft.keyboard && !draft.editing && (
        <div className="context">
          <IconLayoutGrid size={17} aria-hidden />
          <button type="button" className="context-open" onClick={() => onDialog({ type: "keyboard", chat })}>
            <strong>{t(`keyboard.${draft.keyboard.kind}`)}</strong>
            <span>
              {draft.keyboard.rows
                ?.flat()
                .map((b) => b.text)
                .join(" · ")}
            </span>
          </button>
          <ActionIcon
            variant="subtle"
            color="gray"
            size={28}
            aria-label={t("keyboard.drop")}
            onClick={() => desk.drafts.setKeyboard(chat.id, null)}
          >
            <IconX size={16} aria-hidden />
          </ActionIcon>
        </div>
      )}
      <div className="composer-row">
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          onChange={(e) => {
            attach([...(e.currentTarget.files ?? [])]);
            e.currentTarget.value = "";
          }}
        />
        <Tooltip label={attachLabel} openDelay={filesAllowed ? 500 : 0}>
          <ActionIcon
            variant="subtle"
            color="gray"
            size={38}
            aria-label={attachLabel}
            data-disabled={!filesAllowed || undefined}
            aria-disabled={!filesAllowed}
            onClick={() => filesAllowed && picker.current?.click()}
          >
            <IconPaperclip size={20} stroke={1.7} aria-hidden />
          </ActionIcon>
        </Tooltip>
        <Menu position="top-start" shadow="md" width={260}>
          <Menu.Target>
            <ActionIcon
              variant="subtle"
              color="gray"
              size={38}
              aria-label={t("composer.more")}
              title={t("composer.more")}
            >
              <IconPlus size={20} stroke={1.7} aria-hidden />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            {(["contact", "location"] as const).map((kind) => {
              const can = canSend(caps, kind);
              return (
                <Menu.Item
                  key={kind}
                  disabled={!can}
                  leftSection={
                    kind === "contact" ? <IconUser size={16} aria-hidden /> : <IconMapPin size={16} aria-hidden />
                  }
                  onClick={() => onDialog({ type: kind, chat })}
                >
                  {t(`kind.${kind}`)}
                  {!can && <small className="why">{t(`cant.${kind}`, { platform })}</small>}
                </Menu.Item>
              );
            })}
            <Menu.Item
              disabled={!buttonsAllowed}
              leftSection={<IconLayoutGrid size={16} aria-hidden />}
              rightSection={buttonsAllowed ? <kbd className="wide-only">Alt K</kbd> : undefined}
              onClick={() => onDialog({ type: "keyboard", chat })}
            >
              {t("keyboard.title")}
              {!buttonsAllowed && <small className="why">{t("cant.buttons", { platform })}</small>}
            </Menu.Item>
          </Menu.Dropdown>
        </Menu>
        <textarea
          ref={field}
          id="composer"
          rows={1}
          aria-label={t("composer.label")}
          placeholder={
            textForbidden
              ? t("cant.text", { platform })
              : draft.attachments.length > 0
                ? t("composer.caption")
                : t("composer.placeholderVia", { platform })
          }
          disabled={textForbidden}
          value={draft.text}
          onChange={(e) => {
            desk.drafts.setText(chat.id, e.currentTarget.value);
            if (e.currentTarget.value && !draft.editing) desk.typing(chat.id);
          }}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        <Popover opened={emojiOpen} onChange={setEmojiOpen} position="top-end" shadow="lg" trapFocus returnFocus>
          <Popover.Target>
            <ActionIcon
              variant="subtle"
              color="gray"
              size={38}
              aria-label={t("composer.emoji")}
              title={t("composer.emoji")}
              aria-expanded={emojiOpen}
              onClick={() => setEmojiOpen((o) => !o)}
            >
              <IconMoodSmile size={20} stroke={1.7} aria-hidden />
            </ActionIcon>
          </Popover.Target>
          <Popover.Dropdown>
            <div className="emoji" role="group" aria-label={t("composer.emoji")}>
              {emoji.map((e) => (
                <button key={e} type="button" onClick={() => insert(e)}>
                  {e}
                </button>
              ))}
            </div>
          </Popover.Dropdown>
        </Popover>
        <ActionIcon
          className="send"
          variant="filled"
          size={40}
          radius="md"
          aria-label={draft.editing ? t("composer.save") : t("composer.send")}
          title={prefs.enterSends ? t("composer.hintEnter") : t("composer.hintCtrl")}
          disabled={draft.editing ? saving : blocked}
          onClick={() => void submit()}
        >
          {draft.editing ? <IconCheck size={20} aria-hidden /> : <IconSend2 size={20} aria-hidden />}
        </ActionIcon>
      </div>
      <div className="composer-foot">
        {!longCaption && !note && (
          <span className="hint">{prefs.enterSends ? t("composer.hintEnter") : t("composer.hintCtrl")}</span>
        )}
        {longCaption && <span className="warn">{t("composer.longCaption")}</span>}
        {note && (
          <span className="counter" data-over={note.over ? "" : undefined} role={note.over ? "alert" : undefined}>
            {note.over
              ? t("composer.over", { count: note.count, max: note.max })
              : `${t("composer.length", { count: note.count, max: note.max })}${
                  note.parts > 1 ? ` · ${t("composer.parts", { n: note.parts })}` : ""
                }`}
          </span>
        )}
      </div>
    </footer>
  );
}

function Chip({ chatId, attachment: a }: { chatId: string; attachment: Attachment }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const percent = Math.round(a.progress * 100);
  // Not everything that calls itself a picture can be shown as one.
  const [shown, setShown] = useState(true);
  return (
    <li className="chip" data-state={a.state}>
      {a.preview && shown ? (
        <img src={a.preview} alt="" onError={() => setShown(false)} />
      ) : (
        <IconFile size={22} stroke={1.5} aria-hidden />
      )}
      <span className="chip-body">
        <strong>{a.file.name}</strong>
        <small>
          {a.state === "failed" ? t("composer.uploadFailed", { detail: a.detail ?? "" }) : words.size(a.file.size)}
        </small>
        {a.state === "uploading" && (
          <progress max={100} value={percent} aria-label={t("composer.uploading", { percent })} />
        )}
      </span>
      {a.state === "failed" && (
        <button type="button" aria-label={t("composer.uploadRetry")} onClick={() => desk.drafts.retry(chatId, a.key)}>
          <IconRefresh size={15} aria-hidden />
        </button>
      )}
      <button
        type="button"
        aria-label={t("composer.remove", { name: a.file.name })}
        onClick={() => desk.drafts.detach(chatId, a.key)}
      >
        <IconX size={15} aria-hidden />
      </button>
    </li>
  );
}
