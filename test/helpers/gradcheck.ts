/** Gradients and second derivatives against central differences, in float64. */

import { type Generator, GraphError, grad, Generator as Random, randn, type Tensor, tensor } from '@otimes/core';
import { mustBeClose } from './allclose.ts';

export type GradcheckOptions = {
  /** Tolerances of the comparison, 1e-5 and 1e-7; the latter is scaled by Σ|gy · y| where that is more than 1. */
  rtol?: number;
  atol?: number;
  /** Half the distance of the two points of a difference, 1e-5. */
  step?: number;
  /** Draws the gradients that are propagated; seeded with 1. */
  rng?: Generator;
};

type Differentiable = (...x: Tensor[]) => Tensor | readonly Tensor[];

const all = <T extends readonly unknown[]>(promises: T) => Promise.all(promises);

const isFloat = (x: Tensor): boolean => x.dtype === 'float64';
const list = (y: Tensor | readonly Tensor[]): readonly Tensor[] => (Array.isArray(y) ? y : [y as Tensor]);

/** The same elements in the same layout as a leaf that requires a gradient. */
function leaf(x: Tensor): Tensor {
  const own = x.detach();
  own.requiresGrad = true;
  return own;
}

/** `grad`, with null where `y` does not depend on `x`. */
function gradOf(y: Tensor, x: Tensor, gy: Tensor, createGraph = false): Tensor | null {
  if (!y.requiresGrad) return null;
  try {
    return grad(y, [x], { gy, createGraph })[0]!;
  } catch (error) {
    if (error instanceof GraphError && error.message.includes('does not depend')) return null;
    throw error;
  }
}

/**
 * Rejects unless `grad` of f by each float64 input, with a random gy for each output, is what central differences say.
 * The inputs keep their layout (views stay views); those of other dtypes are passed on as they are. All is computed before
 * anything is read, so that a device that is read with await is waited for once or twice.
 */
export async function gradcheck(f: Differentiable, inputs: readonly Tensor[], o: GradcheckOptions = {}): Promise<void> {
  const { rtol = 1e-5, atol = 1e-7, step = 1e-5, rng = new Random(1) } = o;
  const leaves = inputs.map(x => (isFloat(x) ? leaf(x) : x));
  const outputs = list(f(...leaves));
  const weights = outputs.map(y => randn(y.shape, { dtype: 'float64', device: y.device, rng }));
  const plainWeights = await all(weights.map(w => w.data()));
  /** Σ gy · y, and Σ |gy · y|. */
  const weighted = async (ys: readonly Tensor[]): Promise<[number, number]> => {
    let [sum, size] = [0, 0];
    (await all(ys.map(y => y.data()))).forEach((values, k) => {
      values.forEach((value, i) => {
        const term = value * plainWeights[k]![i]!;
        sum += term;
        size += Math.abs(term);
      });
    });
    return [sum, size];
  };

  const checked = leaves.map(async (x, k) => {
    if (!isFloat(x)) return;
    const gradients = outputs.flatMap((y, i) => gradOf(y, x, weights[i]!) ?? []);
    for (const gx of gradients)
      if (gx.shape.join() !== x.shape.join() || gx.dtype !== x.dtype)
        throw new Error(`input ${k} is ${x.dtype}[${x.shape}], its gradient ${gx.dtype}[${gx.shape}]`);
    const [size, values, summands] = await all([weighted(outputs), x.data(), all(gradients.map(gx => gx.data()))]);
    const analytic = new Float64Array(x.size);
    for (const summand of summands)
      summand.forEach((value, j) => {
        analytic[j]! += value;
      });
    const at = async (j: number, value: number): Promise<number> => {
      const moved = Float64Array.from(values);
      moved[j] = value;
      const inputsThere = inputs.map((other, i) =>
        i === k ? tensor(moved, { shape: x.shape, device: x.device }) : other,
      );
      return (await weighted(list(f(...inputsThere))))[0];
    };
    const numeric = await all(
      Array.from(values, async (value, j) => {
        const [above, below] = await all([at(j, value + step), at(j, value - step)]);
        return (above - below) / (2 * step);
      }),
    );
    mustBeClose(
      tensor(analytic, { shape: x.shape }),
      tensor(Float64Array.from(numeric), { shape: x.shape }),
      { rtol, atol: atol * Math.max(1, size[1] || 1) },
      `gradient of input ${k}, float64[${x.shape}] with strides [${x.strides}]`,
    );
  });
  await all(checked);
}

/** The same for the gradients themselves, as functions of the inputs and of gy: double backward. */
export async function gradgradcheck(
  f: (...x: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  o: GradcheckOptions = {},
): Promise<void> {
  const { rng = new Random(2) } = o;
  const y = f(...inputs);
  const gy = randn(y.shape, { dtype: 'float64', device: y.device, rng });
  const gradients: Differentiable = (...given) => {
    const xs = given.slice(0, -1).map(x => (isFloat(x) && !x.requiresGrad ? leaf(x) : x));
    const out = f(...xs);
    return xs.filter(isFloat).flatMap(x => gradOf(out, x, given.at(-1)!, true) ?? []);
  };
  await gradcheck(gradients, [...inputs, gy], { rtol: 1e-4, atol: 1e-6, ...o, rng });
}
