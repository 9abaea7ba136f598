/**
 * Writes the exports of the module `math`: a loop for each function of math-functions.ts and type, as elementwise.mjs does. Those
 * with two parameters p and q take these before the result.
 */
import { backwardLoop, binaryLoop, typed, unaryLoop, wideLoop } from './elementwise.mjs';

const FLOATS = ['f32', 'f64'];
const PLAIN = ['log2', 'log10', 'sinh', 'cosh', 'silu', 'mish', 'logSigmoid'];
const SLOPES = ['silu', 'mish', 'logSigmoid'];
const WITH_PARAMETERS = ['softplus', 'elu', 'leakyRelu'];

/** A loop with the parameters in all lanes before it. */
const parametrised = loop =>
  loop
    .replace(/(a: usize), out/, '$1, first: f64, second: f64, out')
    .replace('{\n', '{\n  const p = all<T>(first), q = all<T>(second);\n');

/** Rows of two f64 at a time; f32 are widened. */
const angles = `
export function atan2_f32(rows: i32, cols: i32, a: usize, a0: i32, a1: i32, b: usize, b0: i32, b1: i32, out: usize): void {
  for (; rows > 0; rows--, a += a0 * 4, b += b0 * 4) {
    let p = a, q = b, n = cols;
    for (; n > 0; n -= 2, p += a1 * 8, q += b1 * 8, out += 8) {
      let y = v128.load32_zero(p), x = v128.load32_zero(q);
      if (n > 1) y = v128.load32_lane(p + a1 * 4, y, 1), x = v128.load32_lane(q + b1 * 4, x, 1);
      const angle = f32x4.demote_f64x2_zero(atan2(f64x2.promote_low_f32x4(y), f64x2.promote_low_f32x4(x)));
      if (n > 1) v128.store64_lane(out, angle, 0);
      else {
        v128.store32_lane(out, angle, 0);
        out -= 4;
      }
    }
  }
}`;

/** The source of generated/math.ts. */
export function math() {
  const kernels = FLOATS.flatMap(type => [
    ...PLAIN.map(name => typed(unaryLoop(name, type, `${name}<T>(x)`), type)),
    ...SLOPES.map(name => typed(backwardLoop(`${name}Backward`, type, `v128.mul<T>(g, ${name}Slope<T>(x))`, {}), type)),
    ...WITH_PARAMETERS.flatMap(name => [
      typed(parametrised(unaryLoop(name, type, `${name}<T>(x, p, q)`)), type),
      typed(
        parametrised(backwardLoop(`${name}Backward`, type, `v128.mul<T>(g, ${name}Slope<T>(x, p, q))`, {})),
        type,
      ),
    ]),
  ]);
  const slopes = [...SLOPES, ...WITH_PARAMETERS].map(name => `${name}Slope`);
  return [
    "import { all, loadUpTo, splatOf, storeFirst, storeUpTo } from '../elementwise-lanes';",
    `import { atan2, tan, ${[...PLAIN, ...WITH_PARAMETERS, ...slopes].join(', ')} } from '../math-functions';`,
    ...kernels,
    typed(wideLoop('tan', 'tan(x)'), 'f32'),
    typed(unaryLoop('tan', 'f64', 'tan(x)'), 'f64'),
    angles,
    typed(binaryLoop('atan2', 'f64', 'atan2(x, y)'), 'f64'),
  ].join('\n');
}
