// Residual networks and vision transformers on files with torchvision's and timm's keys = PyTorch: two steps, statistics, evaluation.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { arange, type DType, noGrad, type StateDict, type Tensor, tensor } from '@otimes/core';
import { load } from '@otimes/core/node';
import {
  cifarResNet,
  crossEntropy,
  fromCifarResNet,
  fromTimm,
  type Module,
  resizePositions,
  resnet18,
  resnet34,
  resnet50,
  toTimm,
  vit,
} from '@otimes/nn';
import { Adam, SGD } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

type Recorded = {
  steps: { logits: number[]; loss: number }[];
  evaluated: number[];
  /** Of each entry of the state after the steps, with two waves. */
  products: Record<string, [number, number]>;
};
type Positions = { old: [number, number]; new: [number, number]; mode: 'bicubic' | 'bilinear'; positions: number[] };
const torch = golden<{ cases: Record<string, Recorded>; positions: Positions[] }>('torch-models');

/** Element j is sin(0.7 j + i), as in the generator. */
const wave = (i: number, shape: number[]): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return arange(0, size, 1, { dtype: 'float64' }).mul(0.7).add(i).sin().reshape(shape);
};

type Case = {
  model: (dtype: DType) => Module;
  side: 32 | 64;
  optimizer: 'sgd' | 'adam';
  /** A state in the file for the model, and the model's with the names of the file. */
  from?: (state: StateDict) => StateDict;
  to?: (state: StateDict) => StateDict;
};
const same = (state: StateDict) => state;
const resnet = { classes: 5, width: 4 };
const small = { imageSize: 32, patch: 8, dim: 12, depth: 2, heads: 3, classes: 5 };
const timm = { side: 32, from: fromTimm, to: toTimm } as const;
/** The names of akamaster/pytorch_resnet_cifar10, as their checkpoints have them. */
const theirs = (state: StateDict): StateDict =>
  Object.fromEntries(Object.entries(state).map(([name, x]) => [`module.${name.replace(/^fc\./, 'linear.')}`, x]));

const cases: Record<string, Case> = {
  'resnet18-cifar': { model: dtype => resnet18({ ...resnet, stem: 'cifar', dtype }), side: 32, optimizer: 'sgd' },
  'resnet18-imagenet': {
    model: dtype => resnet18({ ...resnet, stem: 'imagenet', dtype }),
    side: 64,
    optimizer: 'adam',
  },
  'resnet34-cifar': { model: dtype => resnet34({ ...resnet, stem: 'cifar', dtype }), side: 32, optimizer: 'adam' },
  'resnet50-imagenet': { model: dtype => resnet50({ ...resnet, stem: 'imagenet', dtype }), side: 64, optimizer: 'sgd' },
  'resnet50-cifar-shallow': {
    model: dtype => resnet50({ ...resnet, stem: 'cifar', depths: [1, 2, 1, 1], checkpoint: true, dtype }),
    side: 32,
    optimizer: 'adam',
  },
  'cifar-resnet14-a': {
    model: dtype => cifarResNet({ depth: 14, width: 6, classes: 5, dtype }),
    side: 32,
    optimizer: 'sgd',
    from: fromCifarResNet,
    to: theirs,
  },
  'cifar-resnet14-b': {
    model: dtype => cifarResNet({ depth: 14, width: 6, classes: 5, shortcut: 'B', dtype }),
    side: 32,
    optimizer: 'adam',
  },
  'vit-token': { model: dtype => vit({ ...small, dtype }), optimizer: 'adam', ...timm },
  'vit-mean': { model: dtype => vit({ ...small, pool: 'mean', checkpoint: true, dtype }), optimizer: 'sgd', ...timm },
  'vit-mean-with-token': {
    model: dtype => vit({ ...small, pool: 'mean', classToken: true, dtype }),
    optimizer: 'sgd',
    ...timm,
  },
};

const stateOf = (name: string): StateDict =>
  load(fileURLToPath(new URL(`./golden/torch-models-${name}.safetensors`, import.meta.url)));

/** What PyTorch recorded, of the model in `dtype`, within `tolerance`. */
function mustEqual(
  name: string,
  { model: make, side, optimizer, from = same, to = same }: Case,
  dtype: DType,
  tolerance: number,
) {
  const model = make(dtype);
  model.loadStateDict(from(stateOf(name)));
  const recorded = torch.cases[name]!;
  const close = (actual: Tensor, expected: number[], what: string) =>
    mustBeClose(actual.flatten().astype('float64'), tensor(expected, { dtype: 'float64' }), within(tolerance), what);
  const images = (i: number) => wave(i, [3, 3, side, side]).astype(dtype);
  const steps =
    optimizer === 'sgd'
      ? new SGD(model.parameters(), { lr: 0.02, momentum: 0.9, weightDecay: 1e-3 })
      : new Adam(model.parameters(), { lr: 1e-3 });
  for (const [i, labels] of [
    [1, 4, 0],
    [2, 2, 3],
  ].entries()) {
    steps.zeroGrad();
    const logits = model.call(images(i)) as Tensor;
    const loss = crossEntropy(logits, tensor(labels, { dtype: 'int32' }));
    close(logits, recorded.steps[i]!.logits, `logits of step ${i}`);
    close(loss, [recorded.steps[i]!.loss], `loss of step ${i}`);
    loss.backward();
    steps.step();
  }
  const after = to(model.stateDict());
  assert.deepEqual(Object.keys(after).sort(), Object.keys(recorded.products).sort());
  for (const [key, products] of Object.entries(recorded.products)) {
    const value = after[key]!.astype('float64').flatten();
    close(
      tensor(
        [3, 4].map(i =>
          value
            .mul(wave(i, [value.size]))
            .sum()
            .item(),
        ),
        { dtype: 'float64' },
      ),
      products,
      key,
    );
  }
  close(
    noGrad(() => model.eval().call(images(2)) as Tensor),
    recorded.evaluated,
    'evaluation',
  );
}

for (const [name, one] of Object.entries(cases))
  law(t, `${name}: two steps from its file, with statistics, and evaluation are PyTorch's`, () =>
    mustEqual(name, one, 'float64', 1e-9),
  );

for (const name of ['resnet18-cifar', 'vit-mean'])
  law(t, `${name} in float32: the same within what that rounds`, () => mustEqual(name, cases[name]!, 'float32', 2e-4));

law(t, 'resizePositions is the antialiased interpolation of PyTorch, of patches alone', () => {
  for (const { old, new: size, mode, positions } of torch.positions) {
    const grid = wave(5, [1, old[0] * old[1], 4]);
    const expected = tensor(positions, { dtype: 'float64' });
    const y = resizePositions(grid, size, { oldSize: old, prefixTokens: 0, mode });
    assert.deepEqual(y.shape, [1, size[0] * size[1], 4]);
    mustBeClose(y.flatten(), expected, within(1e-6), `${old} to ${size}, ${mode}`);
  }
});
