/**
 * Tasks and contenders that train in a moment, as a module that `otimes-experiments --with` takes: a network with dropout and batch norm
 * on 160 points of two classes. The task's options say who is to come to grief, and where.
 */

import { writeFileSync } from 'node:fs';
import { Generator, noGrad, randn, type StateDict, type Tensor } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { BatchNorm1d, crossEntropy, Dropout, Linear, type Module, ReLU, Sequential } from '@otimes/nn';
import { Adam, type Optimizer, SGD, STEVE } from '@otimes/optim';
import type { Batches, Contender, Evaluation, Experiment, OpenTask, Task, Trainer } from 'otimes-experiments';

type Batch = [Tensor, Tensor];
/** The process kills itself before that step of a run with this seed, unless the file is there, which it writes first. */
type Death = { readonly seed: number; readonly step: number; readonly file: string };
type Options = { readonly deaths?: readonly Death[]; readonly wait?: number };

const BATCH = 16;

function points(n: number, seed: number): Batch {
  const rng = new Generator(seed);
  const x = randn([n, 2], { rng });
  const radius = x.square().sum(1);
  return [x, radius.gt(1.4).astype('int32')];
}

/** The loader, with a word before each batch. */
class Told implements Batches<Batch> {
  readonly #loader: DataLoader<Batch>;
  readonly #before: (step: number) => void | Promise<void>;
  #step = 0;

  constructor(loader: DataLoader<Batch>, before: (step: number) => void | Promise<void>) {
    this.#loader = loader;
    this.#before = before;
  }

  get stepsPerEpoch(): number {
    return this.#loader.length;
  }

  async *epoch(): AsyncIterable<Batch> {
    for await (const batch of this.#loader) {
      await this.#before(++this.#step);
      yield batch as Batch;
    }
  }

  stateDict(): StateDict {
    return this.#loader.stateDict();
  }

  loadStateDict(state: StateDict): void {
    this.#loader.loadStateDict(state);
  }
}

class Rings implements OpenTask<Batch> {
  readonly samples = { train: 160, validation: 64, test: 64 };
  readonly #options: Options;
  readonly #splits = { train: points(160, 1), validation: points(64, 2), test: points(64, 3) };

  constructor(options: Options) {
    this.#options = options;
  }

  model(seed: number): Module {
    const rng = new Generator(seed);
    return new Sequential(
      new Linear(2, 16, { rng }),
      new BatchNorm1d(16),
      new ReLU(),
      new Dropout(0.1),
      new Linear(16, 2, { rng }),
    );
  }

  batches(seed: number): Batches<Batch> {
    const rng = new Generator(1000 + seed);
    const data = new TensorDataset<Batch>(...this.#splits.train);
    const { deaths = [], wait = 0 } = this.#options;
    return new Told(new DataLoader(data, { batchSize: BATCH, shuffle: true, rng }) as DataLoader<Batch>, async step => {
      if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait));
      for (const death of deaths) if (death.seed === seed && death.step === step) die(death.file);
    });
  }

  loss(model: Module, [x, y]: Batch): Tensor {
    return crossEntropy(model.call(x), y);
  }

  async evaluate(model: Module, split: 'validation' | 'test'): Promise<Evaluation> {
    const [x, y] = this.#splits[split];
    model.eval();
    const scores = noGrad(() => model.call(x));
    const loss = noGrad(() => crossEntropy(scores, y).item());
    model.train();
    const metric = scores.argmax(1).eq(y).astype('float32').mean().item();
    return { loss, metric };
  }
}

function die(file: string): void {
  try {
    writeFileSync(file, '', { flag: 'wx' });
  } catch {
    return;
  }
  process.kill(process.pid, 'SIGKILL');
}

const rings: Task = {
  name: 'rings',
  about: '160 points of two classes, a ring about a disc; a network of 16 units; cross entropy.',
  metric: { name: 'accuracy', unit: 'share', better: 'higher' },
  data: null,
  async open({ options }) {
    for (const name of Object.keys(options))
      if (!['deaths', 'wait'].includes(name)) throw new TypeError(`rings: there is no option '${name}'`);
    return new Rings(options as Options);
  },
};

const trainer = (optimizer: Optimizer): Trainer & { readonly optimizer: Optimizer } => ({
  optimizer,
  get lr() {
    return optimizer.lr;
  },
  set lr(lr) {
    optimizer.lr = lr;
  },
  step(closure) {
    closure();
    return optimizer.step();
  },
  stateDict: () => optimizer.stateDict(),
  loadStateDict: state => optimizer.loadStateDict(state),
});

const lr = (low: number, high: number, usual: number) => ({ scale: 'log', low, high, default: usual }) as const;

const sgd: Contender = {
  name: 'tiny-sgd',
  label: 'SGD',
  family: 'first-order',
  space: { lr: lr(0.01, 1, 0.1), momentum: { scale: 'choice', choices: [0, 0.9], default: 0.9 } },
  make: (model, setting) => trainer(new SGD(model.parameters(), setting)),
};

const adam: Contender = {
  name: 'tiny-adam',
  label: 'Adam',
  family: 'first-order',
  space: { lr: lr(1e-3, 1e-1, 1e-2) },
  make: (model, setting) => trainer(new Adam(model.parameters(), setting)),
};

const steve: Contender = {
  name: 'tiny-steve',
  label: 'STEVE',
  family: 'kronecker',
  space: { lr: lr(1e-3, 1e-1, 1e-2) },
  make(model, setting, { kronecker }) {
    const optimizer = new STEVE(model, { ...setting, ...kronecker });
    return {
      ...trainer(optimizer),
      async report() {
        const { milliseconds, blocks } = await optimizer.readReport();
        return {
          milliseconds,
          blocks: blocks.map(({ path, spectrum }) => ({
            path,
            spectrum: spectrum && { A: [...spectrum.A], G: [...spectrum.G] },
          })),
        };
      },
      detach: () => optimizer.detach(),
    };
  },
};

/** Refuses its third step. */
const refuser: Contender = {
  name: 'tiny-refuser',
  label: 'Refuser',
  family: 'first-order',
  space: {},
  make(model) {
    const inner = trainer(new SGD(model.parameters(), { lr: 0.1 }));
    let steps = 0;
    return {
      ...inner,
      step(closure) {
        if (++steps === 3) throw new RangeError('Refuser: a gradient is not finite');
        return inner.step(closure);
      },
    };
  },
};

export const TASKS: readonly Task[] = [rings];
export const CONTENDERS: readonly Contender[] = [sgd, adam, steve, refuser];

export const TINY: Experiment = {
  name: 'tiny',
  title: 'Rings',
  about: 'Whether the runner runs.',
  task: 'rings',
  taskOptions: {},
  target: 0.93,
  targetFrom: 'What Adam reaches in half of the budget.',
  epochs: 6,
  checksPerEpoch: 2,
  seeds: 2,
  tuning: { trials: 3, seed: 1000, giveUp: 1.5 },
  schedules: ['constant', 'cosine'],
  finalists: 'best',
  contenders: ['tiny-sgd', 'tiny-steve'],
  kronecker: { refreshEvery: 5, factorEvery: 5 },
};
export const PRESETS: readonly Experiment[] = [TINY];
