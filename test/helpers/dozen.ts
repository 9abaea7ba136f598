/** Devices of a dozen kernels, those of the reference: all others are composed. One is read at once, one with await. */

import assert from 'node:assert/strict';
import {
  AwaitedBackend,
  ComposedBackend,
  type DeviceKernels,
  type DType,
  type Operand,
  ReferenceBackend,
  type Region,
  type TypedArray,
} from '@otimes/core';
import { LaterBackend } from './later.ts';

/** The names of the kernels that a device has from its base. */
export function composedKernels(device: ComposedBackend): string[] {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(ComposedBackend.prototype));
  const own = Object.getOwnPropertyNames(Object.getPrototypeOf(device));
  return names.filter(name => name !== 'constructor' && !own.includes(name));
}

/** Memory that only kernels of the device see, and that holds no numbers before and after. */
class Cells implements Region {
  readonly size: number;
  readonly #device: Dozen;
  #cells: TypedArray | null;

  constructor(device: Dozen, cells: TypedArray) {
    this.#device = device;
    this.#cells = cells;
    this.size = cells.length;
  }

  get array(): TypedArray {
    assert.ok(this.#device.running, 'the host looked at values');
    assert.ok(this.#cells !== null, 'a kernel was given memory that went back');
    return this.#cells;
  }

  release(): void {
    if (this.#cells === null) return;
    this.#cells.fill(dirt(this.#cells));
    this.#cells = null;
    this.#device.released(this);
  }
}

const dirt = (cells: TypedArray) => (cells instanceof Uint8Array ? 1 : cells instanceof Int32Array ? 77 : Number.NaN);

/** The dozen, by the reference's functions. */
export class Dozen extends ComposedBackend {
  readonly device: string;
  running = false;
  /** Memory that was taken and did not go back; tables, which stay, are stored. */
  readonly #taken = new Set<Region>();
  readonly #host = new ReferenceBackend('host');

  constructor(device: string) {
    super();
    this.device = device;
    for (const name of composedKernels(this)) {
      const kernel = Reflect.get(this, name) as (...operands: unknown[]) => void;
      const value = (...operands: unknown[]) => {
        const before = this.#taken.size;
        kernel.apply(this, operands);
        assert.equal(this.#taken.size, before, `${name} left memory behind`);
      };
      Object.defineProperty(this, name, { value });
    }
  }

  released(memory: Region): void {
    this.#taken.delete(memory);
  }

  #run<T>(kernel: (host: ReferenceBackend) => T): T {
    this.running = true;
    try {
      return kernel(this.#host);
    } finally {
      this.running = false;
    }
  }

  allocate(dtype: DType, size: number): Region {
    const cells = this.#host.allocate(dtype, size) as TypedArray;
    const memory = new Cells(this, cells.fill(dirt(cells)));
    this.#taken.add(memory);
    return memory;
  }

  store(data: TypedArray): Region {
    return new Cells(this, data.slice());
  }

  read(...operands: Parameters<DeviceKernels['read']>) {
    return this.#run(host => host.read(...operands));
  }

  copy(...operands: Parameters<DeviceKernels['copy']>) {
    this.#run(host => host.copy(...operands));
  }

  assign(...operands: Parameters<DeviceKernels['assign']>) {
    this.#run(host => host.assign(...operands));
  }

  fill(...operands: Parameters<DeviceKernels['fill']>) {
    this.#run(host => host.fill(...operands));
  }

  unary(...operands: Parameters<DeviceKernels['unary']>) {
    this.#run(host => host.unary(...operands));
  }

  binary(...operands: Parameters<DeviceKernels['binary']>) {
    this.#run(host => host.binary(...operands));
  }

  where(...operands: Parameters<DeviceKernels['where']>) {
    this.#run(host => host.where(...operands));
  }

  reduce(...operands: Parameters<DeviceKernels['reduce']>) {
    this.#run(host => host.reduce(...operands));
  }

  argReduce(...operands: Parameters<DeviceKernels['argReduce']>) {
    this.#run(host => host.argReduce(...operands));
  }

  matmul(...operands: Parameters<DeviceKernels['matmul']>) {
    this.#run(host => host.matmul(...operands));
  }

  gather(...operands: Parameters<DeviceKernels['gather']>) {
    this.#run(host => host.gather(...operands));
  }

  scatterAdd(...operands: Parameters<DeviceKernels['scatterAdd']>) {
    this.#run(host => host.scatterAdd(...operands));
  }
}

/** The dozen of a device without float64, as GPUs are. */
export class Narrow extends Dozen {
  readonly dtypes: readonly DType[] = ['bool', 'int32', 'float32'];

  override allocate(dtype: DType, size: number): Region {
    assert.notEqual(dtype, 'float64', 'a kernel was given float64');
    return super.allocate(dtype, size);
  }

  override store(data: TypedArray): Region {
    assert.ok(!(data instanceof Float64Array), 'memory was given float64');
    return super.store(data);
  }
}

/** The dozen behind a queue, whose conversions check that they are given what int32 holds. */
export class Queued extends AwaitedBackend {
  readonly device: string;
  readonly #queue: LaterBackend;
  /** The floats that conversions were given to make int32 of. */
  truncated: Promise<TypedArray>[] = [];

  constructor(device: string) {
    super();
    this.device = device;
    this.#queue = new LaterBackend(`${device}: queue`);
  }

  /** How many values were asked for that nobody awaited. */
  get instantReads(): number {
    return this.#queue.instantReads;
  }

  allocate(dtype: DType, size: number): Region {
    return this.#queue.allocate(dtype, size);
  }

  store(data: TypedArray): Region {
    return this.#queue.store(data);
  }

  fetch(...operands: Parameters<DeviceKernels['read']>) {
    return this.#queue.readAsync(...operands);
  }

  convert(x: Operand, out: Operand) {
    this.#see(x, out.dtype);
    this.#queue.copy(x, out);
  }

  write(y: Operand, x: Operand) {
    this.#see(x, y.dtype);
    this.#queue.assign(y, x);
  }

  /** Keeps what is to become int32. */
  #see(x: Operand, dtype: DType): void {
    if (dtype === 'int32' && x.dtype.startsWith('float')) this.truncated.push(this.fetch(x));
  }

  fill(...operands: Parameters<DeviceKernels['fill']>) {
    this.#queue.fill(...operands);
  }

  unary(...operands: Parameters<DeviceKernels['unary']>) {
    this.#queue.unary(...operands);
  }

  binary(...operands: Parameters<DeviceKernels['binary']>) {
    this.#queue.binary(...operands);
  }

  where(...operands: Parameters<DeviceKernels['where']>) {
    this.#queue.where(...operands);
  }

  reduce(...operands: Parameters<DeviceKernels['reduce']>) {
    this.#queue.reduce(...operands);
  }

  argReduce(...operands: Parameters<DeviceKernels['argReduce']>) {
    this.#queue.argReduce(...operands);
  }

  matmul(...operands: Parameters<DeviceKernels['matmul']>) {
    this.#queue.matmul(...operands);
  }

  gather(...operands: Parameters<DeviceKernels['gather']>) {
    this.#queue.gather(...operands);
  }

  scatterAdd(...operands: Parameters<DeviceKernels['scatterAdd']>) {
    this.#queue.scatterAdd(...operands);
  }
}

/** The dozen behind a queue, without float64. */
export class NarrowQueued extends Queued {
  readonly dtypes: readonly DType[] = ['bool', 'int32', 'float32'];
}
