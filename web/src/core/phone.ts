/** A number as people write it in the international form, "+79001234567"; null when it is none. */
export function phoneOf(text: string): string | null {
  if (!/^[\s+\d().-]+$/.test(text)) return null;
  const digits = text.replace(/\D/g, "");
  // Within Russia numbers are dialled with an 8 in front.
  const whole = !text.trim().startsWith("+") && /^8\d{10}$/.test(digits) ? `7${digits.slice(1)}` : digits;
  return /^[1-9]\d{6,14}$/.test(whole) ? `+${whole}` : null;
}
