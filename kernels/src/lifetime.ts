/**
 * "Reachable means valid": a resource outside the garbage collector's reach (wasm memory, a GPU buffer) lives exactly as
 * long as the handle that stands for it can be reached. Nobody disposes, a synchronous loop may run for ever.
 *
 * New handles go on a list. When enough has come together beside what is known to live, a collection makes WeakRefs of
 * them, runs the host's garbage collection and frees what died; most handles are released before that and never cost a
 * WeakRef. Where the host has no synchronous collection, a FinalizationRegistry does the same whenever the program awaits
 * something.
 */

import { type Collector, collector } from './collector.ts';

/** What the tracker still knows of a handle that only the program holds. */
class Entry<R> {
  readonly ref: WeakRef<Handle<R>>;
  /** Null once freed: a dead entry must never free again what others own by then. */
  resource: R | null;
  readonly bytes: number;

  constructor(handle: Handle<R>) {
    this.ref = new WeakRef(handle);
    this.resource = handle.resource;
    this.bytes = handle.bytes;
  }
}

/** Stands for a resource of `bytes` bytes; while it can be reached, the resource is valid. */
export class Handle<R> {
  /** Null once released. */
  resource: R | null;
  readonly bytes: number;
  /** The tracker's: index among the new handles, or −1. */
  place = -1;
  /** The tracker's: set once the handle is no longer new. */
  entry: Entry<R> | null = null;

  constructor(resource: R, bytes: number) {
    this.resource = resource;
    this.bytes = bytes;
  }
}

export type TrackerOptions = {
  /**
   * Bytes that trigger a collection once resources hold so much more than what lived after recent ones, defaults to 16 MB.
   * It grows to an eighth of what lived.
   */
  readonly budget?: number;
  /**
   * How many times the budget may grow, defaults to 4: that of bytes with what lives, that of bytes and of handles while collections
   * take too much time.
   */
  readonly maxScale?: number;
  /** New handles that trigger a collection, defaults to 20,000. */
  readonly count?: number;
  /** Milliseconds of a clock, defaults to that of `performance`. */
  readonly now?: () => number;
  /** The synchronous collection, defaults to the host's; null for a FinalizationRegistry. */
  readonly collector?: Collector | null;
};

export type TrackerStats = {
  readonly collections: number;
  /** Time that they took. */
  readonly milliseconds: number;
  /** The budget of bytes as it is now. */
  readonly budget: number;
  /** Handles in charge, dead ones that were not found yet included. */
  readonly handles: number;
};

/** Shares of the time that collections may take before the budget grows, and below which it shrinks again. */
const [TOO_MUCH, LITTLE] = [0.08, 0.02];
/** The budget's share of what lives. */
const SHARE = 1 / 8;

export class Tracker<R> {
  readonly #free: (resource: R, bytes: number) => void;
  readonly #bytes: number;
  readonly #count: number;
  readonly #maxScale: number;
  readonly #given: Collector | null | undefined;
  readonly #fresh: Handle<R>[] = [];
  /** Bytes in charge, what died and was not found yet included. */
  #held = 0;
  /** The most that lived after a collection, half forgotten with each that leaves less; 0 where none is synchronous. */
  #working = 0;
  /** Bytes in charge beyond which a collection is due. */
  #limit: number;
  #entries: Entry<R>[] = [];
  #registry: FinalizationRegistry<Entry<R>> | null = null;
  #scale = 1;
  readonly #now: () => number;
  #ended: number;
  /** Of the time since the last collection that the last ones took. */
  #share = 0;
  #collections = 0;
  #milliseconds = 0;

  constructor(free: (resource: R, bytes: number) => void, o: TrackerOptions = {}) {
    this.#free = free;
    this.#bytes = o.budget ?? 16e6;
    this.#count = o.count ?? 20_000;
    this.#maxScale = o.maxScale ?? 4;
    this.#given = o.collector;
    this.#now = o.now ?? (() => performance.now());
    this.#ended = this.#now();
    this.#limit = this.#bytes;
  }

  get stats(): TrackerStats {
    return {
      collections: this.#collections,
      milliseconds: this.#milliseconds,
      budget: this.#budget,
      handles: this.#fresh.length + this.#entries.length,
    };
  }

  /** Whether dead handles are found at once, in a synchronous loop too. */
  get synchronous(): boolean {
    return this.#collector !== null;
  }

  get #collector(): Collector | null {
    return this.#given === undefined ? collector() : this.#given;
  }

  /** What garbage may hold beside the working set before it is looked for. */
  get #budget(): number {
    return Math.max(this.#bytes * this.#scale, Math.min(this.#bytes * this.#maxScale, this.#working * SHARE));
  }

  /** Whether enough has come together that `collect` should run before the next resource is made. */
  get due(): boolean {
    return this.#held > this.#limit || this.#fresh.length >= this.#count * this.#scale;
  }

  /** Takes charge of a new handle. */
  add(handle: Handle<R>): void {
    handle.place = this.#fresh.length;
    this.#fresh.push(handle);
    this.#held += handle.bytes;
  }

  /** Frees a resource now; its handle must not be used again. */
  release(handle: Handle<R>): void {
    const { resource } = handle;
    if (resource === null) return;
    handle.resource = null;
    if (handle.entry !== null) handle.entry.resource = null;
    else {
      const last = this.#fresh.pop()!;
      if (last !== handle) {
        this.#fresh[handle.place] = last;
        last.place = handle.place;
      }
    }
    this.#held -= handle.bytes;
    this.#free(resource, handle.bytes);
  }

  /** Handles that are reachable, or were at the last collection; none that a FinalizationRegistry has in charge. */
  handles(): Handle<R>[] {
    const old = this.#entries.map(entry => (entry.resource === null ? undefined : entry.ref.deref()));
    return [...old.filter(handle => handle !== undefined), ...this.#fresh];
  }

  /**
   * Frees what can no longer be reached; `survivor` sees every handle that lives. Call it only where no kernel is under way
   * and no address was read: before a resource is made.
   */
  collect(survivor?: (handle: Handle<R>) => void): void {
    const started = this.#now();
    // NOTE: `pop`, so that nothing is left in the list: a stale slot of this frame may keep it alive (seen on Node 24).
    for (let handle = this.#fresh.pop(); handle !== undefined; handle = this.#fresh.pop()) {
      handle.entry = new Entry(handle);
      handle.place = -1;
      this.#entries.push(handle.entry);
    }
    const collect = this.#collector;
    if (collect === null) {
      this.#hand();
      this.#limit = this.#held + this.#budget;
      return;
    }
    collect();
    this.#sweep(survivor);
    const ended = this.#now();
    this.#collections++;
    this.#milliseconds += ended - started;
    // Averaged, so that one slow collection on a busy machine does not double the memory for good.
    this.#share += (0.3 * (ended - started)) / (ended - this.#ended) - 0.3 * this.#share;
    this.#ended = ended;
    const share = this.#share;
    if (share > TOO_MUCH) this.#scale = Math.min(this.#maxScale, this.#scale * 2);
    else if (share < LITTLE) this.#scale = Math.max(1, this.#scale / 2);
    // A training step holds most at the end of its forward pass, all of it alive: what it held there last time is no garbage
    // this time, so it is no reason to look for any.
    this.#working = Math.max(this.#held, (this.#working + this.#held) / 2);
    this.#limit = this.#working + this.#budget;
  }

  #sweep(survivor?: (handle: Handle<R>) => void): void {
    const living: Entry<R>[] = [];
    for (const entry of this.#entries) {
      if (entry.resource === null) continue;
      const handle = entry.ref.deref();
      if (handle === undefined) this.#finish(entry);
      else {
        living.push(entry);
        survivor?.(handle);
      }
    }
    this.#entries = living;
  }

  #finish(entry: Entry<R>): void {
    const { resource } = entry;
    if (resource === null) return;
    entry.resource = null;
    this.#held -= entry.bytes;
    this.#free(resource, entry.bytes);
  }

  /** Leaves the entries to a FinalizationRegistry. */
  #hand(): void {
    this.#registry ??= new FinalizationRegistry(entry => {
      const before = this.#held;
      this.#finish(entry);
      // As many new bytes as before make the next one due.
      this.#limit -= before - this.#held;
    });
    for (const entry of this.#entries) {
      const handle = entry.ref.deref();
      if (handle === undefined) this.#finish(entry);
      else if (entry.resource !== null) this.#registry.register(handle, entry);
    }
    this.#entries = [];
  }
}
