import { beep, notify } from "../core/alerts";
import type { Desk } from "../core/desk";
import type { Prefs } from "../core/prefs";
import { type DeskState, isOfferedTo } from "../core/state";
import type { HubEvent } from "../core/types";
import { wordsOf } from "../i18n";
import { attention } from "./context";
import { platformName } from "./platform";
import { nameOf, previewOf } from "./preview";

/** Sound and notification for what has just come, if it is for this operator and was asked for. */
export function announce(event: HubEvent, state: DeskState, desk: Desk, prefs: Prefs): void {
  if (!prefs.sound && !prefs.notifications) return;
  const chat = event.chat ?? (event.message ? state.chats[event.message.chat_id] : undefined);
  if (!chat) return;
  const words = wordsOf(prefs.language);
  const seen = attention() && state.selected === chat.id;
  const name = nameOf(chat, words);
  if (event.type === "message.new") {
    const mine = chat.operator_id === state.me?.id && chat.state === "open";
    if (event.message?.direction !== "in" || !mine || seen) return;
    if (prefs.sound) beep();
    if (prefs.notifications && !attention()) {
      const title = words.t("notify.message", { name, platform: platformName(chat.platform) });
      notify(title, previewOf(event.message, words), chat.id, () => void desk.select(chat.id));
    }
    return;
  }
  if (state.me?.presence === "away") return;
  const offered = isOfferedTo(chat, state.me?.id);
  if (chat.state !== "new" && !offered) return;
  if (prefs.sound) beep();
  if (prefs.notifications && !attention()) {
    notify(words.t(offered ? "notify.offered" : "notify.queue"), name, chat.id, () => void desk.select(chat.id));
  }
}
