import { TextInput } from "@mantine/core";
import { type ReactNode, useEffect, useMemo, useState } from "react";
import { phoneOf } from "../core/phone";
import type { PhoneEntry } from "../core/rest";
import { matches } from "../core/state";
import type { Account, Chat } from "../core/types";
import { useDesk, useDeskState, useWords } from "./context";
import { Avatar, PlatformIcon, platformName } from "./platform";
import { nameOf } from "./preview";
import { failed } from "./toast";

/** Rows of one group that are shown; more letters find the rest. */
const most = 8;

/** Pause in typing after which the phone book is asked, ms. */
const pause = 250;

/** Finds a customer, by what the desk and the phone book know, and opens the chat. */
export function StartChat({ onClose, onStarted }: { onClose: () => void; onStarted: () => void }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const chats = useDeskState((s) => s.chats);
  const me = useDeskState((s) => s.me);
  const capabilities = useDeskState((s) => s.capabilities);
  const [query, setQuery] = useState("");
  const [recent, setRecent] = useState<readonly Chat[]>([]);
  const [accounts, setAccounts] = useState<readonly Account[]>([]);
  const [entries, setEntries] = useState<readonly PhoneEntry[]>([]);
  const [busy, setBusy] = useState(false);
  const wanted = query.trim();
  const phone = phoneOf(wanted);
  // The phone book is open to supervisors; for others the server looks a number
  // up in it when the chat is started.
  const mayAsk = me !== null && me.role !== "operator";

  useEffect(() => {
    let gone = false;
    desk.searchChats({}).then(
      (page) => !gone && setRecent(page.items),
      () => undefined, // what the desk has itself is found all the same
    );
    desk.rest.accounts().then(
      (list) => {
        if (gone) return;
        const active = list.filter((a) => a.state === "active");
        setAccounts(active);
        for (const a of active) void desk.loadCapabilities(a.id);
      },
      () => undefined, // as above
    );
    return () => {
      gone = true;
    };
  }, [desk]);

  useEffect(() => {
    setEntries([]);
    if (!phone || !mayAsk) return;
    let gone = false;
    const timer = setTimeout(() => {
      desk.rest.customers(phone).then(
        (list) => !gone && setEntries(list),
        () => undefined,
      );
    }, pause);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [desk, phone, mayAsk]);

  const known = useMemo(() => {
    if (!wanted) return [];
    const all = new Map<string, Chat>();
    for (const c of [...recent, ...Object.values(chats)]) if (c.customer) all.set(c.id, c);
    return [...all.values()].filter((c) => matches(c, wanted) || (phone !== null && c.customer?.phone === phone));
  }, [recent, chats, wanted, phone]);

  const go = async (action: () => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    try {
      await action();
      onStarted();
      onClose();
    } catch (e) {
      failed(words, e);
      setBusy(false);
    }
  };
  const open = (chat: Chat) =>
    chat.state === "closed" ? desk.reopen(chat) : desk.select(chat.id, chats[chat.id] ?? chat);

  const rows: {
    key: string;
    icon: ReactNode;
    title: string;
    note: string;
    unknown?: boolean;
    run: () => Promise<void>;
  }[] = [];
  for (const c of known.slice(0, most)) {
    const name = nameOf(c, words);
    const state = c.state === "open" && c.operator_id === me?.id ? t("start.yours") : t(`chat.state.${c.state}`);
    rows.push({
      key: c.id,
      icon: (
        <Avatar id={c.customer?.id ?? c.id} name={name} picture={c.customer?.avatar} platform={c.platform} size={32} />
      ),
      title: name,
      note: [platformName(c.platform), c.customer?.phone, state].filter(Boolean).join(" · "),
      run: () => open(c),
    });
  }
  for (const e of entries) {
    if (known.some((c) => c.id === e.chat_id || c.customer?.id === e.customer_id)) continue;
    rows.push({
      key: `${e.account_id} ${e.customer_id}`,
      icon: <Avatar id={e.customer_id} name={e.name || e.phone} platform={e.platform} size={32} />,
      title: e.name || e.phone,
      note: `${platformName(e.platform)} · ${e.phone}`,
      run: () => desk.startChat({ account_id: e.account_id, external_id: e.external_id }),
    });
  }
  for (const a of accounts) {
    const caps = capabilities[a.id];
    const channel =
      a.name && a.name !== a.platform ? `${platformName(a.platform)}, ${a.name}` : platformName(a.platform);
    const met = known.some((c) => c.account_id === a.id && c.customer?.phone === phone);
    if (phone && !met && (caps?.start_by_phone || !mayAsk)) {
      rows.push({
        key: `phone ${a.id}`,
        icon: <PlatformIcon platform={a.platform} />,
        title: t("start.byPhone", { phone }),
        note: channel,
        unknown: true,
        run: () => desk.startChat({ account_id: a.id, phone }),
      });
    }
    if (caps?.start_by_id && /^[\w.:@+=/-]{2,}$/.test(wanted) && !(phone && wanted.startsWith("+"))) {
      rows.push({
        key: `id ${a.id}`,
        icon: <PlatformIcon platform={a.platform} />,
        title: t("start.byId", { id: wanted }),
        note: channel,
        unknown: true,
        run: () => desk.startChat({ account_id: a.id, external_id: wanted }),
      });
    }
  }

  return (
    <>
      <TextInput
        data-autofocus
        aria-label={t("start.search")}
        placeholder={t("start.search")}
        value={query}
        autoComplete="off"
        onChange={(e) => setQuery(e.currentTarget.value)}
        onKeyDown={(e) => {
          // A customer whom nobody knows yet is not made by a slip of the Enter key.
          if (e.key !== "Enter" || e.nativeEvent.isComposing || !rows[0] || rows[0].unknown) return;
          e.preventDefault();
          void go(rows[0].run);
        }}
      />
      <ul className="people" aria-live="polite">
        {rows.map((row) => (
          <li key={row.key}>
            <button type="button" disabled={busy} onClick={() => void go(row.run)}>
              <span className="people-icon">{row.icon}</span>
              <span>
                <strong>{row.title}</strong>
                <small>{row.note}</small>
              </span>
            </button>
          </li>
        ))}
        {rows.length === 0 && <li className="people-none">{wanted ? t("start.none") : t("start.hint")}</li>}
      </ul>
    </>
  );
}
