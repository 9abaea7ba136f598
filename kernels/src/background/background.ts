/**
 * Eigendecompositions in a worker, while the thread that asks goes on. That thread's event loop may stand still for good (a
 * synchronous training loop), so it never waits for a message: it looks at the job, which lies in memory that both share.
 */

import { host as ownHost } from '#host';
import { type Variant, variants } from '../features.ts';
import type { Host, HostWorker } from '../host.ts';
import { kernelsModule } from '../instance.ts';
import { eigenModule } from '../linalg.ts';
import { layoutOf, type Message, STATUS, type Start, TEXT, WORKER } from './worker.ts';

/** Milliseconds after which a sleeping thread looks whether the worker lives. */
const TICK = 100;
/** Workers at most, unless somebody says otherwise. */
const MOST = 7;
/** Σ n³ of what a worker has to do before another one is started beside it: some 30 ms, which is what the start takes. */
const ENOUGH = 5e7;

export type BackgroundOptions = {
  /** Where workers come from, defaults to what this package was bundled for. */
  readonly host?: Host;
  /** Milliseconds after which a worker that has not started yet is not waited for, defaults to 10,000. */
  readonly late?: number;
  /**
   * Milliseconds without progress after which a worker is given up that was given matrices up to [n, n], as the host cannot
   * always tell whether one lives. Defaults to 15 seconds and some hundred times what such a matrix takes on an idle machine
   * (measured: 0.25 s for n = 1024).
   */
  readonly patience?: (n: number) => number;
  /** Workers at most, at least 1; defaults to one for each core but that of who asks, and to 7 where there are more. */
  readonly workers?: number;
};

export type JobStatus = keyof typeof STATUS;
const NAMES = Object.keys(STATUS) as JobStatus[];

/**
 * A symmetric matrix [n, n] and, once it is done, its eigenvalues and the eigenvectors in columns; and the way there from
 * another basis, if that is asked for.
 */
export class EighJob {
  readonly n: number;
  /** Where all of it lies. */
  readonly buffer: ArrayBufferLike;
  /** Row-major, of one type. The worker only reads the matrix. */
  readonly matrix: Float32Array | Float64Array;
  readonly vectors: Float32Array | Float64Array;
  /** Another basis, in columns; once it is done basisᵀ · vectors, in its place. Null where it is not asked for. */
  readonly basis: Float32Array | Float64Array | null;
  /** Ascending. */
  readonly values: Float64Array;
  readonly #words: Int32Array;

  /** @param buffer of `bytes(n, dtype, turns)`, shared if a worker is to see it */
  constructor(n: number, dtype: 'float32' | 'float64', turns: boolean, buffer: ArrayBufferLike) {
    const square = (at: number) =>
      dtype === 'float32' ? new Float32Array(buffer, at, n * n) : new Float64Array(buffer, at, n * n);
    const at = layoutOf(n, dtype === 'float32' ? 4 : 8, turns);
    this.n = n;
    this.buffer = buffer;
    this.matrix = square(at.matrix);
    this.vectors = square(at.vectors);
    this.basis = turns ? square(at.basis) : null;
    this.values = new Float64Array(this.buffer, at.values, n);
    this.#words = new Int32Array(this.buffer, 0, 1);
    Atomics.store(this.#words, 0, STATUS.waiting);
  }

  /** Bytes of the buffer of such a job. */
  static bytes(n: number, dtype: 'float32' | 'float64', turns: boolean): number {
    return layoutOf(n, dtype === 'float32' ? 4 : 8, turns).end;
  }

  get status(): JobStatus {
    return NAMES[Atomics.load(this.#words, 0)]!;
  }

  /** Whether the worker has come to an end with it. */
  get finished(): boolean {
    const { status } = this;
    return status !== 'waiting' && status !== 'running' && status !== 'taken';
  }

  /** What the worker said when it failed. */
  get reason(): string {
    return String.fromCharCode(...new Uint16Array(this.buffer, this.#layout.text, TEXT)).replace(/\0.*$/s, '');
  }

  /** Takes it away from the worker; false if that has begun. */
  claim(): boolean {
    return Atomics.compareExchange(this.#words, 0, STATUS.waiting, STATUS.taken) === STATUS.waiting;
  }

  /** Sleeps until the status is another, for a tenth of a second at most. A page's main thread may not: it comes back at once. */
  sleep(status: JobStatus): void {
    try {
      Atomics.wait(this.#words, 0, STATUS[status], TICK);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }

  /** What to post to the worker. */
  message(tolerance: number): Message {
    const { buffer, matrix, n } = this;
    return { ...this.#layout, buffer, n, single: matrix.BYTES_PER_ELEMENT === 4, tolerance };
  }

  get #layout() {
    return layoutOf(this.n, this.matrix.BYTES_PER_ELEMENT, this.basis !== null);
  }
}

/** A worker from its start to its end. */
export class EighWorker {
  readonly #worker: HostWorker;
  readonly #words = new Int32Array(new SharedArrayBuffer(8));
  readonly #since = performance.now();
  readonly #late: number;
  readonly #patience: (n: number) => number;
  #reason: string | null = null;
  #largest = 0;
  #jobs: EighJob[] = [];
  /** Messages that it had begun with when that was last another number, and when that was. */
  #begun = 0;
  #moved = 0;

  /** Throws an Error where there can be none. */
  constructor(variant: Variant, { host, late, patience }: Required<BackgroundOptions>) {
    this.#late = late;
    this.#patience = patience;
    const data: Start = {
      kernels: kernelsModule(variant),
      eigen: eigenModule(variant),
      words: this.#words.buffer,
    };
    this.#worker = host.startWorker(WORKER, data, how => {
      this.#reason ??= how;
    });
    this.#worker.ready.catch(() => {}); // told to the callback too
  }

  /** Whether it has ever run. */
  get started(): boolean {
    return Atomics.load(this.#words, 0) === 1;
  }

  /** Why it is not to be counted on, as it never ran; null where it has, or may yet. */
  get missing(): string | null {
    if (this.started) return null;
    if (this.#reason !== null) return `a worker did not start: it ${this.#reason}`;
    if (performance.now() - this.#since < this.#late) return null;
    return (
      `a worker has not started within ${this.#late / 1000} seconds; ` +
      'browsers start one only while the program awaits something'
    );
  }

  /** How it ended, null while nothing says that it has. */
  get ended(): string | null {
    if (this.#reason === null && this.started && !this.#worker.alive()) this.#reason = 'stopped';
    return this.#reason;
  }

  /** To be called now and then by who wants a job: gives the worker up where it has not moved for longer than it should. */
  check(): void {
    const [begun, now] = [Atomics.load(this.#words, 1), performance.now()];
    if (begun !== this.#begun) [this.#begun, this.#moved] = [begun, now];
    if (this.started && now - this.#moved > this.#patience(this.#largest))
      void this.stop('made no progress and was given up');
  }

  /** Σ n³ of the jobs that it has not come to an end with. */
  get load(): number {
    this.#jobs = this.#jobs.filter(({ status }) => status === 'waiting' || status === 'running');
    return this.#jobs.reduce((sum, { n }) => sum + n ** 3, 0);
  }

  post(job: EighJob, tolerance: number): void {
    this.#jobs.push(job);
    this.#largest = Math.max(this.#largest, job.n);
    this.#moved = performance.now();
    this.#worker.post(job.message(tolerance));
  }

  /** Ends it; `reason` is what its jobs will say. */
  async stop(reason = 'stopped'): Promise<void> {
    this.#reason ??= reason;
    await this.#worker.stop();
  }
}

/** The workers of a process, each from the first job on that it is wanted for; new ones where they have stopped. */
export class Background {
  readonly #o: Required<BackgroundOptions>;
  #workers: EighWorker[] = [];
  #refusal: string | null = null;

  constructor(o: BackgroundOptions = {}) {
    const host = o.host ?? ownHost;
    const workers = Math.min(MOST, Math.max(1, host.cores() - 1));
    this.#o = { host, late: 10_000, patience: n => 15_000 + 4e-5 * n ** 3, workers, ...o };
  }

  /** Why nothing can run in the background here, and what to do about it; null where it can. */
  why(): string | null {
    if (variants().length === 0) return 'there is no WebAssembly with SIMD';
    return this.#o.host.whyNoWorker() ?? this.#refusal ?? this.#workers[0]?.missing ?? null;
  }

  /** Workers at most. */
  get most(): number {
    return this.#o.workers;
  }

  /**
   * Hands a shared job to the worker that has the least to do and returns that, or null where none can be started. `tolerance` is as
   * in `symmetrise`.
   */
  post(job: EighJob, tolerance: number): EighWorker | null {
    this.#workers = this.#workers.filter(({ ended }) => ended === null);
    let [worker, load] = [null as EighWorker | null, Infinity];
    for (const one of this.#workers) if (one.load < load) [worker, load] = [one, one.load];
    if (worker === null || (load >= ENOUGH && this.#workers.length < this.#o.workers))
      try {
        worker = new EighWorker(variants()[0]!, this.#o);
        this.#workers.push(worker);
      } catch (error) {
        if (worker === null) {
          this.#refusal = error instanceof Error ? error.message : String(error);
          return null;
        }
        // Those that there are have it.
      }
    worker.post(job, tolerance);
    return worker;
  }

  /** Ends all workers that there are. */
  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.stop()));
  }
}
