/** A device of a dozen kernels: all others are composed of them, on the device, and leave nothing behind. */

import assert from 'node:assert/strict';
import {
  ComposedBackend,
  type DeviceKernels,
  type DType,
  ReferenceBackend,
  type Region,
  registerBackend,
  type TypedArray,
} from '@otimes/core';
import t from 'tap';
import { opsSuite } from './suites/opsLaws.ts';

/** Memory that only kernels of the device see, and that holds no numbers before and after. */
class Cells implements Region {
  readonly size: number;
  readonly #device: Dozen;
  #cells: TypedArray | null;

  constructor(device: Dozen, cells: TypedArray) {
    this.#device = device;
    this.#cells = cells;
    this.size = cells.length;
    device.live++;
  }

  get array(): TypedArray {
    assert.ok(this.#device.running, 'the host looked at values');
    assert.ok(this.#cells !== null, 'a kernel was given memory that went back');
    return this.#cells;
  }

  release(): void {
    this.#cells?.fill(dirt(this.#cells));
    if (this.#cells !== null) this.#device.live--;
    this.#cells = null;
  }
}

const dirt = (cells: TypedArray) => (cells instanceof Uint8Array ? 1 : cells instanceof Int32Array ? 77 : Number.NaN);

/** The dozen, by the reference's functions. */
class Dozen extends ComposedBackend {
  readonly device: string;
  running = false;
  /** Memory that did not go back. */
  live = 0;
  readonly #host = new ReferenceBackend('host');

  constructor(device: string) {
    super();
    this.device = device;
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
    return new Cells(this, cells.fill(dirt(cells)));
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

const dozen = new Dozen('composed');
registerBackend(dozen);

opsSuite(t, { device: 'composed' });
