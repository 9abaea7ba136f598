/**
 * JavaScript to WGSL by gpu.js, with the functions of math.ts in the place of WGSL's: so that `Math.exp` and its like, `/` and
 * `%` give what JavaScript gives.
 */

import { type Arguments, type Translation, translate as translated } from './gpujs.ts';
import { withLibrary } from './math.ts';

/** Functions beside `Math` that kernels may call, and what they are in WGSL. Of one argument or two; these answer yes or no. */
const ANSWERS: Readonly<Record<string, readonly [count: number, wgsl: string]>> = {
  isNaN: [1, 'isnan_'],
  isFinite: [1, 'isfinite_'],
  isZero: [1, 'iszero_'],
  lt: [2, 'lt_'],
  le: [2, 'le_'],
  gt: [2, 'gt_'],
  ge: [2, 'ge_'],
  eq: [2, 'eq_'],
  ne: [2, 'ne_'],
  truthy: [1, 'truthy_'],
};
/** These give numbers. */
const NUMBERS: Readonly<Record<string, readonly [count: number, wgsl: string]>> = {
  relu: [1, 'relu_'],
  roundEven: [1, 'round'],
  sigmoid: [1, 'sigmoid_'],
  erf: [1, 'erf_'],
  gelu: [1, 'gelu_'],
  geluTanh: [1, 'gelutanh_'],
  geluSlope: [1, 'geluslope_'],
  geluTanhSlope: [1, 'gelutanhslope_'],
  power: [2, 'pow_'],
  notANumber: [0, 'nan_'],
};

const stubs = (of: typeof ANSWERS, result: string) =>
  Object.entries(of).map(
    ([name, [count]]) => `function ${name}(${['a', 'b'].slice(0, count)}) { return ${count === 0 ? '0.5' : result}; }`,
  );
/** What gpu.js takes them for: types are all that counts. */
export const STUBS = [...stubs(ANSWERS, 'a > 0.5'), ...stubs(NUMBERS, 'a + 0.5')];

const OWN =
  /(?<![\w.])(exp|expm1|log|log2|log10|log1p|sqrt|sinh?|cosh?|tanh?|asinh?|acosh?|atan[2h]?|cbrt|max|min|sign)\(/g;
/** Definitions that gpu.js adds for some of them. */
const ADDED = /^fn (?:_pow|_round|cbrt|expm1|log10|log1p)\([\s\S]*?^\}$/gm;

/** The text of gpu.js with functions of math.ts. */
function withOwnMath(source: string): string {
  let code = source
    .replace(ADDED, '')
    .replace(OWN, '$1_(')
    .replaceAll('_pow(', 'mathpow_(')
    .replaceAll('_round(', 'round_(');
  for (const [name, [, wgsl]] of Object.entries({ ...ANSWERS, ...NUMBERS }))
    code = code.replace(new RegExp(`^fn fn_${name}\\([^}]*\\}`, 'm'), '').replaceAll(`fn_${name}(`, `${wgsl}(`);
  // Loops end as they do in JavaScript, and not at gpu.js's limit.
  code = code.replace(/const LOOP_MAX : i32 = \d+;/, 'const LOOP_MAX : i32 = 2147483647;');
  // A literal beyond float32, and the name Infinity.
  code = code.replaceAll('0x1.fffffep+127', 'inf_()');
  return called(called(code, '/', 'div_'), '%', 'mod_');
}

/** `(a operator b)`, as gpu.js writes it, always in parentheses, as a call. */
function called(source: string, operator: string, name: string): string {
  let code = source;
  for (let at = code.indexOf(operator); at >= 0; at = code.indexOf(operator, at)) {
    let open = at;
    for (let depth = 0; depth < 1; ) depth += { '(': 1, ')': -1 }[code[--open]!] ?? 0;
    code = `${code.slice(0, open)}${name}(${code.slice(open + 1, at)}, ${code.slice(at + 1)}`;
  }
  return code;
}

/**
 * The kernel of a function's source, which is called with arrays of float32, numbers and integers `steps`, in that order.
 *
 * @param axes 1 or 3: those of the result
 */
export function translate(source: string, axes: number, names: Arguments): Translation {
  const translation = translated(source, axes, names, STUBS);
  return { ...translation, code: withLibrary(withOwnMath(translation.code)) };
}
