/** The next basis of a block from the one before, or the first one, by a `BasisTracker`, where its factors are. */

import { eye, ShapeError, Tensor, tensor, where } from '@otimes/core';
import { checkFinite, dropPromise, peekData, readsLater, received } from '@otimes/core/extend';
import { type BasisTracker, type Decomposition, decomposeMean, diagonal, diagonalIn, Kfe } from '../basis.ts';
import { overflows, probe, TOLERANCE } from './check-basis.ts';
import type { Task } from './here.ts';

/** A side, and whether its U is orthonormal and finite: a bool tensor, null for the identity. */
type Side = Decomposition & { readonly holds: Tensor | null };

/**
 * From the identity where there is no basis yet. Where what comes is not orthonormal or not finite, that side keeps its old eigenvectors and `kept` is told, on a device that is
 * read with await some time later. Throws a RangeError for a curvature that overflows; there the next read does.
 */
export function followed(
  name: string,
  { A, G, sizes, label }: Task,
  from: Kfe | null,
  tracker: BasisTracker,
  kept: (reason: string) => void,
): Kfe {
  const [dOut, dIn] = sizes;
  const [a, g] = [
    side(`${name}: factor A of ${label}`, A, from && { U: from.UA, s: from.sA, n: from.nA }, dIn, tracker),
    side(`${name}: factor G of ${label}`, G, from && { U: from.UG, s: from.sG, n: from.nG }, dOut, tracker),
  ];
  tell(label, { A: a.holds, G: g.holds }, kept);
  checkFinite(a.s.max().mul(g.s.max()), () => overflows(name, label, a.s));
  return new Kfe(a, g);
}

function side(what: string, factor: Tensor, from: Decomposition | null, n: number, tracker: BasisTracker): Side {
  if (factor.rank === 0) return { ...decomposeMean(factor, n), holds: null };
  const { dtype, device } = factor;
  const old = from ?? { U: eye(n, { dtype, device }), s: diagonal(factor).clamp(0), n: diagonal(factor) };
  const V =
    from === null
      ? checkedFollowed(`${what}: expected begin()`, factor, tracker.begin!(factor))
      : checkedFollowed(`${what}: expected follow()`, factor, tracker.follow(factor, from.U!));
  const x = tensor(probe(n), { dtype, device }).unsqueeze(1);
  const off = V.transpose().matmul(V.matmul(x)).sub(x).abs().max();
  const s = V.mul(factor.matmul(V)).sum(0).maximum(0);
  // An eigenvalue that is not finite makes the sum so too.
  const holds = off.le(TOLERANCE).logicalAnd(s.sum().isFinite());
  return {
    U: where(holds, V, old.U!),
    s: where(holds, s, old.s),
    n: where(holds, diagonalIn(V, diagonal(factor)), old.n),
    holds,
  };
}

/** Lets `kept` know which sides were kept, at once or when that has been read. */
function tell(label: string, { A, G }: { A: Tensor | null; G: Tensor | null }, kept: (reason: string) => void): void {
  const sides = Object.entries({ A, G }).flatMap(([side, holds]) => (holds === null ? [] : [{ side, holds }]));
  const say = (side: string, holds: number) => {
    if (holds === 0) kept(`${label}: the eigenvectors of factor ${side} could not be followed`);
  };
  for (const { side, holds } of sides) {
    if (!readsLater(holds)) say(side, holds.item());
    // A check that failed on the device is for a read of the program to tell.
    else
      peekData(holds).then(
        ([value]) => say(side, Number(value)),
        () => {},
      );
  }
}

function checkedFollowed(expected: string, { shape, dtype, device }: Tensor, V: unknown): Tensor {
  if (V instanceof Tensor && String(V.shape) === String(shape) && V.dtype === dtype && V.device === device) return V;
  dropPromise(V);
  throw new ShapeError(`${expected} to return ${dtype}[${shape}] on '${device}', got ${received(V)}`);
}
