/** The laws that every operation in `ops.ts` obeys, on any backend: a new backend is one call of `opsSuite`. */

import assert from 'node:assert/strict';
import { type DType, Generator, getBackend, grad, promote, randn, type Tensor, tensor, zerosLike } from '@otimes/core';
import fc from 'fast-check';
import type { Test } from 'tap';
import { laidOut, layout } from '../arbitraries/tensor.ts';
import { mustBeClose } from '../helpers/allclose.ts';
import { Dense } from '../helpers/dense.ts';
import { gradcheck, gradgradcheck } from '../helpers/gradcheck.ts';
import { law } from '../helpers/law.ts';
import type { OpEntry, Use } from './opEntry.ts';
import { opEntries } from './ops.ts';

export type OpsSuiteOptions = {
  device: string;
  /** What the device computes in; float32, float64 and int32 by default. */
  dtypes?: readonly DType[];
  /**
   * How many uses of each operation are drawn: 150 for values, 40 for gradients, 15 for second ones. Without float64 both
   * gradients are compared with those of 'cpu', 15 times.
   */
  runs?: { values?: number; gradients?: number; second?: number };
};

type Drawn = { use: Use; x: Tensor[] };

const inWords = async (x: Tensor) =>
  `${x.dtype}[${x.shape}] with strides [${x.strides}] from ${x.offset}: ${JSON.stringify(await x.array())}`;

/** Inputs in random layouts, each of a dtype drawn from `dtypes` unless it is fixed. */
function drawn(op: OpEntry, dtypes: readonly DType[], device: string, repeated: boolean): fc.Arbitrary<Drawn> {
  return op.use.chain(use => {
    const inputs = use.inputs.map(({ shape: s, domain, dtype: fixed }) =>
      (fixed === undefined ? fc.constantFrom(...dtypes) : fc.constant(fixed)).chain(dtype => {
        const size = s.reduce((a, b) => a * b, 1);
        return fc
          .tuple(domain(size, dtype === 'int32' || dtype === 'bool'), layout(s.length, { repeated }))
          .map(([values, how]) => laidOut(values, s, how, dtype, device));
      }),
    );
    return fc.tuple(...inputs).map(x => {
      const words = async () => (await Promise.all(x.map(inWords))).join('; ');
      return { use, x, [fc.asyncToStringMethod]: words };
    });
  });
}

/** The dtype of the result, from those of the inputs that were drawn. */
function expectedDtype(use: Use, x: readonly Tensor[]): DType {
  const common = x.filter((_, i) => use.inputs[i]!.dtype === undefined).map(t => t.dtype);
  const promoted = common.length === 0 ? 'int32' : common.reduce(promote);
  return use.result?.(promoted) ?? promoted;
}

/**
 * By each float input: the gradient of Σ gy · y, and that of its squares; zeros where there is none. Whether a gradient of zeros
 * stands in the graph is the kernel's business: without steps, say, or where it is constant.
 */
function gradientsOf(use: Use, inputs: readonly Tensor[]): Tensor[] {
  const isFloat = (x: Tensor) => x.dtype.startsWith('float');
  const leaves = inputs.map(x => {
    const leaf = x.detach();
    leaf.requiresGrad = isFloat(x);
    return leaf;
  });
  const y = use.run(...leaves);
  const floats = leaves.filter(isFloat);
  const whole = (gradients: readonly (Tensor | null)[]) => floats.map((x, i) => gradients[i] ?? zerosLike(x));
  if (!y.requiresGrad) return [];
  const gy = randn(y.shape, { device: y.device, rng: new Generator(1) }).astype(y.dtype);
  const options = { createGraph: true, allowUnused: true } as const;
  const first = whole(grad(y, floats, { gy, ...options }));
  const squares = first.filter(g => g.requiresGrad).map(g => g.square().sum());
  if (squares.length === 0) return [...first, ...whole([])];
  return [
    ...first,
    ...whole(
      grad(
        squares.reduce((a, b) => a.add(b)),
        floats,
        { allowUnused: true },
      ),
    ),
  ];
}

/** Holds every operation in the list to the laws of operations, on one device. */
export function opsSuite(
  t: Test,
  { device, dtypes = ['float32', 'float64', 'int32'], runs = {} }: OpsSuiteOptions,
): void {
  const { values = 150, second = 15, gradients = dtypes.includes('float64') ? 40 : second } = runs;
  for (const op of opEntries) {
    if (op.makes !== undefined && !dtypes.includes(op.makes)) continue;
    if (op.onHost && getBackend(device).readAsync !== undefined) continue;
    const among = dtypes.filter(dtype => op.dtypes?.includes(dtype) ?? true);
    law(t, `${op.name} on ${device}: any layout and dtype gives what plain loops give`, () =>
      fc.assert(
        fc.asyncProperty(drawn(op, among, device, true), async ({ use, x }) => {
          const y = use.run(...x);
          const [actual, ...given] = await Promise.all([y, ...x].map(a => a.data()));
          const expected = use.naive(...x.map((a, i) => new Dense(a.shape, given[i]!)));
          assert.equal(y.dtype, expectedDtype(use, x), 'dtype');
          assert.equal(y.device, device, 'device');
          const exact = y.dtype === 'int32' || y.dtype === 'bool';
          mustBeClose(
            tensor(actual!, { shape: y.shape, dtype: y.dtype }),
            tensor(Float64Array.from(expected.data), { shape: expected.shape }),
            exact ? { rtol: 0, atol: 0 } : y.dtype === 'float32' ? { rtol: 1e-5, atol: 1e-5 } : {},
          );
        }),
        { seed: 1, numRuns: values, includeErrorInReport: true },
      ),
    );
    if (op.differentiable === false) continue;
    if (!among.includes('float64')) {
      // Differences of float32 numbers say little.
      law(t, `${op.name} on ${device}: gradients, and their gradients, are those of 'cpu' in float64`, () =>
        fc.assert(
          fc.asyncProperty(drawn(op, ['float32'], device, false), async ({ use, x }) => {
            const exact = x.map(async one => {
              const copy = await one.cpu();
              return copy.dtype === 'float32' ? copy.astype('float64') : copy;
            });
            const [actual, expected] = [gradientsOf(use, x), gradientsOf(use, await Promise.all(exact))];
            assert.equal(actual.length, expected.length);
            for (const [i, one] of actual.entries()) {
              const wanted = expected[i]!;
              const largest = wanted.size === 0 ? 0 : wanted.abs().max().item();
              mustBeClose((await one.cpu()).astype('float64'), wanted, { rtol: 0, atol: 1e-5 * Math.max(1, largest) });
            }
          }),
          { seed: 2, numRuns: gradients, includeErrorInReport: true },
        ),
      );
      continue;
    }
    const inputs = drawn(op, ['float64'], device, false);
    law(t, `${op.name} on ${device}: gradients, and their gradients, are what differences say`, async () => {
      await fc.assert(
        fc.asyncProperty(inputs, ({ use, x }) => gradcheck(use.run, x)),
        { seed: 2, numRuns: gradients, includeErrorInReport: true },
      );
      await fc.assert(
        fc.asyncProperty(inputs, ({ use, x }) => gradgradcheck(use.run, x)),
        { seed: 3, numRuns: second, includeErrorInReport: true },
      );
    });
  }
}
