// The WebSocket: JSON-RPC calls, events, and coming back after a loss. After
// every reconnect hello carries the last cursor, and the hub sends what was
// missed, each event once and in order.
import type { Connection } from "./state";
import type { Hello, HubEvent } from "./types";

/** An answer that says no. */
export class RpcError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly detail: string;
  constructor(code: number, reason: string, detail: string) {
    super(`${reason}: ${detail}`);
    this.code = code;
    this.reason = reason;
    this.detail = detail;
  }

  /** Whether the same call may succeed later without a change. */
  get passing(): boolean {
    return this.code === 1006 || this.code === -32603;
  }
}

/** Nobody knows whether the call was carried out. */
export class ConnectionLost extends Error {
  constructor() {
    super("the connection was lost before the answer came");
  }
}

export interface Socket {
  send(text: string): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
}

export interface RpcOptions {
  url: () => string;
  cursor: () => string | null;
  onHello: (hello: Hello) => void;
  onEvent: (event: HubEvent) => void;
  onConnection: (connection: Connection) => void;
  onSignedOut: () => void;
  socket?: (url: string) => Socket;
  random?: () => number;
}

// Backoff: half fixed, half random, so that a restarted hub is not met by all
// clients at once. The hub keeps an operator's presence for 15 s, so the first
// attempts come well within that.
const firstDelay = 500;
const longestDelay = 20_000;
/** A connection that lived this long was a good one: attempts count from 0 again. */
const settled = 5_000;
/** An attempt that is not open and greeted by then is given up. */
const helloTimeout = 15_000;
const callTimeout = 15_000;
/** Browsers don't show the hub's pings, so silence this long is tested by a call. */
const silence = 30_000;
const probeTimeout = 10_000;

export const closeCodes = {
  restart: 1012,
  signedOut: 4401,
  tooSlow: 4408,
  replaced: 4409,
} as const;

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class RpcClient {
  private readonly options: RpcOptions;
  private readonly random: () => number;
  private socket: Socket | null = null;
  private pending = new Map<number, Pending>();
  private nextId = 1;
  private attempt = 0;
  private greetedAt: number | null = null;
  private retryTimer: ReturnType<typeof setTimeout> | null = null;
  private helloTimer: ReturnType<typeof setTimeout> | null = null;
  private watchTimer: ReturnType<typeof setInterval> | null = null;
  private heardAt = 0;
  private probing = false;
  private forgetCursor = false;
  private running = false;
  connection: Connection = { phase: "idle", retryAt: null, attempt: 0 };

  constructor(options: RpcOptions) {
    this.options = options;
    this.random = options.random ?? Math.random;
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    this.attempt = 0;
    this.connect();
    this.watchTimer = setInterval(() => this.watch(), 5_000);
  }

  stop(): void {
    this.running = false;
    if (this.watchTimer !== null) clearInterval(this.watchTimer);
    this.watchTimer = null;
    this.clearTimers();
    this.drop(1000);
    this.tell({ phase: "idle", retryAt: null, attempt: 0 });
  }

  /** Tries at once: the network is back, the window woke up, or the operator asks. */
  retryNow(): void {
    if (!this.running || this.connection.phase !== "waiting") return;
    this.connect();
  }

  /** After "opened elsewhere": makes this the connection that counts. */
  takeOver(): void {
    if (this.connection.phase !== "replaced") return;
    this.running = true;
    this.attempt = 0;
    this.connect();
  }

  /** The network said that it changed; an open connection may be dead without knowing. */
  checkAlive(): void {
    if (this.connection.phase === "online") void this.probe();
    else this.retryNow();
  }

  call<R>(method: string, params: Record<string, unknown>, timeout = callTimeout): Promise<R> {
    if (this.connection.phase !== "online") return Promise.reject(new ConnectionLost());
    return this.send<R>(method, params, timeout);
  }

  private send<R>(method: string, params: Record<string, unknown>, timeout: number): Promise<R> {
    const socket = this.socket;
    if (!socket) return Promise.reject(new ConnectionLost());
    const id = this.nextId++;
    return new Promise<R>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new ConnectionLost());
      }, timeout);
      this.pending.set(id, { resolve: resolve as (result: unknown) => void, reject, timer });
      socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  private connect(): void {
    this.clearTimers();
    this.drop(1000);
    this.tell({ phase: "connecting", retryAt: null, attempt: this.attempt });
    const socket = this.options.socket
      ? this.options.socket(this.options.url())
      : (new WebSocket(this.options.url()) as unknown as Socket);
    this.socket = socket;
    this.helloTimer = setTimeout(() => this.lost(socket, 1006), helloTimeout);
    socket.onopen = () => void this.hello(socket);
    socket.onmessage = (event) => {
      if (this.socket === socket) this.receive(event.data);
    };
    socket.onclose = (event) => this.lost(socket, event.code);
  }

  private async hello(socket: Socket): Promise<void> {
    if (this.socket !== socket) return;
    const cursor = this.forgetCursor ? null : this.options.cursor();
    try {
      await this.send<Hello>("hello", { cursor }, helloTimeout);
    } catch (error) {
      // A cursor that this server can't read (its database is another one):
      // start anew rather than fail for ever.
      if (error instanceof RpcError && error.code === -32602) this.forgetCursor = true;
      this.lost(socket, 1006);
    }
  }

  private greeted(hello: Hello): void {
    if (this.helloTimer !== null) clearTimeout(this.helloTimer);
    this.helloTimer = null;
    this.greetedAt = Date.now();
    this.options.onHello(this.forgetCursor ? { ...hello, resync: true } : hello);
    this.forgetCursor = false;
    this.tell({ phase: "online", retryAt: null, attempt: 0 });
  }

  private receive(data: unknown): void {
    this.heardAt = Date.now();
    let frame: {
      id?: number;
      result?: unknown;
      error?: { code: number; message?: string; data?: { code?: string; detail?: string } };
      method?: string;
      params?: HubEvent;
    };
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // the hub sends JSON only; what else came is not for us
    }
    if (frame.method === "event" && frame.params) {
      this.options.onEvent(frame.params);
      return;
    }
    const pending = frame.id === undefined ? undefined : this.pending.get(frame.id);
    if (!pending || frame.id === undefined) return;
    this.pending.delete(frame.id);
    clearTimeout(pending.timer);
    if (frame.error) {
      const { code, message, data } = frame.error;
      pending.reject(new RpcError(code, data?.code ?? message ?? "error", data?.detail ?? message ?? ""));
      return;
    }
    // Events follow the answer to hello in the very next frames, before a
    // promise's continuation would run; so it is taken in here.
    if (this.greetedAt === null) this.greeted(frame.result as Hello);
    pending.resolve(frame.result);
  }

  private lost(socket: Socket, code: number): void {
    if (this.socket !== socket) return;
    const lived = this.greetedAt === null ? 0 : Date.now() - this.greetedAt;
    this.clearTimers();
    this.drop(1000);
    if (code === closeCodes.signedOut) {
      this.running = false;
      this.tell({ phase: "signed_out", retryAt: null, attempt: 0 });
      this.options.onSignedOut();
      return;
    }
    if (code === closeCodes.replaced) {
      this.tell({ phase: "replaced", retryAt: null, attempt: 0 });
      return;
    }
    if (!this.running) return;
    if (lived >= settled) this.attempt = 0;
    const wanted = code === closeCodes.restart || code === closeCodes.tooSlow;
    // "At once", unless that was tried and did not last.
    const delay = wanted && this.attempt === 0 ? 50 + this.random() * 250 : this.backoff();
    this.attempt++;
    this.tell({ phase: "waiting", retryAt: Date.now() + delay, attempt: this.attempt });
    this.retryTimer = setTimeout(() => this.connect(), delay);
  }

  private backoff(): number {
    const whole = Math.min(longestDelay, firstDelay * 2 ** Math.min(this.attempt, 10));
    return whole / 2 + (this.random() * whole) / 2;
  }

  private watch(): void {
    if (this.connection.phase === "online" && Date.now() - this.heardAt > silence) void this.probe();
  }

  private async probe(): Promise<void> {
    const socket = this.socket;
    if (!socket || this.probing) return;
    this.probing = true;
    try {
      // The cheapest call that changes nothing.
      await this.send("chat.list", { state: "offered", limit: 1 }, probeTimeout);
    } catch (error) {
      if (error instanceof ConnectionLost) this.lost(socket, 1006);
    } finally {
      this.probing = false;
    }
  }

  private drop(code: number): void {
    const socket = this.socket;
    this.socket = null;
    this.greetedAt = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      try {
        socket.close(code);
      } catch {
        // Closed already.
      }
    }
    const pending = [...this.pending.values()];
    this.pending.clear();
    for (const p of pending) {
      clearTimeout(p.timer);
      p.reject(new ConnectionLost());
    }
  }

  private clearTimers(): void {
    if (this.retryTimer !== null) clearTimeout(this.retryTimer);
    if (this.helloTimer !== null) clearTimeout(this.helloTimer);
    this.retryTimer = this.helloTimer = null;
  }

  private tell(connection: Connection): void {
    this.connection = connection;
    this.options.onConnection(connection);
  }
}
