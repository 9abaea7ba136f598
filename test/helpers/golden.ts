// Recorded numbers from elsewhere: test/golden, with the scripts that wrote them.
import { readFileSync } from 'node:fs';
import { type DType, type Tensor, tensor } from '@otimes/core';
import type { Tolerance } from './allclose.ts';

/** The content of test/golden/NAME.json, whose form the caller knows. */
export function golden<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), 'utf8')) as T;
}

/** A tensor in a golden file: its elements in row-major order. */
export type Stored = { shape: number[]; data: number[] };

export const stored = ({ shape, data }: Stored, dtype: DType = 'float64'): Tensor => tensor(data, { shape, dtype });

/** The same tolerance for values around 0, absolute, and for larger ones, relative. */
export const within = (tolerance: number): Tolerance => ({ rtol: tolerance, atol: tolerance });
