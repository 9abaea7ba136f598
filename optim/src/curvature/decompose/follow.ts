/** The next basis of a block from the one before, or the first one, by a `BasisTracker`, where its factors are. */

import { eye, ShapeError, Tensor, tensor, where } from '@otimes/core';
import { checkFinite, dropPromise, peekData, readsLater, received } from '@otimes/core/extend';
import {
  type BasisTracker,
  type Decomposition,
  decomposeOne,
  decomposeStill,
  diagonal,
  diagonalIn,
  isSolved,
  joined,
  Kfe,
  sidesOf,
} from '../basis.ts';
import type { Side } from '../side.ts';
import { overflows, probe, TOLERANCE } from './check-basis.ts';
import type { Task } from './here.ts';

/** A side, and whether its U is orthonormal and finite: a bool tensor, null for the identity. */
type Followed = Decomposition & { readonly holds: Tensor | null };

/**
 * From the identity where there is no basis yet. Where what comes is not orthonormal or not finite, that side keeps its old eigenvectors and `kept` is told, on a device that is
 * read with await some time later. Throws a RangeError for a curvature that overflows; there the next read does.
 */
export function followed(
  name: string,
  task: Task,
  from: Kfe | null,
  tracker: BasisTracker,
  kept: (reason: string) => void,
): Kfe {
  const { A, G, sizes, label } = task;
  const { sides = sidesOf(A, G, sizes) } = task;
  const [a, g] = [
    side(`${name}: factor A of ${label}`, A, from && { U: from.UA, s: from.sA, n: from.nA }, sides.A, tracker),
    side(`${name}: factor G of ${label}`, G, from && { U: from.UG, s: from.sG, n: from.nG }, sides.G, tracker),
  ];
  tell(label, { A: a.holds, G: g.holds }, kept);
  checkFinite(a.s.max().mul(g.s.max()), () => overflows(name, label, a.s));
  return new Kfe(a, g, sides);
}

/** Of all matrices of a side, or of none. */
function side(what: string, factor: Tensor, from: Decomposition | null, of: Side, tracker: BasisTracker): Followed {
  if (!of.turns) return { ...decomposeStill(of, factor), holds: null };
  const starts = from === null ? null : of.matrices(from.U!);
  const next = of.matrices(factor).map((F, i) => {
    if (!isSolved(of, F.shape[0]!)) return { ...decomposeOne(F), holds: null };
    return matrix(what, F, starts?.[i] ?? null, tracker);
  });
  const { dtype, device } = factor;
  const holds = next.reduce(
    (all: Tensor | null, { holds }) => (all && holds ? all.logicalAnd(holds) : (all ?? holds)),
    null,
  );
  const found = joined(of, next);
  if (holds === null) return { ...found, holds };
  const diagonalOfF = () => of.diagonal(factor);
  const old = from ?? {
    U: of.pack(of.orders.map(n => eye(n, { dtype, device }))),
    s: diagonalOfF().clamp(0),
    n: diagonalOfF(),
  };
  return {
    U: where(holds, found.U!, old.U!),
    s: where(holds, found.s, old.s),
    n: where(holds, found.n, old.n),
    holds,
  };
}

/** What follows the eigenvectors of one matrix, whether that holds or not; without any from the beginning. */
function matrix(
  what: string,
  F: Tensor,
  from: Tensor | null,
  tracker: BasisTracker,
): Decomposition & { readonly holds: Tensor } {
  const { dtype, device } = F;
  const V =
    from === null
      ? checkedFollowed(`${what}: expected begin()`, F, tracker.begin!(F))
      : checkedFollowed(`${what}: expected follow()`, F, tracker.follow(F, from));
  const x = tensor(probe(F.shape[0]!), { dtype, device }).unsqueeze(1);
  const off = V.transpose().matmul(V.matmul(x)).sub(x).abs().max();
  const s = V.mul(F.matmul(V)).sum(0).maximum(0);
  // An eigenvalue that is not finite makes the sum so too.
  return { U: V, s, n: diagonalIn(V, diagonal(F)), holds: off.le(TOLERANCE).logicalAnd(s.sum().isFinite()) };
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
