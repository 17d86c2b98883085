import { Button, Checkbox, SegmentedControl, Textarea } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { type FormEvent, useState } from "react";
import { type KeyboardKind, keyboardKinds, keyboardProblem, rowsOfText, textOfRows } from "../core/keyboard";
import type { Chat, KeyButton, Keyboard } from "../core/types";
import { useDesk, useDeskState, useWords } from "./context";
import { KeyboardView } from "./KeyboardView";

/** Buttons for the message that is being written. */
export function KeyboardForm({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const desk = useDesk();
  const { t } = useWords();
  const caps = useDeskState((s) => s.capabilities[chat.account_id]);
  const kinds = keyboardKinds(caps);
  const narrow = useMediaQuery("(max-width: 480px)");
  const before = desk.drafts.get(chat.id).keyboard;
  const asks = (action: string) => before?.rows?.flat().some((b) => b.action === action) ?? false;
  const own = (before?.rows ?? []).filter((row) => !row.some((b) => b.action === "phone" || b.action === "location"));
  const [kind, setKind] = useState<KeyboardKind>(before?.kind ?? kinds[0] ?? "reply");
  const [text, setText] = useState(textOfRows(own));
  const [once, setOnce] = useState(before?.once ?? true);
  const [phone, setPhone] = useState(asks("phone"));
  const [location, setLocation] = useState(asks("location"));

  const extra: KeyButton[] = [];
  if (kind === "reply" && phone) extra.push({ text: t("keyboard.phoneButton"), action: "phone" });
  if (kind === "reply" && location) extra.push({ text: t("keyboard.locationButton"), action: "location" });
  const keyboard: Keyboard =
    kind === "remove"
      ? { kind }
      : { kind, rows: [...rowsOfText(text), ...extra.map((b) => [b])], ...(kind === "reply" && once ? { once } : {}) };
  const problem = keyboardProblem(keyboard, caps);
  const told =
    problem === null || problem.reason === "empty"
      ? null
      : problem.reason === "text"
        ? t("keyboard.tooLong", { text: problem.text, max: problem.max })
        : t(`keyboard.over.${problem.reason}`, { n: problem.max });

  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (problem) return;
    desk.drafts.setKeyboard(chat.id, keyboard);
    onClose();
  };
  const remove = () => {
    desk.drafts.setKeyboard(chat.id, null);
    onClose();
  };
  return (
    <form className="dialog-form" onSubmit={submit}>
      {kinds.length > 1 && (
        <SegmentedControl
          fullWidth
          orientation={narrow ? "vertical" : "horizontal"}
          aria-label={t("keyboard.kind")}
          value={kind}
          onChange={(value) => setKind(value as KeyboardKind)}
          data={kinds.map((value) => ({ value, label: t(`keyboard.${value}`) }))}
        />
      )}
      <p className="dialog-hint">{t(`keyboard.${kind}Hint`)}</p>
      {kind !== "remove" && (
        <>
          <Textarea
            data-autofocus
            label={t("keyboard.rows")}
            description={t("keyboard.rowsHint")}
            placeholder={t("keyboard.rowsPlaceholder")}
            rows={4}
            value={text}
            error={told}
            onChange={(e) => setText(e.currentTarget.value)}
            onKeyDown={(e) => {
              if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) submit(e);
            }}
          />
          {kind === "reply" && (
            <>
              {caps?.request_phone !== false && (
                <Checkbox
                  label={t("keyboard.phone")}
                  checked={phone}
                  onChange={(e) => setPhone(e.currentTarget.checked)}
                />
              )}
              {caps?.request_location !== false && (
                <Checkbox
                  label={t("keyboard.location")}
                  checked={location}
                  onChange={(e) => setLocation(e.currentTarget.checked)}
                />
              )}
              <Checkbox label={t("keyboard.once")} checked={once} onChange={(e) => setOnce(e.currentTarget.checked)} />
            </>
          )}
          <KeyboardView keyboard={keyboard} />
        </>
      )}
      <div className="dialog-actions">
        {before && (
          <Button variant="subtle" color="red" className="dialog-aside" onClick={remove}>
            {t("keyboard.drop")}
          </Button>
        )}
        <Button variant="default" onClick={onClose}>
          {t("composer.cancel")}
        </Button>
        <Button type="submit" disabled={problem !== null}>
          {t("keyboard.add")}
        </Button>
      </div>
    </form>
  );
}
