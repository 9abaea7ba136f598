/**
 * Writes the exports of the elementwise kernels: from tables of expressions one loop for each operation and type, and one
 * function for each type of the generic kernels in the other files. AssemblyScript has no way to pass an operation into
 * a loop without a call for each vector.
 *
 * Names are `operation_type`, with the types in the order of the operands where there are several: `exp_f32`,
 * `copy_i32_f64`. kernels/signatures.txt says what each takes.
 */
import { readFileSync } from 'node:fs';

const SIZE = { f32: 4, f64: 8, i32: 4, bool: 1 };
/** As AssemblyScript calls the type: a bool is a byte. */
const lane = type => (type === 'bool' ? 'u8' : type);
const FLOATS = ['f32', 'f64'];
const NUMBERS = ['f32', 'f64', 'i32'];
const TYPES = ['bool', ...NUMBERS];

/**
 * Functions of one vector x; `i32` is the one of integers. `cheap` ones are worth two vectors a
 * step, `wide` ones take and give two f64, whatever the type.
 */
const UNARY = {
  neg: { of: NUMBERS, cheap: true, y: 'v128.neg<T>(x)' },
  abs: { of: NUMBERS, cheap: true, y: 'v128.abs<T>(x)' },
  square: { of: NUMBERS, cheap: true, y: 'v128.mul<T>(x, x)' },
  relu: { of: NUMBERS, cheap: true, y: 'relu<T>(x)', i32: 'i32x4.max_s(x, i32x4.splat(0))' },
  sign: { of: NUMBERS, y: 'sign<T>(x)', i32: 'i32x4.max_s(i32x4.min_s(x, i32x4.splat(1)), i32x4.splat(-1))' },
  sqrt: { of: FLOATS, y: 'v128.sqrt<T>(x)' },
  reciprocal: { of: FLOATS, y: 'v128.div<T>(all<T>(1), x)' },
  floor: { of: FLOATS, y: 'v128.floor<T>(x)' },
  ceil: { of: FLOATS, y: 'v128.ceil<T>(x)' },
  round: { of: FLOATS, y: 'v128.nearest<T>(x)' },
  sin: { of: FLOATS, wide: true, y: 'sin(x)' },
  cos: { of: FLOATS, wide: true, y: 'cos(x)' },
  ...Object.fromEntries(
    ['exp', 'expm1', 'log', 'log1p', 'tanh', 'sigmoid', 'erf', 'gelu', 'geluTanh'].map(name => [
      name,
      { of: FLOATS, y: `${name}<T>(x)` },
    ]),
  ),
};

/** Conditions on x, as bytes 0 and 1. */
const CONDITIONS = {
  not: { of: TYPES, y: 'v128.eq<T>(x, all<T>(0))' },
  isNaN: { of: FLOATS, y: 'v128.ne<T>(x, x)' },
  isFinite: { of: FLOATS, y: 'v128.lt<T>(v128.abs<T>(x), all<T>(Infinity))' },
};

/** Gradients: functions of the gradient g of the result and of x, which is the argument, or for some the result. */
const BACKWARD = {
  reluBackward: { of: FLOATS, cheap: true, y: 'v128.and(g, v128.gt<T>(x, all<T>(0)))' },
  tanhBackward: { of: FLOATS, cheap: true, y: 'v128.mul<T>(g, v128.sub<T>(all<T>(1), v128.mul<T>(x, x)))' },
  sigmoidBackward: { of: FLOATS, cheap: true, y: 'v128.mul<T>(g, v128.mul<T>(x, v128.sub<T>(all<T>(1), x)))' },
  geluBackward: { of: FLOATS, y: 'v128.mul<T>(g, geluSlope<T>(x))' },
  geluTanhBackward: { of: FLOATS, y: 'v128.mul<T>(g, geluTanhSlope<T>(x))' },
};

const BINARY = {
  add: { of: NUMBERS, y: 'v128.add<T>(x, y)' },
  sub: { of: NUMBERS, y: 'v128.sub<T>(x, y)' },
  mul: { of: NUMBERS, y: 'v128.mul<T>(x, y)' },
  div: { of: FLOATS, y: 'v128.div<T>(x, y)' },
  // Squares, the most frequent powers, are products.
  pow: {
    of: FLOATS,
    y: 'pow<T>(x, y)',
    first: type =>
      `if ((b0 | b1) == 0 && rows > 0 && load<${type}>(b) == 2) return mul_${type}(rows, cols, a, a0, a1, a, a0, a1, out);`,
  },
  maximum: { of: NUMBERS, y: 'maximum<T>(x, y)', i32: 'i32x4.max_s(x, y)' },
  minimum: { of: NUMBERS, y: 'minimum<T>(x, y)', i32: 'i32x4.min_s(x, y)' },
  and: { of: ['bool'], y: 'v128.and(x, y)' },
  or: { of: ['bool'], y: 'v128.or(x, y)' },
};

const COMPARISONS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'];

export const typed = (source, type) => source.replaceAll('<T>', `<${lane(type)}>`);

/**
 * NOTE: loops over heavy functions test their end last. V8 (Node 20) moves constants out of a loop only where every way
 * out passes the code that uses them; with the test first it makes each anew, in three instructions, for every vector:
 * exp took twice the time.
 */
export const unaryLoop = (name, type, y, cheap) => `
export function ${name}_${type}(n: i32, a: usize, out: usize): void {
${
  cheap
    ? `  for (; n >= ${32 / SIZE[type]}; n -= ${32 / SIZE[type]}, a += 32, out += 32) {
    let x = v128.load(a);
    v128.store(out, ${y});
    x = v128.load(a, 16);
    v128.store(out, ${y}, 16);
  }`
    : ''
}
  if (n <= 0) return;
  do {
    const x = loadUpTo<T>(a, n, all<T>(0));
    storeUpTo<T>(out, ${y}, n);
    n -= ${16 / SIZE[type]}, a += 16, out += 16;
  } while (n > 0);
}`;

/** Of f32, two at a time. The loop tests its end last, as in `unaryLoop`. */
export const wideLoop = (name, y) => `
export function ${name}_f32(n: i32, a: usize, out: usize): void {
  if (n <= 0) return;
  do {
    const x = f64x2.promote_low_f32x4(n > 1 ? v128.load64_zero(a) : v128.load32_zero(a));
    const result = f32x4.demote_f64x2_zero(${y});
    if (n > 1) v128.store64_lane(out, result, 0);
    else v128.store32_lane(out, result, 0);
    n -= 2, a += 8, out += 8;
  } while (n > 0);
}`;

const conditionLoop = (name, type, y) => {
  const size = SIZE[type];
  const masks = {
    bool: `v128.store(out, v128.and(${y}, i8x16.splat(1)));`,
    f64: `const low = ${y};
    x = v128.load(a, 16);
    storeMasks(out, halves(low, ${y}));`,
  };
  const step = type === 'bool' ? 16 : 4;
  return `
export function ${name}_${type}(n: i32, a: usize, out: usize): void {
  for (; n >= ${step}; n -= ${step}, a += ${step * size}, out += ${step}) {
    let x = v128.load(a);
    ${masks[type] ?? `storeMasks(out, ${y});`}
  }
  for (; n > 0; n--, a += ${size}, out++) {
    const x = splatOf<T>(a);
    v128.store8_lane(out, v128.and(${y}, i8x16.splat(1)), 0);
  }
}`;
};

export const backwardLoop = (name, type, y, { cheap }) => `
export function ${name}_${type}(n: i32, dy: usize, a: usize, out: usize): void {
${
  cheap
    ? `  for (; n >= ${32 / SIZE[type]}; n -= ${32 / SIZE[type]}, dy += 32, a += 32, out += 32) {
    let g = v128.load(dy), x = v128.load(a);
    v128.store(out, ${y});
    g = v128.load(dy, 16), x = v128.load(a, 16);
    v128.store(out, ${y}, 16);
  }`
    : ''
}
  if (n <= 0) return;
  do {
    const g = loadUpTo<T>(dy, n, all<T>(0));
    const x = loadUpTo<T>(a, n, all<T>(0));
    storeUpTo<T>(out, ${y}, n);
    n -= ${16 / SIZE[type]}, dy += 16, a += 16, out += 16;
  } while (n > 0);
}`;

/**
 * Rows of two strided operands into a contiguous result. Where one or both lie without gaps and the other stands still,
 * `step` elements at a time by `block(x, y)`, which says where the two come from; one by one what is left, and rows with
 * other strides.
 */
const rowsLoop = (name, type, outSize, step, block, single, before = '') => {
  const size = SIZE[type];
  const run = (condition, x, y, moves) => `if (${condition}) for (; n >= ${step}; n -= ${step}, ${moves}, out += ${step * outSize}) {
${block(x, y)}
    }`;
  const [fromP, fromQ] = ['p', 'q'].map(pointer => offset => `v128.load(${pointer}, ${offset})`);
  const [pMoves, qMoves] = ['p', 'q'].map(pointer => `${pointer} += ${step * size}`);
  return `
export function ${name}_${type}(rows: i32, cols: i32, a: usize, a0: i32, a1: i32, b: usize, b0: i32, b1: i32, out: usize): void {
  ${before}
  for (; rows > 0; rows--, a += a0 * ${size}, b += b0 * ${size}) {
    if (cols <= 0) return;
    let p = a, q = b, n = cols;
    const u = splatOf<T>(p), v = splatOf<T>(q);
    ${run('a1 == 1 && b1 == 1', fromP, fromQ, `${pMoves}, ${qMoves}`)}
    else ${run('a1 == 1 && b1 == 0', fromP, () => 'v', pMoves)}
    else ${run('a1 == 0 && b1 == 1', () => 'u', fromQ, qMoves)}
    for (; n > 0; n--, p += a1 * ${size}, q += b1 * ${size}, out += ${outSize}) {
      const x = splatOf<T>(p), y = splatOf<T>(q);
      ${single}
    }
  }
}`;
};

export const binaryLoop = (name, type, z, before) =>
  rowsLoop(
    name,
    type,
    SIZE[type],
    32 / SIZE[type],
    (x, y) => `      {
        const x = ${x(0)}, y = ${y(0)};
        v128.store(out, ${z});
      }
      {
        const x = ${x(16)}, y = ${y(16)};
        v128.store(out, ${z}, 16);
      }`,
    `storeFirst<T>(out, ${z});`,
    before,
  );

const compareLoop = (name, type) => {
  const mask = (x, y) => `v128.${name}<T>(${x}, ${y})`;
  const byte = (x, y) => `v128.and(${mask(x, y)}, i8x16.splat(1))`;
  const blocks = {
    bool: (x, y) => `v128.store(out, ${byte(x(0), y(0))});`,
    f64: (x, y) => `storeMasks(out, halves(${mask(x(0), y(0))}, ${mask(x(16), y(16))}));`,
  };
  const block = blocks[type] ?? ((x, y) => `storeMasks(out, ${mask(x(0), y(0))});`);
  return rowsLoop(name, type, 1, type === 'bool' ? 16 : 4, block, `v128.store8_lane(out, ${byte('x', 'y')}, 0);`);
};

/** The generic functions of a file that are exported once for each type; where one takes two types, pairs of them. */
const INSTANCES = {
  'elementwise-copy': {
    copy: TYPES.flatMap(from => TYPES.map(to => [from, to])),
    where: TYPES,
    fill: TYPES,
  },
  reduce: { sum: NUMBERS, sumChannels: FLOATS, max: NUMBERS, min: NUMBERS, argmax: NUMBERS, argmin: NUMBERS },
  softmax: {
    softmax: FLOATS,
    logSoftmax: FLOATS,
    softmaxBackward: FLOATS,
    logSoftmaxBackward: FLOATS,
    crossEntropy: FLOATS,
    crossEntropyBackward: FLOATS,
  },
  loss: { squaredError: FLOATS, squaredErrorBackward: FLOATS },
  norm: { norm: FLOATS },
  moments: { moments: FLOATS, adam: FLOATS, sgd: FLOATS, addScaled: FLOATS, addcdiv: FLOATS, scale: FLOATS },
  'index-rows': { indexSelect: TYPES, indexAdd: NUMBERS, gather: TYPES, scatterAdd: NUMBERS },
};

/** `export function name<T>(parameters): result` of a source, as functions of that name and type. */
export function instances(file, table) {
  const source = readFileSync(new URL(`${file}.ts`, import.meta.url), 'utf8');
  return Object.entries(table).flatMap(([name, types]) => {
    const [, parameters, result] = source.match(new RegExp(`export function ${name}<[^>]*>\\(([^)]*)\\): (\\w+)`)) ?? [];
    if (parameters === undefined) throw new Error(`elementwise.mjs: no function ${name}<T> in ${file}.ts`);
    const names = [...parameters.matchAll(/(\w+):/g)].map(found => found[1]).join(', ');
    return types.map(type => {
      const all = [type].flat();
      const signature = parameters.replace(/: T\b/g, `: ${lane(all[0])}`);
      const returned = result === 'T' ? lane(all[0]) : result;
      const call = `${name}<${all.map(lane).join(', ')}>(${names})`;
      return `export function ${name}_${all.join('_')}(${signature}): ${returned} { ${result === 'void' ? '' : 'return '}${call}; }`;
    });
  });
}

/** The source of generated/elementwise.ts. */
export function elementwise() {
  const kernels = [];
  const add = (table, loop) => {
    for (const [name, row] of Object.entries(table))
      for (const type of row.of) kernels.push(typed(loop(name, type, row[type] ?? row.y, row), type));
  };
  add(UNARY, (name, type, y, { cheap, wide }) =>
    wide && type === 'f32' ? wideLoop(name, y) : unaryLoop(name, type, y, cheap),
  );
  add(CONDITIONS, conditionLoop);
  add(BACKWARD, backwardLoop);
  add(BINARY, (name, type, z, { first }) => binaryLoop(name, type, z, first?.(type)));
  for (const name of COMPARISONS) for (const type of TYPES) kernels.push(typed(compareLoop(name, type), type));
  const files = Object.keys(INSTANCES);
  return [
    "import { all, halves, loadUpTo, splatOf, storeFirst, storeMasks, storeUpTo } from '../elementwise-lanes';",
    "import { erf, gelu, geluSlope, geluTanh, geluTanhSlope } from '../elementwise-erf';",
    "import { exp, expm1, log, log1p, maximum, minimum, relu, sigmoid, sign, tanh } from '../elementwise-math';",
    "import { pow } from '../elementwise-pow';",
    "import { cos, sin } from '../elementwise-trig';",
    ...files.map(file => `import { ${Object.keys(INSTANCES[file]).join(', ')} } from '../${file}';`),
    ...kernels,
    ...files.flatMap(file => instances(file, INSTANCES[file])),
  ].join('\n');
}
