// The laws of the kernels in @otimes/kernels that are no matrix products, for both variants: each against the reference
// backend's functions or a plain loop in float64. Every operand lies between guards, which must stay as they were.
import assert from 'node:assert/strict';
import { type DType, ReferenceBackend } from '@otimes/core';
import { createKernels, type Element, type Exports, type Float, type Variant, variants } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import type { BinaryKernel, Operand, UnaryKernel } from '../core/src/backends/backend.ts';
import { BINARY, INT32, UNARY } from '../core/src/backends/scalar.ts';
import { contiguousStrides, sizeOf } from '../core/src/shape.ts';
import { Storage } from '../core/src/storage.ts';
import { golden } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const TYPES: readonly Element[] = ['f32', 'f64', 'i32', 'bool'];
const FLOATS: readonly Float[] = ['f32', 'f64'];
const NUMERIC = ['f32', 'f64', 'i32'] as const;
const BYTES = { f32: 4, f64: 8, i32: 4, bool: 1 };
const DTYPE = { f32: 'float32', f64: 'float64', i32: 'int32', bool: 'bool' } as const;
/** Half a unit in the last place of 1. */
const EPS = { f32: 2 ** -24, f64: 2 ** -53 };

type Values = Float32Array | Float64Array | Int32Array | Uint8Array;
const arrayOf = { f32: Float32Array, f64: Float64Array, i32: Int32Array, bool: Uint8Array };
const make = (type: Element, values: ArrayLike<number>): Values => new arrayOf[type](Array.from(values));
const round = (type: Element, value: number): number => make(type, [value])[0]!;

// --- memory -----------------------------------------------------------------------------------------------------------

const GUARD = 64;
const SENTINEL = 0xa5;

/** Kernels of one variant, and memory for a call's operands. */
class Bench {
  readonly call: Exports & Record<string, (...x: number[]) => number | undefined>;
  readonly called = new Set<string>();
  readonly #memory;
  #top = 0;
  #guards: number[] = [];
  #offset = 0;
  readonly #start: number;

  constructor(variant: Variant) {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 26 } })!;
    this.#memory = kernels.memory;
    this.#start = kernels.heap.pool.alloc(2 ** 25);
    const { called } = this;
    this.call = new Proxy(kernels.exports, {
      get(exports, name: string) {
        called.add(name);
        return Reflect.get(exports, name);
      },
    }) as typeof this.call;
  }

  get names(): string[] {
    return Object.keys(createKernels({ memory: { initial: 2 ** 22 } })!.exports);
  }

  /** Runs `use` with fresh operands, `offset` elements behind a multiple of 64 bytes, and checks the guards. */
  with<T>(offset: number, use: () => T): T {
    [this.#top, this.#guards, this.#offset] = [this.#start, [], offset];
    const result = use();
    for (const at of this.#guards)
      for (let i = at; i < at + GUARD; i++)
        if (this.#memory.u8[i] !== SENTINEL)
          throw new Error(`a kernel wrote outside of its operands, at guard ${i - at}`);
    return result;
  }

  #guard(): void {
    this.#memory.u8.fill(SENTINEL, this.#top, this.#top + GUARD);
    this.#guards.push(this.#top);
    this.#top += GUARD;
  }

  /** The address of a copy of the values. */
  put(type: Element, values: ArrayLike<number>): number {
    this.#top = Math.ceil(this.#top / 64) * 64 + this.#offset * BYTES[type];
    this.#guard();
    const address = this.#top;
    this.view(type, address, values.length).set(Array.from(values));
    this.#top += values.length * BYTES[type];
    this.#guard();
    return address;
  }

  /** Memory for a result, not zero. */
  room(type: Element, length: number): number {
    return this.put(type, new Array(length).fill(77));
  }

  view(type: Element, address: number, length: number): Values {
    return new arrayOf[type](this.#memory.wasm.buffer, address, length);
  }

  read(type: Element, address: number, length: number): Values {
    return this.view(type, address, length).slice();
  }
}

const benches = variants().map(variant => ({ variant, bench: new Bench(variant) }));
assert.ok(benches.length > 0, 'no variant of the kernels runs here');

/** A law of both variants. */
function lawOfBoth(title: string, holds: (bench: Bench, variant: Variant) => void): void {
  for (const { variant, bench } of benches) law(t, `${variant}: ${title}`, () => holds(bench, variant));
}

const check = (property: fc.IProperty<unknown[]> | fc.IPropertyWithHooks<unknown[]>, numRuns = 40): void => {
  fc.assert(property as fc.IProperty<unknown[]>, { numRuns, seed: 7 });
};

// --- numbers ----------------------------------------------------------------------------------------------------------

const SPECIAL = [0, -0, NaN, Infinity, -Infinity, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, -3, 1e-45, -1e-45, 5e-324, 1e-38];
const EDGES = [
  ...SPECIAL,
  3.4e38,
  -3.4e38,
  1.7e308,
  -1.7e308,
  88.72284,
  -103.97208,
  709.783,
  -745.1332,
  -745.14,
  2 ** 24,
];
const INTEGERS = [0, 1, -1, 2, -2, 7, 2 ** 31 - 1, -(2 ** 31), 65536, -65537];

const element: { readonly [T in Element]: fc.Arbitrary<number> } = {
  f32: fc.oneof(fc.float({ min: -8, max: 8 }), fc.float(), fc.constantFrom(...SPECIAL)).map(Math.fround),
  f64: fc.oneof(fc.double({ min: -8, max: 8 }), fc.double(), fc.constantFrom(...SPECIAL)),
  i32: fc.oneof(fc.integer({ min: -9, max: 9 }), fc.integer(), fc.constantFrom(...INTEGERS)),
  bool: fc.integer({ min: 0, max: 1 }),
};
const length = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33), fc.nat(70));
const offset = fc.nat(5);

/** Seeded numbers in [−1, 1), thinned to what a float32 holds. */
function noise(seed: number): () => number {
  let state = (seed + 1) * 2654435761;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.fround(state / 2 ** 31);
  };
}
const randoms = (count: number, seed: number): number[] => Array.from({ length: count }, noise(seed));

const bits = new DataView(new ArrayBuffer(8));
/** The distance to the next larger number of the type. */
function ulp(type: Float, x: number): number {
  const least = type === 'f32' ? -126 : -1022;
  bits.setFloat64(0, x);
  const exponent = ((bits.getUint16(0) >> 4) & 0x7ff) - 1023;
  return 2 ** (Math.max(exponent, least) - (type === 'f32' ? 23 : 52));
}

/** |actual − expected| in ulp of the expected; 0 where both are the same, ∞ where only one is NaN or infinite. */
function ulps(type: Float, actual: number, expected: number): number {
  const rounded = round(type, expected);
  if (Object.is(actual, rounded)) return 0;
  // A result just below the overflow threshold may round to ∞, and one next to it to the largest number.
  if (!Number.isFinite(actual) || !Number.isFinite(rounded)) return Number.POSITIVE_INFINITY;
  if (actual === 0 && rounded === 0) return Number.POSITIVE_INFINITY;
  return Math.abs(actual - expected) / ulp(type, expected);
}

function mustBe(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++)
    if (!Object.is(actual[i], expected[i])) throw new Error(`${what}: at ${i} ${actual[i]}, expected ${expected[i]}`);
}

/** |actual − expected| ≤ bound(i), and both NaN or neither. */
function mustBeWithin(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: (i: number) => number,
  what: string,
): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++) {
    const [x, y] = [actual[i]!, expected[i]!];
    if (Object.is(x, y) || x === y || Math.abs(x - y) <= bound(i)) continue;
    throw new Error(`${what}: at ${i} ${x}, expected ${y}, off by ${Math.abs(x - y) / bound(i)} × the bound`);
  }
}

// --- functions of one operand --------------------------------------------------------------------------------------------

const EXACT: Partial<Record<UnaryKernel, readonly Element[]>> = {
  ...{ neg: NUMERIC, abs: NUMERIC, sign: NUMERIC, square: NUMERIC, relu: NUMERIC },
  ...{ sqrt: FLOATS, reciprocal: FLOATS, floor: FLOATS, ceil: FLOATS, round: FLOATS },
  ...{ not: TYPES, isNaN: FLOATS, isFinite: FLOATS },
};
const TO_BOOL: readonly UnaryKernel[] = ['not', 'isNaN', 'isFinite'];

function unary(bench: Bench, name: string, type: Element, x: ArrayLike<number>, out = type, at = 0): Values {
  return bench.with(at, () => {
    const [a, y] = [bench.put(type, x), bench.room(out, x.length)];
    bench.call[`${name}_${type}`]!(x.length, a, y);
    mustBe(bench.read(type, a, x.length), make(type, x), `${name}_${type} changed its operand`);
    return bench.read(out, y, x.length);
  });
}

lawOfBoth(
  'what can be rounded correctly is: neg abs sign square relu sqrt reciprocal floor ceil round not …',
  bench => {
    for (const [name, types] of Object.entries(EXACT) as [UnaryKernel, readonly Element[]][])
      for (const type of types) {
        const f = (type === 'i32' ? INT32.unary[name] : undefined) ?? UNARY[name];
        const to = TO_BOOL.includes(name) ? 'bool' : type;
        const holds = (x: readonly number[], at: number) =>
          mustBe(unary(bench, name, type, x, to, at), make(to, Array.from(make(type, x), f)), `${name}_${type}`);
        holds(type === 'i32' ? INTEGERS : type === 'bool' ? [0, 1] : EDGES, 0);
        check(
          fc.property(
            length.chain(n => fc.array(element[type], { minLength: n, maxLength: n })),
            offset,
            holds,
          ),
        );
      }
  },
);

type Transcendental = Exclude<UnaryKernel, 'not' | 'isFinite' | 'isNaN'>;
const TRANSCENDENTAL: readonly Transcendental[] = [
  'exp',
  'expm1',
  'log',
  'log1p',
  'sin',
  'cos',
  'tanh',
  'sigmoid',
  'erf',
];

/** Numbers of every exponent and sign, and many in the ranges where functions do something. */
function sweep(type: Float, count: number): Values {
  const xs = make(type, new Array(count).fill(0));
  const next = noise(3);
  const words = new Uint32Array(xs.buffer);
  const third = Math.floor(count / 3);
  for (let i = 0; i < third; i++) {
    const pattern = Math.floor((i / third) * 2 ** 32) + (i % 1024);
    if (type === 'f32') words[i] = pattern;
    else {
      words[2 * i] = next() * 2 ** 31;
      words[2 * i + 1] = pattern;
    }
  }
  const scales = type === 'f32' ? [0.7, 2, 12, 90, 110, 1e5] : [0.7, 2, 12, 90, 750, 1e5];
  for (let i = third; i < count; i++) xs[i] = next() * scales[i % scales.length]!;
  return xs;
}

/** Math is up to 1 ulp off, and the series of the reference's erf about 13 for |x| near 3: see the golden values. */
const mostUlps = (name: Transcendental, type: Float) => (type === 'f32' ? 4 : name === 'erf' ? 16 : 5);

lawOfBoth('functions of float32 are at most 4 ulp off over the whole range, of float64 5 from those of Math', bench => {
  for (const type of FLOATS) {
    const x = sweep(type, type === 'f32' ? 120_000 : 60_000);
    for (const name of TRANSCENDENTAL) {
      const y = unary(bench, name, type, x);
      for (let i = 0; i < x.length; i++) {
        const off = ulps(type, y[i]!, UNARY[name](x[i]!));
        if (!(off <= mostUlps(name, type)))
          throw new Error(`${name}_${type}(${x[i]}) = ${y[i]}, expected ${UNARY[name](x[i]!)}`);
      }
    }
  }
});

lawOfBoth('functions of NaN, ±∞, ±0, denormal numbers and at the thresholds of overflow are those of Math', bench => {
  for (const type of FLOATS) {
    const x = make(type, [
      ...EDGES,
      88.722_83,
      709.7827,
      -87.5,
      -104,
      1e10,
      1e22,
      2 ** 100,
      Math.PI,
      Math.PI / 2,
      -1e-300,
    ]);
    for (const name of TRANSCENDENTAL) {
      const y = unary(bench, name, type, x);
      for (let i = 0; i < x.length; i++) {
        const off = ulps(type, y[i]!, UNARY[name](x[i]!));
        if (!(off <= mostUlps(name, type)))
          throw new Error(`${name}_${type}(${x[i]}) = ${y[i]}, expected ${UNARY[name](x[i]!)}`);
      }
    }
  }
});

lawOfBoth('functions of few elements are those of many, and a result may replace its operand', bench => {
  const names = [...TRANSCENDENTAL, 'gelu', 'geluTanh', 'relu', 'neg'];
  for (const type of FLOATS) {
    const x = Array.from({ length: 13 }, (_, i) => round(type, (i - 6) / 3));
    for (const name of names) {
      const all = unary(bench, name, type, x);
      for (let n = 0; n < x.length; n++) {
        mustBe(unary(bench, name, type, x.slice(0, n), type, n % 3), all.slice(0, n), `${name}_${type} of ${n}`);
        const inPlace = bench.with(1, () => {
          const a = bench.put(type, x.slice(0, n));
          bench.call[`${name}_${type}`]!(n, a, a);
          return bench.read(type, a, n);
        });
        mustBe(inPlace, all.slice(0, n), `${name}_${type} in place`);
      }
    }
  }
});

type Table = readonly [x: number, y: number][];
const special = golden<Record<'erf' | 'gelu' | 'geluSlope' | 'geluTanh' | 'geluTanhSlope', Table>>('special');

lawOfBoth('erf, gelu and its slopes agree with 80 digits to the stated bounds', bench => {
  const ones = (n: number) => new Array<number>(n).fill(1);
  for (const type of FLOATS)
    for (const [name, table] of Object.entries(special) as [keyof typeof special, Table][]) {
      // In float32 the values at the rounded arguments come from the float64 kernels, which are checked here too.
      const exact = make('f64', type === 'f64' ? table.map(([x]) => x) : table.map(([x]) => Math.fround(x)));
      const evaluate = (of: Float): Values => {
        if (!name.endsWith('Slope')) return unary(bench, name, of, exact);
        const backward = name === 'geluSlope' ? 'geluBackward' : 'geluTanhBackward';
        return bench.with(0, () => {
          const [g, a] = [bench.put(of, ones(exact.length)), bench.put(of, exact)];
          const out = bench.room(of, exact.length);
          bench.call[`${backward}_${of}`]!(exact.length, g, a, out);
          return bench.read(of, out, exact.length);
        });
      };
      const expected = type === 'f64' ? table.map(([, y]) => y) : evaluate('f64');
      const bound = (i: number): number => {
        const [x, y] = [exact[i]!, expected[i]!];
        if (name.endsWith('Slope')) return 4 * 2 * EPS[type] * (1 + Math.abs(y));
        const argument = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
        return (name === 'geluTanh' ? 4 + 3 * Math.abs(argument) : 4) * ulp(type, y);
      };
      mustBeWithin(evaluate(type), expected, bound, `${name} of ${type}`);
    }
});

lawOfBoth('gelu keeps its relative accuracy far out, and is x, −0, NaN where the product x Φ(x) is', bench => {
  const x = sweep('f32', 60_000);
  const [y, expected] = [unary(bench, 'gelu', 'f32', x), unary(bench, 'gelu', 'f64', x)];
  for (let i = 0; i < x.length; i++)
    if (!(ulps('f32', y[i]!, expected[i]!) <= 4))
      throw new Error(`gelu_f32(${x[i]}) = ${y[i]}, expected ${expected[i]}`);
  for (const type of FLOATS)
    for (const name of ['gelu', 'geluTanh'])
      mustBe(
        unary(bench, name, type, [Infinity, -Infinity, NaN, 0, -0, 1e30, -1e30]),
        [Infinity, NaN, NaN, 0, -0, round(type, 1e30), -0],
        `${name}_${type}`,
      );
});

const backwardOf: Record<string, (g: number, x: number) => number> = {
  reluBackward: (g, x) => (x > 0 ? g : 0),
  tanhBackward: (g, y) => g * (1 - y * y),
  sigmoidBackward: (g, y) => g * (y * (1 - y)),
};

lawOfBoth('backward kernels multiply the gradient with the slope; relu takes it where x > 0', bench => {
  for (const type of FLOATS)
    check(
      fc.property(length, offset, fc.nat(), (n, at, seed) => {
        const [g, x] = [randoms(n, seed), randoms(n, seed + 1)];
        for (let i = 0; i < n; i += 5) x[i] = [0, -0, NaN, 1][i % 4]!;
        for (const [name, f] of Object.entries(backwardOf)) {
          const result = bench.with(at, () => {
            const [dy, a, out] = [bench.put(type, g), bench.put(type, x), bench.room(type, n)];
            bench.call[`${name}_${type}`]!(n, dy, a, out);
            return bench.read(type, out, n);
          });
          const expected = g.map((gi, i) => f(gi, x[i]!));
          const bound = name === 'reluBackward' ? () => 0 : () => 4 * EPS[type];
          mustBeWithin(result, expected, bound, `${name}_${type}`);
        }
      }),
    );
});

// --- two operands ---------------------------------------------------------------------------------------------------------

const COMPARISONS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const;
const ROWS: readonly [BinaryKernel, readonly Element[]][] = [
  ...(['add', 'sub', 'mul', 'maximum', 'minimum'] as const).map((name): [BinaryKernel, typeof NUMERIC] => [
    name,
    NUMERIC,
  ]),
  ['div', FLOATS],
  ...COMPARISONS.map((name): [BinaryKernel, readonly Element[]] => [name, TYPES]),
  ['and', ['bool']],
  ['or', ['bool']],
];

/** How an operand lies: its strides, how many elements it spans and where it starts. */
type Lay = { row: number; col: number; span: number; start: number };
const LAYS: Record<string, (rows: number, cols: number) => Lay> = {
  dense: (r, c) => ({ row: c, col: 1, span: r * c, start: 0 }),
  row: (_, c) => ({ row: 0, col: 1, span: c, start: 0 }),
  column: r => ({ row: 1, col: 0, span: r, start: 0 }),
  scalar: () => ({ row: 0, col: 0, span: 1, start: 0 }),
  transposed: (r, c) => ({ row: 1, col: r, span: r * c, start: 0 }),
  gaps: (r, c) => ({ row: c + 3, col: 1, span: r * (c + 3), start: 0 }),
  thinned: (r, c) => ({ row: 2 * c, col: 2, span: 2 * r * c, start: 0 }),
  backwards: (r, c) => ({ row: c, col: -1, span: r * c, start: Math.max(0, c - 1) }),
};
const lay = fc.constantFrom(...Object.keys(LAYS));
/** The elements that a lay reads, row-major. */
function walked<T extends ArrayLike<number>>(
  values: T,
  { row, col, start }: Lay,
  rows: number,
  cols: number,
): number[] {
  const list: number[] = [];
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) list.push(values[start + i * row + j * col]!);
  return list;
}
const matrix = fc.tuple(fc.oneof(fc.nat(4), fc.nat(9)), fc.oneof(fc.nat(9), fc.nat(40)), offset);

/** Seeded elements of a type, special ones among them. */
function elements(type: Element, count: number, seed: number): Values {
  const next = noise(seed);
  const pick = type === 'i32' ? INTEGERS : SPECIAL;
  return make(
    type,
    Array.from({ length: count }, () => {
      const x = next();
      if (type === 'bool') return x < 0 ? 0 : 1;
      if (x > 0.6) return pick[Math.floor(next() * pick.length) & (pick.length - 1)] ?? 1;
      return type === 'i32' ? Math.floor(x * 10) : Math.round(x * 16) / 4;
    }),
  );
}

/** Two operands of any layouts through a kernel, and row-major. */
function binary(bench: Bench, name: string, type: Element, out: Element, p: BinaryCase): [Values, number[], number[]] {
  const [[rows, cols, at], layA, layB, seed] = p;
  return bench.with(at, () => {
    const [a, b] = [LAYS[layA]!(rows, cols), LAYS[layB]!(rows, cols)];
    const [x, y] = [elements(type, a.span, seed), elements(type, b.span, seed + 1)];
    const [px, py] = [bench.put(type, x), bench.put(type, y)];
    const to = bench.room(out, rows * cols);
    const start = (address: number, { start }: Lay) => address + start * BYTES[type];
    bench.call[`${name}_${type}`]!(rows, cols, start(px, a), a.row, a.col, start(py, b), b.row, b.col, to);
    return [bench.read(out, to, rows * cols), walked(x, a, rows, cols), walked(y, b, rows, cols)];
  });
}
type BinaryCase = [[number, number, number], string, string, number];
const binaryCase = fc.tuple(matrix, lay, lay, fc.nat());

lawOfBoth('add sub mul div maximum minimum, comparisons, and, or: of rows with any strides, bit for bit', bench => {
  for (const [name, types] of ROWS)
    for (const type of types) {
      const f = (type === 'i32' ? INT32.binary[name] : undefined) ?? BINARY[name];
      const out = (COMPARISONS as readonly string[]).includes(name) ? 'bool' : type;
      check(
        fc.property(binaryCase, p => {
          const [result, x, y] = binary(bench, name, type, out, p);
          mustBe(
            result,
            make(
              out,
              x.map((xi, i) => f(xi, y[i]!)),
            ),
            `${name}_${type}`,
          );
        }),
        60,
      );
    }
});

lawOfBoth('pow is at most 4 ulp off and has the edges of IEEE 754; squares are products', bench => {
  for (const type of FLOATS) {
    check(
      fc.property(binaryCase, p => {
        const [result, x, y] = binary(bench, 'pow', type, type, p);
        for (let i = 0; i < x.length; i++)
          if (!(ulps(type, result[i]!, BINARY.pow(x[i]!, y[i]!)) <= 4))
            throw new Error(`pow_${type}(${x[i]}, ${y[i]}) = ${result[i]}, expected ${BINARY.pow(x[i]!, y[i]!)}`);
      }),
      100,
    );
    const bases = make(type, [...EDGES, 1e-40, 1.0000001, 0.9999999, 3, 1e20, 1e-20, 2 ** -149]);
    const exponents = make(type, [...EDGES, 2, 3, -2, 1 / 3, 1e-3, 53, 1e10, 2 ** 53, 2 ** 66, 150.5, -126]);
    const next = noise(5);
    const [x, y]: [number[], number[]] = [[], []];
    for (const a of bases)
      for (const b of exponents) {
        x.push(a);
        y.push(b);
      }
    for (let i = 0; i < 20_000; i++) {
      const wide = [1, 10, 80, 700][i % 4]!;
      x.push(round(type, Math.exp(next() * wide)));
      y.push(round(type, next() * [2, 20, 2000, 0.02][(i >> 2) % 4]!));
    }
    const z = bench.with(0, () => {
      const [a, b, out] = [bench.put(type, x), bench.put(type, y), bench.room(type, x.length)];
      bench.call[`pow_${type}`](1, x.length, a, 0, 1, b, 0, 1, out);
      return bench.read(type, out, x.length);
    });
    for (let i = 0; i < x.length; i++)
      if (!(ulps(type, z[i]!, BINARY.pow(x[i]!, y[i]!)) <= 4))
        throw new Error(`pow_${type}(${x[i]}, ${y[i]}) = ${z[i]}, expected ${BINARY.pow(x[i]!, y[i]!)}`);
    const squares = bench.with(0, () => {
      const [a, two, out] = [bench.put(type, bases), bench.put(type, [2]), bench.room(type, bases.length)];
      bench.call[`pow_${type}`](1, bases.length, a, 0, 1, two, 0, 0, out);
      return bench.read(type, out, bases.length);
    });
    mustBe(
      squares,
      make(
        type,
        Array.from(bases, a => a * a),
      ),
      'squares',
    );
  }
});

lawOfBoth('a binary result may replace an operand', bench => {
  const x = Array.from({ length: 45 }, (_, i) => i - 20);
  for (const which of [0, 1]) {
    const result = bench.with(1, () => {
      const [a, b] = [bench.put('f32', x), bench.put('f32', x)];
      const out = which === 0 ? a : b;
      bench.call.mul_f32(5, 9, a, 9, 1, b, 9, 1, out);
      return bench.read('f32', out, 45);
    });
    mustBe(
      result,
      x.map(xi => xi * xi),
      'in place',
    );
  }
});

lawOfBoth('where chooses, whatever the layouts of its three operands', bench => {
  for (const type of TYPES)
    check(
      fc.property(binaryCase, lay, ([[rows, cols, at], layA, layB, seed], layC) => {
        bench.with(at, () => {
          const [a, b, c] = [layA, layB, layC].map(name => LAYS[name]!(rows, cols)) as [Lay, Lay, Lay];
          const [x, y, cond] = [
            elements(type, a.span, seed),
            elements(type, b.span, seed + 1),
            elements('bool', c.span, seed + 2),
          ];
          const [px, py, pc] = [bench.put(type, x), bench.put(type, y), bench.put('bool', cond)];
          const out = bench.room(type, rows * cols);
          const start = (p: number, { start }: Lay) => p + start * BYTES[type];
          // biome-ignore format: an operand a row
          bench.call[`where_${type}`](
            rows, cols, pc + c.start, c.row, c.col,
            start(px, a), a.row, a.col,
            start(py, b), b.row, b.col, out,
          );
          const [u, v] = [walked(x, a, rows, cols), walked(y, b, rows, cols)];
          const expected = walked(cond, c, rows, cols).map((ci, i) => (ci ? u[i]! : v[i]!));
          mustBe(bench.read(type, out, rows * cols), expected, `where_${type}`);
        });
      }),
      60,
    );
});

// --- copies ---------------------------------------------------------------------------------------------------------------

const reference = new ReferenceBackend('elsewhere');
/** Row-major values as an operand of the reference backend. */
function operand(type: Element, values: ArrayLike<number>, shape: readonly number[]): Operand {
  const dtype: DType = DTYPE[type];
  const storage = new Storage(reference, dtype, make(type, values));
  return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
}
const blank = (type: Element, shape: readonly number[]): Operand =>
  operand(type, new Array(sizeOf(shape)).fill(0), shape);

lawOfBoth('copy converts between all types and layouts, and says where int32 cannot hold an element', bench => {
  const writable = fc.constantFrom('dense', 'transposed', 'gaps', 'thinned', 'backwards');
  const big = fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 90 }), offset);
  for (const from of TYPES)
    for (const to of TYPES)
      check(
        fc.property(
          fc.oneof(matrix, big),
          lay,
          writable,
          fc.nat(),
          fc.boolean(),
          ([rows, cols, at], layX, layY, seed, small) => {
            bench.with(at, () => {
              const [x, y] = [LAYS[layX]!(rows, cols), LAYS[layY]!(rows, cols)];
              const toInt = to === 'i32' && from !== 'bool' && from !== 'i32';
              const values = elements(from, x.span, seed).map(v => (toInt && small && !(Math.abs(v) < 1e9) ? 3.7 : v));
              const [px, py] = [bench.put(from, values), bench.room(to, y.span)];
              const before = bench.read(to, py, y.span);
              const lost = bench.call[`copy_${from}_${to}`](
                ...([rows, cols, px + x.start * BYTES[from], x.row, x.col] as const),
                ...([py + y.start * BYTES[to], y.row, y.col] as const),
              );
              const source = walked(values, x, rows, cols);
              const unfit = toInt && source.some(v => !(Math.trunc(v) >= -(2 ** 31) && Math.trunc(v) < 2 ** 31));
              assert.equal(lost, unfit ? 1 : 0, `copy_${from}_${to}: lost`);
              const after = bench.read(to, py, y.span);
              const result = walked(after, y, rows, cols);
              const expected =
                to === 'bool'
                  ? source.map(v => (v !== 0 ? 1 : 0))
                  : make(
                      to,
                      source.map(v => (to === 'i32' ? Math.trunc(v) : v)),
                    );
              if (!unfit) mustBe(result, expected, `copy_${from}_${to} ${layX} → ${layY}`);
              // Elements in the gaps of the target stay.
              const touched = new Set(
                walked(
                  Array.from(after, (_, i) => i),
                  y,
                  rows,
                  cols,
                ),
              );
              for (let i = 0; i < after.length; i++) if (!touched.has(i)) assert.equal(after[i], before[i]);
            });
          },
        ),
        60,
      );
});

lawOfBoth('fill fills', bench => {
  for (const type of TYPES)
    check(
      fc.property(length, offset, element[type], (n, at, value) => {
        bench.with(at, () => {
          const out = bench.room(type, n);
          bench.call[`fill_${type}`](n, value, out);
          mustBe(bench.read(type, out, n), make(type, new Array(n).fill(value)), `fill_${type}`);
        });
      }),
    );
});

// --- reductions -----------------------------------------------------------------------------------------------------------

const cube = fc.tuple(
  fc.oneof(fc.constant(1), fc.nat(4)),
  fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70 })),
  fc.oneof(fc.constant(1), fc.nat(21)),
);

function reduced(
  bench: Bench,
  name: string,
  type: Element,
  shape: readonly [number, number, number],
  x: Values,
  out: Element,
  at: number,
): Values {
  const [outer, along, inner] = shape;
  return bench.with(at, () => {
    const [px, py] = [bench.put(type, x), bench.room(out, outer * inner)];
    bench.call[`${name}_${type}`]!(outer, along, inner, px, py);
    return bench.read(out, py, outer * inner);
  });
}

lawOfBoth('max, min, argmax and argmin are those of the reference backend, NaN and first index included', bench => {
  for (const type of NUMERIC)
    check(
      fc.property(cube, offset, fc.nat(), (shape, at, seed) => {
        const x = elements(type, sizeOf(shape), seed);
        if (seed % 2) for (let i = 0; i < x.length; i++) if (Number.isNaN(x[i])) x[i] = -1;
        for (const name of ['max', 'min'] as const) {
          const expected = blank(type, [shape[0], shape[2]]);
          // The reference starts from ±∞, which int32 cannot hold.
          reference.reduce(name, operand(type, x, shape), [1], expected);
          mustBe(reduced(bench, name, type, shape, x, type, at), expected.storage.array, `${name}_${type}`);
        }
        for (const name of ['argmax', 'argmin'] as const) {
          const expected = blank('i32', [shape[0], shape[2]]);
          reference.argReduce(name, operand(type, x, shape), 1, expected);
          mustBe(reduced(bench, name, type, shape, x, 'i32', at), expected.storage.array, `${name}_${type}`);
        }
      }),
      80,
    );
});

lawOfBoth('sums of float32 are rounded once, those of float64 as good as a loop, those of int32 wrap', bench => {
  for (const type of NUMERIC)
    check(
      fc.property(cube, offset, fc.nat(), fc.boolean(), (shape, at, seed, wild) => {
        const [outer, along, inner] = shape;
        const x =
          type === 'i32' || wild ? elements(type, sizeOf(shape), seed) : make(type, randoms(sizeOf(shape), seed));
        const sums = new Float64Array(outer * inner);
        const sizes = new Float64Array(outer * inner);
        for (let i = 0; i < x.length; i++) {
          const o = Math.floor(i / (along * inner)) * inner + (i % inner);
          sums[o]! += x[i]!;
          sizes[o]! += Math.abs(x[i]!);
        }
        const bound = (i: number) =>
          type === 'i32' ? 0 : along * EPS.f64 * sizes[i]! + (type === 'f32' ? ulp('f32', sums[i]!) / 2 : 0);
        const expected = type === 'i32' ? Int32Array.from(sums, s => Number(BigInt.asIntN(32, BigInt(s)))) : sums;
        mustBeWithin(reduced(bench, 'sum', type, shape, x, type, at), expected, bound, `sum_${type}`);
        if (type === 'i32') return;
        const channels = bench.with(at, () => {
          const [px, py] = [bench.put(type, x), bench.room(type, along)];
          bench.call[`sumChannels_${type}`](outer, along, inner, px, py);
          return bench.read(type, py, along);
        });
        const [sum, size] = [new Float64Array(along), new Float64Array(along)];
        for (let i = 0; i < x.length; i++) {
          const c = Math.floor(i / inner) % along;
          sum[c]! += x[i]!;
          size[c]! += Math.abs(x[i]!);
        }
        const most = (c: number) => outer * inner * EPS.f64 * size[c]! + ulp(type, sum[c]!) / 2;
        mustBeWithin(channels, sum, most, `sumChannels_${type}`);
      }),
      80,
    );
});

// --- rows -----------------------------------------------------------------------------------------------------------------

const rowsShape = fc.tuple(
  fc.nat(5),
  fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 70 })),
  offset,
);

lawOfBoth('softmax and logSoftmax are those of the reference backend; rows of −∞ are NaN', bench => {
  for (const type of FLOATS)
    check(
      fc.property(rowsShape, fc.nat(), fc.constantFrom(1, 10, 300), ([rows, cols, at], seed, scale) => {
        const x = make(
          type,
          randoms(rows * cols, seed).map(v => v * scale),
        );
        if (seed % 3 === 0) for (let i = 0; i < Math.min(cols, x.length); i++) x[i] = -Infinity;
        if (seed % 4 === 0 && rows > 1) x[cols] = [NaN, Infinity, -Infinity][seed % 3]!;
        for (const name of ['softmax', 'logSoftmax'] as const) {
          const expected = blank('f64', [rows, cols]);
          reference[name](operand(type, x, [rows, cols]), 1, expected);
          const result = bench.with(at, () => {
            const [px, py] = [bench.put(type, x), bench.room(type, rows * cols)];
            bench.call[`${name}_${type}`](rows, cols, px, py);
            return bench.read(type, py, rows * cols);
          });
          const wanted = expected.storage.array;
          // The rounding of x − max, up to 2 · scale, is that of the exponent; log Σ is taken off in two steps.
          const bound = (i: number) =>
            name === 'softmax'
              ? (16 + 2 * scale) * EPS[type] * wanted[i]! + 4 * ulp(type, 0)
              : 4 * EPS[type] * (Math.abs(wanted[i]!) + Math.abs(x[i]!) + 1);
          mustBeWithin(result, wanted, bound, `${name}_${type}`);
        }
      }),
      80,
    );
});

/** A function of several arrays with one number for a result, and the gradients that kernels claim it has. */
type Gradients = { value: (x: readonly Values[]) => number; gradients: readonly Values[] };

/** Central differences of `value` along random directions agree with the gradients. All in float64. */
function mustBeGradients(inputs: readonly Values[], { value, gradients }: Gradients, what: string): void {
  const h = 1e-5;
  for (const [k, gradient] of gradients.entries()) {
    const direction = randoms(inputs[k]!.length, 11 + k);
    const moved = (by: number) =>
      inputs.map((x, i) => (i === k ? Float64Array.from(x, (v, j) => v + by * direction[j]!) : x));
    const slope = (value(moved(h)) - value(moved(-h))) / (2 * h);
    const claimed = direction.reduce((sum, d, j) => sum + d * gradient[j]!, 0);
    const size = direction.reduce((sum, d, j) => sum + Math.abs(d * gradient[j]!), 0);
    if (!(Math.abs(slope - claimed) <= 1e-6 * (1 + size)))
      throw new Error(`${what}: the gradient by input ${k} gives ${claimed}, differences give ${slope}`);
  }
}
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);

/** Calls a kernel with operands and results that are put for it, and reads the results. */
function run(
  bench: Bench,
  name: string,
  type: Float,
  args: readonly (number | Values | { room: number } | { ints: readonly number[] })[],
  at = 0,
): { results: Values[]; returned: number } {
  return bench.with(at, () => {
    const results: [number, number][] = [];
    const raw = args.map(arg => {
      if (typeof arg === 'number') return arg;
      if ('ints' in arg) return bench.put('i32', arg.ints);
      if (!('room' in arg)) return bench.put(type, arg);
      const address = bench.room(type, arg.room);
      results.push([address, arg.room]);
      return address;
    });
    const returned = bench.call[`${name}_${type}`]!(...raw) ?? 0;
    return { results: results.map(([address, n]) => bench.read(type, address, n)), returned };
  });
}
const f64 = (count: number, seed: number) => Float64Array.from(randoms(count, seed));
const one = (r: { results: Values[] }): Values => r.results[0]!;

lawOfBoth('the backward kernels of softmax and logSoftmax are the derivatives of the forward ones', bench => {
  check(
    fc.property(rowsShape, fc.nat(), ([rows, cols], seed) => {
      const [x, dy] = [f64(rows * cols, seed), f64(rows * cols, seed + 1)];
      for (const name of ['softmax', 'logSoftmax']) {
        const forward = (z: Values) => one(run(bench, name, 'f64', [rows, cols, z, { room: rows * cols }]));
        const dx = one(run(bench, `${name}Backward`, 'f64', [rows, cols, dy, forward(x), { room: rows * cols }]));
        mustBeGradients([x], { value: ([z]) => dot(dy, forward(z!)), gradients: [dx] }, name);
      }
    }),
  );
});

lawOfBoth('crossEntropy is −Σ logSoftmax at the labels, and its backward kernel the derivative', bench => {
  check(
    fc.property(rowsShape, fc.nat(), fc.constantFrom(1, 50), ([rows, cols], seed, size) => {
      const x = f64(rows * cols, seed).map(v => v * size);
      const labels = Array.from({ length: rows }, (_, i) => (seed + 3 * i) % cols);
      const scale = 0.25;
      const loss = (z: Values) =>
        run(bench, 'crossEntropy', 'f64', [rows, cols, z, { ints: labels }, { room: 2 * rows }]);
      const logP = one(run(bench, 'logSoftmax', 'f64', [rows, cols, x, { room: rows * cols }]));
      const expected = -labels.reduce((sum, label, i) => sum + logP[i * cols + label]!, 0);
      const { returned, results } = loss(x);
      assert.ok(Math.abs(returned - expected) <= 1e-12 * (1 + Math.abs(expected)), `${returned}, expected ${expected}`);
      const dx = one(
        run(bench, 'crossEntropyBackward', 'f64', [
          rows,
          cols,
          x,
          { ints: labels },
          results[0]!,
          scale,
          { room: rows * cols },
        ]),
      );
      const value = ([z]: readonly Values[]) => scale * loss(z!).returned;
      mustBeGradients([x], { value, gradients: [dx] }, 'crossEntropy');
    }),
  );
});

lawOfBoth(
  'layerNorm has mean 0 and variance 1 before scale and shift; its backward kernels are the derivatives',
  bench => {
    check(
      fc.property(rowsShape, fc.nat(), fc.boolean(), ([rows, cols], seed, affine) => {
        const x = f64(rows * cols, seed).map(v => 3 * v + 5);
        const [w, b, dy] = [f64(cols, seed + 1), f64(cols, seed + 2), f64(rows * cols, seed + 3)];
        const eps = 0.1;
        const forward = (z: Values, scale: Values | 0, shift: Values | 0) =>
          run(bench, 'layerNorm', 'f64', [
            rows,
            cols,
            z,
            scale,
            shift,
            eps,
            { room: rows * cols },
            { room: rows },
            { room: rows },
          ]);
        const { results } = forward(x, affine ? w : 0, affine ? b : 0);
        const [y, mean, variance] = results as [Values, Values, Values];
        const expected = new Float64Array(rows * cols);
        for (let i = 0; i < rows; i++) {
          const row = x.subarray(i * cols, (i + 1) * cols);
          const m = row.reduce((sum, v) => sum + v, 0) / cols;
          const s2 = row.reduce((sum, v) => sum + (v - m) ** 2, 0) / cols;
          for (let j = 0; j < cols; j++)
            expected[i * cols + j] =
              ((row[j]! - m) / Math.sqrt(s2 + eps)) * (affine ? w[j]! : 1) + (affine ? b[j]! : 0);
        }
        mustBeWithin(y, expected, () => 1e-12, 'layerNorm');
        const dx = one(
          run(bench, 'layerNormBackward', 'f64', [
            rows,
            cols,
            dy,
            x,
            affine ? w : 0,
            eps,
            mean,
            variance,
            { room: rows * cols },
          ]),
        );
        const { results: weights } = run(bench, 'layerNormWeights', 'f64', [
          rows,
          cols,
          dy,
          x,
          eps,
          mean,
          variance,
          { room: cols },
          { room: cols },
        ]);
        const value = ([z, scale, shift]: readonly Values[]) =>
          dot(dy, one(forward(z!, affine ? scale! : 0, affine ? shift! : 0)));
        mustBeGradients([x, w, b], { value, gradients: affine ? [dx, ...weights] : [dx] }, 'layerNorm');
      }),
    );
  },
);

lawOfBoth(
  'batchNorm normalises with the statistics given; its backward kernel is the derivative, through them if training',
  bench => {
    const shape = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 5 }), fc.constantFrom(1, 2, 7, 9));
    check(
      fc.property(shape, fc.nat(), fc.boolean(), ([outer, channels, inner], seed, training) => {
        const size = outer * channels * inner;
        const x = f64(size, seed).map(v => 2 * v + 3);
        const [w, b, dy] = [f64(channels, seed + 1), f64(channels, seed + 2), f64(size, seed + 3)];
        const eps = 0.1;
        const dims = [outer, channels, inner] as const;
        const stats = (z: Values) =>
          run(bench, 'batchStats', 'f64', [...dims, z, { room: channels }, { room: channels }]).results;
        const fixed = stats(x.map(v => v + 0.1)) as [Values, Values];
        const forward = ([z, scale, shift]: readonly Values[]) => {
          const [mean, variance] = training ? stats(z!) : fixed;
          return one(
            run(bench, 'batchNorm', 'f64', [...dims, z!, mean!, variance!, eps, scale!, shift!, { room: size }]),
          );
        };
        const [mean, variance] = training ? stats(x) : fixed;
        const expected = Array.from(x, (v, i) => {
          const c = Math.floor(i / inner) % channels;
          return ((v - mean![c]!) / Math.sqrt(variance![c]! + eps)) * w[c]! + b[c]!;
        });
        mustBeWithin(forward([x, w, b]), expected, () => 1e-12, 'batchNorm');
        const { results } = run(...([bench, 'batchNormBackward', 'f64'] as const), [
          ...dims,
          dy,
          x,
          mean!,
          variance!,
          eps,
          w,
          training ? 1 : 0,
          { room: size },
          { room: channels },
          { room: channels },
        ]);
        mustBeGradients([x, w, b], { value: inputs => dot(dy, forward(inputs)), gradients: results }, 'batchNorm');
        // Neither scale nor result wanted.
        const { results: plain } = run(...([bench, 'batchNormBackward', 'f64'] as const), [
          ...dims,
          dy,
          x,
          mean!,
          variance!,
          eps,
          0,
          0,
          0,
          { room: channels },
          { room: channels },
        ]);
        mustBeWithin(plain[0]!, results[1]!, () => 1e-12, 'dw alone');
        mustBeWithin(plain[1]!, results[2]!, () => 1e-12, 'db alone');
      }),
    );
  },
);

lawOfBoth('float32 rows: the same numbers as float64 within its rounding', bench => {
  check(
    fc.property(rowsShape, fc.nat(), ([rows, cols, at], seed) => {
      const size = rows * cols;
      const [x, dy, w, b] = [f64(size, seed), f64(size, seed + 1), f64(cols, seed + 2), f64(cols, seed + 3)];
      const labels = { ints: Array.from({ length: rows }, (_, i) => i % cols) };
      const results = FLOATS.map(type => {
        const [to, row, col] = [{ room: size }, { room: rows }, { room: cols }];
        const soft = one(run(bench, 'softmax', type, [rows, cols, x, to], at));
        const logs = one(run(bench, 'logSoftmax', type, [rows, cols, x, to], at));
        const loss = run(bench, 'crossEntropy', type, [rows, cols, x, labels, { room: 2 * rows }], at);
        const norm = run(bench, 'layerNorm', type, [rows, cols, x, w, b, 0.1, to, row, row], at);
        const [mean, variance] = norm.results.slice(1) as [Values, Values];
        const stats = run(bench, 'batchStats', type, [1, rows, cols, x, row, row], at);
        const [m, v] = stats.results as [Values, Values];
        const back = [1, rows, cols, dy, x, m, v, 0.1, 0, 1, to, row, row];
        return [
          ...[soft, logs, make(type, [loss.returned]), ...norm.results, m, v],
          one(run(bench, 'softmaxBackward', type, [rows, cols, dy, soft, to], at)),
          one(run(bench, 'logSoftmaxBackward', type, [rows, cols, dy, logs, to], at)),
          one(run(bench, 'crossEntropyBackward', type, [rows, cols, x, labels, loss.results[0]!, 0.5, to], at)),
          one(run(bench, 'layerNormBackward', type, [rows, cols, dy, x, w, 0.1, mean, variance, to], at)),
          ...run(bench, 'layerNormWeights', type, [rows, cols, dy, x, 0.1, mean, variance, col, col], at).results,
          one(run(bench, 'batchNorm', type, [1, rows, cols, x, m, v, 0.1, 0, 0, to], at)),
          ...run(bench, 'batchNormBackward', type, back, at).results,
        ];
      });
      for (const [i, single] of results[0]!.entries()) {
        const double = results[1]![i]!;
        mustBeWithin(single, double, j => 2e-6 * (1 + Math.abs(double[j]!) + cols / 30), `result ${i}`);
      }
    }),
  );
});

// --- optimizers -----------------------------------------------------------------------------------------------------------

lawOfBoth('moments and adam follow the reference backend, what is tiny becoming 0', bench => {
  const options = fc.record({
    beta1: fc.constantFrom(0, 0.9),
    beta2: fc.constantFrom(0, 0.5, 0.999),
    eps: fc.constantFrom(0, 1e-8, 1e-60),
    correction1: fc.constantFrom(0.1, 1),
    correction2: fc.constantFrom(0.001, 1),
  });
  for (const type of FLOATS)
    check(
      fc.property(length, offset, fc.nat(), options, fc.boolean(), (n, at, seed, o, own) => {
        const [m, g] = [make(type, randoms(n, seed)), make(type, randoms(n, seed + 1))];
        const v = make(type, randoms(n, seed + 2).map(Math.abs));
        const s = make(type, randoms(n, seed + 3).map(Math.abs));
        for (let i = 0; i < n; i += 4) {
          const tiny = type === 'f32' ? 1e-37 : 1e-291;
          [v[i], s[i]] = [i % 8 ? tiny : 0, i % 8 ? tiny : 0];
          if (own) g[i] = i % 3 ? Math.sqrt(tiny) / 2 : 0;
        }
        const shape = [n];
        const [em, ev, out] = [operand(type, m, shape), operand(type, v, shape), blank(type, shape)];
        reference.moments(em, ev, operand(type, g, shape), own ? null : operand(type, s, shape), out, o);
        const numbers = [o.beta1, o.beta2, o.eps, o.correction1, o.correction2] as const;
        bench.with(at, () => {
          const [pm, pv, pg, ps] = [bench.put(type, m), bench.put(type, v), bench.put(type, g), bench.put(type, s)];
          const py = bench.room(type, n);
          bench.call[`moments_${type}`](n, pm, pv, pg, own ? 0 : ps, ...numbers, py);
          const [ym, yv] = [bench.read(type, pm, n), bench.read(type, pv, n)];
          const near = (by: number) => (i: number) => by * EPS[type] * (Math.abs(m[i]!) + Math.abs(g[i]!));
          mustBeWithin(ym, em.storage.array, near(4), 'm');
          mustBeWithin(yv, ev.storage.array, i => 6 * EPS[type] * (v[i]! + (own ? g[i]! ** 2 : s[i]!)), 'v');
          // The direction of the moments as they were rounded.
          const expected = make(
            type,
            Array.from(ym, (mi, i) => mi / o.correction1 / (Math.sqrt(yv[i]! / o.correction2) + o.eps)),
          );
          mustBeWithin(bench.read(type, py, n), expected, i => 8 * EPS[type] * Math.abs(expected[i]!), 'direction');
        });
        if (!own) return;
        const p = make(type, randoms(n, seed + 4));
        const [direction, updated] = bench.with(at, () => {
          const [pm, pv, pg, pp] = [bench.put(type, m), bench.put(type, v), bench.put(type, g), bench.put(type, p)];
          const [qm, qv, py] = [bench.put(type, m), bench.put(type, v), bench.room(type, n)];
          bench.call[`moments_${type}`](n, qm, qv, pg, 0, ...numbers, py);
          bench.call[`adam_${type}`](n, pm, pv, pg, ...numbers, pp, 0.1, 0.875);
          mustBe(bench.read(type, pm, n), bench.read(type, qm, n), 'm of adam');
          mustBe(bench.read(type, pv, n), bench.read(type, qv, n), 'v of adam');
          return [bench.read(type, py, n), bench.read(type, pp, n)] as const;
        });
        const expected = Array.from(p, (pi, i) => 0.875 * pi - 0.1 * direction[i]!);
        const bound = (i: number) => 4 * EPS[type] * (Math.abs(p[i]!) + Math.abs(direction[i]!));
        mustBeWithin(updated, expected, bound, 'p of adam');
      }),
      60,
    );
});

lawOfBoth('sgd keeps its momentum and looks ahead; addScaled and scale update rows with any strides', bench => {
  for (const type of FLOATS) {
    check(
      fc.property(length, offset, fc.nat(), fc.boolean(), (n, at, seed, nesterov) => {
        const [p, buf, g] = [0, 1, 2].map(k => make(type, randoms(n, seed + k))) as [Values, Values, Values];
        const [keep, take, look, own] = nesterov ? [0.9, 1, 0.9, 1] : [0.9, 0.5, 1, 0];
        const momentum = Array.from(buf, (b, i) => keep * b + take * g[i]!);
        const moved = Array.from(p, (pi, i) => pi - 0.1 * (look * momentum[i]! + own * g[i]!));
        bench.with(at, () => {
          const [pp, pb, pg] = [bench.put(type, p), bench.put(type, buf), bench.put(type, g)];
          bench.call[`sgd_${type}`](n, pp, pb, pg, 0.1, keep, take, look, own);
          mustBeWithin(bench.read(type, pb, n), momentum, () => 6 * EPS[type], 'buf');
          mustBeWithin(bench.read(type, pp, n), moved, () => 6 * EPS[type], 'p');
        });
      }),
    );
    const writable = fc.constantFrom('dense', 'transposed', 'gaps', 'thinned', 'backwards');
    check(
      fc.property(matrix, writable, lay, fc.nat(), ([rows, cols, at], layY, layX, seed) => {
        const [y, x] = [LAYS[layY]!(rows, cols), LAYS[layX]!(rows, cols)];
        const [before, add] = [make(type, randoms(y.span, seed)), make(type, randoms(x.span, seed + 1))];
        bench.with(at, () => {
          const [py, px] = [bench.put(type, before), bench.put(type, add)];
          const [fromY, fromX] = [py + y.start * BYTES[type], px + x.start * BYTES[type]];
          bench.call[`addScaled_${type}`](rows, cols, fromY, y.row, y.col, fromX, x.row, x.col, -0.3);
          const sum = walked(before, y, rows, cols).map((v, i) => v - 0.3 * walked(add, x, rows, cols)[i]!);
          const first = bench.read(type, py, y.span);
          mustBeWithin(walked(first, y, rows, cols), sum, () => 3 * EPS[type], `addScaled_${type}`);
          bench.call[`scale_${type}`](rows, cols, fromY, y.row, y.col, 0.7);
          const factor = round(type, 0.7);
          const scaled = make(
            type,
            walked(first, y, rows, cols).map(v => v * factor),
          );
          mustBe(walked(bench.read(type, py, y.span), y, rows, cols), scaled, `scale_${type}`);
        });
      }),
      60,
    );
  }
});

// --- indices --------------------------------------------------------------------------------------------------------------

lawOfBoth('indexSelect, indexAdd, gather and scatterAdd are those of the reference backend', bench => {
  const shape = fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 6 }), fc.oneof(fc.constant(1), fc.nat(12)), fc.nat(6));
  for (const type of TYPES)
    check(
      fc.property(shape, offset, fc.nat(), ([outer, along, inner, count], at, seed) => {
        const next = noise(seed);
        const indices = (n: number) => Array.from({ length: n }, () => Math.floor(((next() + 1) / 2) * along) % along);
        const dims = [outer, along, inner, count] as const;
        const [full, part] = [
          [outer, along, inner],
          [outer, count, inner],
        ];
        // Sums of small integers are exact in any order.
        const source = (n: number, k: number) =>
          make(
            type,
            randoms(n, seed + k).map(v => Math.round(v * (type === 'bool' ? 0.9 : 9)) & (type === 'bool' ? 1 : -1)),
          );
        const [rowsOf, each] = [indices(count), indices(sizeOf(part))];
        const apply = (name: string, x: Values, index: readonly number[], start: Values | null, size: number) =>
          bench.with(at, () => {
            const [px, pi] = [bench.put(type, x), bench.put('i32', index)];
            const out = start === null ? bench.room(type, size) : bench.put(type, start);
            bench.call[`${name}_${type}`]!(...dims, px, pi, out);
            return bench.read(type, out, size);
          });
        const x = source(sizeOf(full), 1);
        const selected = blank(type, part);
        reference.indexSelect(operand(type, x, full), 1, operand('i32', rowsOf, [count]), selected);
        mustBe(apply('indexSelect', x, rowsOf, null, sizeOf(part)), selected.storage.array, 'indexSelect');
        const gathered = blank(type, part);
        if (sizeOf(part) > 0) reference.gather(operand(type, x, full), 1, operand('i32', each, part), gathered);
        mustBe(apply('gather', x, each, null, sizeOf(part)), gathered.storage.array, 'gather');
        if (type === 'bool') return;
        const z = source(sizeOf(part), 2);
        // The reference starts from 0.
        const plusX = (sum: Operand) =>
          make(
            type,
            Array.from(sum.storage.array, (v, i) => v + x[i]!),
          );
        const added = blank(type, full);
        reference.indexAdd(operand(type, z, part), 1, operand('i32', rowsOf, [count]), added);
        mustBe(apply('indexAdd', z, rowsOf, x, sizeOf(full)), plusX(added), 'indexAdd');
        const scattered = blank(type, full);
        if (sizeOf(part) > 0) reference.scatterAdd(operand(type, z, part), 1, operand('i32', each, part), scattered);
        mustBe(apply('scatterAdd', z, each, x, sizeOf(full)), plusX(scattered), 'scatterAdd');
      }),
      60,
    );
});

// --- all of them ----------------------------------------------------------------------------------------------------------

lawOfBoth('every kernel that is exported was called above, save the matrix products', bench => {
  const products = ['sgemm', 'dgemm', 'ssyrk', 'dsyrk', 'gemmScratch'];
  const missing = bench.names.filter(name => !bench.called.has(name) && !products.includes(name));
  assert.deepEqual(missing, []);
});
