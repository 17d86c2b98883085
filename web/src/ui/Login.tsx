import { Button, Checkbox, PasswordInput, TextInput } from "@mantine/core";
import { type FormEvent, useRef, useState } from "react";
import { Rest, RestError, type Session } from "../core/rest";
import { usePrefs, useWords } from "./context";
import { Mark } from "./Mark";

interface Props {
  onSignedIn: (session: Session, stay: boolean) => void;
  expired: boolean;
}

export function Login({ onSignedIn, expired }: Props) {
  const { t } = useWords();
  const { prefs, setPrefs } = usePrefs();
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const [stay, setStay] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const passwordInput = useRef<HTMLInputElement>(null);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const rest = new Rest({ token: () => null, onSignedOut: () => undefined });
      onSignedIn(await rest.logIn(login.trim(), password), stay);
    } catch (e) {
      const status = e instanceof RestError ? e.status : -1;
      if (status === 0) setError(t("login.network"));
      else if (status === 401) setError(t("login.wrong"));
      else if (status === 429) setError(t("login.blocked"));
      else setError(t("login.failed", { detail: e instanceof RestError ? e.detail || String(status) : String(e) }));
      setBusy(false);
      passwordInput.current?.select();
    }
  };

  return (
    <main className="login">
      <form className="login-card" onSubmit={submit}>
        <div className="login-brand">
          <Mark size={44} />
          <div>
            <strong>{t("app.name")}</strong>
            <span>{t("app.tagline")}</span>
          </div>
        </div>
        <h1>{t("login.title")}</h1>
        {expired && !error && (
          <p className="login-note" role="status">
            {t("login.expired")}
          </p>
        )}
        <TextInput
          label={t("login.login")}
          name="login"
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus
          required
          withAsterisk={false}
          size="md"
          value={login}
          onChange={(e) => setLogin(e.currentTarget.value)}
        />
        <PasswordInput
          ref={passwordInput}
          label={t("login.password")}
          name="password"
          autoComplete="current-password"
          required
          withAsterisk={false}
          size="md"
          value={password}
          onChange={(e) => setPassword(e.currentTarget.value)}
        />
        <Checkbox label={t("login.stay")} checked={stay} onChange={(e) => setStay(e.currentTarget.checked)} />
        {error && (
          <p className="login-error" role="alert">
            {error}
          </p>
        )}
        <Button type="submit" size="md" fullWidth loading={busy}>
          {t("login.submit")}
        </Button>
      </form>
      <div className="login-languages">
        {(["ru", "en"] as const).map((language) => (
          <button
            key={language}
            type="button"
            lang={language}
            aria-pressed={prefs.language === language}
            onClick={() => setPrefs({ language })}
          >
            {language === "ru" ? "Русский" : "English"}
          </button>
        ))}
      </div>
    </main>
  );
}
