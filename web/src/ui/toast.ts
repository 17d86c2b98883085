import { notifications } from "@mantine/notifications";
import { errorCodeOf, errorDetailOf } from "../core/outcome";
import type { Words } from "../i18n";
import { say } from "./preview";

/** Tells what went wrong, with the server's own words where it has some. */
export function failed(words: Words, error: unknown): void {
  const detail = errorDetailOf(error);
  notifications.show({
    color: "red",
    title: say(words, "error", errorCodeOf(error)),
    message: detail,
    withBorder: true,
    autoClose: 7000,
  });
}

export function done(message: string): void {
  notifications.show({ message, autoClose: 2500, withBorder: true });
}

export async function copy(words: Words, text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages over plain http have no clipboard; the old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  done(words.t("message.copied"));
}
