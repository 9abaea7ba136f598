/** Curvature for its own sake, on a device: operators, and averages of factors. */

import assert from 'node:assert/strict';
import { Generator, randint, randn, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, Linear, Sequential, Tanh } from '@otimes/nn';
import { CurvatureEstimate, factors, KroneckerOperator } from '@otimes/optim/curvature';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { floatOf } from '../helpers/devices.ts';
import { instantReadsIn } from '../helpers/later.ts';
import { law } from '../helpers/law.ts';

type Float = 'float32' | 'float64';

/** |actual − expected| ≤ tolerance · max |expected|, element by element. */
export function mustAgree(actual: Tensor, expected: Tensor, what: string, tolerance = 1e-10): void {
  assert.deepEqual(actual.shape, expected.shape, what);
  const [x, y] = [actual.dataSync(), expected.dataSync()];
  const largest = Math.max(...Array.from(y, Math.abs));
  const off = Math.max(...Array.from(x, (value, i) => Math.abs(value - y[i]!)));
  assert.ok(off <= tolerance * largest, `${what}: off by ${off / largest} of the largest`);
}

/** Factors of a batch, and a batch of matrices. */
export function example(device = 'cpu', type: Float = 'float64') {
  const rng = new Generator(5);
  const o = { dtype: type, rng } as const;
  const { A, G } = factors({ a: randn([9, 1, 4], o), gs: [randn([9, 1, 3], o)] }, 'expand');
  const X = randn([2, 3, 4], o);
  return { A: A.to(device), G: G.to(device), X: X.to(device) };
}

/** What every method gives. */
export const everything = (operator: KroneckerOperator, X: Tensor): Record<string, Tensor> => ({
  matvec: operator.matvec(X),
  solve: operator.solve(X, { damping: 0.1 }),
  split: operator.solve(X, { damping: 0.1, split: 'pi' }),
  sqrtSolve: operator.sqrtSolve(X, { damping: 0.1 }),
  logdet: operator.logdet({ damping: 0.1 }),
  trace: operator.trace(),
  diagonal: operator.diagonal(),
  inverseDiagonal: operator.inverseDiagonal({ damping: 0.1 }),
  sample: operator.sample({ damping: 0.1, rng: new Generator(2) }),
});

export function operatorLaw(t: Test, device: string, type: Float): void {
  law(
    t,
    `${type} on '${device}': the same numbers, in that dtype, without a read but for the decomposition`,
    async () => {
      const host = example('cpu', type);
      const expected = everything(KroneckerOperator.fromFactors(host), host.X);
      const { A, G, X } = example(device, type);
      const operator = await KroneckerOperator.fromFactors({ A, G }).decompose();
      let found: Record<string, Tensor> = {};
      const reads = await instantReadsIn(() => {
        found = everything(operator, X);
      });
      assert.equal(reads, 0);
      for (const [name, x] of Object.entries(found)) {
        assert.equal(x.dtype, type, name);
        assert.equal(x.device, device, name);
        const onHost = tensor(await x.data(), { dtype: type }).reshape(x.shape);
        mustAgree(onHost, expected[name]!, name, type === 'float32' ? 1e-5 : 1e-12);
      }
    },
  );
}

/** Where and in what the factors are computed. */
type At = { readonly device: string; readonly dtype: Float };
const cpu: At = { device: 'cpu', dtype: 'float64' };

export const net = ({ device, dtype }: At = cpu) => {
  const at = { device, dtype, rng: new Generator(3) };
  return new Sequential(new Linear(5, 4, at), new Tanh(), new Linear(4, 3, at));
};
export const batch = (n: number, seed: number, { device, dtype }: At = cpu): [Tensor, Tensor] => {
  const rng = new Generator(seed);
  return [randn([n, 5], { dtype, device, rng }), randint(0, 3, [n], { device, rng })];
};

/** The factors after these batches. */
export function estimated(batches: readonly [Tensor, Tensor][], fisher: 'empirical' | 'ggn', at = cpu) {
  const model = net(at);
  const curvature = new CurvatureEstimate(model, { fisher, loss: 'crossEntropy' });
  for (const [x, y] of batches) {
    crossEntropy(model.call(x), y).backward();
    curvature.add();
  }
  curvature.detach();
  return curvature;
}

/** Of factors and of what operators make of them. */
const PRECISION = {
  float64: [
    { rtol: 1e-11, atol: 1e-13 },
    { rtol: 1e-8, atol: 1e-10 },
  ],
  float32: [
    { rtol: 1e-5, atol: 1e-6 },
    { rtol: 1e-4, atol: 1e-5 },
  ],
} as const;

export function estimateLaw(t: Test, device: string): void {
  const dtype = floatOf(device);
  law(t, `on '${device}', without a read; operators are those of the factors`, async () => {
    const batches = (at: At) => [batch(4, 1, at), batch(6, 2, at)];
    const expected = estimated(batches({ device: 'cpu', dtype }), 'empirical', { device: 'cpu', dtype });
    const X = randn([4, 6], { dtype, rng: new Generator(9) });
    const solved = expected.operator('0').solve(X, { damping: 0.1 });
    let curvature = expected;
    const reads = await instantReadsIn(() => {
      curvature = estimated(batches({ device, dtype }), 'empirical', { device, dtype });
    });
    assert.equal(reads, 0);
    const { A, G } = curvature.layers.get('0')!;
    const [ofFactors, ofSolutions] = PRECISION[dtype];
    mustBeClose(await A!.cpu(), expected.layers.get('0')!.A!, ofFactors, 'A');
    mustBeClose(await G!.cpu(), expected.layers.get('0')!.G!, ofFactors, 'G');
    const operator = await curvature.operator('0').decompose();
    mustBeClose(await operator.solve(X.to(device), { damping: 0.1 }).cpu(), solved, ofSolutions, 'solve');
  });
}
