/** Matrix products on the reference backend, in the blocks of blocks.ts. */

import { broadcastStrides, sizeOf } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import { transposed, withLayout } from '../operand.ts';
import { rowMajor, walkRows } from '../walk.ts';
import { gramOf, int32Product, packed, product } from './blocks.ts';
import { addScaled } from './update.ts';

export function matmul(a: Operand, b: Operand, out: Operand): void {
  const rank = out.shape.length;
  const batch = out.shape.slice(0, -2);
  const [m, n] = [out.shape[rank - 2]!, out.shape[rank - 1]!];
  const k = a.shape.at(-1)!;
  const multiply = out.dtype === 'int32' ? int32Product : product;
  // Each batch entry is a "row" of length 1 of the walk.
  const lead = (x: Operand) => {
    const full = [...batch, ...x.shape.slice(-2)];
    return { strides: [...broadcastStrides('matmul', x, full).slice(0, -2), 0], offset: x.offset };
  };
  const [aRow, aColumn] = a.strides.slice(-2);
  const [bRow, bColumn] = b.strides.slice(-2);
  const [left, right, target] = [a.storage.array, b.storage.array, out.storage.array];
  walkRows([...batch, 1], [lead(a), lead(b)], (entry, at) => {
    const rows = packed(left, m, k, aRow!, aColumn!, at[0]!);
    const columns = packed(right, n, k, bColumn!, bRow!, at[1]!);
    multiply(m, n, k, rows, columns, target, out.offset + entry * m * n);
  });
}

export function gram(x: Operand, out: Operand): void {
  gramOf(rowMajor(x), sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!, out.storage.array, out.offset);
}

export function linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
  if (x.shape.length === 1) {
    // A vector counts as one row.
    const row = (v: Operand) => withLayout(v, [1, v.shape[0]!], [0, v.strides[0]!]);
    matmul(row(x), transposed(weight), row(out));
  } else matmul(x, transposed(weight), out);
  if (bias !== null) addScaled(out, bias, 1, 1);
}
