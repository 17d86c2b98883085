import { Button, Loader, Modal, SegmentedControl, Switch, TextInput, useMantineColorScheme } from "@mantine/core";
import { type FormEvent, type ReactNode, useEffect, useMemo, useState } from "react";
import { askForNotifications, beep, notificationsAllowed } from "../core/alerts";
import type { TimelineEntry } from "../core/rest";
import type { Chat, Message } from "../core/types";
import type { Key } from "../i18n";
import { useDesk, useDeskState, usePrefs, useWords } from "./context";
import { KeyboardForm } from "./KeyboardForm";
import { Avatar, platformName } from "./platform";
import { known, nameOf, previewOf } from "./preview";
import { StartChat } from "./StartChat";
import { done, failed } from "./toast";

export type DialogRequest =
  | { type: "settings" }
  | { type: "start" }
  | { type: "keyboard"; chat: Chat }
  | { type: "shortcuts" }
  | { type: "close"; chat: Chat }
  | { type: "transfer"; chat: Chat }
  | { type: "contact"; chat: Chat }
  | { type: "location"; chat: Chat }
  | { type: "delete"; message: Message }
  | { type: "forward"; message: Message }
  | { type: "timeline"; message: Message };

const titles: Record<DialogRequest["type"], Key> = {
  settings: "settings.title",
  start: "start.title",
  keyboard: "keyboard.title",
  shortcuts: "keys.title",
  close: "chat.closeTitle",
  transfer: "transfer.title",
  contact: "contactForm.title",
  location: "locationForm.title",
  delete: "message.deleteTitle",
  forward: "forward.title",
  timeline: "timeline.title",
};

interface Props {
  request: DialogRequest | null;
  onClose: () => void;
  /** A chat was found or started, and chosen. */
  onStarted: () => void;
}

export function Dialogs({ request, onClose, onStarted }: Props) {
  const { t } = useWords();
  // What was shown last stays while the dialog fades out.
  const [shown, setShown] = useState<DialogRequest | null>(null);
  if (request && request !== shown) setShown(request);
  return (
    <Modal
      opened={request !== null}
      onClose={onClose}
      title={shown ? t(titles[shown.type]) : ""}
      centered
      radius="lg"
      size={shown?.type === "shortcuts" ? 560 : 440}
      // The page itself never scrolls, and locking it would need an inline style.
      lockScroll={false}
      closeButtonProps={{ "aria-label": t("composer.cancel") }}
      transitionProps={{ duration: 120 }}
    >
      {shown && <Content request={shown} onClose={onClose} onStarted={onStarted} />}
    </Modal>
  );
}

function Content({ request, onClose, onStarted }: Omit<Props, "request"> & { request: DialogRequest }): ReactNode {
  switch (request.type) {
    case "settings":
      return <Settings />;
    case "shortcuts":
      return <Shortcuts />;
    case "start":
      return <StartChat onClose={onClose} onStarted={onStarted} />;
    case "keyboard":
      return <KeyboardForm chat={request.chat} onClose={onClose} />;
    case "close":
      return <CloseChat chat={request.chat} onClose={onClose} />;
    case "transfer":
      return <Transfer chat={request.chat} onClose={onClose} />;
    case "contact":
      return <ContactForm chat={request.chat} onClose={onClose} />;
    case "location":
      return <LocationForm chat={request.chat} onClose={onClose} />;
    case "delete":
      return <DeleteMessage message={request.message} onClose={onClose} />;
    case "forward":
      return <Forward message={request.message} onClose={onClose} />;
    case "timeline":
      return <Timeline message={request.message} />;
  }
}

function Confirm({
  text,
  action,
  danger,
  onConfirm,
  onClose,
}: {
  text: string;
  action: string;
  danger?: boolean;
  onConfirm: () => Promise<void>;
  onClose: () => void;
}) {
  const words = useWords();
  const [busy, setBusy] = useState(false);
  const confirm = async () => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (e) {
      failed(words, e);
      setBusy(false);
    }
  };
  return (
    <>
      <p className="dialog-text">{text}</p>
      <div className="dialog-actions">
        <Button variant="default" onClick={onClose}>
          {words.t("composer.cancel")}
        </Button>
        <Button color={danger ? "red" : undefined} loading={busy} data-autofocus onClick={confirm}>
          {action}
        </Button>
      </div>
    </>
  );
}

function CloseChat({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const desk = useDesk();
  const { t } = useWords();
  return (
    <Confirm
      text={t("chat.closeText")}
      action={t("chat.close")}
      onClose={onClose}
      onConfirm={async () => {
        await desk.act("close", chat.id);
        if (desk.store.get().selected === chat.id) await desk.select(null);
        done(t("chat.closed"));
      }}
    />
  );
}

function DeleteMessage({ message, onClose }: { message: Message; onClose: () => void }) {
  const desk = useDesk();
  const { t } = useWords();
  return (
    <Confirm
      text={t(message.direction === "in" ? "message.deleteReceivedText" : "message.deleteText")}
      action={t("message.delete")}
      danger
      onClose={onClose}
      onConfirm={() => desk.remove(message.id)}
    />
  );
}

/** Who can take a chat at once comes first. */
const order = { online: 0, away: 1, offline: 2 } as const;

function Transfer({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const me = useDeskState((s) => s.me?.id);
  const colleagues = useDeskState((s) => s.colleagues);
  const [query, setQuery] = useState("");
  const [skill, setSkill] = useState("");
  useEffect(() => {
    void desk.loadColleagues();
  }, [desk]);
  const list = useMemo(
    () =>
      Object.values(colleagues)
        .filter((c) => c.id !== me && c.id !== chat.operator_id)
        .filter((c) => c.name.toLocaleLowerCase().includes(query.trim().toLocaleLowerCase()))
        .sort((a, b) => order[a.status] - order[b.status] || a.name.localeCompare(b.name)),
    [colleagues, me, chat.operator_id, query],
  );
  const give = async (to: { operator_id: string } | { skill: string }, name: string) => {
    try {
      await desk.transfer(chat.id, to);
      done(t("transfer.done", { name }));
      onClose();
    } catch (e) {
      failed(words, e);
    }
  };
  return (
    <>
      <TextInput
        data-autofocus
        aria-label={t("transfer.search")}
        placeholder={t("transfer.search")}
        value={query}
        onChange={(e) => setQuery(e.currentTarget.value)}
      />
      <ul className="people">
        {list.map((c) => (
          <li key={c.id}>
            <button type="button" onClick={() => void give({ operator_id: c.id }, c.name)}>
              <Avatar id={c.id} name={c.name} size={32} />
              <span>
                <strong>{c.name}</strong>
                {c.skills && c.skills.length > 0 && <small>{c.skills.join(", ")}</small>}
              </span>
              <span className="people-status">
                <span className="presence-dot" data-status={c.status} /> {t(`presence.${c.status}`)}
              </span>
            </button>
          </li>
        ))}
        {list.length === 0 && <li className="people-none">{t("transfer.none")}</li>}
      </ul>
      <form
        className="skill-form"
        onSubmit={(e) => {
          e.preventDefault();
          const name = skill.trim();
          if (name) void give({ skill: name }, name);
        }}
      >
        <TextInput
          label={t("transfer.skill")}
          placeholder={t("transfer.skillLabel")}
          value={skill}
          onChange={(e) => setSkill(e.currentTarget.value)}
        />
        <Button type="submit" variant="light" disabled={!skill.trim()}>
          {t("transfer.toSkill")}
        </Button>
      </form>
    </>
  );
}

function Forward({ message, onClose }: { message: Message; onClose: () => void }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const chats = desk.mine().filter((c) => c.id !== message.chat_id);
  const capabilities = useDeskState((s) => s.capabilities);
  useEffect(() => {
    for (const c of chats) void desk.loadCapabilities(c.account_id);
  });
  const refuses = (c: Chat) => {
    const caps = capabilities[c.account_id];
    return caps && !caps.forward && !caps.forward_copy;
  };
  const forward = async (chat: Chat) => {
    try {
      await desk.forward(message.id, chat.id);
      done(t("forward.done"));
      onClose();
    } catch (e) {
      failed(words, e);
    }
  };
  return (
    <>
      <blockquote className="dialog-quote">{previewOf(message, words)}</blockquote>
      <ul className="people">
        {chats.map((c) => {
          const name = nameOf(c, words);
          return (
            <li key={c.id}>
              <button type="button" disabled={refuses(c)} onClick={() => void forward(c)}>
                <Avatar
                  id={c.customer?.id ?? c.id}
                  name={name}
                  picture={c.customer?.avatar}
                  platform={c.platform}
                  size={32}
                />
                <span>
                  <strong>{name}</strong>
                  <small>
                    {refuses(c) ? t("cant.forward", { platform: platformName(c.platform) }) : platformName(c.platform)}
                  </small>
                </span>
              </button>
            </li>
          );
        })}
        {chats.length === 0 && <li className="people-none">{t("forward.none")}</li>}
      </ul>
    </>
  );
}

function Timeline({ message }: { message: Message }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const [entries, setEntries] = useState<TimelineEntry[] | null>(null);
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    let gone = false;
    desk.rest.message(message.id).then(
      (m) => !gone && setEntries(m.timeline ?? []),
      () => !gone && setBroken(true),
    );
    return () => {
      gone = true;
    };
  }, [desk, message.id]);
  const { me, colleagues } = useDeskState((s) => s);
  const whoOf = (entry: TimelineEntry): string | undefined => {
    const id = (entry.detail as { operator_id?: string } | null | undefined)?.operator_id;
    if (!id) return undefined;
    return id === me?.id ? t("chat.you") : colleagues[id]?.name;
  };
  if (broken) return <p className="dialog-text">{t("history.failed")}</p>;
  if (!entries) return <Loader size={22} />;
  if (entries.length === 0) return <p className="dialog-text">{t("timeline.none")}</p>;
  return (
    <ol className="timeline">
      {entries.map((entry, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the past does not change its order
        <li key={i} data-what={entry.what}>
          <strong>{timelineWord(entry.what, t)}</strong>
          <time dateTime={entry.at}>{words.full(entry.at)}</time>
          {whoOf(entry) ? <span>{whoOf(entry)}</span> : entry.detail != null && <code>{detailText(entry.detail)}</code>}
        </li>
      ))}
    </ol>
  );
}

function timelineWord(what: string, t: (key: Key) => string): string {
  const key = `timeline.${what}`;
  return known(key) ? t(key) : what;
}

/** {"attempt":2,"ok":false} as "attempt: 2 · ok: false" */
function detailText(detail: unknown): string {
  if (typeof detail !== "object" || detail === null) return String(detail);
  return Object.entries(detail)
    .map(([k, v]) => `${k}: ${typeof v === "object" ? JSON.stringify(v) : String(v)}`)
    .join(" · ");
}

function ContactForm({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const desk = useDesk();
  const { t } = useWords();
  const [name, setName] = useState("");
  const [phone, setPhone] = useState("");
  const submit = (e: FormEvent) => {
    e.preventDefault();
    desk.send({ chat_id: chat.id, kind: "contact", contact: { name: name.trim(), phone: phone.trim() } });
    onClose();
  };
  return (
    <form className="dialog-form" onSubmit={submit}>
      <TextInput
        data-autofocus
        label={t("contactForm.name")}
        value={name}
        onChange={(e) => setName(e.currentTarget.value)}
        required
        withAsterisk={false}
      />
      <TextInput
        label={t("contactForm.phone")}
        type="tel"
        inputMode="tel"
        placeholder="+7 900 000-00-00"
        value={phone}
        onChange={(e) => setPhone(e.currentTarget.value)}
        pattern="\+?[0-9 ()\-]{5,20}"
        required
        withAsterisk={false}
      />
      <div className="dialog-actions">
        <Button variant="default" onClick={onClose}>
          {t("composer.cancel")}
        </Button>
        <Button type="submit">{t("composer.send")}</Button>
      </div>
    </form>
  );
}

function LocationForm({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const desk = useDesk();
  const { t } = useWords();
  const [lat, setLat] = useState("");
  const [lon, setLon] = useState("");
  const [title, setTitle] = useState("");
  const number = (text: string) => (text.trim() === "" ? Number.NaN : Number(text.replace(",", ".")));
  const good = Math.abs(number(lat)) <= 90 && Math.abs(number(lon)) <= 180;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!good) return;
    desk.send({
      chat_id: chat.id,
      kind: "location",
      location: { lat: number(lat), lon: number(lon), ...(title.trim() ? { title: title.trim() } : {}) },
    });
    onClose();
  };
  const typed = (text: string) => {
    // A pair that was copied from a map fills both fields.
    const pair = /^\s*(-?\d+(?:\.\d+)?)\s*[,;\s]\s*(-?\d+(?:\.\d+)?)\s*$/.exec(text);
    if (pair?.[1] && pair[2]) {
      setLat(pair[1]);
      setLon(pair[2]);
    } else {
      setLat(text);
    }
  };
  return (
    <form className="dialog-form" onSubmit={submit}>
      <div className="dialog-pair">
        <TextInput
          data-autofocus
          label={t("locationForm.lat")}
          inputMode="decimal"
          value={lat}
          onChange={(e) => typed(e.currentTarget.value)}
        />
        <TextInput
          label={t("locationForm.lon")}
          inputMode="decimal"
          value={lon}
          onChange={(e) => setLon(e.currentTarget.value)}
        />
      </div>
      <p className="dialog-hint">{lat && lon && !good ? t("locationForm.bad") : t("locationForm.hint")}</p>
      <TextInput label={t("locationForm.name")} value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
      <div className="dialog-actions">
        <Button variant="default" onClick={onClose}>
          {t("composer.cancel")}
        </Button>
        <Button type="submit" disabled={!good}>
          {t("composer.send")}
        </Button>
      </div>
    </form>
  );
}

function Settings() {
  const { t } = useWords();
  const { prefs, setPrefs } = usePrefs();
  // Stopping transitions meanwhile would need an inline style, which is forbidden.
  const { colorScheme, setColorScheme } = useMantineColorScheme({ keepTransitions: true });
  const [denied, setDenied] = useState(notificationsAllowed() === "denied");
  const turnNotifications = async (on: boolean) => {
    if (!on) {
      setPrefs({ notifications: false });
      return;
    }
    const allowed = await askForNotifications();
    setDenied(!allowed);
    setPrefs({ notifications: allowed });
  };
  return (
    <div className="settings">
      <div className="setting">
        <span id="setting-language">{t("settings.language")}</span>
        <SegmentedControl
          aria-labelledby="setting-language"
          value={prefs.language}
          onChange={(language) => setPrefs({ language: language as "ru" | "en" })}
          data={[
            { value: "ru", label: "Русский" },
            { value: "en", label: "English" },
          ]}
        />
      </div>
      <div className="setting">
        <span id="setting-theme">{t("settings.theme")}</span>
        <SegmentedControl
          aria-labelledby="setting-theme"
          value={colorScheme}
          onChange={(scheme) => setColorScheme(scheme as "light" | "dark" | "auto")}
          data={(["light", "dark", "auto"] as const).map((value) => ({ value, label: t(`settings.theme.${value}`) }))}
        />
      </div>
      <Switch
        label={t("settings.enter")}
        description={t("settings.enterHint")}
        checked={prefs.enterSends}
        onChange={(e) => setPrefs({ enterSends: e.currentTarget.checked })}
      />
      <Switch
        label={t("settings.sound")}
        checked={prefs.sound}
        onChange={(e) => {
          setPrefs({ sound: e.currentTarget.checked });
          if (e.currentTarget.checked) beep();
        }}
      />
      <Switch
        label={t("settings.notifications")}
        description={denied ? t("settings.notificationsDenied") : undefined}
        checked={prefs.notifications && !denied}
        onChange={(e) => void turnNotifications(e.currentTarget.checked)}
      />
    </div>
  );
}

function Shortcuts() {
  const { t } = useWords();
  const { prefs } = usePrefs();
  const rows: [Key, string[][]][] = [
    ["keys.next", [["J"], ["Alt", "↓"]]],
    ["keys.previous", [["K"], ["Alt", "↑"]]],
    ["keys.tabs", [["1"], ["2"], ["3"]]],
    ["keys.search", [["/"]]],
    ["keys.take", [["N"]]],
    ["keys.start", [["C"]]],
    ["keys.accept", [["A"]]],
    ["keys.skip", [["S"]]],
    ["keys.write", [["I"]]],
    ["keys.attach", [["Alt", "A"]]],
    ["keys.keyboard", [["Alt", "K"]]],
    ["keys.send", prefs.enterSends ? [["Enter"], ["Ctrl", "Enter"]] : [["Ctrl", "Enter"]]],
    ["keys.reply", [["R"]]],
    ["keys.editLast", [["↑"]]],
    ["keys.close", [["X"]]],
    ["keys.details", [["D"]]],
    ["keys.escape", [["Esc"]]],
    ["keys.help", [["?"]]],
  ];
  return (
    <dl className="shortcuts">
      {rows.map(([key, ways]) => (
        <div key={key}>
          <dt>{t(key)}</dt>
          <dd>
            {ways.map((keys, i) => (
              <span key={keys.join()}>
                {i > 0 && <small>{t("keys.or")}</small>}
                {keys.map((k) => (
                  <kbd key={k}>{k}</kbd>
                ))}
              </span>
            ))}
          </dd>
        </div>
      ))}
    </dl>
  );
}
