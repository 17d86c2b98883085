/** What operators use: polite, cheerful, helpful. */
export const emoji: readonly string[] = [
  ..."🙂😀😄😊😉😍🤗🤔😅😂🙃😎😢😕😮🙈👍👎👌👏🙏🤝💪👋✌️❤️💙💚🔥✨🎉🎁⭐✅❌❗❓⏰📅📎📞📦🚚💳💰🏠🚗✈️☕🍰🌷☀️".matchAll(
    /\p{Extended_Pictographic}\ufe0f?/gu,
  ),
].map((m) => m[0]);
