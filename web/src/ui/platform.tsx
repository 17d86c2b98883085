import {
  IconBrandOkRu,
  IconBrandTelegram,
  IconBrandViber,
  IconBrandVk,
  IconBrandWhatsapp,
  IconMessage2,
} from "@tabler/icons-react";
import { type ComponentType, useState } from "react";
import { ownFile } from "../core/files";
import { useFile, useSeen } from "./context";

interface PlatformLook {
  name: string;
  icon: ComponentType<{ size?: number; stroke?: number; "aria-hidden"?: boolean }>;
}

const looks: Record<string, PlatformLook> = {
  telegram: { name: "Telegram", icon: IconBrandTelegram },
  viber: { name: "Viber", icon: IconBrandViber },
  vk: { name: "VK", icon: IconBrandVk },
  ok: { name: "OK", icon: IconBrandOkRu },
  whatsapp: { name: "WhatsApp", icon: IconBrandWhatsapp },
  infobip: { name: "WhatsApp · Infobip", icon: IconBrandWhatsapp },
  mfms: { name: "WhatsApp · MFMS", icon: IconBrandWhatsapp },
  sms: { name: "SMS", icon: IconMessage2 },
};

export const platforms = ["telegram", "viber", "vk", "ok", "infobip", "mfms"];

export function platformName(platform: string): string {
  return looks[platform]?.name ?? platform;
}

export function PlatformIcon({ platform, size = 14 }: { platform: string; size?: number }) {
  const Icon = looks[platform]?.icon ?? IconMessage2;
  return (
    <span
      className="platform"
      data-platform={platform}
      role="img"
      aria-label={platformName(platform)}
      title={platformName(platform)}
    >
      <Icon size={size} stroke={2} aria-hidden />
    </span>
  );
}

/** The first letters of a name. */
export function initials(name: string): string {
  const words = name.split(/\s+/).filter((w) => /[\p{L}\p{N}]/u.test(w));
  const letters = words.slice(0, 2).map((w) => [...w].find((c) => /[\p{L}\p{N}]/u.test(c)) ?? "");
  return letters.join("").toUpperCase() || "?";
}

function hue(id: string): number {
  let h = 0;
  for (let i = 0; i < id.length; i++) h = (h * 31 + id.charCodeAt(i)) >>> 0;
  return h % 8;
}

/** A picture that lies over the initials once it is here. */
function Portrait({ file }: { file: string }) {
  const [ref, seen] = useSeen<HTMLImageElement>();
  const { url } = useFile(file, seen);
  const [state, setState] = useState<"ready" | "broken">();
  if (state === "broken") return null;
  return (
    <img
      ref={ref}
      src={url ?? undefined}
      alt=""
      draggable={false}
      decoding="async"
      data-state={state}
      onLoad={() => setState("ready")}
      onError={() => setState("broken")}
    />
  );
}

export function Avatar({
  id,
  name,
  picture,
  platform,
  size = 40,
}: {
  id: string;
  name: string;
  /** An address as customers have it; only ours is shown. */
  picture?: string;
  platform?: string;
  size?: number;
}) {
  const file = ownFile(picture);
  return (
    <span className="avatar" data-hue={hue(id)} data-size={size}>
      {/* Drawn by the style sheet: a picture, not words that a name would have to contain. */}
      <span aria-hidden data-initials={initials(name)} />
      {file && <Portrait key={file} file={file} />}
      {platform && <PlatformIcon platform={platform} size={size >= 40 ? 12 : 10} />}
    </span>
  );
}
