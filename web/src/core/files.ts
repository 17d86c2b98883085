// Files as object URLs. Each is fetched once with the session; the least
// recently used ones are given back when the whole grows too large, but never
// one that is on the screen.

interface Entry {
  promise: Promise<string>;
  url: string | null;
  size: number;
  users: number;
  abort: AbortController;
}

/** What unused files may take together, in bytes. */
const budget = 96 << 20;

/** The id of a picture that lies here, not elsewhere: addresses of others are never asked. */
export function ownFile(address: string | undefined): string | undefined {
  return /^\/files\/([0-9a-f-]+)$/.exec(address ?? "")?.[1];
}

export class FileCache {
  private readonly load: (id: string, signal: AbortSignal) => Promise<Blob>;
  private readonly limit: number;
  private entries = new Map<string, Entry>(); // in order of use, the latest last

  constructor(load: (id: string, signal: AbortSignal) => Promise<Blob>, limit = budget) {
    this.load = load;
    this.limit = limit;
  }

  /** An object URL that stays valid until release. */
  acquire(id: string): Promise<string> {
    let entry = this.entries.get(id);
    if (entry) {
      this.entries.delete(id);
    } else {
      const abort = new AbortController();
      const made: Entry = { promise: Promise.resolve(""), url: null, size: 0, users: 0, abort };
      made.promise = this.load(id, abort.signal).then(
        (blob) => {
          made.url = URL.createObjectURL(blob);
          made.size = blob.size;
          if (this.entries.get(id) !== made) URL.revokeObjectURL(made.url);
          this.trim();
          return made.url;
        },
        (error: unknown) => {
          // Not kept, so that the next look tries again.
          if (this.entries.get(id) === made) this.entries.delete(id);
          throw error;
        },
      );
      entry = made;
    }
    entry.users++;
    this.entries.set(id, entry);
    return entry.promise;
  }

  release(id: string): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    entry.users = Math.max(0, entry.users - 1);
    this.trim();
  }

  /** Whether the file is here already, for a first paint without a placeholder. */
  peek(id: string): string | null {
    return this.entries.get(id)?.url ?? null;
  }

  clear(): void {
    for (const entry of this.entries.values()) {
      entry.abort.abort();
      if (entry.url) URL.revokeObjectURL(entry.url);
    }
    this.entries.clear();
  }

  private trim(): void {
    let total = 0;
    for (const entry of this.entries.values()) total += entry.size;
    for (const [id, entry] of this.entries) {
      if (total <= this.limit) return;
      if (entry.users > 0 || !entry.url) continue;
      URL.revokeObjectURL(entry.url);
      this.entries.delete(id);
      total -= entry.size;
    }
  }
}
