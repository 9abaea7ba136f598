// The laws of the elementwise kernels in @otimes/kernels, for both variants: each against the reference backend's functions,
// bit for bit where IEEE 754 rounds correctly, else to a bound in ulp.

import assert from 'node:assert/strict';
import type { Element, Float } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import type { BinaryKernel, UnaryKernel } from '../core/src/backends/backend.ts';
import { BINARY, INT32, UNARY } from '../core/src/backends/reference/scalar.ts';
import { binary, sweep, TRANSCENDENTAL, type Transcendental, unary } from './helpers/elementwise.ts';
import { golden } from './helpers/golden.ts';
import {
  BYTES,
  check,
  EDGES,
  EPS,
  element,
  elements,
  FLOATS,
  INTEGERS,
  LAYS,
  type Lay,
  lawsOfBoth,
  lay,
  length,
  make,
  matrix,
  mustBe,
  mustBeWithin,
  NUMERIC,
  noise,
  offset,
  randoms,
  round,
  TYPES,
  ulp,
  ulps,
  type Values,
  walked,
} from './helpers/kernels.ts';

const lawOfBoth = lawsOfBoth(t);

// --- functions of one operand --------------------------------------------------------------------------------------------

const EXACT: Partial<Record<UnaryKernel, readonly Element[]>> = {
  ...{ neg: NUMERIC, abs: NUMERIC, sign: NUMERIC, square: NUMERIC, relu: NUMERIC },
  ...{ sqrt: FLOATS, reciprocal: FLOATS, floor: FLOATS, ceil: FLOATS, round: FLOATS },
  ...{ not: TYPES, isNaN: FLOATS, isFinite: FLOATS },
};
const TO_BOOL: readonly UnaryKernel[] = ['not', 'isNaN', 'isFinite'];

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

/** Math is up to 1 ulp off, and the series of the reference's erf about 13 for |x| near 3: see the golden values. */
const mostUlps = (name: Transcendental, type: Float) => (type === 'f32' ? 4 : name === 'erf' ? 16 : 5);

lawOfBoth('an element has the same bits alone and beside any other', bench => {
  const others = [...EDGES, 2 ** 20, -(2 ** 21), 1e15, Math.PI, -Math.PI / 2, 20, -20, 0.3];
  for (const type of FLOATS) {
    const xs = [...sweep(type, 900).slice(300)];
    for (const name of TRANSCENDENTAL) {
      const alone = xs.map(x => unary(bench, name, type, [x])[0]!);
      // Each in every place of a vector, beside one of the others.
      const beside = xs.flatMap((x, i) => [x, others[i % others.length]!, x, others[(i * 7) % others.length]!, x]);
      const y = unary(bench, name, type, beside);
      xs.forEach((x, i) => {
        for (const k of [0, 2, 4])
          if (!Object.is(y[5 * i + k], alone[i]))
            throw new Error(`${name}_${type}(${x}) = ${y[5 * i + k]} beside ${beside[5 * i + 1]}, alone ${alone[i]}`);
      });
    }
  }
});

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

// --- all of them ----------------------------------------------------------------------------------------------------------

lawOfBoth('every kernel of this file was called above, and every export belongs to a file', bench => {
  assert.deepEqual(bench.uncalled('elementwise'), []);
  assert.deepEqual(bench.homeless(), []);
});
