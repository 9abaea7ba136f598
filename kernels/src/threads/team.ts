/**
 * Worker threads that share the work of a call with the thread that made it. The call is synchronous: whoever makes it
 * works along and returns when all is done, so that nothing else can touch the memory meanwhile.
 */

import type { Host, HostWorker } from '../host.ts';
import {
  CALL_BYTES,
  FAILED,
  MOST_PARTS,
  MOST_PIECES,
  ROW,
  type Start,
  tableOf,
  textOf,
  WORD,
  WORKER,
  wordsOf,
} from './worker.ts';

/**
 * So often a thread looks again before it sleeps, about 10 µs. NOTE: waking a thread takes 25 to 60 µs, looking 0.5 µs; on
 * a busy machine, though, who looks takes the core from who works: with 20,000 looks a call there cost up to 230 µs.
 */
const SPIN = 2000;
/** Milliseconds after which a sleeping caller looks whether its workers live. */
const TICK = 100;
/**
 * Milliseconds without one finished piece after which a caller gives up where the host cannot tell whether a worker lives.
 * The longest piece (see `LONGEST` in split.ts) takes about a second.
 */
const GIVE_UP_AFTER = 120_000;
/** The same where nobody may ever await: there a host hears of no worker's end, and a call can mostly be made again. */
const UNAWAITED_GIVE_UP_AFTER = 20_000;

export type Kernel = (...x: number[]) => number | undefined;

type TeamOptions = {
  /** Worker threads, at most `MOST_WORKERS`; the caller is one more. */
  readonly workers: number;
  readonly host: Host;
  readonly module: object;
  readonly memory: object;
  /** The exports of that module. */
  readonly exports: object;
  /** The address of the caller's scratch, and that of each worker. */
  readonly scratch: number;
  readonly scratches: readonly number[];
  /** Looks before a thread sleeps, defaults to `SPIN`. */
  readonly spin?: number | undefined;
  /** Whether the program may end before the workers are ready, defaults to false: somebody awaits that. */
  readonly unawaited?: boolean | undefined;
};

export class Team {
  /** The caller among them. */
  readonly threads: number;
  readonly #workers: readonly HostWorker[];
  readonly #functions: Kernel[];
  readonly #scratch: number;
  readonly #spin: number;
  readonly #giveUpAfter: number;
  #gaveUp = false;
  readonly #words: Int32Array;
  readonly #text: Uint16Array;
  readonly #table: Float64Array;
  #failure: Error | null = null;
  #runs = 0;

  /** Calls may be made at once: a worker takes part once it is ready. Throws an Error where none can be started. */
  constructor(o: TeamOptions) {
    const { host, module, memory } = o;
    const call = new SharedArrayBuffer(CALL_BYTES);
    this.#words = wordsOf(call);
    this.#text = textOf(call);
    this.#table = tableOf(call);
    this.#spin = o.spin ?? SPIN;
    this.#giveUpAfter = o.unawaited ? UNAWAITED_GIVE_UP_AFTER : GIVE_UP_AFTER;
    this.#words[WORD.spin] = this.#spin;
    this.#functions = Object.values(o.exports) as Kernel[];
    this.#scratch = o.scratch;
    const workers: HostWorker[] = [];
    this.#workers = workers;
    this.threads = o.workers + 1;
    try {
      for (let index = 0; index < o.workers; index++) {
        const start: Start = { module, memory, call, index, scratch: o.scratches[index]! };
        const worker = host.startWorker(WORKER, start, reason => this.#fail(reason));
        worker.ready.catch(() => {}); // whoever awaits it hears of it
        if (o.unawaited) worker.release();
        workers.push(worker);
      }
    } catch (error) {
      void this.stop();
      throw error;
    }
  }

  /** Resolves when all workers are ready. Rejects with an Error where one cannot start. */
  async ready(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.ready));
  }

  /** Threads that take part: the caller, and the workers that have come up. */
  get up(): number {
    return 1 + Atomics.load(this.#words, WORD.up);
  }

  /** Calls that were shared. */
  get runs(): number {
    return this.#runs;
  }

  /** How a worker ended; null while none is known to have. */
  get failure(): Error | null {
    return this.#hear();
  }

  /** Ends the workers; resolves when none runs any more. */
  async stop(): Promise<void> {
    Atomics.store(this.#words, WORD.stop, 1);
    this.#wake();
    await Promise.all(this.#workers.map(worker => worker.stop()));
  }

  /**
   * Gives the workers the exports of one more module, whose bytes lie in the memory. NOTE: not as a message, which a worker that
   * waits for calls does not receive.
   */
  add(exports: object, address: number, length: number): void {
    const words = this.#words;
    const count = words[WORD.parts]!;
    if (count === MOST_PARTS) throw new RangeError(`threads: at most ${MOST_PARTS} modules`);
    this.#functions.push(...(Object.values(exports) as Kernel[]));
    words[WORD.part + 2 * count] = address;
    words[WORD.part + 2 * count + 1] = length;
    words[WORD.parts] = count + 1;
  }

  /** Row `piece` of the call that `run` is to make. */
  put(piece: number, args: readonly number[]): void {
    const at = piece * ROW;
    for (let i = 0; i < args.length; i++) this.#table[at + i] = args[i]!;
  }

  /** An argument of that row. */
  set(piece: number, argument: number, value: number): void {
    this.#table[piece * ROW + argument] = value;
  }

  /**
   * Calls export number `which` once for each of `pieces` rows, `arity` arguments each, on all threads. `scratch` is the place
   * of the argument that differs between threads, or −1. Returns the results joined by "or". Throws what an export throws,
   * and an Error where a worker has stopped.
   */
  run(which: number, arity: number, pieces: number, scratch: number): number {
    const words = this.#words;
    if (pieces > MOST_PIECES) throw new RangeError(`threads: ${pieces} pieces, at most ${MOST_PIECES}`);
    this.#check();
    this.#runs++;
    words[WORD.export] = which;
    words[WORD.arity] = arity;
    words[WORD.scratch] = scratch;
    words[WORD.result] = 0;
    words[WORD.done] = 0;
    Atomics.store(words, WORD.left, pieces);
    this.#wake();
    let result = 0;
    try {
      for (let left = Atomics.load(words, WORD.left); left > 0; left = Atomics.load(words, WORD.left)) {
        if (Atomics.compareExchange(words, WORD.left, left, left - 1) !== left) continue;
        result |= this.#piece(which, left - 1, arity, scratch);
        Atomics.add(words, WORD.done, 1);
      }
    } catch (error) {
      this.#abandon();
      throw error;
    }
    this.#join(pieces);
    return result | words[WORD.result]!;
  }

  #piece(which: number, piece: number, arity: number, scratch: number): number {
    const args: number[] = [];
    for (let i = 0; i < arity; i++) args.push(this.#table[piece * ROW + i]!);
    if (scratch >= 0) args[scratch] = this.#scratch;
    return this.#functions[which]!.apply(undefined, args) ?? 0;
  }

  #wake(): void {
    Atomics.add(this.#words, WORD.generation, 1);
    // A worker says that it sleeps before it does, and sleeps only if the generation is still the one that it knows.
    if (Atomics.load(this.#words, WORD.sleeping) > 0) Atomics.notify(this.#words, WORD.generation);
  }

  /** Returns when all pieces are done. */
  #join(pieces: number): void {
    const words = this.#words;
    for (let i = this.#spin; i > 0; i--) if (Atomics.load(words, WORD.done) === pieces) return this.#check();
    Atomics.store(words, WORD.waiting, 1);
    let [last, idle] = [0, 0];
    for (let done = Atomics.load(words, WORD.done); done !== pieces; done = Atomics.load(words, WORD.done)) {
      if (this.#hear() !== null) {
        this.#abandon();
        break;
      }
      const slept = Atomics.wait(words, WORD.done, done, TICK) === 'timed-out';
      idle = done === last && slept ? idle + 1 : 0;
      last = done;
      // A worker that could say why it stops has said so before it did.
      if (!slept || this.#hear() !== null) continue;
      const gone = this.#workers.some((worker, i) => this.#busy(i) && !worker.alive());
      if (gone && this.#hear() === null) this.#fail('stopped');
      else if (idle * TICK > this.#giveUpAfter) {
        this.#gaveUp = true;
        this.#fail(`made no progress for ${this.#giveUpAfter / 1000} seconds`);
      }
    }
    Atomics.store(words, WORD.waiting, 0);
    this.#check();
  }

  #busy(worker: number): boolean {
    return Atomics.load(this.#words, WORD.busy + worker) !== 0;
  }

  /** Takes the pieces back that are left, and returns when no living worker holds one: they write to the memory. */
  #abandon(): void {
    const words = this.#words;
    Atomics.store(words, WORD.left, 0);
    // Who was given up is not waited for once more.
    for (let waited = 0; waited < this.#giveUpAfter && !this.#gaveUp; waited += TICK / 10) {
      if (this.#workers.every((worker, i) => !this.#busy(i) || !worker.alive())) return;
      Atomics.wait(words, WORD.done, Atomics.load(words, WORD.done), TICK / 10);
    }
  }

  #fail(how: string): void {
    this.#failure ??= new Error(`a worker thread ${how}`);
  }

  /** What went wrong, as far as it is known. */
  #hear(): Error | null {
    if (this.#failure === null && Atomics.load(this.#words, WORD.failed) === FAILED)
      this.#fail(`stopped (${String.fromCharCode(...this.#text).replace(/\0.*$/s, '')})`);
    return this.#failure;
  }

  /** Throws if a worker has failed. */
  #check(): void {
    const cause = this.#hear();
    // A new object each time: its trace tells which call it was.
    if (cause !== null)
      throw new Error(
        `threads: ${cause.message}, and tensors that were being computed hold anything; ` +
          'setThreads(1) goes on with one thread, setThreads(n) with new ones',
        { cause },
      );
  }
}
