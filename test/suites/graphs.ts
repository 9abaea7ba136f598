/**
 * Random graphs over few leaves: sums, views, joins, layers, rules from outside and hooks, in which gradients share memory
 * in every way. `backward` and `grad` must give what they give where nothing is released early, and what a hook or the
 * program holds must stay as it was.
 */

import {
  concat,
  defineOp,
  Generator,
  grad,
  linear,
  noGrad,
  owningIntermediates,
  randn,
  stack,
  type Tensor,
  tensor,
} from '@otimes/core';
import { withoutEarlyRelease } from '@otimes/core/extend';
import { floatOf } from '../helpers/devices.ts';

/** A rule that hands on what it gets, or a view of it, or nothing at all. */
const passOn = defineOp<'same' | 'view' | 'null'>({
  name: 'passOn',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward: (backend, [x], out) => backend.copy(x!, out),
  backward: (gy, { attrs }) => [attrs === 'null' ? null : attrs === 'view' ? gy.reshape([-1]).reshape(gy.shape) : gy],
});

/** A rule that hands out its inputs as gradients, whatever comes in: memory that is not the pass's. */
const productOf = defineOp<null>({
  name: 'productOf',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward: (backend, [x, y], out) => backend.binary('mul', x!, y!, out),
  backward: (_, node) => [node.input(1), node.input(0)],
});

type Program = {
  /** Gradients of the leaves, null where none came. */
  readonly gradients: (number[] | null)[];
  /** What hooks and the program held: values at first and at the end. */
  readonly held: [before: string, after: string][];
};

type How = 'backward' | 'grad' | 'recorded';

const SHAPE = [2, 3];

/** Runs the program of a seed: all of it before the first await, so that it may run within `withoutEarlyRelease`. */
export async function runGraph(seed: number, device: string, how: How, nodes = 9): Promise<Program> {
  const rng = new Generator(seed);
  const o = { dtype: floatOf(device), device };
  const below = (n: number) => rng.integer(0, n);
  const leaves = Array.from({ length: 2 + below(2) }, () => randn(SHAPE, { ...o, rng, requiresGrad: true }));
  const weight = randn([3, 3], { ...o, rng });
  const all: Tensor[] = [...leaves];
  // Reads are told the values at the time of the call, wherever they are awaited.
  const shown = async (x: Tensor): Promise<string> => String(await x.array());
  const held: { x: Tensor; before: Promise<string> }[] = [];
  const hold = (x: Tensor): void => {
    held.push({ x, before: shown(x) });
  };
  // Recent ones more often, so that graphs get deep.
  const pick = () => all[Math.max(below(all.length), below(all.length))]!;
  const steps: (() => Tensor)[] = [
    () => pick().add(pick()),
    () => pick().add(pick()),
    () => pick().sub(pick()),
    () => pick().tanh(),
    () => pick().mul(pick()),
    () => pick().reshape([3, 2]).reshape(SHAPE),
    () => pick().transpose().transpose(),
    () => concat([pick(), pick(), pick()]).narrow(0, below(5), 2),
    () => stack([pick(), pick()]).sum(0),
    () => pick().sum(0).expand(2, 3),
    () => pick().sum(0, { keepdim: true }).add(pick()),
    () => passOn([pick()], (['same', 'view', 'null'] as const)[below(3)]!),
    () => owningIntermediates(() => pick().exp().add(pick().tanh()).log1p()),
    () => linear(pick(), weight, null).add(pick()),
    () => productOf([pick(), pick()], null),
    () => pick().slice([null, null, -1]).add(pick()),
  ];
  for (let i = 0; i < nodes; i++) {
    const y = steps[below(steps.length)]!();
    all.push(y);
    if (!y.requiresGrad) continue;
    const hook = below(12);
    if (hook === 0) y.onGrad(g => g.mul(2));
    if (hook === 1) y.onGrad(hold);
    if (hook === 2)
      y.onGrad(g => {
        // What is recorded cannot be written to and still be differentiated.
        if (how === 'recorded') return g.mul(3);
        noGrad(() => g.scale_(3));
        hold(g);
        return g;
      });
    if (hook === 3) hold(y);
  }
  if (below(3) === 0) leaves[0]!.onGrad(hold);
  const y = all.slice(-3).reduce((sum, x) => sum.add(x));
  const gy = below(2) === 0 ? randn(SHAPE, { ...o, rng }) : undefined;
  if (gy !== undefined) hold(gy);
  const end = gy === undefined ? y.square().sum() : y;
  let gradients: (Tensor | null)[];
  if (how === 'backward') {
    end.backward(gy);
    gradients = leaves.map(x => x.grad);
  } else {
    const targets = below(2) === 0 ? leaves : [...leaves, pick()];
    gradients = grad(end, targets, { ...(gy && { gy }), createGraph: how === 'recorded', allowUnused: true });
  }
  // Whatever was released goes to somebody else now.
  for (let i = 0; i < 40; i++) hold(tensor(new Array(6).fill(-i), { ...o, shape: SHAPE }));
  const values = gradients.slice(0, leaves.length).map(flat);
  const shared: [before: Promise<number[] | null>, after: Promise<number[] | null>][] = [];
  // Each gradient is its owner's alone: writing to one changes no other, and nothing that is held.
  if (how !== 'recorded')
    noGrad(() =>
      gradients.forEach((g, i) => {
        g?.scale_(0);
        gradients.slice(i + 1, leaves.length).forEach((other, j) => {
          shared.push([values[i + 1 + j]!, flat(other)]);
        });
      }),
    );
  const after = held.map(({ x }) => shown(x));
  const program: Program = {
    gradients: await Promise.all(values),
    held: await Promise.all(held.map(async ({ before }, i) => [await before, await after[i]!] as [string, string])),
  };
  for (const [before, after] of shared)
    if (String(await before) !== String(await after))
      program.held.push(['shared with another gradient', String(await after)]);
  return program;
}

async function flat(g: Tensor | null): Promise<number[] | null> {
  return g && [...(await g.data())];
}

/** What is wrong with the graph of a seed; null if nothing. */
export async function checkGraph(seed: number, device: string, nodes?: number): Promise<string | null> {
  for (const how of ['backward', 'grad'] as const) {
    const fast = await runGraph(seed, device, how, nodes);
    const slow = await withoutEarlyRelease(() => runGraph(seed, device, how, nodes));
    if (JSON.stringify(fast.gradients) !== JSON.stringify(slow.gradients))
      return `${how}, seed ${seed}: ${JSON.stringify(fast.gradients)}, expected ${JSON.stringify(slow.gradients)}`;
    for (const [before, after] of fast.held)
      if (before !== after) return `${how}, seed ${seed}: what was held went from ${before} to ${after}`;
  }
  const recorded = (await runGraph(seed, device, 'recorded', nodes)).gradients;
  const plain = (await runGraph(seed, device, 'grad', nodes)).gradients;
  const near = floatOf(device) === 'float64' ? 1e-9 : 1e-5;
  const differs = plain.some((g, i) => {
    const other = recorded[i];
    if (!g || !other) return g !== other;
    return g.some((v, k) => !(Math.abs(v - other[k]!) <= near * (1 + Math.abs(v)) || Object.is(v, other[k])));
  });
  return differs ? `seed ${seed}: grad gives ${JSON.stringify(plain)}, recorded ${JSON.stringify(recorded)}` : null;
}
