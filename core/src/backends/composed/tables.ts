/** Tables of indices, which are made on the host once and stay on the device. */

import { allocateArray, type DType, dtypeOfArray, type TypedArray } from '../../dtype.ts';
import { contiguousStrides, type Shape } from '../../shape.ts';
import { held, Storage, unscoped } from '../../storage.ts';
import { type Window, windowsIn } from '../../window.ts';
import type { Backend, Operand } from '../backend.ts';

/** Tables that a device keeps; the oldest goes where another one is needed. */
const MOST = 32;

class Table {
  readonly #device: Backend;
  readonly #made = new Map<string, Operand>();

  constructor(device: Backend) {
    this.#device = device;
  }

  /** A part of the table, made once. */
  part(name: string, shape: Shape, make: () => TypedArray): Operand {
    let part = this.#made.get(name);
    if (part === undefined) {
      const data = make();
      const dtype = dtypeOfArray(data);
      const storage = unscoped(() => new Storage(this.#device, dtype, this.#device.store(data)));
      part = held({ storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 });
      this.#made.set(name, part);
    }
    return part;
  }

  release(): void {
    for (const { storage } of this.#made.values()) storage.release();
  }
}

const kept = new WeakMap<Backend, Map<string, Table>>();

function tableOf(device: Backend, key: string): Table {
  const tables = kept.get(device) ?? new Map<string, Table>();
  kept.set(device, tables);
  const table = tables.get(key) ?? new Table(device);
  // A table that is used counts as new.
  tables.delete(key);
  tables.set(key, table);
  for (const [oldest, other] of tables) {
    if (tables.size <= MOST) break;
    tables.delete(oldest);
    other.release();
  }
  return table;
}

/** int32 [count]: 0, 1, … */
export function numbersTo(device: Backend, count: number): Operand {
  return tableOf(device, `${count}`).part('', [count], () => Int32Array.from({ length: count }, (_, i) => i));
}

/** What the windows over a plane see. */
export type Taps = {
  /** Windows in the plane, and pixels in a window. */
  readonly positions: number;
  readonly taps: number;
  /** int32 [positions, taps]: row-major place in the plane. A tap in the padding names the first pixel of its window, or 0. */
  readonly index: Operand;
  /** bool [positions, taps]: whether the tap lies in the plane; null where all do. */
  readonly inside: Operand | null;
  /** [positions, 1]: how many taps of a window lie in the plane. */
  count(dtype: DType): Operand;
};

export function tapsOf(device: Backend, plane: readonly [number, number], window: Window): Taps {
  const { kernel, stride, padding, dilation } = window;
  const [ho, wo] = windowsIn('unfold', plane, window) as [number, number];
  const [positions, taps] = [ho * wo, kernel[0] * kernel[1]];
  const table = tableOf(device, [plane, kernel, stride, padding, dilation].join(';'));
  const padded = padding[0] > 0 || padding[1] > 0;
  const inside = () => look(plane, window, positions).inside;
  return {
    positions,
    taps,
    index: table.part('index', [positions, taps], () => look(plane, window, positions).index),
    inside: padded ? table.part('inside', [positions, taps], inside) : null,
    count: dtype =>
      table.part(dtype, [positions, 1], () => {
        const counts = allocateArray(dtype, positions);
        inside().forEach((one, at) => {
          counts[Math.floor(at / taps)]! += one;
        });
        return counts;
      }),
  };
}

function look([h, w]: readonly [number, number], window: Window, positions: number) {
  const { kernel, stride, padding, dilation } = window;
  const [, wo] = windowsIn('unfold', [h, w], window) as [number, number];
  const taps = kernel[0] * kernel[1];
  const [index, inside] = [new Int32Array(positions * taps), new Uint8Array(positions * taps)];
  for (let position = 0; position < positions; position++) {
    const [from, to] = [position * taps, (position + 1) * taps];
    for (let at = from; at < to; at++) {
      const tap = at - from;
      const row = Math.floor(position / wo) * stride[0] + Math.floor(tap / kernel[1]) * dilation[0] - padding[0];
      const column = (position % wo) * stride[1] + (tap % kernel[1]) * dilation[1] - padding[1];
      if (row < 0 || row >= h || column < 0 || column >= w) continue;
      index[at] = row * w + column;
      inside[at] = 1;
    }
    const first = inside.indexOf(1, from);
    if (first < 0 || first >= to) continue;
    for (let at = from; at < to; at++) if (inside[at] === 0) index[at] = index[first]!;
  }
  return { index, inside };
}
