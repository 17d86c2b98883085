/** The name of a pressed key, the same in every keyboard layout: Cyrillic ones give their own letters. */
export function keyOf(event: Pick<KeyboardEvent, "key" | "code" | "shiftKey">): string {
  if (event.key.length !== 1) return event.key;
  if (event.key === "/" || event.key === "?") return event.key;
  if (/[a-z]/i.test(event.key)) return event.key.toLowerCase();
  if (/^Key[A-Z]$/.test(event.code)) return event.code.slice(3).toLowerCase();
  if (event.code === "Slash") return event.shiftKey ? "?" : "/";
  return event.key;
}
