// A server that keeps to the contract of the desk (REST, WebSocket, files) with
// everything in memory: for work on the desk without the service, and for the
// browser tests where there is no binary.
//
//	node mock/server.mjs [port]
//
// It also serves the build with the headers of web.go. Tests steer it through
// the object that start returns.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";
import { deflateSync } from "node:zlib";
import { WebSocketServer } from "ws";

const dist = new URL("../dist/", import.meta.url).pathname;
const policy =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; " +
  "font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};

// ---- bytes ----

function crc32(bytes) {
  let c = ~0;
  for (const b of bytes) {
    c ^= b;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  }
  return ~c >>> 0;
}

/** A picture of a colour that fades, as PNG. */
export function png(width, height, [r, g, b]) {
  const raw = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * (width * 3 + 1) + 1 + x * 3;
      const light = 0.55 + (0.45 * (x / width + 1 - y / height)) / 2;
      const wave = Math.sin(x / 23) * Math.cos(y / 31) * 16;
      raw[at] = Math.max(0, Math.min(255, r * light + wave));
      raw[at + 1] = Math.max(0, Math.min(255, g * light + wave));
      raw[at + 2] = Math.max(0, Math.min(255, b * light + wave));
    }
  }
  const chunk = (type, data) => {
    const out = Buffer.alloc(12 + data.length);
    out.writeUInt32BE(data.length, 0);
    out.write(type, 4);
    data.copy(out, 8);
    out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([
    signature,
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(raw)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** A tone, as WAV: 8 kHz, 8 bit, mono. */
function wav(seconds) {
  const n = seconds * 8000;
  const out = Buffer.alloc(44 + n);
  out.write("RIFF", 0);
  out.writeUInt32LE(36 + n, 4);
  out.write("WAVEfmt ", 8);
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(1, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(8000, 24);
  out.writeUInt32LE(8000, 28);
  out.writeUInt16LE(1, 32);
  out.writeUInt16LE(8, 34);
  out.write("data", 36);
  out.writeUInt32LE(n, 40);
  for (let i = 0; i < n; i++) out[44 + i] = 128 + Math.round(40 * Math.sin((i / 8000) * 2 * Math.PI * 440));
  return out;
}

// ---- what accounts can do ----

const everything = ["text", "image", "video", "audio", "voice", "sticker", "document", "contact", "location"];

function capabilities(platform) {
  const base = {
    platform,
    send: everything,
    receive: [...everything, "button", "service", "unsupported"],
    reply_keyboard: true,
    inline_keyboard: true,
    request_phone: true,
    request_location: true,
    reply_to: true,
    edit: true,
    delete: true,
    forward: true,
    forward_copy: false,
    delete_received: platform === "telegram",
    typing: true,
    operator_name: false,
    operator_avatar: false,
    delivered: false,
    read: false,
    start_by_id: true,
    start_by_phone: false,
    idempotent: false,
    text: { max: 4096, unit: "utf16" },
    caption: { max: 1024, unit: "utf16" },
    max_parts: 4,
    file_bytes: { image: 10 << 20, video: 50 << 20, audio: 50 << 20, voice: 50 << 20, document: 50 << 20 },
    max_files: 10,
    fetch_bytes: 20 << 20,
    rate: { per_second: 30, burst: 30 },
    chat_rate: { per_second: 1, burst: 1 },
    button_text: { max: 64, unit: "runes" },
    button_payload: { max: 64, unit: "bytes" },
    button_rows: 10,
    button_columns: 8,
    buttons: 60,
  };
  if (platform === "viber") {
    Object.assign(base, { reply_to: false, edit: false, delete: false, typing: false, delivered: true, read: true });
    Object.assign(base, {
      text: { max: 7000, unit: "utf16" },
      caption: { max: 512, unit: "utf16" },
      inline_keyboard: false,
    });
  }
  if (platform === "infobip") Object.assign(base, { edit: false, delete: false, delivered: true, read: true });
  if (platform === "mfms") {
    Object.assign(base, {
      send: ["text", "image", "document"],
      reply_to: false,
      edit: false,
      delete: false,
      typing: false,
    });
    Object.assign(base, { delivered: true, read: true, text: { max: 1000, unit: "runes" }, max_parts: 1 });
  }
  return base;
}

// ---- the server ----

export async function start({ port = 0, demo = true } = {}) {
  const accounts = Object.fromEntries(
    ["telegram", "viber", "vk", "ok", "infobip", "mfms"].map((p) => [p, { id: randomUUID(), platform: p, name: p }]),
  );
  const operators = [
    { id: randomUUID(), login: "anna", name: "Анна Соколова", role: "operator", skills: ["доставка"], capacity: 10 },
    { id: randomUUID(), login: "boris", name: "Борис Лебедев", role: "supervisor", skills: ["оплата"], capacity: 0 },
    { id: randomUUID(), login: "admin", name: "Admin", role: "admin", skills: [], capacity: 0 },
  ].map((o) => ({ ...o, presence: "offline", created_at: new Date().toISOString() }));
  const sessions = new Map(); // token -> operator
  const chats = new Map();
  const messages = new Map(); // chat id -> list
  const byId = new Map();
  const files = new Map();
  const byClient = new Map();
  const events = []; // the stream; the cursor is the index after
  const clients = new Set();
  let refusing = null; // a close code for every new connection
  let muted = false; // answers to calls are withheld

  const iso = (ago = 0) => new Date(Date.now() - ago).toISOString();

  function addFile(name, mime, bytes, more = {}) {
    const id = randomUUID();
    files.set(id, { id, name, mime, bytes, more });
    return id;
  }

  function fileInfo(id, kind) {
    const f = files.get(id);
    return { id, kind, name: f.name, mime: f.mime, size: f.bytes.length, state: "ready", ...f.more };
  }

  function mayRead(o, chat) {
    if (o.role !== "operator") return true;
    return chat.state === "new" || (chat.state === "offered" && !chat.operator_id) || chat.operator_id === o.id;
  }

  function publish(type, body, concerns) {
    const event = { type, ...body };
    events.push({ event, concerns });
    for (const c of clients) if (c.live) c.push(events.length - 1);
  }

  const redacted = ({ id, account_id, platform, state, operator_id }) => ({
    id,
    account_id,
    platform,
    state,
    operator_id,
    unread: 0,
    last_message: null,
    last_customer_message_at: null,
  });

  function frameFor(index, operator) {
    const { event } = events[index];
    const chat = event.chat_id ? chats.get(event.chat_id) : null;
    let params = { cursor: String(index + 1), ...event };
    if (chat && !mayRead(operator, chat)) {
      if (!event.chat) return null;
      params = { cursor: params.cursor, type: "chat.updated", chat_id: chat.id, chat: redacted(chat) };
    } else if (event.message) params.message = byId.get(event.message.id);
    else if (event.chat) params.chat = chat;
    return JSON.stringify({ jsonrpc: "2.0", method: "event", params });
  }

  function addChat(platform, name, more = {}) {
    const id = randomUUID();
    const chat = {
      id,
      account_id: accounts[platform].id,
      platform,
      customer: {
        id: randomUUID(),
        external_id: String(100000 + chats.size * 7919),
        name,
        phone: "",
        avatar: "",
        reachable: true,
        ...more.customer,
      },
      state: more.state ?? "new",
      operator_id: more.operator_id ?? null,
      unread: 0,
      read_seq: 0,
      last_seq: 0,
      last_message: null,
      last_customer_message_at: null,
      queued_at: more.state && more.state !== "new" ? null : iso(more.waits ?? 0),
      created_at: iso(more.age ?? 0),
      ...(more.skill ? { skill: more.skill } : {}),
    };
    chats.set(id, chat);
    messages.set(id, []);
    return chat;
  }

  function addMessage(chat, m, quiet) {
    const list = messages.get(chat.id);
    const inbound = m.direction !== "out";
    const message = {
      id: randomUUID(),
      chat_id: chat.id,
      account_id: chat.account_id,
      platform: chat.platform,
      seq: list.length + 1,
      direction: inbound ? "in" : "out",
      kind: "text",
      reply_to: null,
      platform_message_id: inbound ? String(1000 + list.length) : null,
      status: inbound ? "received" : "queued",
      status_at: m.created_at ?? iso(),
      error: null,
      sender: inbound ? { kind: "customer", id: chat.customer.id, name: chat.customer.name } : m.sender,
      client_id: null,
      platform_at: m.created_at ?? iso(),
      created_at: iso(),
      edited_at: null,
      deleted_at: null,
      ...m,
    };
    list.push(message);
    byId.set(message.id, message);
    chat.last_seq = message.seq;
    chat.last_message = message;
    if (inbound) {
      chat.last_customer_message_at = message.created_at;
      chat.unread++;
      if (chat.state === "closed") Object.assign(chat, { state: "new", operator_id: null, queued_at: iso() });
    } else {
      chat.unread = 0;
      chat.read_seq = message.seq;
    }
    if (!quiet) publish("message.new", { chat_id: chat.id, message });
    return message;
  }

  function update(message, change) {
    Object.assign(message, change);
    publish("message.updated", { chat_id: message.chat_id, message });
  }

  /** The way of a message to the customer, as the platform would report it. */
  function deliver(message, caps) {
    const steps = ["sending", "sent", ...(caps.delivered ? ["delivered"] : []), ...(caps.read ? ["read"] : [])];
    if (/не доставится|will fail/.test(message.text ?? "")) {
      setTimeout(
        () =>
          update(message, {
            status: "failed",
            status_at: iso(),
            error: { kind: "recipient", code: "403", detail: "bot was blocked by the user" },
          }),
        120,
      );
      return;
    }
    for (const [i, status] of steps.entries()) {
      setTimeout(() => update(message, { status, status_at: iso() }), 60 * (i + 1));
    }
  }

  // ---- calls ----

  class Refused extends Error {
    constructor(code, name, detail) {
      super(detail);
      Object.assign(this, { code, name, detail });
    }
  }
  const chatOf = (p, o) => {
    const chat = chats.get(p.chat_id);
    if (!chat || !mayRead(o, chat)) throw new Refused(1001, "not_found", `chat ${p.chat_id}: not found`);
    return chat;
  };
  const changed = (chat) => {
    publish("chat.updated", { chat_id: chat.id, chat });
    return { chat };
  };
  const methods = {
    "presence.set": (p, o) => {
      o.presence = p.status;
      publish("operator.presence", { operator: { id: o.id, name: o.name, status: o.presence } });
      return {};
    },
    "chat.list": (p, o) => ({
      items: [...chats.values()]
        .filter((c) => mayRead(o, c) && (!p.state || c.state === p.state))
        .slice(0, p.limit ?? 50),
      next_cursor: null,
    }),
    "chat.accept": (p, o) => {
      const chat = chatOf(p, o);
      if (chat.state === "open" && chat.operator_id !== o.id)
        throw new Refused(1005, "conflict", "the chat is served by another operator");
      Object.assign(chat, { state: "open", operator_id: o.id, queued_at: null });
      return changed(chat);
    },
    "chat.skip": (p, o) => {
      const chat = chatOf(p, o);
      Object.assign(chat, { state: "new", operator_id: null, queued_at: iso() });
      return changed(chat);
    },
    "chat.decline": (p, o) => {
      const chat = chatOf(p, o);
      Object.assign(chat, { state: "new", operator_id: null });
      return changed(chat);
    },
    "chat.close": (p, o) => {
      const chat = chatOf(p, o);
      chat.state = "closed";
      return changed(chat);
    },
    "chat.transfer": (p, o) => {
      const chat = chatOf(p, o);
      if (p.operator_id) Object.assign(chat, { state: "open", operator_id: p.operator_id });
      else Object.assign(chat, { state: "new", operator_id: null, skill: p.skill, queued_at: iso() });
      changed(chat);
      return { chat: mayRead(o, chat) ? chat : redacted(chat) };
    },
    "chat.start": (p, o) => {
      const chat = [...chats.values()].find(
        (c) =>
          c.account_id === p.account_id &&
          (p.phone ? c.customer.phone === p.phone : c.customer.external_id === p.external_id),
      );
      if (!chat) throw new Refused(1001, "not_found", "no such customer");
      Object.assign(chat, { state: "open", operator_id: o.id });
      return changed(chat);
    },
    "chat.read": (p, o) => {
      const chat = chatOf(p, o);
      chat.read_seq = Math.max(chat.read_seq, p.seq);
      chat.unread = messages.get(chat.id).filter((m) => m.direction === "in" && m.seq > chat.read_seq).length;
      changed(chat);
      return {};
    },
    "chat.typing": () => ({}),
    "message.send": (p, o) => {
      const chat = chatOf(p, o);
      if (p.client_id && byClient.has(p.client_id)) return { message: byId.get(byClient.get(p.client_id)) };
      if (chat.state !== "open") throw new Refused(1005, "conflict", "the chat is closed; start it again first");
      const caps = capabilities(chat.platform);
      if (!caps.send.includes(p.kind))
        throw new Refused(1003, "unsupported_by_channel", `${chat.platform} can't send ${p.kind}`);
      const message = addMessage(chat, {
        direction: "out",
        kind: p.kind,
        text: p.text,
        files: p.files?.map((id) => fileInfo(id, p.kind)),
        contact: p.contact,
        location: p.location,
        keyboard: p.keyboard ?? null,
        reply_to: p.reply_to ?? null,
        client_id: p.client_id ?? null,
        sender: { kind: "operator", id: o.id, name: o.name },
      });
      if (p.client_id) byClient.set(p.client_id, message.id);
      deliver(message, caps);
      return { message };
    },
    "message.edit": (p) => {
      const message = byId.get(p.message_id);
      update(message, { text: p.text, edited_at: iso() });
      return { message };
    },
    "message.delete": (p) => {
      const message = byId.get(p.message_id);
      update(message, { deleted_at: iso() });
      return { message };
    },
    "message.forward": (p, o) => {
      const from = byId.get(p.message_id);
      const chat = chatOf(p, o);
      const message = addMessage(chat, {
        direction: "out",
        kind: from.kind,
        text: from.text,
        files: from.files,
        forwarded: [{ from: from.sender.name, text: "" }],
        client_id: p.client_id,
        sender: { kind: "operator", id: o.id, name: o.name },
      });
      deliver(message, capabilities(chat.platform));
      return { message };
    },
  };

  // ---- HTTP ----

  const json = (res, status, body, type = "application/json") => {
    res.writeHead(status, { "Content-Type": type });
    res.end(body === undefined ? "" : JSON.stringify(body));
  };
  const problem = (res, status, code, detail = "") =>
    json(res, status, { type: "about:blank", title: code, status, code, detail }, "application/problem+json");
  const bodyOf = async (req) => {
    const parts = [];
    for await (const part of req) parts.push(part);
    return Buffer.concat(parts);
  };
  const operatorOf = (req, url) =>
    sessions.get((req.headers.authorization ?? "").replace(/^Bearer /, "") || url.searchParams.get("token") || "");

  async function handle(req, res) {
    const url = new URL(req.url, "http://localhost");
    const path = url.pathname;
    const q = url.searchParams;
    if (path === "/api/v1/sessions" && req.method === "POST") {
      const { login, password } = JSON.parse(await bodyOf(req));
      const operator = operators.find((o) => o.login === login);
      if (!operator || password !== "demo") return problem(res, 401, "unauthorized", "login or password is wrong");
      const token = randomUUID();
      sessions.set(token, operator);
      return json(res, 201, { token, expires_at: new Date(Date.now() + 14 * 3600_000).toISOString(), operator });
    }
    if (!path.startsWith("/api/") && !path.startsWith("/files")) return page(path, res);
    const operator = operatorOf(req, url);
    if (!operator) return problem(res, 401, "unauthorized");
    if (path === "/api/v1/sessions" && req.method === "DELETE") {
      for (const [token, o] of sessions) if (o === operator) sessions.delete(token);
      res.writeHead(204).end();
      return;
    }
    if (path === "/files" && req.method === "POST") {
      const bytes = await bodyOf(req);
      const id = addFile(q.get("name") ?? "file", req.headers["content-type"] ?? "application/octet-stream", bytes);
      return json(res, 201, { id, name: files.get(id).name, mime: files.get(id).mime, size: bytes.length, sha256: "" });
    }
    let match = /^\/files\/([^/]+)$/.exec(path);
    if (match) {
      const file = files.get(match[1]);
      if (!file) return problem(res, 404, "not_found");
      res.writeHead(200, { "Content-Type": file.mime, "Content-Length": file.bytes.length });
      res.end(file.bytes);
      return;
    }
    if (path === "/api/v1/chats") {
      const items = [...chats.values()]
        .filter(
          (c) =>
            mayRead(operator, c) &&
            (!q.get("platform") || c.platform === q.get("platform")) &&
            (!q.get("state") || c.state === q.get("state")),
        )
        .sort((a, b) => (b.last_customer_message_at ?? "").localeCompare(a.last_customer_message_at ?? ""));
      return json(res, 200, { items, next_cursor: null });
    }
    match = /^\/api\/v1\/chats\/([^/]+)(\/messages)?$/.exec(path);
    if (match) {
      const chat = chats.get(match[1]);
      if (!chat || !mayRead(operator, chat)) return problem(res, 404, "not_found");
      if (!match[2]) return json(res, 200, chat);
      const limit = Number(q.get("limit") ?? 50);
      let list = messages.get(chat.id);
      if (q.has("before_seq")) list = list.filter((m) => m.seq < Number(q.get("before_seq")));
      if (q.has("after_seq")) {
        list = list.filter((m) => m.seq > Number(q.get("after_seq")));
        const items = list.slice(0, limit);
        return json(res, 200, { items, next_cursor: list.length > limit ? String(items.at(-1).seq) : null });
      }
      const items = list.slice(-limit);
      return json(res, 200, { items, next_cursor: list.length > limit ? String(items[0].seq) : null });
    }
    match = /^\/api\/v1\/messages\/([^/]+)$/.exec(path);
    if (match) {
      const message = byId.get(match[1]);
      if (!message) return problem(res, 404, "not_found");
      const timeline =
        message.direction === "in"
          ? [
              { at: message.created_at, what: "received" },
              { at: message.created_at, what: "stored" },
            ]
          : [
              { at: message.created_at, what: "queued" },
              { at: message.created_at, what: "attempt", detail: { attempt: 1 } },
              ...(message.status === "queued" ? [] : [{ at: message.status_at, what: message.status }]),
            ];
      return json(res, 200, { ...message, timeline });
    }
    match = /^\/api\/v1\/accounts\/([^/]+)\/capabilities$/.exec(path);
    if (match) {
      const account = Object.values(accounts).find((a) => a.id === match[1]);
      return account ? json(res, 200, capabilities(account.platform)) : problem(res, 404, "not_found");
    }
    if (path === "/api/v1/accounts") {
      const items = Object.values(accounts).map((a) => ({ ...a, state: "active", settings: {}, created_at: iso() }));
      return json(res, 200, { items });
    }
    if (path === "/api/v1/customers") {
      if (operator.role === "operator") return problem(res, 403, "forbidden");
      const items = [...chats.values()]
        .filter((c) => c.customer.phone === q.get("phone"))
        .map((c) => ({
          phone: c.customer.phone,
          platform: c.platform,
          account_id: c.account_id,
          source: "contact",
          updated_at: iso(),
          customer_id: c.customer.id,
          external_id: c.customer.external_id,
          name: c.customer.name,
          chat_id: c.id,
        }));
      return json(res, 200, { items });
    }
    if (path === "/api/v1/operators") {
      return json(res, 200, { items: operators });
    }
    return problem(res, 404, "not_found");
  }

  async function page(path, res) {
    const name = normalize(path).replace(/^\/+/, "") || "index.html";
    const headers = {
      "Content-Security-Policy": policy,
      "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "no-referrer",
    };
    for (const candidate of extname(name) ? [name] : [name, "index.html"]) {
      try {
        const bytes = await readFile(join(dist, candidate));
        res.writeHead(200, { ...headers, "Content-Type": types[extname(candidate)] ?? "application/octet-stream" });
        res.end(bytes);
        return;
      } catch {
        // The next one.
      }
    }
    res.writeHead(404, headers).end("not found");
  }

  const server = createServer((req, res) => {
    handle(req, res).catch((error) => {
      console.error(error);
      problem(res, 500, "internal_error", String(error));
    });
  });

  // ---- WebSocket ----

  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (req, socket, head) => {
    const url = new URL(req.url, "http://localhost");
    if (url.pathname !== "/ws/v1") {
      socket.destroy();
      return;
    }
    sockets.handleUpgrade(req, socket, head, (ws) => {
      const operator = operatorOf(req, url);
      if (!operator || refusing) {
        ws.close(operator ? refusing : 4401);
        return;
      }
      const client = {
        ws,
        operator,
        live: false,
        push: (index) => {
          const frame = frameFor(index, operator);
          if (frame) ws.send(frame);
        },
      };
      clients.add(client);
      ws.on("close", () => clients.delete(client));
      ws.on("message", (data) => {
        const { id, method, params } = JSON.parse(String(data));
        if (muted) return;
        const answer = (body) => ws.send(JSON.stringify({ jsonrpc: "2.0", id, ...body }));
        if (method === "hello") {
          const from = params.cursor ? Number(params.cursor) : events.length;
          operator.presence = operator.presence === "offline" ? "online" : operator.presence;
          const list = [...chats.values()].filter(
            (c) => (c.operator_id === operator.id && c.state !== "closed") || c.state === "new",
          );
          answer({ result: { operator, cursor: String(from), chats: list } });
          for (let i = from; i < events.length; i++) client.push(i);
          client.live = true;
          return;
        }
        try {
          const call = methods[method];
          if (!call) throw new Refused(-32601, "method_not_found", method);
          answer({ result: call(params, operator) });
        } catch (error) {
          answer({
            error: {
              code: error.code ?? -32603,
              message: error.name,
              data: { code: error.name, detail: error.detail ?? String(error) },
            },
          });
        }
      });
    });
  });

  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const control = {
    url: `http://127.0.0.1:${server.address().port}`,
    operators,
    accounts,
    chats,
    addFile,
    fileInfo,
    addChat,
    addMessage,
    update,
    /** What the platform told anew of a customer. */
    told: (chat, more) => {
      Object.assign(chat.customer, more);
      changed(chat);
    },
    removeFile: (id) => files.delete(id),
    offer: (chat) => publish("chat.offered", { chat_id: chat.id, chat }),
    typing: (chat) => publish("customer.typing", { chat_id: chat.id }),
    presence: (o, status) => methods["presence.set"]({ status }, o),
    /** Ends every connection with a close code; 0 cuts them. */
    cut: (code) => {
      for (const c of clients) code ? c.ws.close(code) : c.ws.terminate();
    },
    refuse: (code) => {
      refusing = code;
    },
    mute: (on) => {
      muted = on;
    },
    connections: () => clients.size,
    stop: () =>
      new Promise((resolve) => {
        for (const c of clients) c.ws.terminate();
        server.closeAllConnections();
        server.close(resolve);
      }),
  };
  if (demo) (await import("./demo.mjs")).fill(control, { png, wav, iso });
  return control;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const control = await start({ port: Number(process.argv[2] ?? 8080) });
  console.log(`${control.url}\nlogins: anna, boris (supervisor), admin; password: demo`);
}
