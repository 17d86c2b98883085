import { ActionIcon } from "@mantine/core";
import { IconCheck, IconCopy, IconMinus, IconX } from "@tabler/icons-react";
import type { Chat } from "../core/types";
import { useDeskState, useWords } from "./context";
import { Avatar, PlatformIcon, platformName } from "./platform";
import { nameOf } from "./preview";
import { copy } from "./toast";

export function Details({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const words = useWords();
  const { t } = words;
  const caps = useDeskState((s) => s.capabilities[chat.account_id]);
  const me = useDeskState((s) => s.me);
  const colleague = useDeskState((s) => (chat.operator_id ? s.colleagues[chat.operator_id] : undefined));
  const c = chat.customer;
  const name = nameOf(chat, words);
  const operator =
    chat.operator_id === null ? "" : chat.operator_id === me?.id ? t("chat.you") : (colleague?.name ?? "");
  const facts: [label: string, value: string | undefined, copied?: boolean][] = [
    [t("details.phone"), c?.phone, true],
    [t("details.username"), c?.username ? `@${c.username.replace(/^@/, "")}` : undefined, true],
    [t("details.id"), c?.external_id, true],
    [t("details.language"), c?.language ? languageName(c.language, words.locale) : undefined],
    [t("details.country"), c?.country ? countryName(c.country, words.locale) : undefined],
    [t("details.state"), t(`chat.state.${chat.state}`)],
    [t("details.operator"), operator],
    [t("details.skill"), chat.skill],
    [t("details.since"), chat.created_at ? words.day(chat.created_at) : undefined],
  ];
  return (
    <aside className="details" aria-label={t("chat.details")}>
      <header>
        <h3>{t("details.title")}</h3>
        <ActionIcon variant="subtle" color="gray" size={32} aria-label={t("composer.cancel")} onClick={onClose}>
          <IconX size={18} aria-hidden />
        </ActionIcon>
      </header>
      <div className="details-who">
        <Avatar id={c?.id ?? chat.id} name={name} picture={c?.avatar} size={64} />
        <strong>{name}</strong>
        <span className="details-channel">
          <PlatformIcon platform={chat.platform} size={12} /> {platformName(chat.platform)}
        </span>
        {c?.reachable === false && <span className="details-warn">{t("details.unreachable")}</span>}
      </div>
      <dl>
        {facts.map(([label, value, copied]) =>
          value ? (
            <div key={label}>
              <dt>{label}</dt>
              <dd>
                <span>{value}</span>
                {copied && (
                  <button
                    type="button"
                    aria-label={t("details.copy", { what: label })}
                    title={t("details.copy", { what: label })}
                    onClick={() => void copy(words, value)}
                  >
                    <IconCopy size={14} aria-hidden />
                  </button>
                )}
              </dd>
            </div>
          ) : null,
        )}
      </dl>
      {caps && (
        <>
          <h4>{t("details.channelCan")}</h4>
          <ul className="details-can">
            {(
              [
                ["delivered", caps.delivered],
                ["read", caps.read],
                ["reply", caps.reply_to],
                ["edit", caps.edit],
                ["delete", caps.delete],
                ["typing", caps.typing],
              ] as const
            ).map(([key, can]) => (
              <li key={key} data-can={can ? "" : undefined}>
                {can ? <IconCheck size={15} aria-hidden /> : <IconMinus size={15} aria-hidden />}
                {t(`details.can.${key}`)}
                <span className="sr-only">: {t(can ? "details.yes" : "details.no")}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </aside>
  );
}

function languageName(code: string, locale: string): string {
  try {
    return new Intl.DisplayNames(locale, { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

function countryName(code: string, locale: string): string {
  try {
    return new Intl.DisplayNames(locale, { type: "region" }).of(code.toUpperCase()) ?? code;
  } catch {
    return code;
  }
}
