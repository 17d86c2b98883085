import {
  IconChevronLeft,
  IconChevronRight,
  IconCopy,
  IconDownload,
  IconFile,
  IconFileAlert,
  IconFileMusic,
  IconFileTypePdf,
  IconFileZip,
  IconMapPin,
  IconPhoto,
  IconPlayerPlayFilled,
  IconShieldCheck,
  IconUser,
  IconX,
} from "@tabler/icons-react";
import { useEffect, useRef, useState } from "react";
import type { FileInfo, Kind, Message } from "../core/types";
import { useDesk, useFile, useWords } from "./context";
import { copy, failed } from "./toast";

export interface LightboxRequest {
  files: readonly FileInfo[];
  index: number;
}

/** Pictures up to this are fetched as soon as they come into sight, in bytes. */
const eager = 12 << 20;
/** Sound and video up to this are, too. */
const eagerMedia = 3 << 20;

interface FilesProps {
  files: readonly FileInfo[];
  kind: Kind;
  onOpen: (request: LightboxRequest) => void;
}

export function Files({ files, kind, onOpen }: FilesProps) {
  const pictures = files.filter((f) => f.kind === "image" && f.state === "ready");
  if (files.length > 1 && files.every((f) => f.kind === "image" || f.kind === "video")) {
    return (
      <div className="album" data-count={Math.min(files.length, 4)}>
        {files.map((file, i) =>
          file.kind === "image" && file.state === "ready" ? (
            <Picture
              key={file.id ?? i}
              file={file}
              square
              onOpen={() => onOpen({ files: pictures, index: pictures.indexOf(file) })}
            />
          ) : (
            <One key={file.id ?? i} file={file} kind={file.kind} onOpen={() => undefined} />
          ),
        )}
      </div>
    );
  }
  return files.map((file, i) => (
    <One
      key={file.id ?? i}
      file={file}
      kind={kind}
      onOpen={() => onOpen({ files: pictures, index: Math.max(0, pictures.indexOf(file)) })}
    />
  ));
}

function One({ file, kind, onOpen }: { file: FileInfo; kind: Kind; onOpen: () => void }) {
  const { t } = useWords();
  if (file.state !== "ready" || !file.id) {
    const label =
      file.state === "pending" ? "file.pending" : file.state === "too_large" ? "file.tooLarge" : "file.failed";
    return (
      <div className="file" data-state={file.state}>
        <span className="file-icon">
          {file.state === "pending" ? <IconPhoto size={20} aria-hidden /> : <IconFileAlert size={20} aria-hidden />}
        </span>
        <span className="file-body">
          <strong>{file.name || t(`kind.${file.kind}`)}</strong>
          <small>{t(label)}</small>
        </span>
      </div>
    );
  }
  switch (file.kind) {
    case "image":
      return <Picture file={file} onOpen={onOpen} />;
    case "video":
      return <Player file={file} video />;
    case "audio":
    case "voice":
      return <Player file={file} />;
    case "sticker":
      return <Sticker file={file} />;
    default:
      return kind === "sticker" ? <Sticker file={file} /> : <Document file={file} />;
  }
}

/** The box of a picture before it is there, so that nothing jumps when it comes. */
function boxOf(file: FileInfo): { width: number; height: number } {
  const most = { width: 320, height: 340 };
  if (!file.width || !file.height) return { width: 260, height: 195 };
  const scale = Math.min(1, most.width / file.width, most.height / file.height);
  return { width: Math.max(90, Math.round(file.width * scale)), height: Math.max(60, Math.round(file.height * scale)) };
}

function Picture({ file, square, onOpen }: { file: FileInfo; square?: boolean; onOpen: () => void }) {
  const words = useWords();
  const { t } = words;
  const [wanted, setWanted] = useState((file.size ?? 0) <= eager);
  const { url, failed: broken, retry } = useFile(file.id, wanted);
  const name = file.name || t("kind.image");
  const box = square ? undefined : boxOf(file);
  if (broken) {
    return (
      <button type="button" className="picture" style={box} onClick={retry}>
        <span className="picture-note">
          <IconFileAlert size={22} aria-hidden />
          {t("file.error")}. {t("history.retry")}
        </span>
      </button>
    );
  }
  return (
    <button
      type="button"
      className="picture"
      style={box}
      aria-label={t("file.open", { name })}
      onClick={() => (wanted ? onOpen() : setWanted(true))}
    >
      {url ? (
        <img src={url} alt={name} draggable={false} />
      ) : (
        <span className="picture-note">
          <IconPhoto size={24} stroke={1.4} aria-hidden />
          {!wanted && words.size(file.size ?? 0)}
        </span>
      )}
    </button>
  );
}

function Sticker({ file }: { file: FileInfo }) {
  const { t } = useWords();
  const still = file.mime?.startsWith("image/");
  const moving = file.mime === "video/webm" || file.mime === "video/mp4";
  const { url } = useFile(file.id, still || moving);
  const label = [file.emoji, t("kind.sticker")].filter(Boolean).join(" ");
  if (still) return <span className="sticker">{url && <img src={url} alt={label} />}</span>;
  if (moving) {
    return (
      <span className="sticker">{url && <video src={url} autoPlay loop muted playsInline aria-label={label} />}</span>
    );
  }
  // Vector animations of some messengers: their emoji says what they mean.
  return (
    <span className="sticker" data-emoji="" role="img" aria-label={label}>
      {file.emoji || "🙂"}
      <small>{t("file.animated")}</small>
    </span>
  );
}

function Player({ file, video }: { file: FileInfo; video?: boolean }) {
  const words = useWords();
  const { t } = words;
  const [wanted, setWanted] = useState(!video && (file.size ?? 0) <= eagerMedia);
  const [asked, setAsked] = useState(false);
  const { url, failed: broken, retry } = useFile(file.id, wanted);
  const name = file.name || t(`kind.${file.kind}`);
  if (broken) {
    return (
      <button type="button" className="file" onClick={retry}>
        <span className="file-icon">
          <IconFileAlert size={20} aria-hidden />
        </span>
        <span className="file-body">
          <strong>{name}</strong>
          <small>
            {t("file.error")}. {t("history.retry")}
          </small>
        </span>
      </button>
    );
  }
  if (video) {
    const box = boxOf(file);
    return url ? (
      <video className="video" src={url} controls autoPlay={asked} playsInline style={box} aria-label={name} />
    ) : (
      <button
        type="button"
        className="picture"
        data-dark=""
        style={box}
        aria-label={`${t("file.load", { size: words.size(file.size ?? 0) })}: ${name}`}
        onClick={() => {
          setAsked(true);
          setWanted(true);
        }}
      >
        <span className="play" data-busy={wanted ? "" : undefined}>
          <IconPlayerPlayFilled size={22} aria-hidden />
        </span>
        <span className="picture-tag">
          {file.duration ? `${duration(file.duration)} · ` : ""}
          {words.size(file.size ?? 0)}
        </span>
      </button>
    );
  }
  return (
    <div className="audio">
      {file.kind === "audio" && (
        <span className="audio-name">
          <IconFileMusic size={16} aria-hidden /> {name}
        </span>
      )}
      {url ? (
        <audio src={url} controls autoPlay={asked} preload="metadata" aria-label={name} />
      ) : (
        <button
          type="button"
          className="audio-load"
          aria-label={`${t("file.play")}: ${name}`}
          onClick={() => {
            setAsked(true);
            setWanted(true);
          }}
        >
          <IconPlayerPlayFilled size={16} aria-hidden />
          {file.duration ? duration(file.duration) : words.size(file.size ?? 0)}
        </button>
      )}
    </div>
  );
}

function duration(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function Document({ file }: { file: FileInfo }) {
  const desk = useDesk();
  const words = useWords();
  const { t } = words;
  const [busy, setBusy] = useState(false);
  const name = file.name || t("file.untitled");
  const ending = name.includes(".") ? (name.split(".").at(-1) ?? "").toLowerCase() : "";
  const Icon =
    ending === "pdf" ? IconFileTypePdf : ["zip", "rar", "7z", "gz"].includes(ending) ? IconFileZip : IconFile;
  const download = async () => {
    if (!file.id) return;
    setBusy(true);
    try {
      // Not through the cache: a large document would push all pictures out.
      const url = URL.createObjectURL(await desk.rest.file(file.id));
      const link = document.createElement("a");
      link.href = url;
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (e) {
      failed(words, e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button"
      className="file"
      data-busy={busy ? "" : undefined}
      aria-label={t("file.download", { name })}
      onClick={download}
    >
      <span className="file-icon">
        <Icon size={20} stroke={1.6} aria-hidden />
      </span>
      <span className="file-body">
        <strong>{name}</strong>
        <small>{[file.size ? words.size(file.size) : "", ending.toUpperCase()].filter(Boolean).join(" · ")}</small>
      </span>
      <IconDownload className="file-get" size={18} aria-hidden />
    </button>
  );
}

export function ContactCard({ contact }: { contact: NonNullable<Message["contact"]> }) {
  const words = useWords();
  const { t } = words;
  return (
    <div className="card">
      <span className="card-icon">
        <IconUser size={19} aria-hidden />
      </span>
      <span className="card-body">
        <strong>{contact.name || t("chat.unknown")}</strong>
        <span>{contact.phone}</span>
        {contact.own && (
          <small>
            <IconShieldCheck size={13} aria-hidden /> {t("contact.own")}
          </small>
        )}
      </span>
      <button
        type="button"
        className="card-action"
        aria-label={t("contact.copy")}
        title={t("contact.copy")}
        onClick={() => void copy(words, contact.phone)}
      >
        <IconCopy size={16} aria-hidden />
      </button>
    </div>
  );
}

export function LocationCard({ location }: { location: NonNullable<Message["location"]> }) {
  const words = useWords();
  const { t } = words;
  const coordinates = `${location.lat.toFixed(5)}, ${location.lon.toFixed(5)}`;
  return (
    <div className="card">
      <span className="card-icon" data-kind="place">
        <IconMapPin size={19} aria-hidden />
      </span>
      <span className="card-body">
        <strong>{location.title || t(location.live ? "location.live" : "kind.location")}</strong>
        {location.address && <span>{location.address}</span>}
        <a href={`geo:${location.lat},${location.lon}`} title={t("location.open")}>
          {coordinates}
        </a>
      </span>
      <button
        type="button"
        className="card-action"
        aria-label={t("location.copy")}
        title={t("location.copy")}
        onClick={() => void copy(words, coordinates)}
      >
        <IconCopy size={16} aria-hidden />
      </button>
    </div>
  );
}

export function Lightbox({ request, onClose }: { request: LightboxRequest; onClose: () => void }) {
  const { t } = useWords();
  const dialog = useRef<HTMLDialogElement>(null);
  const [index, setIndex] = useState(request.index);
  const file = request.files[index];
  const { url } = useFile(file?.id);
  const count = request.files.length;
  useEffect(() => dialog.current?.showModal(), []);
  const step = (by: number) => setIndex((i) => (i + by + count) % count);
  const name = file?.name || t("kind.image");
  return (
    <dialog
      ref={dialog}
      className="lightbox"
      aria-label={name}
      onClose={onClose}
      onClick={(e) => {
        if (e.target === e.currentTarget || (e.target as HTMLElement).matches(".lightbox-stage"))
          dialog.current?.close();
      }}
      onKeyDown={(e) => {
        if (count > 1 && e.key === "ArrowRight") step(1);
        if (count > 1 && e.key === "ArrowLeft") step(-1);
      }}
    >
      <div className="lightbox-bar">
        <span>
          {name}
          {count > 1 && ` · ${index + 1} / ${count}`}
        </span>
        {url && (
          <a href={url} download={name} aria-label={t("file.download", { name })} title={t("file.download", { name })}>
            <IconDownload size={20} aria-hidden />
          </a>
        )}
        <button type="button" aria-label={t("file.close")} onClick={() => dialog.current?.close()}>
          <IconX size={22} aria-hidden />
        </button>
      </div>
      <div className="lightbox-stage">{url && <img src={url} alt={name} />}</div>
      {count > 1 && (
        <>
          <button
            type="button"
            className="lightbox-step"
            data-side="left"
            aria-label={t("file.previous")}
            onClick={() => step(-1)}
          >
            <IconChevronLeft size={26} aria-hidden />
          </button>
          <button
            type="button"
            className="lightbox-step"
            data-side="right"
            aria-label={t("file.next")}
            onClick={() => step(1)}
          >
            <IconChevronRight size={26} aria-hidden />
          </button>
        </>
      )}
    </dialog>
  );
}
