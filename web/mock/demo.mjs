// Conversations for the mock server: one of everything that the desk shows.

const minute = 60_000;
const hour = 60 * minute;

export function fill(c, { png, wav, iso }) {
  const [anna, boris, admin] = c.operators;
  const out = (text, ago, more = {}) => ({
    direction: "out",
    text,
    created_at: iso(ago),
    status: "read",
    status_at: iso(ago),
    sender: { kind: "operator", id: anna.id, name: anna.name },
    ...more,
  });
  const say = (text, ago, more = {}) => ({ text, created_at: iso(ago), ...more });
  const read = (chat) => Object.assign(chat, { unread: 0, read_seq: chat.last_seq });

  const face = (colour) => `/files/${c.addFile("picture.png", "image/png", png(320, 320, colour))}`;

  // Telegram: the long one, with every kind.
  const maria = c.addChat("telegram", "Мария Ковалёва", {
    state: "open",
    operator_id: anna.id,
    age: 96 * hour,
    customer: {
      username: "mkovaleva",
      phone: "+79161234567",
      language: "ru",
      country: "RU",
      avatar: face([196, 120, 190]),
    },
  });
  c.addMessage(maria, { kind: "service", service: "started", created_at: iso(96 * hour) }, true);
  for (let i = 0; i < 160; i++) {
    const ago = 90 * hour - i * 12 * minute;
    c.addMessage(
      maria,
      i % 3 === 2
        ? out(`Ответ оператора № ${i}. Проверяем ваш заказ.`, ago)
        : say(`Вопрос № ${i}: подскажите, пожалуйста, где мой заказ?`, ago),
      true,
    );
  }
  c.addMessage(maria, say("Здравствуйте! Заказывала у вас лампу, пришла с трещиной 😕", 26 * hour), true);
  const photo = c.addFile("lampa.png", "image/png", png(960, 720, [226, 140, 90]), { width: 960, height: 720 });
  const cracked = c.addMessage(
    maria,
    {
      kind: "image",
      text: "Вот так выглядит",
      files: [c.fileInfo(photo, "image")],
      created_at: iso(26 * hour - minute),
    },
    true,
  );
  c.addMessage(
    maria,
    out("Здравствуйте, Мария! Очень жаль, что так вышло. Сейчас всё решим.", 26 * hour - 3 * minute),
    true,
  );
  c.addMessage(
    maria,
    out("Пришлите, пожалуйста, ещё пару снимков упаковки и номер заказа.", 26 * hour - 4 * minute, {
      reply_to: cracked.id,
    }),
    true,
  );
  const colours = [
    [90, 150, 220],
    [120, 190, 140],
    [200, 170, 90],
  ];
  for (const [i, colour] of colours.entries()) {
    const id = c.addFile(`upakovka-${i + 1}.png`, "image/png", png(600, 600, colour), { width: 600, height: 600 });
    c.addMessage(
      maria,
      { kind: "image", album: "a1", files: [c.fileInfo(id, "image")], created_at: iso(25 * hour) },
      true,
    );
  }
  const receipt = c.addFile("чек-48213.pdf", "application/pdf", Buffer.alloc(186_420, 1));
  c.addMessage(
    maria,
    { kind: "document", files: [c.fileInfo(receipt, "document")], created_at: iso(25 * hour - minute) },
    true,
  );
  const voice = c.addFile("voice.wav", "audio/wav", wav(4), { duration: 4 });
  c.addMessage(maria, { kind: "voice", files: [c.fileInfo(voice, "voice")], created_at: iso(3 * hour) }, true);
  c.addMessage(
    maria,
    {
      kind: "sticker",
      files: [{ id: "x", kind: "sticker", mime: "application/x-tgsticker", state: "ready", emoji: "🥺" }],
      created_at: iso(3 * hour - minute),
    },
    true,
  );
  c.addMessage(
    maria,
    out("Заменим лампу бесплатно. Куда привезти?", 2 * hour, {
      keyboard: {
        kind: "reply",
        rows: [
          [
            { text: "На прежний адрес", payload: "same" },
            { text: "На другой", payload: "other" },
          ],
          [{ text: "Отправить местоположение", action: "location" }],
        ],
      },
    }),
    true,
  );
  c.addMessage(
    maria,
    { kind: "button", button: { payload: "same", text: "На прежний адрес" }, created_at: iso(2 * hour - minute) },
    true,
  );
  c.addMessage(
    maria,
    {
      kind: "location",
      location: { lat: 55.75222, lon: 37.61556, title: "Дом", address: "Москва, Тверская, 7" },
      created_at: iso(2 * hour - 2 * minute),
    },
    true,
  );
  c.addMessage(
    maria,
    {
      kind: "contact",
      contact: { name: "Мария Ковалёва", phone: "+79161234567", own: true },
      created_at: iso(2 * hour - 3 * minute),
    },
    true,
  );
  c.addMessage(
    maria,
    out("Курьер будет завтра с 10 до 14. Трек: https://track.example.org/p/48213", 40 * minute, {
      status: "delivered",
      edited_at: iso(39 * minute),
    }),
    true,
  );
  c.addMessage(maria, out("Это сообщение отправлено по ошибке", 39 * minute, { deleted_at: iso(38 * minute) }), true);
  c.addMessage(
    maria,
    {
      kind: "forward",
      forwarded: [{ from: "Служба доставки", text: "Ваш заказ 48213 собран и ждёт курьера." }],
      created_at: iso(20 * minute),
    },
    true,
  );
  c.addMessage(maria, { kind: "unsupported", unsupported: "giveaway", created_at: iso(19 * minute) }, true);
  read(maria);
  c.addMessage(maria, say("Спасибо большое! А можно после обеда?", 4 * minute, { reply_to: null }), true);
  c.addMessage(maria, say("Часа в три было бы идеально 🙏", 3.5 * minute), true);

  const ivan = c.addChat("viber", "Ivan Petrov", {
    state: "open",
    operator_id: anna.id,
    age: 5 * hour,
    customer: { country: "BG", language: "en" },
  });
  c.addMessage(ivan, say("Hello, do you ship to Bulgaria?", 75 * minute), true);
  c.addMessage(ivan, out("Hello Ivan! Yes, we do. Delivery takes 3 to 5 working days.", 70 * minute), true);
  c.addMessage(
    ivan,
    out("The price is 6 € for parcels of up to 5 kg.", 69 * minute, {
      status: "failed",
      error: { kind: "recipient", code: "6", detail: "notSubscribed" },
    }),
    true,
  );
  read(ivan);

  const olga = c.addChat("vk", "Ольга Смирнова", {
    state: "open",
    operator_id: anna.id,
    age: 3 * hour,
    customer: { avatar: face([110, 170, 150]) },
  });
  c.addMessage(
    olga,
    say("Добрый день! Промокод WINTER не срабатывает, корзина показывает полную цену.", 12 * minute),
    true,
  );

  const sms = c.addChat("mfms", "+7 903 555-21-09", {
    state: "open",
    operator_id: anna.id,
    age: 30 * hour,
    customer: { phone: "+79035552109" },
  });
  c.addMessage(sms, say("Перезвоните мне", 31 * hour), true);
  c.addMessage(sms, out("Перезвонили, спасибо за обращение!", 30 * hour), true);
  read(sms);

  const waiting = [
    [
      "infobip",
      "Дмитрий Орлов",
      "Здравствуйте! Когда придёт возврат за заказ 51877? Обещали до пятницы.",
      7 * minute,
      "оплата",
    ],
    ["telegram", "Élodie Martin", "Bonjour, is anybody there?", 3 * minute],
    ["ok", "Галина Фёдоровна", "Дочка, помоги оформить заказ, не понимаю ничего 🙈", 70_000],
    ["vk", "Тимур Ахметов", "Хочу поменять размер", 20_000],
  ];
  for (const [platform, name, text, ago, skill] of waiting) {
    const chat = c.addChat(platform, name, { waits: ago, age: ago, skill });
    c.addMessage(chat, say(text, ago), true);
  }
  const offered = c.addChat("viber", "Сергей Никитин", { state: "offered", operator_id: anna.id, age: minute });
  offered.queued_at = iso(40_000);
  c.addMessage(offered, say("Мне нужен счёт на юрлицо", 40_000), true);

  const closed = c.addChat("telegram", "Павел Романов", {
    state: "closed",
    operator_id: anna.id,
    age: 80 * hour,
  });
  c.addMessage(closed, say("Всё получил, спасибо!", 50 * hour), true);
  c.addMessage(closed, out("Рады помочь!", 50 * hour - minute), true);
  Object.assign(read(closed), { state: "closed", operator_id: anna.id }); // the message had opened it again

  boris.presence = "online";
  admin.presence = "away";
}
