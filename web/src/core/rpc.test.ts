import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ConnectionLost, RpcClient, RpcError, type Socket } from "./rpc";
import type { Connection } from "./state";
import type { Hello, HubEvent } from "./types";

class FakeSocket implements Socket {
  static all: FakeSocket[] = [];
  static get last(): FakeSocket {
    return FakeSocket.all.at(-1) as FakeSocket;
  }
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: { id: number; method: string; params: Record<string, unknown> }[] = [];
  closed = false;

  constructor() {
    FakeSocket.all.push(this);
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  receive(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  answer(result: unknown): void {
    this.receive({ jsonrpc: "2.0", id: this.sent.at(-1)?.id, result });
  }
  greet(cursor = "7", more: Partial<Hello> = {}): void {
    this.onopen?.();
    this.answer({ operator: { id: "me", name: "Anna", role: "operator" }, cursor, chats: [], ...more });
  }
}

let cursor: string | null;
let phases: string[];
let hellos: Hello[];
let events: HubEvent[];
let signedOut: number;
let client: RpcClient;

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  cursor = null;
  phases = [];
  hellos = [];
  events = [];
  signedOut = 0;
  client = new RpcClient({
    url: () => "ws://test/ws/v1",
    cursor: () => cursor,
    onHello: (h) => {
      hellos.push(h);
      cursor = h.cursor;
    },
    onEvent: (e) => {
      events.push(e);
      cursor = e.cursor;
    },
    onConnection: (c: Connection) => phases.push(c.phase),
    onSignedOut: () => signedOut++,
    socket: () => new FakeSocket(),
    random: () => 0.5,
  });
});

afterEach(() => {
  client.stop();
  vi.useRealTimers();
});

const event = (n: number): unknown => ({
  jsonrpc: "2.0",
  method: "event",
  params: { cursor: String(n), type: "customer.typing", chat_id: "c" },
});

describe("a connection", () => {
  it("says hello without a cursor first and resumes with the last one", async () => {
    client.start();
    FakeSocket.last.greet("7");
    expect(FakeSocket.last.sent[0]).toMatchObject({ method: "hello", params: { cursor: null } });
    expect(phases.at(-1)).toBe("online");
    FakeSocket.last.receive(event(8));
    FakeSocket.last.onclose?.({ code: 1006 });
    await vi.advanceTimersByTimeAsync(1000);
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.last.onopen?.();
    expect(FakeSocket.last.sent[0]?.params).toEqual({ cursor: "8" });
  });

  it("takes events that follow hello in the same turn after the hello", () => {
    client.start();
    const socket = FakeSocket.last;
    socket.greet("7");
    socket.receive(event(8));
    expect(hellos).toHaveLength(1);
    expect(events.map((e) => e.cursor)).toEqual(["8"]);
    expect(cursor).toBe("8");
  });

  it("backs off longer after each failure, and starts anew after a good connection", async () => {
    client.start();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      FakeSocket.last.onclose?.({ code: 1006 });
      const wait = (client.connection.retryAt ?? 0) - Date.now();
      waits.push(wait);
      await vi.advanceTimersByTimeAsync(wait);
    }
    expect(waits.slice(0, 4)).toEqual([375, 750, 1500, 3000]);
    expect(waits.at(-1)).toBeLessThanOrEqual(20_000);
    FakeSocket.last.greet();
    await vi.advanceTimersByTimeAsync(6_000);
    FakeSocket.last.onclose?.({ code: 1006 });
    expect((client.connection.retryAt ?? 0) - Date.now()).toBe(375);
  });

  it.each([1012, 4408])("comes back at once after %i, but does not hammer", async (code) => {
    client.start();
    FakeSocket.last.greet();
    FakeSocket.last.onclose?.({ code });
    expect((client.connection.retryAt ?? 0) - Date.now()).toBeLessThanOrEqual(300);
    await vi.advanceTimersByTimeAsync(300);
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.last.onclose?.({ code });
    expect((client.connection.retryAt ?? 0) - Date.now()).toBeGreaterThanOrEqual(500);
  });

  it("ends at 4401 and tells so", async () => {
    client.start();
    FakeSocket.last.greet();
    FakeSocket.last.onclose?.({ code: 4401 });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(signedOut).toBe(1);
    expect(FakeSocket.all).toHaveLength(1);
    expect(phases.at(-1)).toBe("signed_out");
  });

  it("waits at 4409 until it is told to take over", async () => {
    client.start();
    FakeSocket.last.greet();
    FakeSocket.last.onclose?.({ code: 4409 });
    await vi.advanceTimersByTimeAsync(60_000);
    client.retryNow();
    expect(FakeSocket.all).toHaveLength(1);
    expect(phases.at(-1)).toBe("replaced");
    client.takeOver();
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.last.greet();
    expect(phases.at(-1)).toBe("online");
  });

  it("forgets a cursor that the server can't read", async () => {
    cursor = "999";
    client.start();
    FakeSocket.last.onopen?.();
    FakeSocket.last.receive({
      jsonrpc: "2.0",
      id: FakeSocket.last.sent[0]?.id,
      error: { code: -32602, message: "invalid params" },
    });
    await vi.advanceTimersByTimeAsync(1000);
    FakeSocket.last.greet("3");
    expect(FakeSocket.last.sent[0]?.params).toEqual({ cursor: null });
    expect(hellos[0]?.resync).toBe(true);
  });

  it("gives up an attempt that never opens", async () => {
    client.start();
    await vi.advanceTimersByTimeAsync(15_000);
    expect(FakeSocket.all[0]?.closed).toBe(true);
    expect(phases.at(-1)).toBe("waiting");
  });

  it("tests a silent connection and leaves a dead one", async () => {
    client.start();
    FakeSocket.last.greet();
    await vi.advanceTimersByTimeAsync(36_000);
    expect(FakeSocket.last.sent.at(-1)?.method).toBe("chat.list");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(FakeSocket.all[0]?.closed).toBe(true);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it("keeps a silent connection that answers", async () => {
    client.start();
    FakeSocket.last.greet();
    await vi.advanceTimersByTimeAsync(36_000);
    FakeSocket.last.answer({ items: [] });
    await vi.advanceTimersByTimeAsync(20_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(client.connection.phase).toBe("online");
  });

  it("does nothing any more when stopped", async () => {
    client.start();
    FakeSocket.last.greet();
    client.stop();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(FakeSocket.last.closed).toBe(true);
  });
});

describe("a call", () => {
  it("gives results and refusals to the right callers", async () => {
    client.start();
    FakeSocket.last.greet();
    const a = client.call("a", {});
    const b = client.call("b", {}).catch((e: unknown) => e);
    const [, first, second] = FakeSocket.last.sent;
    FakeSocket.last.receive({
      jsonrpc: "2.0",
      id: second?.id,
      error: { code: 1003, message: "x", data: { code: "unsupported_by_channel", detail: "no" } },
    });
    FakeSocket.last.receive({ jsonrpc: "2.0", id: first?.id, result: 1 });
    expect(await a).toBe(1);
    const refused = (await b) as RpcError;
    expect(refused).toBeInstanceOf(RpcError);
    expect(refused).toMatchObject({ reason: "unsupported_by_channel", detail: "no", passing: false });
    expect(new RpcError(1006, "unavailable", "").passing).toBe(true);
  });

  it("fails as unknown when the connection goes, or nobody answers", async () => {
    client.start();
    FakeSocket.last.greet();
    const lost = client.call("a", {}).catch((e: unknown) => e);
    FakeSocket.last.onclose?.({ code: 1006 });
    expect(await lost).toBeInstanceOf(ConnectionLost);
    await expect(client.call("a", {})).rejects.toBeInstanceOf(ConnectionLost);
    await vi.advanceTimersByTimeAsync(1000);
    FakeSocket.last.greet();
    const silent = client.call("a", {}).catch((e: unknown) => e);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(await silent).toBeInstanceOf(ConnectionLost);
  });
});
