/**
 * Node's worker threads as readers of batches. Orders and answers are small messages; pixels are in memory that the threads share.
 * Each batch has a slot of it, which is given back once the batch was copied, so that there are as many slots as batches are prepared.
 *
 * An answer arrives as an event, or, where a loop does not let events come, is fetched: the thread counts its answers in shared
 * memory, and the loop waits for that number to change.
 */

import { existsSync } from 'node:fs';
import { MessageChannel, receiveMessageOnPort, Worker, type WorkerOptions } from 'node:worker_threads';
import { FormatError, OutOfMemoryError, ShapeError } from '@otimes/core';
import type { EpochKey } from '../../epochs.ts';
import { nameOf } from '../plan.ts';
import type { PictureSource } from '../source.ts';
import type { ImageTransform } from '../transform.ts';
import {
  type Answer,
  type Filled,
  type Host,
  type Job,
  type Order,
  type ReaderData,
  type Readers,
  SIGNALS,
} from './readers.ts';

/** Of this file; a bundle in CommonJS has none. */
const here: string | undefined = import.meta.url;
const fromSource = here?.endsWith('.ts') ?? false;
const THREAD = here === undefined ? null : new URL(`./thread.${fromSource ? 'ts' : 'js'}`, here);

/** A blocked loop learns of a thread that its host ended, for want of memory say, by this many ms without a sign of it. */
const PATIENCE = 120_000;

const CLASSES: Readonly<Record<string, new (message: string, o?: ErrorOptions) => Error>> = {
  ...{ FormatError, OutOfMemoryError, ShapeError, RangeError, TypeError },
};

const ADVICE = 'workers: 0 reads in this thread';

function start(data: object, transferList: WorkerOptions['transferList']): Worker {
  const o = { workerData: data, transferList: transferList! };
  // Nothing of the program's own flags: some of them, such as --input-type, go with no file.
  if (!fromSource) return new Worker(THREAD!, { ...o, execArgv: [] });
  // From the sources threads need the compiler, which does not come to them by itself.
  const [compiler, thread] = [import.meta.resolve('tsx/esm/api'), THREAD!.href].map(url => JSON.stringify(url));
  const code = `import(${compiler}).then(({ register }) => { register(); return import(${thread}); })`;
  return new Worker(code, { ...o, eval: true, env: {}, execArgv: ['--conditions=@otimes/source'] });
}

/** Memory of one batch. */
type Slot = { memory: SharedArrayBuffer | null; readonly dropped: Int32Array };

const shared = (length: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * length));

class Batch implements Job {
  readonly #thread: Thread;
  readonly #slots: Slot[];
  readonly slot: Slot;
  #answer: Filled | Error | null = null;
  #ended = false;
  #wake: () => void = () => {};

  constructor(thread: Thread, slots: Slot[]) {
    this.#thread = thread;
    this.#slots = slots;
    this.slot = slots.pop() ?? { memory: null, dropped: shared(1) };
    Atomics.store(this.slot.dropped, 0, 0);
  }

  get answered(): boolean {
    return this.#answer !== null;
  }

  answer(answer: Filled | Error): void {
    this.#answer = answer;
    if (this.#ended) this.#slots.push(this.slot);
    this.#wake();
  }

  now(): Filled {
    this.#thread.wait(this);
    return this.#result();
  }

  async later(): Promise<Filled> {
    this.#thread.drain();
    if (this.#answer === null) {
      this.#thread.awaited(1);
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
      this.#thread.awaited(-1);
    }
    return this.#result();
  }

  #result(): Filled {
    if (this.#answer instanceof Error) throw this.#answer;
    return this.#answer!;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.answered) this.#slots.push(this.slot);
    else Atomics.store(this.slot.dropped, 0, 1);
  }
}

class Thread {
  readonly #source: PictureSource;
  readonly #signals = shared(3);
  readonly #worker: Worker;
  readonly #port: MessageChannel['port1'];
  /** Batches without an answer, by the ids of their orders. */
  readonly batches = new Map<number, Batch>();
  #orders = 0;
  #waiting = 0;
  /** Whether it takes orders. */
  alive = true;
  /** Why it does not, as long as no batch was told. */
  untold: Error | null = null;

  constructor(source: PictureSource, transforms: readonly ImageTransform[]) {
    this.#source = source;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const data: ReaderData = { recipe: source.recipe, transforms, signals: this.#signals };
    this.#signals[SIGNALS.reading] = -1;
    this.#worker = start({ ...data, port: port2 }, [port2]);
    this.#worker.on('error', error => this.#stopped(`stopped (${error.message})`));
    this.#worker.on('exit', code => this.#stopped(`stopped (exit code ${code})`));
    this.#worker.unref();
    port1.on('message', answer => this.#arrived(answer));
    port1.unref();
  }

  begin(indices: Int32Array, key: EpochKey, batch: Batch): void {
    const id = this.#orders++;
    this.batches.set(id, batch);
    const { memory, dropped } = batch.slot;
    this.#port.postMessage({ id, indices, key, dropped, memory } satisfies Order);
  }

  /** Takes all answers that are there. */
  drain(): void {
    for (let got = receiveMessageOnPort(this.#port); got !== undefined; got = receiveMessageOnPort(this.#port))
      this.#arrived(got.message);
  }

  #arrived({ id, shape, memory, error, errorName }: Answer): void {
    // Answers that were under way when the thread was ended still arrive, at a closed port too. Nobody waits for them.
    if (!this.alive) return;
    const batch = this.batches.get(id)!;
    this.batches.delete(id);
    if (memory !== null) batch.slot.memory = memory;
    const size = shape.length && shape.reduce((a, b) => a * b);
    if (error !== null) batch.answer(new (CLASSES[errorName] ?? Error)(error.message, { cause: error }));
    else batch.answer({ shape, floats: new Float32Array(batch.slot.memory ?? new ArrayBuffer(0), 0, size) });
  }

  /** Blocks this thread until the batch has an answer. */
  wait(batch: Batch): void {
    let sign = '';
    let since = performance.now();
    for (;;) {
      const answers = Atomics.load(this.#signals, SIGNALS.answers);
      const stopped = Atomics.load(this.#signals, SIGNALS.stopped) === 1;
      this.drain();
      if (batch.answered) return;
      if (stopped) this.#stopped('stopped');
      else if (Atomics.wait(this.#signals, SIGNALS.answers, answers, 1000) === 'timed-out') {
        const seen = String(this.#signals);
        if (seen !== sign) [sign, since] = [seen, performance.now()];
        else if (performance.now() - since > PATIENCE) this.#stopped(`gave no sign for ${PATIENCE / 1000} s`);
      }
    }
  }

  /** One more or one less waits for an answer, which keeps the process alive. */
  awaited(change: 1 | -1): void {
    this.#waiting += change;
    if (this.#waiting > 0) this.#worker.ref();
    else this.#worker.unref();
  }

  #stopped(how: string): void {
    if (!this.alive) return;
    this.drain();
    const index = this.#signals[SIGNALS.reading]!;
    const doing = index < 0 ? '' : ` while it read ${nameOf(this.#source, index)}`;
    this.stop(new Error(`ImageLoader: a worker thread ${how}${doing}; ${ADVICE}`));
  }

  /** Ends the thread; what it had to read is an error. */
  stop(error: Error): void {
    this.alive = false;
    this.#port.close();
    void this.#worker.terminate();
    if (this.batches.size === 0) this.untold = error;
    for (const batch of this.batches.values()) {
      // The thread may write to this memory until it has ended: no other batch gets it.
      batch.slot.memory = null;
      batch.answer(error);
    }
    this.batches.clear();
  }
}

class Threads implements Readers {
  readonly #source: PictureSource;
  readonly #transforms: readonly ImageTransform[];
  readonly #threads: Thread[];
  readonly #slots: Slot[] = [];

  constructor(source: PictureSource, transforms: readonly ImageTransform[], count: number) {
    this.#source = source;
    this.#transforms = transforms;
    this.#threads = Array.from({ length: count }, () => this.#start());
  }

  #start(): Thread {
    return new Thread(this.#source, this.#transforms);
  }

  begin(indices: Int32Array, key: EpochKey): Job {
    for (const thread of this.#threads) if (thread.alive) thread.drain();
    const thread = this.#threads.reduce((a, b) => (b.batches.size < a.batches.size ? b : a));
    // One that stopped was an error of its batches, or is one of this; a later loop may go on.
    const taker = thread.alive ? thread : this.#start();
    this.#threads[this.#threads.indexOf(thread)] = taker;
    const batch = new Batch(taker, this.#slots);
    if (thread.untold !== null) batch.answer(thread.untold);
    else taker.begin(indices, key, batch);
    return batch;
  }

  close(): void {
    for (const thread of this.#threads) if (thread.alive) thread.stop(new Error('ImageLoader: the loader is closed'));
  }
}

export const host: Host = {
  why() {
    if (typeof SharedArrayBuffer === 'undefined') return 'this host has no SharedArrayBuffer';
    if (THREAD === null || !existsSync(THREAD))
      return `the file of its threads is not at ${THREAD?.pathname}: a bundle leaves it out, if it does not leave @otimes/data outside`;
    return null;
  },
  open: (source, transforms, threads) => new Threads(source, transforms, threads),
};
