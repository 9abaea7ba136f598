/**
 * The device 'later': the reference behind a queue. Kernels only enter their work; it runs when somebody awaits a read, and
 * checks are told then, as a GPU's are. It finds whatever in the library asks for values at once, without any adapter.
 */

import {
  type Backend,
  type DType,
  type Operand,
  ReferenceBackend,
  type Region,
  registerBackend,
  type Storage,
  type TypedArray,
  unscoped,
  zeros,
} from '@otimes/core';
import { readError } from '@otimes/core/extend';

/** Kernels that write to what is there already: they do nothing once a check has failed. */
const IN_PLACE = ['addScaled', 'addcdiv', 'scale', 'assign', 'moments', 'adam', 'sgd'] as const;

/** Methods that are no kernels. */
const OTHERS: readonly string[] = [
  'constructor',
  'allocate',
  'store',
  'read',
  'endKernels',
  'checkIndex',
  'checkFinite',
  'onFailure',
];

/** Work that waits at most, before it is done unasked. */
const LONGEST = 1 << 14;

/** Memory whose elements nobody can see at once. */
export class LaterRegion implements Region {
  readonly size: number;
  readonly host: Storage;
  readonly #device: LaterBackend;

  constructor(device: LaterBackend, host: Storage) {
    this.#device = device;
    this.host = host;
    this.size = host.size;
  }

  get array(): TypedArray {
    return this.#device.instantly(() => this.host.array);
  }

  /** Others may write here from now on, after all work that was entered before. */
  release(): void {
    this.#device.forget(this.host);
  }
}

/** A check that failed, and what is undone when it is told. */
type Failure = { readonly error: Error; readonly undos: (() => void)[] };

type Kernel = (...operands: unknown[]) => void;

export class LaterBackend extends ReferenceBackend {
  /** Reads that were not awaited. */
  instantReads = 0;
  /** Whether those are answered, for counting them, or throw. */
  answersInstantReads = false;
  readonly #host: Backend;
  #queue: (() => void)[] = [];
  /** The first check that failed and was not told yet; another object for each. */
  #failed: Failure | null = null;
  #skips = false;

  constructor(device = 'later') {
    super(device);
    const host = new ReferenceBackend(`${device}: host`);
    registerBackend(host);
    this.#host = host;
    for (const name of kernelsOf(host)) {
      const kernel = Reflect.get(host, name) as Kernel;
      const inPlace = (IN_PLACE as readonly string[]).includes(name);
      const enqueue: Kernel = (...operands) => {
        // Before anything is written.
        if (name === 'assign') this.#checkRange(operands[0] as Operand, operands[1] as Operand);
        const seen = operands.map(onHost);
        this.#enter(() => {
          if (!inPlace || (this.#failed === null && !this.#skips)) kernel.apply(host, seen);
        });
      };
      Object.defineProperty(this, name, { value: enqueue });
    }
  }

  override allocate(dtype: DType, size: number): LaterRegion {
    const memory = unscoped(() => zeros([size], { dtype, device: this.#host.device }).keep());
    // Kernels may find anything in new memory.
    if (dtype === 'float32' || dtype === 'float64') memory.storage.array.fill(Number.NaN);
    return new LaterRegion(this, memory.storage);
  }

  override store(data: TypedArray): LaterRegion {
    const dtype = data instanceof Float64Array ? 'float64' : data instanceof Float32Array ? 'float32' : null;
    const region = this.allocate(dtype ?? (data instanceof Int32Array ? 'int32' : 'bool'), data.length);
    region.host.array.set(data);
    return region;
  }

  override read(x: Operand): TypedArray {
    return this.instantly(() => this.#host.read(onHost(x) as Operand));
  }

  override async readAsync(x: Operand, peek = false): Promise<TypedArray> {
    const seen = onHost(x) as Operand;
    const found: { data?: TypedArray; failed: Failure | null } = { failed: null };
    this.#enter(() => {
      found.data = this.#host.read(seen);
      // Of the checks that were entered before this read, and of no later one.
      found.failed = this.#failed;
    });
    await new Promise(resolve => setImmediate(resolve));
    this.#drain();
    const { data, failed } = found;
    if (failed === null) return data!;
    // Unless another read has told it already.
    if (!peek && this.#failed === failed) {
      this.#failed = null;
      const broken: unknown[] = [];
      for (const undo of failed.undos.reverse())
        try {
          undo();
        } catch (error) {
          broken.push(error);
        }
      if (broken.length > 0) failed.error.cause = new AggregateError(broken);
    }
    throw failed.error;
  }

  override checkIndex(index: Operand, length: number, error: (position: number, value: number) => Error): void {
    this.#check(index, value => value >= 0 && value < length, error);
  }

  override checkFinite(x: Operand, error: (position: number, value: number) => Error): void {
    this.#check(x, Number.isFinite, error);
  }

  override restore(y: Operand, x: Operand): void {
    const [to, from] = [onHost(y) as Operand, onHost(x) as Operand];
    this.#enter(() => this.#host.assign(to, from));
  }

  override skipIf(found: Operand | null): void {
    const seen = onHost(found) as Operand | null;
    this.#enter(() => {
      this.#skips = seen !== null && this.#host.read(seen)[0] !== 0;
    });
  }

  override onFailure(undo: () => void): void {
    this.#enter(() => this.#failed?.undos.push(undo));
  }

  /** Spoils memory that nobody needs any more, as its next owner would. */
  forget(memory: Storage): void {
    this.#enter(() => {
      memory.array.fill(memory.dtype.startsWith('float') ? Number.NaN : 1);
    });
  }

  /** Counts a read that nobody awaits, and answers it or throws. */
  instantly<T>(read: () => T): T {
    this.instantReads++;
    if (!this.answersInstantReads) throw readError(this.device);
    this.#drain();
    return read();
  }

  /** Floats that become int32 are in its range. */
  #checkRange(y: Operand, x: Operand): void {
    if (y.dtype !== 'int32' || !x.dtype.startsWith('float')) return;
    const fits = (value: number) => Math.trunc(value) >= -(2 ** 31) && value < 2 ** 31;
    this.#check(x, fits, (_, value) => new RangeError(`astype: int32 holds −2147483648 … 2147483647, got ${value}`));
  }

  #check(x: Operand, isGood: (value: number) => boolean, error: (position: number, value: number) => Error): void {
    const seen = onHost(x) as Operand;
    this.#enter(() => {
      if (this.#failed !== null) return;
      const values = this.#host.read(seen);
      const at = values.findIndex(value => !isGood(value));
      if (at >= 0) this.#failed = { error: error(at, values[at]!), undos: [] };
    });
  }

  #enter(work: () => void): void {
    this.#queue.push(work);
    if (this.#queue.length > LONGEST) this.#drain();
  }

  #drain(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const work of queue)
      try {
        work();
      } catch (error) {
        this.#failed ??= { error: error instanceof Error ? error : new Error(String(error)), undos: [] };
      }
  }
}

/** An operand as the host's kernels see it, with the memory that it has now: the storage may be released before they run. */
function onHost(x: unknown): unknown {
  if (typeof x !== 'object' || x === null || !('storage' in x)) return x;
  const { storage, dtype, shape, strides, offset } = x as Operand;
  const { memory } = storage;
  if (!(memory instanceof LaterRegion)) throw new Error('later: expected memory of this device');
  return { storage: memory.host, dtype, shape, strides, offset };
}

/** The names of all methods of a backend that compute something. */
function kernelsOf(backend: Backend): string[] {
  const names = new Set<string>(Object.keys(backend));
  for (let at: unknown = backend; at !== null && at !== Object.prototype; at = Reflect.getPrototypeOf(at as object))
    for (const name of Object.getOwnPropertyNames(at)) names.add(name);
  return [...names].filter(name => !OTHERS.includes(name) && typeof Reflect.get(backend, name) === 'function');
}

/** The device 'later', registered; the same one at each call. */
export function laterDevice(): LaterBackend {
  const known = registered;
  if (known !== null) return known;
  const later = new LaterBackend();
  registerBackend(later);
  registered = later;
  return later;
}

let registered: LaterBackend | null = null;

/** How many reads `run` makes that nobody awaits; they are answered while it runs. */
export async function instantReadsIn(run: () => unknown): Promise<number> {
  const later = laterDevice();
  const before = later.instantReads;
  later.answersInstantReads = true;
  try {
    await run();
  } finally {
    later.answersInstantReads = false;
  }
  return later.instantReads - before;
}
