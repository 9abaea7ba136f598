/**
 * Random training programs that hold on to what they see: outputs, gradients, what hooks are given, ndarrays, state dicts. Each runs
 * a second time with `withoutEarlyRelease`, where nothing is given back before the collector takes it: both must compute the
 * same bits, and what is held must stay what it was. One in four is a program of `test/suites/lifetime.ts` instead, longer than there.
 *
 *     npm run bench bench/fuzz/lifetime.ts 4000 [first seed]
 *
 * A deviation prints a line that begins with its seed.
 */

import {
  Generator,
  getBackend,
  grad,
  noGrad,
  randint,
  randn,
  registerBackend,
  scope,
  type Tensor,
  tensor,
  WasmBackend,
} from '@otimes/core';
import { withoutEarlyRelease } from '@otimes/core/extend';
import { createKernels, Threads } from '@otimes/kernels';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Dropout,
  Flatten,
  GELU,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  MultiHeadAttention,
  mseLoss,
  type Parameter,
  ReLU,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { clipGradNorm, EKFAC, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import { lifetimeFuzz } from '../../test/suites/lifetime.ts';
import { firstOrder } from '../../test/suites/optimizers.ts';
import { Draw } from './operands.ts';
import { seedsOf, trySeeds } from './seeds.ts';

type Layer = Module<[x: Tensor]>;

/** x + f(x), which remembers what it saw last. */
class Residual extends Module<[x: Tensor]> {
  readonly inner: Layer;
  #seen: Tensor[] = [];
  constructor(inner: Layer) {
    super();
    this.inner = inner;
  }
  override forward(x: Tensor): Tensor {
    const y = this.inner.call(x);
    this.#seen = [x, y];
    return x.add(y);
  }
  get seen(): readonly Tensor[] {
    return this.#seen;
  }
}

type Task = { model: Sequential; shape: number[]; positions: boolean };

function task(draw: Draw): Task {
  const o = { dtype: draw.once(3) ? ('float32' as const) : ('float64' as const), rng: new Generator(draw.below(1000)) };
  const d = draw.one([4, 6]);
  const act = () => draw.one([() => new Tanh(), () => new ReLU(), () => new GELU()])();
  if (draw.once(4)) {
    const layers: Layer[] = [new Conv2d(2, 4, 3, { ...o, padding: 1 }), new BatchNorm2d(4, o), act(), new MaxPool2d(2)];
    return {
      model: new Sequential(...layers, new Flatten(), new Linear(16, 3, o)),
      shape: [2, 4, 4],
      positions: false,
    };
  }
  const positions = draw.once(3);
  const middle: (() => Layer)[] = [
    () => new Linear(d, d, o),
    () => new Residual(new Linear(d, d, o)),
    () =>
      new Residual(new Sequential(new LayerNorm(d, o), new Linear(d, d, o), act(), new Residual(new Linear(d, d, o)))),
    () => new LayerNorm(d, o),
    () => new Dropout(0.2, { rng: new Generator(5) }),
    () => (positions ? new Residual(new MultiHeadAttention(d, 2, o)) : new Tanh()),
    act,
  ];
  const layers: Layer[] = [new Linear(d, d, o)];
  for (let i = 1 + draw.below(5); i > 0; i--) layers.push(draw.one(middle)());
  return { model: new Sequential(...layers, new Linear(d, 3, o)), shape: positions ? [3, d] : [d], positions };
}

const kronecker: readonly { make: (m: Module) => Optimizer }[] = (
  ['gradient', 'activations', 'resident', 'auto'] as const
).flatMap(route => [
  { make: m => new KFAC(m, { route, damping: 0.1, refreshEvery: 3 }) },
  { make: m => new EKFAC(m, { route, damping: 0.1, refreshEvery: 2, momentum: 0.5 }) },
  { make: m => new STEVE(m, { route, lr: 0.02, refreshEvery: 3 }) },
]);

type Held = { what: string; read: () => string; before: string };

/** All that the program of a seed computed; `held` is what it held, with the values of then. */
function program(seed: number): { computed: string[]; wrong: string | null } {
  const draw = new Draw(seed);
  const { model, shape, positions } = task(draw);
  const [first] = model.parameters() as [Parameter];
  const { dtype } = first;
  const { make } = draw.one(draw.once(2) ? firstOrder : kronecker);
  const optimizer = make(model);
  const computed: string[] = [];
  let held: Held[] = [];
  let wrong: string | null = null;
  const hold = (what: string, x: Tensor): void => {
    const read = () => String(x.dataSync());
    held.push({ what, read, before: read() });
  };
  const holdArray = (what: string, x: Tensor): void => {
    const { data } = x.ndarray();
    const copy = () => String(data);
    held.push({ what: `ndarray of ${what}`, read: copy, before: copy() });
  };
  const look = (): void => {
    for (const { what, read, before } of held) {
      let now: string;
      try {
        now = read();
      } catch (error) {
        now = String(error);
      }
      if (now !== before) wrong ??= `${what} went from ${before.slice(0, 200)} to ${now.slice(0, 200)}`;
    }
    if (held.length > 60) held = held.filter(() => draw.once(2));
  };
  const churn = (): void => {
    for (let i = 0; i < 30; i++) tensor(new Float64Array(draw.one([3, 6, 16, 24, 72, 96])).fill(-i));
  };

  // Hooks of the program may hold what they see; beyond a scope it takes keep().
  let inScope = false;
  const keeps = (what: string, x: Tensor): void => {
    if (draw.once(3)) holdArray(what, draw.once(2) ? x : x.mul(2));
    else {
      const seen = draw.once(2) ? x : x.detach();
      hold(what, inScope ? seen.keep() : seen);
    }
  };
  for (const [path, layer] of model.namedModules()) {
    const kind = draw.below(14);
    if (kind === 0) layer.onForward((_, __, y) => keeps(`output of ${path}`, y as Tensor));
    if (kind === 1) layer.beforeForward((_, [x]) => keeps(`input of ${path}`, x as Tensor));
    if (kind === 2)
      layer.onForward((_, __, y) => {
        const t = y as Tensor;
        if (t.requiresGrad) t.onGrad(g => keeps(`gradient of the output of ${path}`, g));
      });
    if (kind === 3)
      layer.onForward((_, __, y) => {
        const t = y as Tensor;
        if (t.requiresGrad) t.onGrad(g => g.mul(0.5));
      });
  }
  if (draw.once(4)) first.onGrad(g => keeps('gradient of the first weight', g));

  const rng = new Generator(seed);
  const steps = 3 + draw.below(6);
  for (let i = 0; i < steps; i++) {
    const x = randn([5, ...shape], { dtype, rng, requiresGrad: draw.once(3) });
    const y = positions ? randn([5, shape[0]!, 3], { dtype, rng }) : randint(0, 3, [5], { rng });
    const lossOf = () => {
      // What a graph needs leaves a scope with its result.
      const z = draw.once(4) ? scope(() => model.call(x)) : model.call(x);
      if (!inScope && draw.once(2)) hold('output', z);
      return positions ? mseLoss(z, y) : crossEntropy(z, y);
    };
    const train = (): void => {
      if (!draw.once(5)) optimizer.zeroGrad();
      let loss = lossOf();
      // Twice the same memory on two ways.
      if (draw.once(4)) loss = loss.add(loss.mul(0.5).add(loss));
      if (draw.once(5)) {
        const [g] = grad(loss, [first], { createGraph: true });
        if (!inScope) hold('gradient with a graph', g!);
        loss = loss.add(g!.square().sum().mul(0.01));
      }
      computed.push(String(loss.dataSync()));
      loss.backward();
      if (!inScope) hold('loss', loss);
      if (draw.once(3) && x.grad !== null) hold('gradient of the input', x.grad);
      const p = draw.one(model.parameters());
      if (draw.once(3) && p.grad !== null) hold('gradient of a parameter', p.grad.clone().keep());
      if (draw.once(4) && p.grad !== null) holdArray('gradient of a parameter', p.grad.mul(1));
      if (draw.once(4)) clipGradNorm(model.parameters(), 0.1);
      void optimizer.step();
      if (draw.once(4)) for (const s of Object.values(optimizer.stateDict())) hold('state', s.keep());
      if (draw.once(6)) holdArray('a copy of a parameter', p.clone());
    };
    inScope = draw.once(3);
    if (inScope) scope(train);
    else train();
    inScope = false;
    if (draw.once(4)) computed.push(String(noGrad(() => scope(() => model.call(x))).dataSync()));
    if (draw.once(5)) {
      const state = model.stateDict();
      for (const s of Object.values(state)) hold('state of the model', s);
      model.loadStateDict(state);
    }
    churn();
    look();
  }
  for (const p of model.parameters()) computed.push(String(p.dataSync()));
  for (const s of Object.values(optimizer.stateDict())) computed.push(String(s.dataSync()));
  if ('detach' in optimizer && typeof optimizer.detach === 'function') optimizer.detach();
  look();
  return { computed, wrong };
}

async function check(seed: number): Promise<string | null> {
  if (seed % 4 === 3) {
    const device = seed % 8 === 3 ? 'cpu' : 'reference';
    const { corrupted, unexpected } = await lifetimeFuzz({ device, seed, steps: 600 });
    return [...corrupted, ...unexpected][0] ?? null;
  }
  const fast = program(seed);
  if (fast.wrong !== null) return fast.wrong;
  const slow = withoutEarlyRelease(() => program(seed));
  const at = slow.computed.findIndex((x, i) => x !== fast.computed[i]);
  return at < 0
    ? null
    : `value ${at} is ${fast.computed[at]?.slice(0, 300)}, expected ${slow.computed[at]?.slice(0, 300)}`;
}

const { count, first } = seedsOf(1000);
const plain = getBackend('cpu');
const kernels = createKernels();
const threaded = kernels === null ? plain : new WasmBackend('cpu', kernels);
if (kernels !== null) await new Threads(kernels, { least: 0, piece: 1e-9, line: 1 }).set(2);
const deviations = await trySeeds({ count, first }, seed => {
  registerBackend(seed % 5 === 0 ? threaded : plain);
  return check(seed);
});
console.log(`lifetime: seeds ${first} to ${first + count - 1}: ${count} tried, ${deviations} deviations`);
process.exit(deviations === 0 ? 0 : 1);
