/** The rows of the table, the most important first: a budget cuts from the end. */

import type { Spec } from '../../../examples/gpu/models.ts';
import type { Conv, OptimizerName, Request, Streaming } from './tasks.ts';

export type Row = {
  readonly title: string;
  /** The part of the table that the row belongs to. */
  readonly part: 'training' | 'products' | 'convolutions' | 'memory';
  readonly request: Request;
};

const CIFAR = { channels: 3, side: 32, classes: 10 };
const IMAGENET = { channels: 3, side: 224, classes: 1000 };

type Models = Record<
  'mlp' | 'cnn' | 'resnet18' | 'resnet18 ImageNet' | 'resnet50' | 'vit' | 'gpt',
  { readonly title: string; readonly spec: Spec }
>;

const MODELS: Models = {
  mlp: { title: 'MLP 784-512-256-10, B 128', spec: { kind: 'mlp', sizes: [784, 512, 256, 10], batch: 128 } },
  cnn: {
    title: 'CNN 16-32, 28×28, B 64',
    spec: { kind: 'cnn', image: { channels: 1, side: 28, classes: 10 }, channels: [16, 32], batch: 64 },
  },
  resnet18: {
    title: 'ResNet-18, 32×32, B 128',
    spec: { kind: 'resnet', depth: 18, stem: 'cifar', width: 64, image: CIFAR, batch: 128 },
  },
  'resnet18 ImageNet': {
    title: 'ResNet-18, 224×224, B 32',
    spec: { kind: 'resnet', depth: 18, stem: 'imagenet', width: 64, image: IMAGENET, batch: 32 },
  },
  resnet50: {
    title: 'ResNet-50, 224×224, B 32',
    spec: { kind: 'resnet', depth: 50, stem: 'imagenet', width: 64, image: IMAGENET, batch: 32 },
  },
  vit: {
    title: 'ViT-S/16, 224×224, B 32',
    spec: { kind: 'vit', image: IMAGENET, patch: 16, dim: 384, depth: 12, heads: 6, batch: 32 },
  },
  gpt: {
    title: 'GPT, 124 M parameters, T 512, B 4',
    spec: { kind: 'gpt', vocabulary: 50257, length: 512, dim: 768, depth: 12, heads: 12, batch: 4 },
  },
};

const tiny = { channels: 3, side: 16, classes: 10 };
/** The same kinds, small enough for an adapter that computes on the CPU. */
const QUICK: Models = {
  mlp: { title: 'MLP 64-32-10, B 32', spec: { kind: 'mlp', sizes: [64, 32, 10], batch: 32 } },
  cnn: { title: 'CNN 4-8, 16×16, B 8', spec: { kind: 'cnn', image: tiny, channels: [4, 8], batch: 8 } },
  resnet18: {
    title: 'ResNet-18 of width 8, 16×16, B 4',
    spec: { kind: 'resnet', depth: 18, stem: 'cifar', width: 8, image: tiny, batch: 4 },
  },
  'resnet18 ImageNet': {
    title: 'ResNet-18 of width 4, 32×32, B 2',
    spec: { kind: 'resnet', depth: 18, stem: 'imagenet', width: 4, image: { ...tiny, side: 32 }, batch: 2 },
  },
  resnet50: {
    title: 'ResNet-50 of width 4, 32×32, B 2',
    spec: { kind: 'resnet', depth: 50, stem: 'imagenet', width: 4, image: { ...tiny, side: 32 }, batch: 2 },
  },
  vit: {
    title: 'ViT of 2 blocks, 16×16, B 4',
    spec: { kind: 'vit', image: tiny, patch: 4, dim: 32, depth: 2, heads: 2, batch: 4 },
  },
  gpt: {
    title: 'GPT of 2 blocks, T 16, B 2',
    spec: { kind: 'gpt', vocabulary: 100, length: 16, dim: 32, depth: 2, heads: 2, batch: 2 },
  },
};

/** The 3×3 convolutions of ResNet-18, those of stride 1 and where a stage begins. */
const convolutions = (batch: number, side: number, width: number): Conv[] =>
  [0, 1, 2, 3].flatMap(stage => {
    const [channels, rows] = [width * 2 ** stage, side / 2 ** stage];
    const same = { batch, cIn: channels, cOut: channels, side: rows, kernel: 3, stride: 1 };
    return stage === 0 ? [same] : [{ ...same, cIn: channels / 2, side: 2 * rows, stride: 2 }, same];
  });

export function rowsOf(quick: boolean): Row[] {
  const models = quick ? QUICK : MODELS;
  const train = (name: keyof Models, optimizer: OptimizerName): Row => {
    const { title, spec } = models[name];
    return {
      title: `${title}, ${optimizer}`,
      part: 'training',
      request: { task: 'training', spec, optimizer },
    };
  };
  const product = (full: number): Row => {
    const n = quick ? full / 32 : full;
    return { title: `product ${n}³`, part: 'products', request: { task: 'product', n } };
  };
  const convolve = (task: 'convForward' | 'convTraining', conv: Conv): Row => ({
    title:
      `${conv.cIn} → ${conv.cOut}, ${conv.side}×${conv.side}${conv.stride === 1 ? '' : ` stride ${conv.stride}`}, ` +
      `B ${conv.batch}, ${task === 'convForward' ? 'forward' : 'forward and backward'}`,
    part: 'convolutions',
    request: { task, ...conv },
  });
  const stream = (task: Streaming): Row => ({
    title: `${task}, ${quick ? '64 Ki' : '16 Mi'} elements`,
    part: 'memory',
    request: { task, size: quick ? 2 ** 16 : 2 ** 24 },
  });
  const cifar = quick ? convolutions(2, 8, 4) : convolutions(128, 32, 64);
  const imagenet = quick ? convolutions(1, 16, 4) : convolutions(32, 56, 64);
  return [
    train('resnet18', 'Adam'),
    product(4096),
    ...cifar.map(conv => convolve('convTraining', conv)),
    train('resnet18', 'STEVE'),
    train('mlp', 'Adam'),
    train('mlp', 'STEVE'),
    train('cnn', 'Adam'),
    train('cnn', 'STEVE'),
    train('vit', 'Adam'),
    train('gpt', 'Adam'),
    train('resnet50', 'Adam'),
    product(1024),
    ...(['add', 'sum', 'softmax', 'layerNorm', 'adamStep'] as const).map(stream),
    train('vit', 'STEVE'),
    train('resnet18 ImageNet', 'Adam'),
    train('mlp', 'STEVE, refresh by products'),
    // Minutes on an adapter that computes on the CPU, however small the model.
    ...(quick ? [] : [train('resnet18', 'STEVE, refresh by products')]),
    train('mlp', 'STEVE, refresh by eigh'),
    train('cnn', 'STEVE, refresh by products'),
    train('cnn', 'STEVE, refresh by eigh'),
    train('gpt', 'STEVE'),
    ...cifar.map(conv => convolve('convForward', conv)),
    product(2048),
    product(512),
    train('resnet18 ImageNet', 'STEVE'),
    train('resnet50', 'STEVE'),
    ...imagenet.map(conv => convolve('convTraining', conv)),
    ...imagenet.map(conv => convolve('convForward', conv)),
  ];
}
