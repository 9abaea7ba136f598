/**
 * Random runs of KFAC, EKFAC and STEVE: layers, options, routes, Fisher kinds, batches in parts, layers used twice, and in the middle
 * what happens to programs: hooks that throw, numbers that are not finite, evaluations, reads, saving and going on elsewhere.
 *
 *     npm run bench bench/fuzz/kronecker.ts 2000 [first seed]
 *
 * | a run | must be |
 * |---|---|
 * | that was disturbed | the same run undisturbed, bit for bit: parameters and state |
 * | on any route, also on the device 'reference' | the undisturbed run on the route 'gradient' of the device 'cpu', to rounding |
 *
 * To rounding: the plain run is repeated with inputs moved by a relative `NUDGE`, twice; runs may differ by `SLACK` times what that
 * changes, brought to ε, and by `FLOOR`. A deviation prints a line that begins with its seed.
 */

import {
  Generator,
  loadSafetensors,
  noGrad,
  randint,
  randn,
  saveSafetensors,
  scope,
  type Tensor,
  tensor,
} from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  Module,
  MultiHeadAttention,
  mseLoss,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { clipGradNorm, EKFAC, KFAC, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import { Draw } from './operands.ts';
import { seedsOf, trySeeds } from './seeds.ts';

const NUDGE = { float64: 1e-9, float32: 1e-5 };
const EPS = { float64: 2 ** -52, float32: 2 ** -23 };
const SLACK = 300;
const FLOOR = { float64: 1e-9, float32: 1e-3 };

type Float = 'float32' | 'float64';
type Net = Module<[x: Tensor]>;
type Options = Record<string, unknown>;
type Make = (model: Net, o: Options) => KroneckerPreconditioner;

const MAKE: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, o),
  EKFAC: (m, o) => new EKFAC(m, o),
  STEVE: (m, o) => new STEVE(m, o),
};

// --- models -----------------------------------------------------------------------------------------------------------

/** Averages over positions [batch, positions, features]. */
class Pool extends Module<[x: Tensor]> {
  override forward(x: Tensor): Tensor {
    return x.mean(1);
  }
}

/** One layer twice in one pass, and layers in fields of every kind. */
class Nested extends Module<[x: Tensor]> {
  readonly parts: { body: Linear; twice: Linear };
  readonly heads: Linear[];
  constructor(o: { dtype: Float; rng: Generator; bias: boolean }) {
    super();
    this.parts = { body: new Linear(5, 4, o), twice: new Linear(4, 4, o) };
    this.heads = [new Linear(4, 3, o), new Linear(4, 3, o)];
  }
  override forward(x: Tensor): Tensor {
    const { body, twice } = this.parts;
    const h = twice.call(twice.call(body.call(x).tanh()).tanh()).tanh();
    return this.heads[0]!.call(h).add(this.heads[1]!.call(h.sin()));
  }
}

type Kind = {
  shape: readonly number[];
  outputs: readonly number[];
  build(o: { dtype: Float; rng: Generator; bias: boolean }): Net;
};

const KINDS: Record<string, Kind> = {
  mlp: {
    shape: [5],
    outputs: [3],
    build: o => new Sequential(new Linear(5, 6, o), new Tanh(), new Linear(6, 4, o), new Tanh(), new Linear(4, 3, o)),
  },
  positions: {
    shape: [3, 5],
    outputs: [3, 4],
    build: o => new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 4, o)),
  },
  conv: {
    shape: [2, 5, 5],
    outputs: [3],
    build: o =>
      new Sequential(
        new Conv2d(2, 3, 3, { ...o, padding: 1, stride: 2 }),
        new Tanh(),
        new Flatten(),
        new Linear(27, 3, o),
      ),
  },
  attention: {
    shape: [4, 4],
    outputs: [3],
    build: o => new Sequential(new MultiHeadAttention(4, 2, o), new Pool(), new Linear(4, 3, o)),
  },
  nested: { shape: [5], outputs: [3], build: o => new Nested(o) },
};

// --- scenarios --------------------------------------------------------------------------------------------------------

/** What happens in a step beside the step. The first kind changes the run, the second must not. */
type Part = { readonly parts: readonly number[]; readonly clip: number | null; readonly lr: number | null };
type Disturbance =
  | 'nothing'
  | 'forward hook throws'
  | 'backward hook throws'
  | 'another part throws'
  | 'not finite'
  | 'evaluation'
  | 'forward alone'
  | 'reads'
  | 'saved and loaded'
  | 'in a scope';
const DISTURBANCES: readonly Disturbance[] = [
  ...([
    'forward hook throws',
    'backward hook throws',
    'another part throws',
    'not finite',
    'evaluation',
    'forward alone',
  ] as const),
  ...(['reads', 'saved and loaded', 'in a scope'] as const),
];

type Scenario = {
  readonly name: string;
  readonly kind: string;
  readonly dtype: Float;
  readonly bias: boolean;
  readonly options: Options;
  readonly batch: number;
  readonly steps: readonly Part[];
  readonly disturbances: readonly Disturbance[];
  readonly labels: boolean;
  /** The dtype of inputs, which layers convert. */
  readonly inputs: Float;
  /** Whether the first parameter is frozen before the optimizer comes. */
  readonly frozen: boolean;
};

function draws(seed: number): Scenario {
  const draw = new Draw(seed);
  const name = draw.one(Object.keys(MAKE));
  const kind = draw.one(Object.keys(KINDS));
  const labels = kind !== 'positions' && !draw.once(3);
  const batch = draw.one([4, 8, 12]);
  const maybe = (options: Options): Options => (draw.once(3) ? options : {});
  const refreshEvery = draw.one([1, 2, 3, 5]);
  const background = draw.once(12);
  const options: Options = {
    lr: draw.one([0.01, 0.05]),
    refreshEvery,
    ...maybe({ factorDecay: draw.one([0, 0.5, 0.95]) }),
    ...maybe({ factorEvery: draw.one([2, 3]) }),
    ...maybe({ stagger: true }),
    ...maybe({ weightDecay: 0.1 }),
    ...maybe({ sharing: draw.one(['expand', 'reduce']) }),
    ...(draw.once(6) ? { maxFactorDim: 4 } : {}),
    ...maybe({ structure: draw.one(['taps', 'channels', 'blocks', 'exact']), blockDim: draw.one([2, 3, 5]) }),
    ...(draw.once(2)
      ? { fisher: draw.one(['empirical', 'sampled', 'ggn']), loss: labels ? 'crossEntropy' : 'mse' }
      : {}),
    ...maybe({ lossReduction: 'sum' }),
    ...(background ? { refresh: 'background', refreshLag: 1 + draw.below(refreshEvery) } : {}),
  };
  if (name !== 'STEVE')
    Object.assign(
      options,
      { damping: draw.one([0.01, 0.1]) },
      maybe({ klClip: draw.one([false, 1e-3]) }),
      maybe({ trust: draw.one([false, 0.05]) }),
      maybe({ momentum: 0.9 }),
    );
  if (name === 'KFAC') Object.assign(options, maybe({ dampingSplit: 'pi' }));
  if (name === 'EKFAC') Object.assign(options, maybe({ secondMoment: 'batch' }), maybe({ averageNull: false }));
  if (name === 'STEVE')
    Object.assign(
      options,
      maybe({ secondMoment: 'example' }),
      maybe({ onRefresh: 'zero' }),
      maybe({ graft: false }),
      maybe({ nullRule: draw.one(['none', 'tolerance']) }),
      maybe({ eps: 1e-4 }),
    );
  if (name === 'STEVE' || options.momentum !== undefined) Object.assign(options, maybe({ nesterov: true }));
  const parts = draw.once(5);
  const clip = draw.once(4);
  const count = 4 + draw.below(8);
  const steps = Array.from({ length: count }, () => ({
    parts: parts && draw.once(2) ? [batch / 2, batch / 2] : [batch],
    clip: clip && draw.once(2) ? draw.one([0.05, 1e3]) : null,
    lr: draw.once(8) ? draw.one([0.02, 0.1]) : null,
  }));
  // A pass that is thrown away has drawn its labels all the same.
  const possible = DISTURBANCES.filter(act => act !== 'not finite' || options.fisher !== 'sampled');
  const disturbances = steps.map(() => (draw.once(3) ? draw.one(possible) : 'nothing'));
  const dtype = draw.once(4) ? 'float32' : 'float64';
  const inputs = draw.once(6) ? draw.one(['float32', 'float64'] as const) : dtype;
  const frozen = draw.once(10);
  return { name, kind, dtype, bias: !draw.once(4), options, batch, steps, disturbances, labels, inputs, frozen };
}

// --- runs -------------------------------------------------------------------------------------------------------------

type Pair = { model: Net; optimizer: KroneckerPreconditioner; arm: { now: 'forward' | 'backward' | null } };
type End = { values: Float64Array; state: string };

class OnPurpose extends Error {}

type How = { route: string; device: string; disturbed: boolean; nudge: number };

async function run(seed: number, s: Scenario, { route, device, disturbed, nudge }: How): Promise<End> {
  const { shape, outputs, build } = KINDS[s.kind]!;
  const begin = (own: number): Pair => {
    const model = build({ dtype: s.dtype, rng: new Generator(own), bias: s.bias });
    if (device !== 'cpu') model.to(device);
    if (s.frozen) model.parameters()[0]!.requiresGrad = false;
    const arm: Pair['arm'] = { now: null };
    // A hook of the program, on the layer nearest to the input: what lies above has been through its rules when it throws.
    const layers: Module[] = [];
    for (const [, m] of model.namedModules()) if (m instanceof Linear || m instanceof Conv2d) layers.push(m);
    layers[Math.min(1, layers.length - 1)]!.onForward((_, __, y) => {
      if (arm.now === 'forward') throw new OnPurpose();
      if (arm.now === 'backward')
        (y as Tensor).onGrad(() => {
          throw new OnPurpose();
        });
    });
    return {
      model,
      optimizer: MAKE[s.name]!(model, {
        ...s.options,
        route,
        ...(s.options.fisher ? { rng: new Generator(own + 7) } : {}),
      }),
      arm,
    };
  };
  let pair = begin(1);
  const data = new Generator(seed);
  const aside = new Generator(seed + 1);
  const noise = new Generator(seed + 2 + nudge * 2 ** 40);
  const input = (rng: Generator) => {
    const x = randn([s.batch, ...shape], { dtype: s.inputs, rng });
    if (nudge === 0) return x.to(device);
    const moved = Array.from(x.dataSync(), v => v * (1 + nudge * (2 * noise.uniform() - 1)));
    return tensor(moved, { shape: x.shape, dtype: s.inputs }).to(device);
  };
  const target = (rng: Generator) =>
    (s.labels
      ? randint(0, outputs.at(-1)!, [s.batch], { rng })
      : randn([s.batch, ...outputs], { dtype: s.dtype, rng })
    ).to(device);
  const reduction = s.options.lossReduction === 'sum' ? 'sum' : 'mean';
  const pass = ({ model }: Pair, x: Tensor, y: Tensor, parts: readonly number[]) => {
    let from = 0;
    for (const size of parts) {
      const z = model.call(x.narrow(0, from, size));
      const part = y.narrow(0, from, size);
      const loss = s.labels ? crossEntropy(z, part, { reduction }) : mseLoss(z, part, { reduction });
      loss.mul(reduction === 'mean' ? size / s.batch : 1).backward();
      from += size;
    }
  };
  const fails = (act: () => void, expected: (error: unknown) => boolean): void => {
    try {
      act();
    } catch (error) {
      if (expected(error)) return;
      throw error;
    }
    throw new Error('what should have failed did not');
  };

  for (const [i, step] of s.steps.entries()) {
    const [x, y] = [input(data), target(data)];
    const act = disturbed ? s.disturbances[i]! : 'nothing';
    pair.optimizer.zeroGrad();
    if (step.lr !== null) pair.optimizer.lr = step.lr;
    if (act === 'forward hook throws' || act === 'backward hook throws') {
      pair.arm.now = act === 'forward hook throws' ? 'forward' : 'backward';
      fails(
        () => pass(pair, x, y, [s.batch]),
        error => error instanceof OnPurpose,
      );
      pair.arm.now = null;
      if (aside.integer(0, 2) === 0) pair.optimizer.zeroGrad();
    }
    if (act === 'not finite') {
      pass(pair, x.mul(Number.NaN), y, [s.batch]);
      fails(
        () => void pair.optimizer.step(),
        error => error instanceof RangeError,
      );
      pair.optimizer.zeroGrad();
    }
    if (act === 'evaluation') noGrad(() => pair.model.call(input(aside)));
    if (act === 'forward alone') pair.model.call(input(aside));
    const train = () => {
      pass(pair, x, y, step.parts);
      if (act === 'another part throws') {
        pair.arm.now = 'backward';
        fails(
          () => pass(pair, input(aside), y, [s.batch]),
          error => error instanceof OnPurpose,
        );
        pair.arm.now = null;
      }
      if (act === 'evaluation') noGrad(() => pair.model.call(input(aside)));
      if (step.clip !== null) clipGradNorm(pair.model.parameters(), step.clip);
      if (act === 'reads') for (const p of pair.model.parameters()) p.grad?.toArray();
      return pair.optimizer.step();
    };
    await (act === 'in a scope' ? scope(() => void train()) : train());
    if (act === 'reads') {
      pair.model.stateDict();
      pair.optimizer.stateDict();
      pair.optimizer.report();
      pair.optimizer.describe();
    }
    if (act === 'saved and loaded') {
      const [model, optimizer] = [pair.model, pair.optimizer].map(one =>
        loadSafetensors(saveSafetensors(one.stateDict())),
      );
      pair.optimizer.detach();
      pair = begin(2 + i);
      const loads = [() => pair.model.loadStateDict(model!), () => pair.optimizer.loadStateDict(optimizer!)];
      if (aside.integer(0, 2) === 0) loads.reverse();
      for (const load of loads) load();
    }
  }
  const values = Float64Array.from(pair.model.parameters().flatMap(p => [...p.dataSync()]));
  const state = Object.entries(pair.optimizer.stateDict())
    .map(([key, t]) => `${key} ${t.dataSync()}`)
    .sort()
    .join('\n');
  pair.optimizer.detach();
  return { values, state };
}

// --- comparison -------------------------------------------------------------------------------------------------------

const counts = { refused: 0, bits: 0, rounding: 0, disturbances: 0 };

async function check(seed: number): Promise<string | null> {
  const s = draws(seed);
  const words = `${s.name} ${s.kind} ${s.dtype} of ${s.inputs} ${s.bias ? '' : 'no bias '}${s.frozen ? 'frozen ' : ''}${JSON.stringify(s.options)} ${s.steps.length} steps`;
  const draw = new Draw(seed + 1);
  const plain: How = { route: 'gradient', device: 'cpu', disturbed: false, nudge: 0 };
  const other: How = {
    ...plain,
    route: draw.one(['gradient', 'activations', 'resident', 'auto']),
    device: draw.once(4) ? 'reference' : 'cpu',
  };
  const attempt = async (how: How): Promise<End | string> => {
    try {
      return await run(seed, s, how);
    } catch (error) {
      return error instanceof Error ? `${error.stack?.slice(0, 700)}` : String(error);
    }
  };
  const first = await attempt(plain);
  const calm = await attempt(other);
  const message = (x: string) => x.split('\n')[0];
  if (typeof first === 'string' || typeof calm === 'string') {
    if (typeof first === 'string' && typeof calm === 'string' && message(first) === message(calm)) {
      counts.refused++;
      return null;
    }
    return `${words}: ${other.route} on ${other.device}: ${JSON.stringify(calm).slice(0, 500)}, plain ${JSON.stringify(first).slice(0, 500)}`;
  }
  const disturbed = await attempt({ ...other, disturbed: true });
  const acts = s.disturbances.map((act, i) => `${i}: ${act}`).filter(act => !act.endsWith('nothing'));
  counts.disturbances += acts.length;
  const where = `${words}: ${other.route} on ${other.device}`;
  if (typeof disturbed === 'string') return `${where}, disturbed (${acts}): ${disturbed}`;
  counts.bits++;
  const bit = disturbed.values.findIndex((v, i) => !Object.is(v, calm.values[i]));
  if (bit >= 0)
    return `${where}, disturbed (${acts}): parameter ${bit} is ${disturbed.values[bit]}, undisturbed ${calm.values[bit]}`;
  if (disturbed.state !== calm.state) {
    const [a, b] = [disturbed.state.split('\n'), calm.state.split('\n')];
    const at = a.findIndex((line, i) => line !== b[i]);
    return `${where}, disturbed (${acts}): state ${a[at]?.slice(0, 150)}, undisturbed ${b[at]?.slice(0, 150)}`;
  }
  counts.rounding++;
  if (calm.values.every((v, i) => Object.is(v, first.values[i]))) return null;
  let room = 0;
  for (const sign of [1, -1]) {
    const nudged = await attempt({ ...plain, nudge: sign * NUDGE[s.dtype] });
    if (typeof nudged === 'string') return null;
    for (const [i, v] of nudged.values.entries()) room = Math.max(room, Math.abs(v - first.values[i]!));
  }
  const allowed = FLOOR[s.dtype] + SLACK * EPS[s.dtype] * (room / NUDGE[s.dtype]);
  const off = Math.max(...calm.values.map((v, i) => Math.abs(v - first.values[i]!)));
  if (off <= allowed) return null;
  return `${where}: off by ${off.toExponential(2)} from the plain run, where rounding explains ${allowed.toExponential(2)}`;
}

const { count, first } = seedsOf(1000);
const deviations = await trySeeds({ count, first }, check);
console.log(
  `kronecker: seeds ${first} to ${first + count - 1}, ${counts.bits} runs disturbed ${counts.disturbances} times, ${counts.rounding} against ` +
    `the plain route, ${counts.refused} refused on every route: ${count} tried, ${deviations} deviations`,
);
process.exit(deviations === 0 ? 0 : 1);
