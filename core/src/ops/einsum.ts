/** Einstein summation, by products of pairs. */

import { aString, checkArgument } from '../check.ts';
import { ShapeError } from '../errors.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { mul } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { sum } from './reduce.ts';
import { slice } from './slice.ts';
import { permute, reshape } from './view.ts';

/** A tensor whose axes carry letters, each at most once. */
type Labelled = { x: Tensor; labels: string };

/**
 * Sums products over the letters that the result lacks: `einsum('bti,oi->bto', x, w)`. Without `->` the result has the
 * letters that occur once, in alphabetical order. A letter twice in one operand takes its diagonal.
 */
export function einsum(equation: string, ...tensors: Tensor[]): Tensor {
  checkArgument('einsum', 'equation', equation, aString);
  checkTensors('einsum', ...tensors);
  const match = /^([a-zA-Z]*(?:,[a-zA-Z]*)*)(?:->([a-zA-Z]*))?$/.exec(equation.replaceAll(' ', ''));
  if (match === null) throw new ShapeError(`einsum: expected letters like 'ij,jk->ik', got '${equation}'`);
  const inputs = match[1]!.split(',');
  if (inputs.length !== tensors.length)
    throw new ShapeError(`einsum: '${equation}' names ${inputs.length} operands, got ${tensors.length}`);
  const lengths = new Map<string, number>();
  inputs.forEach((labels, i) => {
    const { shape } = tensors[i]!;
    if (labels.length !== shape.length)
      throw new ShapeError(
        `einsum: expected a letter for each axis of operand ${i}, [${shape.join(',')}], got '${labels}'`,
      );
    for (let axis = 0; axis < shape.length; axis++) {
      const known = lengths.get(labels[axis]!);
      if (known !== undefined && known !== shape[axis])
        throw new ShapeError(`einsum: axis '${labels[axis]}' has lengths ${known} and ${shape[axis]}`);
      lengths.set(labels[axis]!, shape[axis]!);
    }
  });
  const result = match[2] ?? implicitResult(inputs.join(''));
  for (const label of result)
    if (!lengths.has(label) || result.split(label).length > 2)
      throw new ShapeError(
        `einsum: result axis '${label}' of '${equation}' must occur in an operand, and once in the result`,
      );

  let left = diagonal(tensors[0]!, inputs[0]!);
  for (let i = 1; i < tensors.length; i++) {
    const later = inputs.slice(i + 1).join('') + result;
    left = contract(left, diagonal(tensors[i]!, inputs[i]!), later, lengths);
  }
  const { x, labels } = sumAway(left, result);
  return permute(
    x,
    [...result].map(label => labels.indexOf(label)),
  );
}

function implicitResult(all: string): string {
  return [...new Set(all)]
    .filter(label => all.split(label).length === 2)
    .sort()
    .join('');
}

/** Repeated letters within one operand: the diagonal, every (n+1)-th element of both axes joined into one. */
function diagonal(x: Tensor, labels: string): Labelled {
  for (let i = 0; i < labels.length; i++) {
    const j = labels.indexOf(labels[i]!, i + 1);
    if (j < 0) continue;
    const n = x.shape[i]!;
    const others = x.shape.map((_, axis) => axis).filter(axis => axis !== i && axis !== j);
    const joined = reshape(permute(x, [i, j, ...others]), [n * n, ...others.map(axis => x.shape[axis]!)]);
    return diagonal(slice(joined, [[null, null, n + 1]]), labels[i]! + others.map(axis => labels[axis]!).join(''));
  }
  return { x, labels };
}

/** Sums the axes whose letters are not in `keep`. */
function sumAway({ x, labels }: Labelled, keep: string): Labelled {
  const axes = [...labels].flatMap((label, axis) => (keep.includes(label) ? [] : [axis]));
  if (axes.length === 0) return { x, labels };
  return { x: sum(x, axes), labels: [...labels].filter(label => keep.includes(label)).join('') };
}

/** The product of two operands, summed over the letters that nothing `later` needs: one batched matrix product. */
function contract(p: Labelled, q: Labelled, later: string, lengths: ReadonlyMap<string, number>): Labelled {
  const a = sumAway(p, later + q.labels);
  const b = sumAway(q, later + p.labels);
  const shared = [...a.labels].filter(label => b.labels.includes(label));
  const batch = shared.filter(label => later.includes(label));
  const inner = shared.filter(label => !later.includes(label));
  const rows = [...a.labels].filter(label => !shared.includes(label));
  const columns = [...b.labels].filter(label => !shared.includes(label));
  const size = (group: string[]) => group.reduce((n, label) => n * lengths.get(label)!, 1);
  const arranged = ({ x, labels }: Labelled, ...groups: string[][]) =>
    reshape(
      permute(
        x,
        groups.flat().map(label => labels.indexOf(label)),
      ),
      groups.map(size),
    );
  const left = arranged(a, batch, rows, inner);
  const right = arranged(b, batch, inner, columns);
  // Nothing to sum: a product without a matrix product, which keeps it exact.
  const product = inner.length === 0 ? mul(left, right) : matmul(left, right);
  const labels = [...batch, ...rows, ...columns];
  return {
    x: reshape(
      product,
      labels.map(label => lengths.get(label)!),
    ),
    labels: labels.join(''),
  };
}
