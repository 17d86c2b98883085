// A small observable store. Many events may arrive within one frame (a replay
// after a gap brings thousands); readers are told once for all of them.

export type Listener = () => void;

export class Store<S> {
  private listeners = new Set<Listener>();
  private scheduled: ReturnType<typeof setTimeout> | null = null;
  private current: S;

  constructor(initial: S) {
    this.current = initial;
  }

  get = (): S => this.current;

  subscribe = (listener: Listener): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Changes the state and tells readers at once: for what a person just did. */
  set(change: (state: S) => S): void {
    const next = change(this.current);
    if (next === this.current) return;
    this.current = next;
    this.notify();
  }

  /** Changes the state and tells readers within about a frame (16 ms). */
  setSoon(change: (state: S) => S): void {
    const next = change(this.current);
    if (next === this.current) return;
    this.current = next;
    this.scheduled ??= setTimeout(() => this.notify(), 16);
  }

  private notify(): void {
    if (this.scheduled !== null) clearTimeout(this.scheduled);
    this.scheduled = null;
    for (const listener of [...this.listeners]) listener();
  }
}
