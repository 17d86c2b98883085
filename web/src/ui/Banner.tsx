import { IconPlugConnectedX, IconRefresh } from "@tabler/icons-react";
import { useEffect, useState } from "react";
import { useDesk, useDeskState, useNow, useWords } from "./context";

/** Tells that the connection is lost, and what can be done. Short gaps stay unsaid. */
export function Banner() {
  const desk = useDesk();
  const { t } = useWords();
  const connection = useDeskState((s) => s.connection);
  const me = useDeskState((s) => s.me);
  const now = useNow(1000);
  const away = connection.phase === "waiting" || connection.phase === "connecting";
  const [long, setLong] = useState(false);
  useEffect(() => {
    if (!away) {
      setLong(false);
      return;
    }
    const timer = setTimeout(() => setLong(true), 1200);
    return () => clearTimeout(timer);
  }, [away]);

  if (connection.phase === "replaced") {
    return (
      <div className="banner" data-kind="replaced" role="alert">
        <IconPlugConnectedX size={18} aria-hidden />
        <span>
          <strong>{t("connection.replaced")}.</strong> {t("connection.replacedHint")}
        </span>
        <button type="button" className="banner-action" onClick={() => desk.rpc.takeOver()}>
          {t("connection.takeOver")}
        </button>
      </div>
    );
  }
  if (!away || !long || !me) return null;
  const seconds = connection.retryAt ? Math.max(0, Math.ceil((connection.retryAt - now) / 1000)) : 0;
  return (
    <div className="banner" data-kind="lost" role="status">
      <IconPlugConnectedX size={18} aria-hidden />
      <span>
        <strong>
          {connection.phase === "connecting" || seconds === 0
            ? t("connection.connecting")
            : t("connection.waiting", { seconds })}
        </strong>{" "}
        {t("connection.waitingHint")}
      </span>
      {connection.phase === "waiting" && (
        <button type="button" className="banner-action" onClick={() => desk.rpc.retryNow()}>
          <IconRefresh size={15} aria-hidden /> {t("connection.retry")}
        </button>
      )}
    </div>
  );
}
