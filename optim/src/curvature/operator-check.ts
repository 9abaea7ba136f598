/** Checks of what an operator is made from, and what is known of its eigenvalues on the host: which of them stand for 0. */

import { type DType, DTypeError, describe, isRecording, noGrad, ShapeError, scope, Tensor, where } from '@otimes/core';
import { aTensor, checkFinite, checkRange, type Kind, readsLater, received } from '@otimes/core/extend';
import { type Eigensolver, Kfe } from './basis.ts';
import { checkBasis } from './decompose/check-basis.ts';
import { nullDirections, roundingOf } from './nulls.ts';
import type { OperatorFactors } from './operator-factors.ts';

/** What an operator is called where others are called by their layer. */
export const LABEL = 'A ⊗ G';

export const someFactors: Kind = {
  expected: 'two tensors { A, G }',
  is: v => isObject(v) && ['A', 'G'].every(side => aTensor.is(Reflect.get(v, side))),
  hint: v => (isObject(v) ? `A is ${received(Reflect.get(v, 'A'))}, G ${received(Reflect.get(v, 'G'))}` : ''),
};

const isObject = (v: unknown): v is object => typeof v === 'object' && v !== null;

/** [dOut, dIn] of factors. Throws unless both are square, diagonals or means, of one floating dtype, on one device, and without a gradient. */
export function sizesOf(
  op: string,
  { A, G }: OperatorFactors,
  given: readonly [number, number] | undefined,
): readonly [number, number] {
  checkAlike(op, 'factors', { A, G });
  return [sizeOf(op, 'G', G, given?.[0]), sizeOf(op, 'A', A, given?.[1])];
}

/** n of a factor [n, n] or of a diagonal [n], or of a mean eigenvalue the size that is given for it. Throws for another shape, and for sizes that differ. */
function sizeOf(op: string, side: 'A' | 'G', x: Tensor, given: number | undefined): number {
  const n = x.shape[0] ?? given;
  const isSquare = x.rank === 1 || (x.rank === 2 && x.shape[1] === n);
  const fits = n !== undefined && n > 0 && (x.rank === 0 || (isSquare && n === (given ?? n)));
  if (fits) return n;
  const wanted =
    given === undefined ? 'a square matrix, a diagonal, or the option sizes beside a mean' : `[${given}, ${given}]`;
  const hint = n === 0 ? ', which is empty' : '';
  throw new ShapeError(`${op}: expected factor ${side} to be ${wanted}, got [${x.shape}]${hint}`);
}

/** Throws unless all are of one floating dtype, on one device, and require no gradient. */
function checkAlike(op: string, what: string, tensors: Readonly<Record<string, Tensor | null>>): void {
  const all = Object.entries(tensors).filter((one): one is [string, Tensor] => one[1] !== null);
  const [, first] = all[0]!;
  const odd = all.find(([, x]) => x.dtype !== first.dtype) ?? all[0]!;
  const named = ([name, x]: [string, Tensor]) => `${name} ${describe(x)}`;
  if (!first.dtype.startsWith('float') || odd[1] !== first) {
    const shown = odd[1] === first ? all.slice(0, 2) : [all[0]!, odd];
    throw new DTypeError(
      `${op}: expected ${what} of one dtype, 'float32' or 'float64', got ${shown.map(named).join(' and ')}; ` +
        "astype('float64') makes one of the other",
    );
  }
  const away = all.find(([, x]) => x.device !== first.device);
  if (away !== undefined)
    throw new DTypeError(
      `${op}: expected ${what} on one device, got ${all[0]![0]} on '${first.device}' and ${away[0]} on ` +
        `'${away[1].device}'`,
    );
  const tracked = all.find(([, x]) => x.requiresGrad);
  if (tracked !== undefined && isRecording())
    throw new TypeError(
      `${op}: expected ${what} that require no gradient, got ${named(tracked)} that does; gradients pass to X alone: ` +
        'give a detach() of it',
    );
}

/** Throws unless factors that can be read are finite and symmetric, without a negative number on the diagonal. */
export function checkFactorValues(op: string, factors: OperatorFactors): void {
  for (const side of ['A', 'G'] as const) {
    const x = factors[side];
    if (x.rank === 0) checkRange(op, `factor ${side}, a mean eigenvalue,`, x.item(), 0, Infinity);
    else if (x.rank === 1) checkDiagonal(op, side, x);
    else checkSymmetric(op, side, x);
  }
}

function checkDiagonal(op: string, side: 'A' | 'G', x: Tensor): void {
  const k = x.dataSync().findIndex((value: number) => !(value >= 0 && value < Infinity));
  if (k >= 0)
    throw new RangeError(
      `${op}: expected a diagonal factor ${side} of finite numbers ≥ 0, got ${x.dataSync()[k]} at [${k}]`,
    );
}

function checkSymmetric(op: string, side: 'A' | 'G', x: Tensor): void {
  const n = x.shape[0]!;
  const values = x.dataSync();
  const expected = (what: string) => `${op}: expected factor ${side} to be ${what}, got ${describe(x)} with `;
  let largest = 0;
  for (let k = 0; k < values.length; k++) {
    if (!Number.isFinite(values[k]!)) throw new RangeError(`${expected('finite')}${values[k]} at ${at(k, n)}`);
    largest = Math.max(largest, Math.abs(values[k]!));
  }
  // What `eigh` takes for rounding.
  const off = largest * (x.dtype === 'float32' ? 1e-6 : 1e-12);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) {
      const [lower, upper] = [values[i * n + j]!, values[j * n + i]!];
      if (!(Math.abs(lower - upper) <= off))
        throw new RangeError(`${expected('symmetric')}${upper} at [${j},${i}] and ${lower} at [${i},${j}]`);
    }
  for (let i = 0; i < n; i++) {
    const own = values[i * n + i]!;
    if (own < 0)
      throw new RangeError(
        `${expected('positive semidefinite')}${own} at [${i},${i}], so it has a negative eigenvalue`,
      );
  }
}

const at = (k: number, columns: number): string => `[${Math.floor(k / columns)},${k % columns}]`;

/**
 * Throws for a negative eigenvalue that is more than rounding. Factors of either dtype may have been summed up in float32, so that
 * its rounding is allowed for; such an eigenvalue stands for 0.
 */
export function checkSemidefinite(op: string, what: string, { values }: ReturnType<Eigensolver>): void {
  const n = values.shape[0]!;
  let [least, most] = [0, 0];
  for (let i = 0; i < n; i++) {
    const value = Number(values.get(i));
    least = Math.min(least, value);
    most = Math.max(most, Math.abs(value));
  }
  if (least < -roundingOf('float32', n) * most)
    throw new RangeError(
      `${op}: expected ${what} to be positive semidefinite, got ${least} for its smallest eigenvalue beside ${most} for ` +
        'its largest',
    );
}

/** Throws unless a basis is one, as far as it can be read at once: of one dtype, on one device, orthonormal, eigenvalues ≥ 0. */
export function checkOperatorBasis(op: string, kfe: Kfe): readonly [number, number] {
  const { UA, UG, sA, sG, nA, nG } = kfe;
  const parts = { sA, sG, UA, UG, nA, nG };
  for (const [name, x] of Object.entries(parts))
    if (!(x instanceof Tensor || (x === null && name.startsWith('U'))))
      throw new TypeError(`${op}: expected ${name} of the basis to be a tensor, got ${received(x)}`);
  checkAlike(op, 'the tensors of the basis', parts);
  const sizes = [sG.size, sA.size] as const;
  if (readsLater(kfe.host.sA)) return sizes;
  checkBasis(op, LABEL, kfe, kfe.sides);
  for (const name of ['sA', 'sG'] as const) {
    const least = Math.min(...kfe.host[name].dataSync());
    if (least < 0) throw new RangeError(`${op}: expected eigenvalues ${name} of the basis ≥ 0, got ${least}`);
  }
  return sizes;
}

/** Throws unless eigenvalues fit a basis, are finite and ≥ 0. Where they are read with await, the next read tells the last two. */
export function checkEigenvalues(op: string, S: Tensor, kfe: Kfe, sizes: readonly [number, number]): void {
  if (String(S.shape) !== String(sizes))
    throw new ShapeError(`${op}: expected eigenvalues [${sizes}], got [${S.shape}]`);
  checkAlike(op, 'basis and eigenvalues', { sA: kfe.sA, eigenvalues: S });
  const wrong = (k: number, value: unknown) =>
    new RangeError(`${op}: expected eigenvalues that are finite and ≥ 0, got ${value} at ${at(k, sizes[1])}`);
  if (readsLater(S)) {
    checkFinite(where(S.ge(0), S, Number.NaN), k => wrong(k, 'another number'));
    return;
  }
  S.dataSync().forEach((value, k) => {
    if (!(value >= 0 && value < Infinity)) throw wrong(k, value);
  });
}

/** What inverses need to know of the eigenvalues of an operator. */
export type Spectrum = {
  /** The smallest eigenvalue, in the operator's dtype. */
  readonly least: number;
  /** Why there is no inverse without damping; null where there is one. */
  readonly singular: string | null;
};

/** That of a basis on the host, or of eigenvalues that stand in the place of its own. */
export const spectrumOf = (kfe: Kfe, own: Tensor | null): Spectrum =>
  noGrad(() => scope(() => (own === null ? ofBasis(kfe) : ofEigenvalues(own))));

function ofEigenvalues(S: Tensor): Spectrum {
  const least = S.min().item();
  return { least, singular: least > 0 ? null : `the smallest of its eigenvalues ${describe(S)} is ${least}` };
}

/** A side is singular where a direction of it is null: rounding may leave any small number there. */
function ofBasis(kfe: Kfe): Spectrum {
  const sides = [
    { side: 'A', s: kfe.sA, n: kfe.nA },
    { side: 'G', s: kfe.sG, n: kfe.nG },
  ].map(({ side, s, n }) => {
    const nulls = nullDirections({ s, n }).astype('float32').sum().item();
    return { side, size: s.size, nulls, least: s.min().item(), most: s.max().item(), dtype: s.dtype };
  });
  const [a, g] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const singular = sides
    .filter(({ nulls }) => nulls > 0)
    .map(
      ({ side, size, nulls, least, most, dtype }) =>
        `factor ${side} [${size}, ${size}] has ${nulls === 1 ? '1 eigenvalue that is' : `${nulls} eigenvalues that are`} 0 ` +
        `up to the rounding of ${dtype}: its smallest is ${least}, its largest ${most}`,
    );
  return {
    least: rounded(a.least * g.least, kfe.sA.dtype),
    singular: singular.length === 0 ? null : singular.join('; '),
  };
}

/** A number as a dtype holds it. */
export const rounded = (x: number, dtype: DType): number => (dtype === 'float32' ? Math.fround(x) : x);

/** A basis of which all values can be read at once. */
export async function hostOf(kfe: Kfe): Promise<Kfe> {
  const { host } = kfe;
  if (!readsLater(host.sA)) return host;
  const { UA, UG, sA, sG, nA, nG, sides } = host;
  const [ua = null, ug = null, ...rest] = await Promise.all([
    UA?.cpu(),
    UG?.cpu(),
    sA.cpu(),
    sG.cpu(),
    nA.cpu(),
    nG.cpu(),
  ]);
  const [a, g, na, ng] = rest as [Tensor, Tensor, Tensor, Tensor];
  return new Kfe({ U: ua, s: a, n: na }, { U: ug, s: g, n: ng }, sides);
}
