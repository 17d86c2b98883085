import type { Keyboard } from "../core/types";
import { useWords } from "./context";

/** The buttons of a message, as the customer has them. */
export function KeyboardView({ keyboard }: { keyboard: Keyboard }) {
  const { t } = useWords();
  if (keyboard.kind === "remove" || !keyboard.rows?.length) return null;
  return (
    <div className="keyboard" role="group" aria-label={t("message.buttons")}>
      {keyboard.rows.map((row, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the rows of a sent keyboard never change
        <div key={i}>
          {row.map((button, j) => {
            const hint =
              button.action === "phone"
                ? t("message.asksPhone")
                : button.action === "location"
                  ? t("message.asksLocation")
                  : button.action === "url"
                    ? button.url
                    : undefined;
            return (
              // biome-ignore lint/suspicious/noArrayIndexKey: as above
              <button key={j} type="button" disabled title={hint}>
                {button.text}
                {button.action === "url" && " ↗"}
              </button>
            );
          })}
        </div>
      ))}
    </div>
  );
}
