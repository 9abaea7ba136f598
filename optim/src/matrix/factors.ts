/**
 * Kronecker factors of gradients, L of the rows and R of the columns, and bases of their eigenvectors: what SOAP, Shampoo and KL-Shampoo
 * keep for each matrix beside its moments.
 */

import { gram, scope, type Tensor, tensor } from '@otimes/core';
import { aCount, checkArgument, type Kind, lendNdarray } from '@otimes/core/extend';
import { eigh, qr } from '@otimes/linalg';
import type { Structure } from '../curvature/side.ts';
import { RATE } from '../curvature/structure.ts';
import type { HostWork, MatrixStep } from './direction.ts';

/** L belongs to the rows, R to the columns. */
export type Side = 'L' | 'R';

/** Tensors of a matrix by their names. */
export type Slots = Readonly<Record<string, Tensor>>;

export type FactorOptions = {
  /** A side with more coordinates than this stays at the identity. Default 2048; the authors' code of SOAP says 10000. */
  maxFactorDim?: number;
  /** The bases, or roots, follow the factors every so many steps. Default 10. */
  refreshEvery?: number;
};

export const twoNumbers: Kind = {
  expected: 'two numbers such as [0.9, 0.95]',
  is: v => Array.isArray(v) && v.length === 2 && v.every(one => typeof one === 'number'),
};

/** Throws unless it is a finite number above 0. */
export function checkPositive(name: string, option: string, value: number): void {
  const is = (v: unknown) => typeof v === 'number' && v > 0 && v < Infinity;
  checkArgument(name, option, value, { expected: 'a finite number > 0', is, error: RangeError });
}

/** On one core a decomposition of 2048 takes a second or two. */
const LARGEST = 2048;

/** Both with their defaults; throws for values out of range. */
export function checkFactorOptions(name: string, o: FactorOptions): Required<FactorOptions> {
  const { maxFactorDim = LARGEST, refreshEvery = 10 } = o;
  checkArgument(name, 'maxFactorDim', maxFactorDim, aCount);
  checkArgument(name, 'refreshEvery', refreshEvery, aCount);
  return { maxFactorDim, refreshEvery };
}

/** The sides of a matrix [rows, columns] that have a factor; with `oneSided` only the smaller one, of equal ones the rows. */
export function sidesOf(rows: number, columns: number, maxFactorDim: number, oneSided = false): readonly Side[] {
  const all: readonly Side[] = !oneSided ? ['L', 'R'] : rows <= columns ? ['L'] : ['R'];
  return all.filter(side => (side === 'L' ? rows : columns) <= maxFactorDim);
}

/** The shapes of square slots of these sides, `PL` and `PR` for a prefix P. */
export const squares = (sides: readonly Side[], rows: number, columns: number, prefixes: readonly string[]) =>
  Object.fromEntries(
    prefixes.flatMap(prefix =>
      sides.map(side => {
        const n = side === 'L' ? rows : columns;
        return [`${prefix}${side}`, [n, n]];
      }),
    ),
  );

/** As `describe()` shows them. */
export const structureOf = (sides: readonly Side[]): { readonly A: Structure; readonly G: Structure } => ({
  A: sides.includes('R') ? 'exact' : 'identity',
  G: sides.includes('L') ? 'exact' : 'identity',
});

/** The sides that have a slot of their own name. */
export const sidesIn = ({ slotNames }: MatrixStep): readonly Side[] =>
  (['L', 'R'] as const).filter(side => slotNames.includes(side));

export const named = ({ slotNames }: MatrixStep, slots: readonly Tensor[]): Slots =>
  Object.fromEntries(slotNames.map((slot, i) => [slot, slots[i]!]));

/** In the order of the slots; those without a new value stay. */
export const listed = ({ slotNames }: MatrixStep, before: Slots, now: Slots): Tensor[] =>
  slotNames.map(slot => now[slot] ?? before[slot]!);

/** X Xᵀ [rows, rows], or Xᵀ X [columns, columns]. */
export const momentOf = (side: Side, X: Tensor): Tensor => gram(side === 'L' ? X.transpose() : X);

/** β F + weight · M. */
export const averaged = (F: Tensor, beta: number, M: Tensor, weight = 1 - beta): Tensor =>
  M.mul(weight).addScaled_(F, beta);

/** QLᵀ X QR, of the sides that have a basis. */
export function turned(X: Tensor, { QL, QR }: Slots): Tensor {
  const left = QL === undefined ? X : QL.transpose().matmul(X);
  return QR === undefined ? left : left.matmul(QR);
}

/** QL X QRᵀ. */
export function turnedBack(X: Tensor, { QL, QR }: Slots): Tensor {
  const left = QL === undefined ? X : QL.matmul(X);
  return QR === undefined ? left : left.matmul(QR.transpose());
}

/** Seconds from which on a decomposition is announced. */
const LONG = 2;

/** What says, once a matrix, that decompositions take long. */
export function announcer(name: string): (path: string, factors: readonly Tensor[]) => void {
  const announced = new Set<string>();
  return (path, factors) => {
    const n = Math.max(0, ...factors.map(F => F.shape[0]!));
    const seconds = n ** 3 / RATE;
    if (seconds < LONG || announced.has(path)) return;
    announced.add(path);
    console.warn(
      `${name}: a factor of '${path}', ${n} × ${n}, takes about ${seconds.toPrecision(2)} s to decompose. The option maxFactorDim ` +
        'leaves larger sides at the identity: 1024, say',
    );
  };
}

/** Eigenvectors of factors, on the host, in descending order of their eigenvalues. */
export const eigenbases = (factors: readonly Tensor[]): HostWork => ({
  reads: factors,
  what: 'factor',
  solve: found =>
    found.map(F =>
      scope(() => {
        const [n] = F.shape as [number];
        const last = tensor(
          Array.from({ length: n }, (_, i) => n - 1 - i),
          { dtype: 'int32' },
        );
        return tensor(eigh(lendNdarray(F)).vectors)
          .astype(F.dtype)
          .indexSelect(1, last);
      }),
    ),
});

/**
 * One step of the power method for each basis, made orthonormal again: of F Q the columns in descending order of what the eigenvalues are
 * by diag(Qᵀ F Q), and of these the Q of a QR decomposition on the host. For each factor the new basis, and the old columns' order, int32.
 */
export const powerSteps = (pairs: readonly (readonly [F: Tensor, Q: Tensor])[], sorts: boolean): HostWork => ({
  reads: pairs.flatMap(([F, Q]) => {
    const FQ = F.matmul(Q);
    return sorts ? [FQ, FQ.mul(Q).sum(0)] : [FQ];
  }),
  what: 'factor',
  solve: found => {
    const solved: Tensor[] = [];
    for (let i = 0; i < found.length; i += sorts ? 2 : 1) {
      const FQ = found[i]!;
      const order = sorts ? descending(found[i + 1]!) : null;
      solved.push(scope(() => orthonormal(order === null ? FQ : FQ.indexSelect(1, order))));
      if (order !== null) solved.push(order);
    }
    return solved;
  },
});

/** Q of X = Q R; where X has less than full rank its last columns are any orthonormal ones. */
function orthonormal(X: Tensor): Tensor {
  const precision = X.dtype === 'float64' ? 'float64' : 'float32';
  // A copy, because tensors over ndarrays share memory with whoever else has the array.
  return tensor(qr(lendNdarray(X), { precision }).q)
    .astype(X.dtype)
    .clone();
}

/** The positions of the elements in descending order, of equals the first one first. */
function descending(values: Tensor): Tensor {
  const all = values.dataSync();
  const order = Array.from(all, (_, i) => i).sort((i, j) => all[j]! - all[i]! || i - j);
  return tensor(order, { dtype: 'int32' });
}

/** (F + ε I)^p of factors, on the host, in float64 inside; rounding below 0 counts as 0. */
export const powers = (factors: readonly Tensor[], eps: number, exponent: number): HostWork => ({
  reads: factors,
  what: 'factor',
  solve: found =>
    found.map(F =>
      scope(() => {
        const { values, vectors } = eigh(lendNdarray(F.astype('float64')));
        const V = tensor(vectors);
        const scaled = tensor(values).clamp(0).add(eps).pow(exponent);
        return V.mul(scaled).matmul(V.transpose()).astype(F.dtype);
      }),
    ),
});

/** By the norm, which squares no number out of its range. */
export const rootMeanSquare = (x: Tensor): Tensor => x.norm().mul(1 / Math.sqrt(x.size));
