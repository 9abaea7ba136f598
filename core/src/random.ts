/**
 * Seeded random numbers. One generator algorithm on every device and platform: xoshiro128** 1.1 (Blackman & Vigna 2018),
 * seeded through splitmix32, so that a seed gives the same numbers everywhere.
 */

import { getBackend } from './backends/registry.ts';
import { anInstance, anInteger, checkArgument, checkOptions, inspect, received } from './check.ts';
import { empty, fromArray, TENSOR, type TensorOptions } from './create.ts';
import { allocateArray, type DType, isFloat, toElement } from './dtype.ts';
import { DTypeError } from './errors.ts';
import { checkShape, type Shape, sizeOf } from './shape.ts';
import type { Tensor } from './tensor.ts';
import { watching } from './watch.ts';

export class Generator {
  #state: Uint32Array;

  /** @param seed an integer; its low 53 bits count. */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) throw new RangeError(`Generator: expected an integer seed, got ${received(seed)}`);
    this.#state = new Uint32Array(4);
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      // The low half of the seed makes the first word, the high half tells the others apart: no two seeds share a state.
      if (i === 1) x ^= Math.imul(Math.floor(seed / 4294967296), 0x85ebca6b);
      x = (x + 0x9e3779b9) | 0;
      let z = x ^ (x >>> 16);
      z = Math.imul(z, 0x21f0aaad);
      z ^= z >>> 15;
      z = Math.imul(z, 0x735a2d97);
      this.#state[i] = z ^ (z >>> 15);
    }
  }

  /** 32 random bits. */
  bits(): number {
    watching?.draw(this);
    const s = this.#state;
    const mixed = Math.imul(s[1]!, 5);
    const result = Math.imul((mixed << 7) | (mixed >>> 25), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** Uniform in [0, 1), a multiple of 2⁻⁵³. */
  uniform(): number {
    return ((this.bits() >>> 5) * 67108864 + (this.bits() >>> 6)) / 9007199254740992;
  }

  /** Standard normal, by the polar method of Marsaglia (1964). */
  normal(): number {
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const s = u * u + v * v;
      if (s < 1 && s > 0) return u * Math.sqrt((-2 * Math.log(s)) / s);
    }
  }

  /** An integer in low … high−1, each equally likely. */
  integer(low: number, high: number): number {
    const range = high - low;
    if (!Number.isInteger(low) || !Number.isInteger(high) || range < 1 || range > 4294967296)
      throw new RangeError(`integer: expected integers low < high at most 2³² apart, got ${low} and ${high}`);
    // Rejects the incomplete last run of the range, so that no value is favoured.
    const limit = 4294967296 - (4294967296 % range);
    let x = this.bits();
    while (x >= limit) x = this.bits();
    return low + (x % range);
  }

  /** 0 … n−1 in random order (Fisher & Yates). */
  permutation(n: number): Int32Array {
    checkShape('permutation', [n]);
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(0, i + 1);
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
    }
    return order;
  }

  /** A new generator seeded from this one; the two then run independently. */
  split(): Generator {
    return new Generator((this.bits() >>> 0) * 2097152 + (this.bits() >>> 11));
  }

  /** The state, four 32-bit words, to go on from later. */
  getState(): Int32Array {
    return new Int32Array(this.#state);
  }

  toString(): string {
    return `Generator(state ${this.getState().join(', ')})`;
  }

  [inspect](): string {
    return this.toString();
  }

  /** Throws for what is no state; the generator is then as it was. */
  setState(state: ArrayLike<number>): void {
    const given = typeof state === 'object' && state !== null && 'length' in state ? Array.from(state) : [];
    const words = Uint32Array.from(given);
    if (words.length !== 4 || !given.every(Number.isInteger) || words.every(word => word === 0))
      throw new RangeError(`Generator: expected a state of 4 words that are not all 0, got [${words.join(',')}]`);
    watching?.draw(this);
    this.#state = words;
  }
}

let global = new Generator(0);

/** Seeds the generator behind every random function that is not given an `rng`. Its seed at start is 0. */
export function manualSeed(seed: number): void {
  checkArgument('manualSeed', 'seed', seed, anInteger);
  global = new Generator(seed);
}

/** The generator that `manualSeed` seeds. */
export function defaultGenerator(): Generator {
  return global;
}

/** `rng` defaults to the generator that `manualSeed` seeds. */
export type RandomOptions = TensorOptions & { rng?: Generator };

/** The kinds of RandomOptions. */
export const RANDOM = {
  ...TENSOR,
  rng: anInstance(Generator, 'a Generator', v => (typeof v === 'number' ? `new Generator(${v}) makes one` : '')),
};

function floating(name: string, o: RandomOptions): DType {
  checkOptions(name, o, RANDOM);
  const { dtype = 'float32' } = o;
  if (!isFloat(dtype)) throw new DTypeError(`${name}: expected a floating dtype, got ${dtype}; see randint`);
  return dtype;
}

function filled(name: string, shape: Shape, dtype: DType, o: RandomOptions, next: (rng: Generator) => number): Tensor {
  const data = allocateArray(dtype, sizeOf(checkShape(name, shape)));
  const rng = o.rng ?? global;
  for (let i = 0; i < data.length; i++) data[i] = next(rng);
  return fromArray(data, shape, o);
}

/** The upper 24 bits of as many `bits` as `out` is long, as numbers in [0, 1): the same, with the state in registers. */
function fillUniform(rng: Generator, out: Float32Array): void {
  let [a = 0, b = 0, c = 0, d = 0] = rng.getState();
  for (let i = 0; i < out.length; i++) {
    const mixed = Math.imul(b, 5);
    out[i] = (Math.imul((mixed << 7) | (mixed >>> 25), 9) >>> 8) / 16777216;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
  }
  rng.setState(Int32Array.of(a, b, c, d));
}

/** Uniform in [0, 1). */
export function rand(shape: Shape, o: RandomOptions = {}): Tensor {
  const dtype = floating('rand', o);
  // A float64 just below 1 would round to 1 in float32, so there 24 bits are drawn.
  if (dtype === 'float32') return rand24(shape, o);
  return filled('rand', shape, dtype, o, rng => rng.uniform());
}

function rand24(shape: Shape, o: RandomOptions): Tensor {
  const { rng = global, ...rest } = o;
  const { onHost, readAsync } = getBackend(o.device ?? 'cpu');
  const own = rng.bits === Generator.prototype.bits;
  // A fresh array costs more than the numbers in it: 590,000 take 1.5 ms in memory that was used before.
  if (!own || !onHost || readAsync !== undefined)
    return filled('rand', shape, 'float32', o, () => (rng.bits() >>> 8) / 16777216);
  const out = empty(checkShape('rand', shape), rest);
  fillUniform(rng, out.storage.array as Float32Array);
  return out;
}

/** Standard normal. */
export function randn(shape: Shape, o: RandomOptions = {}): Tensor {
  return filled('randn', shape, floating('randn', o), o, rng => rng.normal());
}

/** Integers in low … high−1; int32 unless `dtype` says otherwise, which must hold all of them. */
export function randint(low: number, high: number, shape: Shape, o: RandomOptions = {}): Tensor {
  checkArgument('randint', 'low', low, anInteger);
  checkArgument('randint', 'high', high, anInteger);
  checkOptions('randint', o, RANDOM);
  const dtype = o.dtype ?? 'int32';
  if (dtype === 'bool') throw new DTypeError('randint: expected a dtype for integers, got bool');
  if (!(low < high && high - low <= 4294967296))
    throw new RangeError(`randint: expected integers low < high at most 2³² apart, got ${low} and ${high}`);
  for (const bound of [low, high - 1])
    if (dtype === 'float32' && Math.abs(bound) > 16777216)
      throw new DTypeError(`randint: float32 holds all integers to 2²⁴ only, got ${bound}`);
    else toElement('randint', bound, dtype);
  return filled('randint', shape, dtype, o, rng => rng.integer(low, high));
}
