// REST and files. The paths and parameters are checked against the description
// of the API (`npm run generate`); bodies are given the types that the
// WebSocket shares.
import createClient from "openapi-fetch";
import type { components, paths } from "../api/schema";
import type { Account, Capabilities, Chat, Message, Operator, Uploaded } from "./types";

/** A refusal, with the stable code of its problem document. */
export class RestError extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  constructor(status: number, code: string, detail: string) {
    super(`${status} ${code}: ${detail}`);
    this.status = status;
    this.code = code;
    this.detail = detail;
  }
}

export interface Session {
  token: string;
  expires_at: string;
  operator: Operator;
}

export interface TimelineEntry {
  at: string;
  what: string;
  detail?: unknown;
}

export type PhoneEntry = components["schemas"]["PhoneEntry"];

export interface ChatFilter {
  state?: Chat["state"];
  platform?: string;
  cursor?: string;
}

export interface RestOptions {
  token: () => string | null;
  onSignedOut: () => void;
  /** Where the API is; the page's own origin by default. */
  base?: string;
}

interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface Upload {
  done: Promise<Uploaded>;
  abort: () => void;
}

export class Rest {
  private readonly options: RestOptions;
  private readonly client;

  constructor(options: RestOptions) {
    this.options = options;
    this.client = createClient<paths>({ baseUrl: options.base ?? window.location.origin });
    this.client.use({
      onRequest: ({ request }) => {
        const token = options.token();
        if (token) request.headers.set("Authorization", `Bearer ${token}`);
        return request;
      },
    });
  }

  /** The body of an answer, or the error it stands for. */
  private async body<T>(
    call: Promise<{ data?: unknown; error?: unknown; response: Response }>,
    login = false,
  ): Promise<T> {
    let answer: Awaited<typeof call>;
    try {
      answer = await call;
    } catch {
      throw new RestError(0, "network", "");
    }
    const { data, error, response } = answer;
    if (response.ok) return data as T;
    if (response.status === 401 && !login) this.options.onSignedOut();
    const problem = (typeof error === "object" && error !== null ? error : {}) as { code?: string; detail?: string };
    throw new RestError(response.status, problem.code ?? "error", problem.detail ?? "");
  }

  logIn(login: string, password: string): Promise<Session> {
    return this.body(this.client.POST("/api/v1/sessions", { body: { login, password } }), true);
  }

  logOut(): Promise<void> {
    return this.body(this.client.DELETE("/api/v1/sessions", {}), true);
  }

  chats(filter: ChatFilter): Promise<Page<Chat>> {
    return this.body(this.client.GET("/api/v1/chats", { params: { query: { ...filter, limit: 50 } } }));
  }

  chat(id: string): Promise<Chat> {
    return this.body(this.client.GET("/api/v1/chats/{id}", { params: { path: { id } } }));
  }

  /** A page of history, oldest first: the newest messages, or those between two seqs. */
  messages(id: string, at: { before_seq?: number; after_seq?: number }, limit = 60): Promise<Page<Message>> {
    return this.body(
      this.client.GET("/api/v1/chats/{id}/messages", { params: { path: { id }, query: { ...at, limit } } }),
    );
  }

  message(id: string): Promise<Message & { timeline: TimelineEntry[] | null }> {
    return this.body(this.client.GET("/api/v1/messages/{id}", { params: { path: { id } } }));
  }

  capabilities(accountId: string): Promise<Capabilities> {
    return this.body(this.client.GET("/api/v1/accounts/{id}/capabilities", { params: { path: { id: accountId } } }));
  }

  async accounts(): Promise<Account[]> {
    return (await this.body<{ items: Account[] | null }>(this.client.GET("/api/v1/accounts", {}))).items ?? [];
  }

  /** Customers whom the phone book has under a number ("+79001234567"). */
  async customers(phone: string): Promise<PhoneEntry[]> {
    const query = { params: { query: { phone } } };
    return (await this.body<{ items: PhoneEntry[] | null }>(this.client.GET("/api/v1/customers", query))).items ?? [];
  }

  async operators(): Promise<Operator[]> {
    const list = await this.body<Page<Operator> | Operator[]>(this.client.GET("/api/v1/operators", {}));
    return Array.isArray(list) ? list : list.items;
  }

  /** The bytes of a file. `<img src>` can't carry the session, so they are fetched here. */
  async file(id: string, signal?: AbortSignal): Promise<Blob> {
    const token = this.options.token();
    let response: Response;
    try {
      response = await fetch(`${this.options.base ?? ""}/files/${encodeURIComponent(id)}`, {
        headers: token ? { Authorization: `Bearer ${token}` } : {},
        signal,
      });
    } catch {
      throw new RestError(0, "network", "");
    }
    if (response.status === 401) this.options.onSignedOut();
    if (!response.ok) throw new RestError(response.status, "file", "");
    return response.blob();
  }

  /** Uploads a file. fetch can't tell how far an upload is, XMLHttpRequest can. */
  upload(file: File, onProgress: (share: number) => void): Upload {
    const xhr = new XMLHttpRequest();
    const done = new Promise<Uploaded>((resolve, reject) => {
      xhr.open("POST", `${this.options.base ?? ""}/files?name=${encodeURIComponent(file.name)}`);
      const token = this.options.token();
      if (token) xhr.setRequestHeader("Authorization", `Bearer ${token}`);
      xhr.setRequestHeader("Content-Type", file.type || "application/octet-stream");
      xhr.responseType = "json";
      xhr.upload.onprogress = (e) => {
        if (e.lengthComputable && e.total > 0) onProgress(e.loaded / e.total);
      };
      xhr.onload = () => {
        if (xhr.status === 201) {
          resolve(xhr.response as Uploaded);
          return;
        }
        if (xhr.status === 401) this.options.onSignedOut();
        const problem = (xhr.response ?? {}) as { code?: string; detail?: string };
        reject(new RestError(xhr.status, problem.code ?? "error", problem.detail ?? ""));
      };
      xhr.onerror = () => reject(new RestError(0, "network", ""));
      xhr.onabort = () => reject(new RestError(0, "aborted", ""));
      xhr.send(file);
    });
    return { done, abort: () => xhr.abort() };
  }
}
