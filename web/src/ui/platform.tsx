import {
  IconBrandOkRu,
  IconBrandTelegram,
  IconBrandViber,
  IconBrandVk,
  IconBrandWhatsapp,
  IconMessage2,
} from "@tabler/icons-react";
import type { ComponentType } from "react";

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

export function Avatar({
  id,
  name,
  platform,
  size = 40,
}: {
  id: string;
  name: string;
  platform?: string;
  size?: number;
}) {
  return (
    <span className="avatar" data-hue={hue(id)} data-size={size}>
      {/* Drawn by the style sheet: a picture, not words that a name would have to contain. */}
      <span aria-hidden data-initials={initials(name)} />
      {platform && <PlatformIcon platform={platform} size={size >= 40 ? 12 : 10} />}
    </span>
  );
}
