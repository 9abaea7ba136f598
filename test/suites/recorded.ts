// Trajectories recorded with PyTorch, float64: test/golden/{mlp,conv,attn}.json.
import { type Tensor, tensor, zeros } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  Module,
  MultiHeadAttention,
  Parameter,
  ReLU,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { Adam, EKFAC, KFAC, type KroneckerPreconditioner, type Optimizer, SGD, STEVE } from '@otimes/optim';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { floatOf } from '../helpers/devices.ts';
import { identitySolver } from '../helpers/eigensolver.ts';
import { golden, type Stored, stored } from '../helpers/golden.ts';
import { law } from '../helpers/law.ts';

/** Options as the recording named them. */
type Hyper = {
  lr: number;
  n: number;
  alpha: number;
  damping: number;
  betas: [number, number];
  eps: number;
  v: 'batch' | 'example';
  sharing?: 'expand' | 'reduce';
  kfe?: 'batch' | 'ema';
  mode?: 'pi';
  momentum?: number;
  kl_clip?: number;
  reset?: 'zero' | 'rotate' | 'rotate2';
  bias?: 'adam' | 'printed';
  identity?: true;
};

/** A symmetric matrix, its upper triangle row by row. */
type Symmetric = { n: number; upper: number[] };

type Recording = {
  init: Record<string, Stored>;
  batches: { x: Stored; y: number[] }[];
  runs: {
    id: string;
    optimizer: string;
    hyper: Hyper;
    sensitivity: number;
    steps: {
      loss: number;
      params: Record<string, number[]>;
      /** Of the first step, by layer. */
      factors?: Record<string, { A: Symmetric; G: Symmetric }>;
    }[];
  }[];
};

/** How the options of the recorded runs are called here; null where an option is not offered, with the reason. */
function recordedOptimizer(kind: string, h: Hyper): ((m: Module) => Optimizer) | null {
  const shared = {
    lr: h.lr,
    refreshEvery: h.n,
    factorDecay: h.kfe === 'batch' ? 0 : h.alpha,
    sharing: h.sharing ?? ('expand' as const),
    ...(h.identity && { eigensolver: identitySolver }),
  };
  const damping = {
    damping: h.damping,
    momentum: h.momentum ?? 0,
    klClip: h.kl_clip ?? (false as const),
    trust: false as const,
  };
  if (kind === 'adam') return m => new Adam(m.parameters(), { lr: h.lr });
  if (kind === 'sgd') return m => new SGD(m.parameters(), { lr: h.lr });
  if (kind === 'kfac') return m => new KFAC(m, { ...shared, ...damping, dampingSplit: h.mode ?? 'eigen' });
  if (kind === 'ekfac') return m => new EKFAC(m, { ...shared, ...damping, secondMoment: h.v, averageNull: false });
  // The paper's misprinted bias correction, and moments kept index by index: neither is offered.
  if (h.bias === 'printed' || h.reset === 'rotate') return null;
  return m =>
    new STEVE(m, {
      ...shared,
      betas: h.betas,
      eps: h.eps,
      secondMoment: h.v,
      onRefresh: h.reset === 'zero' ? 'zero' : 'carry',
      graft: false,
      nullRule: 'tolerance',
    });
}

const upper = async (m: Tensor): Promise<number[]> => {
  const [n, x] = [m.shape[0]!, await m.data()];
  return Array.from(x).filter((_, k) => k % n >= Math.floor(k / n));
};

type Float = 'float32' | 'float64';

/** The model of the recording 'attn'. */
class Attention extends Module {
  readonly pos: Parameter;
  readonly attn: MultiHeadAttention;
  readonly head: Linear;
  constructor(o: { dtype: Float }) {
    super();
    this.pos = new Parameter(zeros([4, 4], o));
    this.attn = new MultiHeadAttention(4, 2, o);
    this.head = new Linear(4, 6, o);
  }
  override forward(x: Tensor): Tensor {
    const h = x.add(this.pos);
    return this.head.call(h.add(this.attn.call(h)).mean(1));
  }
}

/** The models of the recordings. */
export const recordedModels: Record<'mlp' | 'conv' | 'attn', (o: { dtype: Float }) => Module> = {
  mlp: o => new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o)),
  conv: o =>
    new Sequential(
      new Conv2d(2, 4, 3, { ...o, padding: 1 }),
      new ReLU(),
      new Conv2d(4, 3, 3, { ...o, stride: 2 }),
      new Flatten(),
      new Linear(12, 3, o),
    ),
  attn: o => new Attention(o),
};

export type Recorded = {
  /** The file in test/golden. */
  name: string;
  model: (o: { dtype: Float }) => Module;
  /** How many of the recording's runs have options that exist here, and are of these optimizers. */
  runs: number;
  /** Where all of it runs, in float32 if it has no float64; default 'cpu'. */
  device?: string;
  /** Which optimizers, by the names in the recording; default all. */
  of?: readonly string[];
};

/** Of losses, and of the factors of the first step. */
const TOLERANCES = {
  float64: [1e-9, { rtol: 1e-12, atol: 1e-14 }],
  float32: [1e-5, { rtol: 1e-5, atol: 1e-6 }],
} as const;

export function recordedTrajectories(t: Test, { name, model: build, runs: count, device = 'cpu', of }: Recorded): void {
  t.test(`recorded trajectories: ${name}${device === 'cpu' ? '' : ` on ${device}`}`, t => {
    const { init, batches, runs } = golden<Recording>(name);
    const dtype = floatOf(device);
    const [ofLosses, ofFactors] = TOLERANCES[dtype];
    let checked = 0;
    for (const { id, optimizer: kind, hyper, sensitivity, steps } of runs) {
      // Of a run that magnifies rounding a million times float32 leaves nothing to compare.
      if (dtype === 'float32' && sensitivity > 1e-12) continue;
      const make = of === undefined || of.includes(kind) ? recordedOptimizer(kind, hyper) : null;
      if (make === null) continue;
      checked++;
      law(
        t,
        `${id}: losses within ${ofLosses}, parameters within what the run's sensitivity makes of rounding`,
        async () => {
          const model = build({ dtype });
          model.loadStateDict(Object.fromEntries(Object.entries(init).map(([k, v]) => [k, stored(v, dtype)])));
          model.to(device);
          const optimizer = make(model);
          const atol = dtype === 'float64' ? 100 * sensitivity + 1e-12 : 2 ** 29 * sensitivity;
          const tolerance = { rtol: 0, atol };
          for (const [i, step] of steps.entries()) {
            const { x, y } = batches[i % batches.length]!;
            optimizer.zeroGrad();
            const loss = crossEntropy(model.call(stored(x, dtype).to(device)), tensor(y, { dtype: 'int32', device }));
            mustBeClose([await loss.number()], [step.loss], { rtol: 0, atol: ofLosses }, `loss of step ${i}`);
            loss.backward();
            await optimizer.step();
            for (const [layer, { A, G }] of Object.entries(step.factors ?? {})) {
              const state = (optimizer as KroneckerPreconditioner).inspect(layer);
              mustBeClose(await upper(state.A!), A.upper, ofFactors, `A of ${layer}`);
              mustBeClose(await upper(state.G!), G.upper, ofFactors, `G of ${layer}`);
            }
            for (const [path, p] of model.namedParameters())
              mustBeClose(await p.data(), step.params[path]!, tolerance, `step ${i}, ${path}`);
          }
        },
      );
    }
    t.equal(checked, count, 'every run whose options exist here was compared');
    t.end();
  });
}
