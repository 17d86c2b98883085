// The desk against the mock server.
import { png, start } from "../mock/server.mjs";
import { accessibility, equal, ok, until } from "./harness.mjs";

async function serve(cleanup, options) {
  const server = await start(options);
  cleanup(() => server.stop());
  return server;
}

async function signIn(page, server, login = "anna") {
  await page.goto(server.url);
  await page.fill("input[name=login]", login);
  await page.fill("input[name=password]", "demo");
  await page.click("button[type=submit]");
  await page.waitForSelector(".sidebar");
}

const line = (page, name) => page.locator(".line", { hasText: name });
const openChat = async (page, name) => {
  await line(page, name).locator(".line-open").click();
  await page.waitForSelector(".history-row");
};
const bubbles = (page) => page.locator(".message .bubble .text").allTextContents();
const say = async (page, text) => {
  await page.fill("#composer", text);
  await page.press("#composer", "Enter");
};
const status = (page, text) =>
  page.locator(".message", { hasText: text }).locator(".status").first().getAttribute("data-status");

/** An operator with one open chat of n messages. */
async function oneChat(cleanup, n = 3, platform = "telegram") {
  const server = await serve(cleanup, { demo: false });
  const anna = server.operators[0];
  const chat = server.addChat(platform, "Maria", { state: "open", operator_id: anna.id });
  for (let i = 1; i <= n; i++) server.addMessage(chat, { text: `message ${i}` }, true);
  Object.assign(chat, { unread: 0, read_seq: n });
  return { server, chat, anna };
}

export async function mockTests(t) {
  await t.test("signing in, staying signed in over a reload, signing out", async (page, cleanup) => {
    const server = await serve(cleanup);
    await page.goto(server.url);
    await page.fill("input[name=login]", "anna");
    await page.fill("input[name=password]", "wrong");
    await page.press("input[name=password]", "Enter");
    await page.waitForSelector("[role=alert]:has-text('Wrong login or password')");
    await page.fill("input[name=password]", "demo");
    await page.press("input[name=password]", "Enter");
    await page.waitForSelector(".line");
    equal(
      await page.evaluate(() => [localStorage.getItem("switchboard.session"), sessionStorage.length]),
      [null, 1],
      "token",
    );
    await page.reload();
    await page.waitForSelector(".line");
    await page.click(".account-button");
    await page.click("[role=menuitem]:has-text('Sign out')");
    await page.waitForSelector("input[name=login]");
    equal(await page.evaluate(() => sessionStorage.length), 0, "token after signing out");
    await page.reload();
    await page.waitForSelector("input[name=login]");
  });

  await t.test("taking a chat from the queue, answering, and the way of the answer", async (page, cleanup) => {
    const server = await serve(cleanup);
    await signIn(page, server);
    await page.click("#tab-queue");
    equal(await line(page, "Сергей Никитин").locator(".tag").first().textContent(), "Offered to you", "offered first");
    await line(page, "Дмитрий Орлов").locator(".line-accept").click();
    await page.waitForSelector(".chat-head h2:has-text('Дмитрий Орлов')");
    await page.waitForSelector("#composer");
    await say(page, "Good afternoon!");
    await until(async () => (await status(page, "Good afternoon!")) === "read", "the answer is read");
    equal((await bubbles(page)).filter((b) => b === "Good afternoon!").length, 1, "copies of the answer");
    equal(await page.inputValue("#composer"), "", "the field");
    const chat = [...server.chats.values()].find((c) => c.customer.name === "Дмитрий Орлов");
    server.typing(chat);
    await page.waitForSelector(".chat-who .typing");
    server.addMessage(chat, { text: "Thank you, that helps" });
    await page.waitForSelector(".message:has-text('that helps')");
    await until(async () => chat.unread === 0, "the chat is marked as read");
    equal(await page.locator(".chat-who .typing").count(), 0, "the typing sign");
  });

  await t.test("what arrives: unread counts, the title, the line above new messages", async (page, cleanup) => {
    const { server, chat, anna } = await oneChat(cleanup);
    const other = server.addChat("viber", "Ivan", { state: "open", operator_id: anna.id });
    await signIn(page, server);
    await openChat(page, "Maria");
    server.addMessage(other, { text: "one" });
    server.addMessage(other, { text: "two" });
    await page.waitForSelector(".line:has-text('Ivan') .unread:has-text('2')");
    await until(async () => (await page.title()) === "(2) Switchboard", "the title");
    await openChat(page, "Ivan");
    await page.waitForSelector(".new-line");
    await until(async () => other.unread === 0, "read");
    await until(async () => (await page.title()) === "Switchboard", "the title afterwards");
    ok(chat.unread === 0, "the other chat is untouched");
    server.addChat("vk", "Newcomer");
    const newcomer = [...server.chats.values()].at(-1);
    server.addMessage(newcomer, { text: "hello?" }, true);
    server.offer(newcomer);
    await page.waitForSelector("#tab-queue .count:has-text('1')");
  });

  await t.test("a cut connection: what was missed comes, what was written goes, once", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    server.refuse(1013);
    server.cut(0);
    await until(() => server.connections() === 0, "cut");
    await say(page, "written without a connection");
    await page.waitForSelector(".bubble[data-pending]:has-text('written without')");
    await page.waitForSelector(".banner");
    server.addMessage(chat, { text: "missed 1" });
    server.addMessage(chat, { text: "missed 2" });
    server.refuse(null);
    await page.evaluate(() => window.dispatchEvent(new Event("online")));
    await page.waitForSelector(".message:has-text('missed 2')");
    await until(async () => (await status(page, "written without")) === "sent", "sent");
    const texts = (await bubbles(page)).slice(-3);
    equal(texts, ["missed 1", "missed 2", "written without a connection"], "the history");
    await page.waitForSelector(".banner", { state: "detached" });
  });

  await t.test("unsent messages survive a reload and are sent once", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    server.mute(true);
    await say(page, "first");
    await say(page, "second");
    await page.fill("#composer", "a draft");
    equal(await page.locator(".bubble[data-pending]").count(), 2, "waiting");
    await page.reload();
    server.mute(false);
    server.cut(0);
    await openChat(page, "Maria");
    equal(await page.inputValue("#composer"), "a draft", "the draft");
    await until(async () => (await status(page, "second")) === "sent", "sent");
    equal(await bubbles(page), ["message 1", "message 2", "message 3", "first", "second"], "the history");
    equal(chat.last_seq, 5, "messages on the server");
    equal(await page.evaluate(() => Object.keys(localStorage).filter((k) => k.includes("outbox"))), [], "the outbox");
  });

  await t.test("close codes: restart, too slow, replaced, signed out", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    for (const code of [1012, 4408]) {
      server.cut(code);
      await until(() => server.connections() === 0, `${code}: closed`);
      server.addMessage(chat, { text: `after ${code}` });
      await page.waitForSelector(`.message:has-text('after ${code}')`);
      // A connection counts as good after five seconds; two quick losses back off.
    }
    await until(() => server.connections() === 1, "connected");
    server.cut(4409);
    await page.waitForSelector(".banner[data-kind=replaced]");
    server.addMessage(chat, { text: "in the other window" });
    equal(server.connections(), 0, "connections while replaced");
    await page.click(".banner-action");
    await page.waitForSelector(".message:has-text('in the other window')");
    await page.waitForSelector(".banner", { state: "detached" });
    server.cut(4401);
    await page.waitForSelector("input[name=login]");
    await page.waitForSelector("[role=status]:has-text('session has ended')");
  });

  await t.test("a long history: only what is seen is in the page, and nothing jumps", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup, 3000);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.waitForSelector(".message:has-text('message 3000')");
    const scroll = (y) => page.locator(".history-scroll").evaluate((el, y) => el.scrollTo(0, y), y);
    // The text and place of the first message in sight.
    const top = () =>
      page.evaluate(() => {
        const box = document.querySelector(".history-scroll").getBoundingClientRect();
        for (const m of document.querySelectorAll(".message")) {
          const r = m.getBoundingClientRect();
          if (r.top >= box.top + 60) return [m.querySelector(".text").textContent, Math.round(r.top)];
        }
      });
    /** When sizes that were estimated have been measured, and nothing moves any more. */
    const settled = async () => {
      let last = "";
      await until(async () => {
        const now = await page.evaluate(
          () =>
            new Promise((done) =>
              requestAnimationFrame(() =>
                requestAnimationFrame(() => {
                  const el = document.querySelector(".history-scroll");
                  done(`${el.scrollTop} ${el.scrollHeight}`);
                }),
              ),
            ),
        );
        const same = now === last;
        last = now;
        return same;
      }, "settled");
    };
    const height = () => page.locator(".history-rows").evaluate((el) => el.offsetHeight);
    for (let i = 0; i < 6; i++) {
      await scroll(1300); // older messages are fetched nearer to the top than this
      await settled();
      const [text, at] = await top();
      const tall = await height();
      const by = await page.locator(".history-scroll").evaluate((el) => {
        const by = el.scrollTop - 700;
        el.scrollBy(0, -by);
        return by;
      });
      await until(async () => (await height()) > tall + 1000, "older messages");
      await settled();
      const place = await page
        .locator(".message", { has: page.locator(`text="${text}"`) })
        .evaluate((el) => el.getBoundingClientRect().top);
      ok(Math.abs(place - at - by) < 30, `${text} went from ${at} to ${place}, and not ${by} down`);
    }
    ok((await page.locator(".history-row").count()) < 120, "rows in the page");
    await page.click(".to-end");
    await page.waitForSelector(".message:has-text('message 3000')");
    // While reading above, a new message does not pull the page down.
    await scroll(1500);
    await page.waitForSelector(".to-end");
    await settled();
    const reading = await top();
    server.addMessage(chat, { text: "just in" });
    await page.waitForSelector(".to-end .unread");
    equal(await top(), reading, "the place while reading");
    await page.click(".to-end");
    await page.waitForSelector(".message:has-text('just in')");
  });

  await t.test("the history goes back to its beginning", async (page, cleanup) => {
    const { server } = await oneChat(cleanup, 400);
    await signIn(page, server);
    await openChat(page, "Maria");
    await until(async () => {
      await page.locator(".history-scroll").evaluate((el) => el.scrollTo(0, 0));
      return page.locator(".history-top:has-text('The conversation begins here')").isVisible();
    }, "the beginning");
    await page.waitForSelector(".message:has(.text:text-is('message 1'))");
  });

  await t.test("quotes lead to their message, also one that is not loaded", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup, 300);
    const first = server.chats.get(chat.id);
    ok(first, "chat");
    const target = await fetchMessage(server, chat, 20);
    server.addMessage(chat, { text: "about that", reply_to: target }, true);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.click(".message:has-text('about that') .quote");
    await page.waitForSelector(".message[data-highlight]:has-text('message 20')");
    await until(
      () =>
        page.locator(".message[data-highlight]").evaluate((el) => {
          const r = el.getBoundingClientRect();
          return r.top > 60 && r.bottom < innerHeight - 90;
        }),
      "in sight",
    );
  });

  await t.test("files: attached, shown with progress, sent, opened", async (page, cleanup) => {
    const { server } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.setInputFiles(".composer input[type=file]", [
      { name: "photo.png", mimeType: "image/png", buffer: png(64, 48, [200, 80, 80]) },
      { name: "contract.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(2048, 1) },
    ]);
    await page.waitForSelector(".chip:has-text('contract.pdf')[data-state=ready]");
    await page.waitForSelector(".chip:has-text('photo.png')[data-state=ready]");
    await say(page, "both");
    await page.waitForSelector(".message .file:has-text('contract.pdf')");
    const picture = page.locator(".message .picture img");
    await picture.waitFor();
    await until(() => picture.evaluate((img) => img.complete && img.naturalWidth === 64), "the picture");
    await page.click(".message .picture");
    await page.waitForSelector("dialog[open] img");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(".message .file")]);
    equal(download.suggestedFilename(), "contract.pdf", "the name");
    await page.setInputFiles(".composer input[type=file]", [
      { name: "huge.png", mimeType: "image/png", buffer: Buffer.alloc((10 << 20) + 1) },
    ]);
    await page.waitForSelector(
      ".mantine-Notification-root:has-text('huge.png is 10 MB; the channel takes up to 10 MB')",
    );
    equal(await page.locator(".chip").count(), 0, "attachments");
  });

  await t.test("a file may be pasted", async (page, cleanup) => {
    const { server } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.locator("#composer").evaluate((el) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array([1, 2, 3])], "pasted.txt", { type: "text/plain" }));
      el.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    });
    await page.waitForSelector(".chip:has-text('pasted.txt')[data-state=ready]");
  });

  await t.test("editing, deleting, replying, and what a channel can't do", async (page, cleanup) => {
    const { server } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await say(page, "Helo");
    await until(async () => (await status(page, "Helo")) === "sent", "sent");
    await page.fill("#composer", "");
    await page.press("#composer", "ArrowUp");
    await page.waitForSelector(".context:has-text('Editing')");
    equal(await page.inputValue("#composer"), "Helo", "the text to edit");
    await say(page, "Hello");
    await page.waitForSelector(".message:has-text('Hello') .meta:has-text('edited')");
    await page.hover(".message:has-text('message 2')");
    await page.click(".message:has-text('message 2') [aria-label='Reply']");
    // Each step moves the focus a moment later: a key pressed before goes astray.
    const inField = (yes) =>
      until(
        async () => (await page.evaluate(() => document.activeElement?.id === "composer")) === yes,
        `the field ${yes ? "has" : "has not"} the focus`,
      );
    await page.waitForSelector(".context:has-text('Reply to Maria')");
    await inField(true);
    await page.press("#composer", "Escape");
    await page.waitForSelector(".context", { state: "detached" });
    await inField(true);
    await page.keyboard.press("Escape");
    await inField(false);
    await page.keyboard.press("r");
    await page.waitForSelector(".context:has-text('message 3')");
    await until(() => page.evaluate(() => document.activeElement?.id === "composer"), "the field has the focus");
    await say(page, "answered");
    await page.waitForSelector(".message:has-text('answered') .quote:has-text('message 3')");
    await page.hover(".message:has-text('answered')");
    await page.click(".message:has-text('answered') [aria-label='Actions for the message']");
    await page.click("[role=menuitem]:has-text('Delete')");
    await page.click("[role=dialog] button:has-text('Delete')");
    await page.waitForSelector(".message .gone");
    // Viber can neither reply nor edit.
    const viber = server.addChat("viber", "Ivan", { state: "open", operator_id: server.operators[0].id });
    server.addMessage(viber, { text: "from viber" });
    await openChat(page, "Ivan");
    await page.hover(".message:has-text('from viber')");
    await until(
      async () => (await page.locator(".message:has-text('from viber') [aria-label='Reply']").count()) === 0,
      "no reply",
    );
    await page.click(".message:has-text('from viber') [aria-label='Actions for the message']");
    ok(await page.locator("[role=menuitem]:has-text('can\\'t reply')").isDisabled(), "the reason is told");
  });

  await t.test("a message that does not arrive tells why, and can be sent again", async (page, cleanup) => {
    const { server } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await say(page, "this will fail");
    await page.waitForSelector(".failure:has-text('they blocked the account')");
    await page.click(".failure button:has-text('Send again')");
    await until(async () => (await page.locator(".message:has-text('this will fail')").count()) === 2, "once more");
    await page.hover(".message:has-text('this will fail') >> nth=0");
    await page
      .locator(".message:has-text('this will fail')")
      .first()
      .locator("[aria-label='Actions for the message']")
      .click();
    await page.click("[role=menuitem]:has-text('What happened')");
    await page.waitForSelector(".timeline li[data-what=failed]");
  });

  await t.test("the keyboard alone", async (page, cleanup) => {
    const server = await serve(cleanup);
    await signIn(page, server);
    await page.waitForSelector(".line");
    await page.keyboard.press("2");
    await page.waitForSelector("#tab-queue[aria-selected=true]");
    await page.keyboard.press("n");
    await page.waitForSelector("#tab-mine[aria-selected=true]");
    await page.waitForSelector(".chat-head h2:has-text('Сергей Никитин')");
    await until(() => page.evaluate(() => document.activeElement?.id === "composer"), "ready to write");
    await page.keyboard.type("On it");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("one moment");
    await page.keyboard.press("Control+Enter");
    await page.waitForSelector(".message:has-text('On it')");
    equal((await bubbles(page)).at(-1), "On it\none moment", "two lines");
    const name = () => page.locator(".chat-head h2").textContent();
    const here = await name();
    await page.keyboard.press("Alt+ArrowDown");
    await until(async () => (await name()) !== here, "the next chat");
    await page.keyboard.press("Alt+ArrowUp");
    await until(async () => (await name()) === here, "and back");
    await page.keyboard.press("Escape");
    // The letters of a Cyrillic layout.
    await page.evaluate(() =>
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "о", code: "KeyJ", bubbles: true })),
    );
    await until(async () => (await name()) !== here, "j in Russian");
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("ольга");
    await until(async () => (await page.locator(".line").count()) === 1, "found");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".chat-head h2:has-text('Ольга')");
    equal(await page.inputValue("#composer"), "", "the field after Enter in the search");
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.waitForSelector("[role=dialog]:has-text('Keyboard shortcuts')");
    await page.keyboard.press("Escape");
    await page.waitForSelector("[role=dialog]", { state: "detached" });
    await page.keyboard.press("x");
    await page.waitForSelector("[role=dialog]:has-text('Close this chat?')");
    await until(
      () => page.evaluate(() => document.activeElement?.textContent === "Close chat"),
      "the focus on the answer",
    );
    await page.keyboard.press("Enter");
    await page.waitForSelector(".nothing");
    equal([...server.chats.values()].find((c) => c.customer.name.startsWith("Ольга")).state, "closed", "the chat");
  });

  await t.test("buttons for the customer, by keys alone", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.press("#composer", "Alt+k");
    await page.waitForSelector("[role=dialog] textarea:focus");
    await page.keyboard.type("Yes | No");
    await page.keyboard.press("Enter");
    await page.keyboard.type("Prices https://example.org/prices");
    await accessibility(page, "buttons");
    await page.keyboard.press("Control+Enter");
    await page.waitForSelector(".context:has-text('Yes · No · Prices')");
    await until(() => page.evaluate(() => document.activeElement?.id === "composer"), "the field has the focus again");
    await page.keyboard.type("Is it all right?");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".message[data-side=out] .keyboard");
    await until(async () => ["sent", "read"].includes(await status(page, "Is it all right?")), "sent");
    equal(
      chat.last_message.keyboard,
      {
        kind: "reply",
        rows: [
          [
            { text: "Yes", payload: "Yes" },
            { text: "No", payload: "No" },
          ],
          [{ text: "Prices", action: "url", url: "https://example.org/prices" }],
        ],
        once: true,
      },
      "the keyboard",
    );
    equal(await page.locator(".context").count(), 0, "the next message has none");
  });

  await t.test("starting a chat: by name, by phone, and a closed one again", async (page, cleanup) => {
    const { server, anna } = await oneChat(cleanup);
    const phone = "+79001234567";
    const closed = server.addChat("viber", "Pavel", { state: "closed", customer: { phone } });
    server.addMessage(closed, { text: "thank you" }, true);
    closed.state = "closed";
    await signIn(page, server);
    await page.keyboard.press("c");
    await page.waitForSelector("[role=dialog] input:focus");
    await page.keyboard.type("8 (900) 123-45-67");
    // An operator doesn't see others' closed chats; the server finds the number.
    const found = page.locator(".people button", { hasText: `Write to ${phone}` });
    await found.nth(5).waitFor();
    await accessibility(page, "starting a chat");
    await page.keyboard.press("Enter"); // which channel is for the operator to say
    await found.filter({ hasText: "Viber" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForSelector(".chat-head h2:has-text('Pavel')");
    equal([closed.state, closed.operator_id], ["open", anna.id], "the chat");
    await page.waitForSelector("#composer:focus");
    await page.waitForSelector("[role=dialog]", { state: "detached" });
    await page.keyboard.press("Escape");
    await page.keyboard.press("c");
    await page.waitForSelector("[role=dialog] input:focus");
    await page.keyboard.type("mar");
    await page.waitForSelector(".people button:has-text('Maria')");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".chat-head h2:has-text('Maria')");
  });

  await t.test("handing a chat over", async (page, cleanup) => {
    const { server, chat } = await oneChat(cleanup);
    await signIn(page, server);
    await openChat(page, "Maria");
    await page.click(".chat-actions button:has-text('Transfer')");
    await page.click(".people button:has-text('Борис')");
    await page.waitForSelector(".nothing");
    equal(chat.operator_id, server.operators[1].id, "the operator");
    equal(await page.locator(".line").count(), 0, "own chats");
  });

  await t.test("somebody faster: the queue says so and goes on", async (page, cleanup) => {
    const server = await serve(cleanup, { demo: false });
    const chat = server.addChat("telegram", "Wanted");
    server.addMessage(chat, { text: "hello" }, true);
    await signIn(page, server, "boris");
    await page.click("#tab-queue");
    await line(page, "Wanted").waitFor();
    Object.assign(chat, { state: "open", operator_id: server.operators[0].id }); // the event is still on its way
    await line(page, "Wanted").locator(".line-accept").click();
    await page.waitForSelector(".mantine-Notification-root:has-text('Somebody was faster')");
  });

  await t.test("what customers write is text and nothing else", async (page, cleanup) => {
    const server = await serve(cleanup, { demo: false });
    const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
    const chat = server.addChat("telegram", evil, { state: "open", operator_id: server.operators[0].id });
    server.addMessage(chat, { text: `${evil} javascript:alert(1) https://example.org/?q=<b>` }, true);
    server.addMessage(chat, { kind: "unsupported", unsupported: evil }, true);
    server.addMessage(chat, { kind: "forward", forwarded: [{ from: evil, text: evil }] }, true);
    await signIn(page, server);
    await page.locator(".line-open").click();
    await page.waitForSelector(".bubble .text");
    equal(
      await page.evaluate(() => [
        window.pwned ?? null,
        document.querySelectorAll(".history img, .history script").length,
      ]),
      [null, 0],
      "nothing ran",
    );
    equal(
      await page.locator(".bubble a").evaluateAll((links) => links.map((a) => [a.href, a.rel.includes("noopener")])),
      [["https://example.org/?q=", true]],
      "links",
    );
  });

  await t.test("languages and appearance are kept", async (page, cleanup) => {
    const server = await serve(cleanup);
    await signIn(page, server);
    await page.click(".account-button");
    await page.click("[role=menuitem]:has-text('Settings')");
    await page.click("[role=dialog] label:has-text('Русский')");
    await page.waitForSelector("[role=dialog]:has-text('Настройки')");
    await page.click("[role=dialog] label:has-text('Тёмное')");
    await page.keyboard.press("Escape");
    await page.reload();
    await page.waitForSelector("#tab-queue:has-text('Очередь')");
    equal(
      await page.evaluate(() => [document.documentElement.lang, document.documentElement.dataset.mantineColorScheme]),
      ["ru", "dark"],
      "kept",
    );
  });

  for (const scheme of ["light", "dark"]) {
    await t.test(
      `accessible to everybody, ${scheme}`,
      async (page, cleanup) => {
        const server = await serve(cleanup);
        await page.goto(server.url);
        await page.waitForSelector("input[name=login]");
        await page.waitForTimeout(300); // colours fade in
        await accessibility(page, "sign-in");
        await signIn(page, server);
        await page.click("#tab-queue");
        await page.waitForSelector(".line-accept");
        await page.waitForTimeout(300);
        await accessibility(page, "queue");
        await page.click("#tab-mine");
        await openChat(page, "Ivan");
        await page.waitForSelector(".failure");
        await page.waitForTimeout(300);
        await accessibility(page, "failed message");
        await openChat(page, "Мария");
        await page.waitForSelector(".details-can");
        await page.waitForTimeout(500);
        await accessibility(page, "conversation");
        await page.press("#composer", "Escape");
        await page.keyboard.press("?");
        await page.waitForSelector("[role=dialog]");
        await page.waitForTimeout(300);
        await accessibility(page, "shortcuts");
      },
      { context: { colorScheme: scheme } },
    );
  }

  await t.test(
    "customers' pictures: ours over the initials, fetched when they are near, nobody else's",
    async (page, cleanup) => {
      const { server, chat } = await oneChat(cleanup);
      const elsewhere = [];
      const fetched = [];
      page.on("request", (r) => {
        const { origin, pathname, protocol } = new URL(r.url());
        if (protocol.startsWith("http") && origin !== server.url) elsewhere.push(r.url());
        if (pathname.startsWith("/files/")) fetched.push(pathname.slice("/files/".length));
      });
      const files = [64, 128].map((side) => server.addFile("picture.png", "image/png", png(side, side, [200, 80, 80])));
      const far = [];
      for (let i = 0; i < 60; i++) {
        far.push(server.addFile("picture.png", "image/png", png(32, 32, [80, 80, 200])));
        const other = server.addChat("viber", `Customer ${i}`, {
          state: "open",
          operator_id: server.operators[0].id,
          age: i * 60_000,
          customer: { avatar: `/files/${far[i]}` },
        });
        server.addMessage(
          other,
          { text: `from ${i}`, created_at: new Date(Date.now() - (i + 1) * 60_000).toISOString() },
          true,
        );
      }
      server.addChat("vk", "Olga", { customer: { avatar: "https://sun9-1.userapi.com/a.jpg" } });
      await signIn(page, server);
      const avatar = line(page, "Maria").locator(".avatar");
      const box = await avatar.boundingBox();
      const width = () => avatar.locator("img").evaluate((img) => img.naturalWidth);
      equal(await avatar.locator("img").count(), 0, "none yet");

      server.told(chat, { avatar: `/files/${files[0]}` });
      await until(async () => (await width()) === 64, "the first picture");
      await avatar.locator("img[data-state=ready]").waitFor();
      equal(await avatar.locator("img").evaluate((img) => getComputedStyle(img).opacity), "1", "it is seen");
      equal(await avatar.boundingBox(), box, "nothing moves");
      equal(
        await avatar.locator("img").evaluate((img) => img.getBoundingClientRect().width),
        box.width,
        "it fills the circle",
      );
      equal(await avatar.locator("img").getAttribute("alt"), "", "readers have the name");

      await openChat(page, "Maria");
      await page.waitForSelector(".details-who img[data-state=ready]");
      await accessibility(page, "pictures");
      equal(fetched.filter((id) => id === files[0]).length, 1, "fetched once for all places");

      server.told(chat, { avatar: `/files/${files[1]}` });
      server.removeFile(files[0]);
      await until(async () => (await width()) === 128, "another picture");
      server.removeFile(far[58]);
      server.told(chat, { avatar: `/files/${far[58]}` });
      await until(() => fetched.includes(far[58]), "one that is gone");
      equal(await avatar.locator("img[data-state=ready]").count(), 0, "the initials again");
      server.told(chat, { avatar: "" });
      await until(async () => (await avatar.locator("img").count()) === 0, "hidden again");

      ok(!fetched.includes(far[59]), "one far below was fetched already");
      ok(fetched.includes(far[0]), "one on the screen was not fetched");
      await line(page, "Customer 59").scrollIntoViewIfNeeded();
      await until(() => fetched.includes(far[59]), "the one below, now that it is near");
      equal(elsewhere, [], "nobody else is asked");
    },
  );

  await t.test(
    "a narrow screen: the list, then the chat, then back",
    async (page, cleanup) => {
      const server = await serve(cleanup);
      await signIn(page, server);
      await openChat(page, "Мария");
      equal(await page.locator(".sidebar").isVisible(), false, "the list is away");
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      equal(wide, false, "nothing is wider than the screen");
      await page.click("[aria-label='Customer details']");
      await page.waitForSelector(".details");
      await page.locator(".details header button").click();
      await page.click("[aria-label='Back to the list']");
      await page.locator(".sidebar").waitFor();
    },
    { context: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } },
  );
}

/** The id of a chat's message by its number. */
async function fetchMessage(server, chat, seq) {
  const session = await fetch(`${server.url}/api/v1/sessions`, {
    method: "POST",
    body: JSON.stringify({ login: "anna", password: "demo" }),
  });
  const { token } = await session.json();
  const answer = await fetch(`${server.url}/api/v1/chats/${chat.id}/messages?after_seq=${seq - 1}&limit=1`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  return (await answer.json()).items[0].id;
}
