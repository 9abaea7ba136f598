/** Which layer of the library a module is, asked without the layer's class: so a bundle has the layers of its model alone. */

import { checkArgument, type Kind } from '@otimes/core/extend';
import type * as nn from './index.ts';
import type { AnyModule } from './module.ts';

type ClassOf<Layer> = { readonly builtIn: string; readonly prototype: Layer };

/** The layers by the names of their classes. */
export type Layers = {
  readonly [Name in keyof typeof nn as (typeof nn)[Name] extends ClassOf<AnyModule>
    ? Name
    : never]: (typeof nn)[Name] extends ClassOf<infer Layer> ? Layer : never;
};

const LAYERS: Record<keyof Layers, 1> = {
  AvgPool2d: 1,
  BasicBlock: 1,
  BatchNorm2d: 1,
  Bottleneck: 1,
  Conv2d: 1,
  Dropout: 1,
  Embedding: 1,
  Flatten: 1,
  GELU: 1,
  GPT: 1,
  GPTBlock: 1,
  GlobalAvgPool2d: 1,
  GroupNorm: 1,
  LayerNorm: 1,
  Linear: 1,
  MLP: 1,
  MaxPool2d: 1,
  MultiHeadAttention: 1,
  ReLU: 1,
  ResNet: 1,
  PositionalEncoding: 1,
  Sequential: 1,
  Sigmoid: 1,
  Tanh: 1,
  Transformer: 1,
  TransformerBlock: 1,
  TransformerDecoder: 1,
  TransformerDecoderLayer: 1,
  TransformerEncoder: 1,
  TransformerEncoderLayer: 1,
  VisionTransformer: 1,
};

const aLayer: Kind = {
  expected: "the name of a layer's class, such as 'Linear'",
  is: v => typeof v === 'string' && Object.hasOwn(LAYERS, v),
  hint(v) {
    const near = Object.keys(LAYERS).find(name => name.toLowerCase() === String(v).toLowerCase());
    return near === undefined ? '' : `did you mean '${near}'?`;
  },
  error: RangeError,
};
const aModule: Kind = { expected: 'a module', is: v => typeof v === 'object' && v !== null };

/**
 * Whether a value is that layer of the library, or of a class that extends it: `isLayer(module, 'Conv2d')` is what
 * `module instanceof Conv2d` is, and imports no `Conv2d`. It also knows layers of another copy of this package.
 *
 * @throws RangeError for a name that is none of `Layers`, TypeError for a module that is no object
 */
export function isLayer<Name extends keyof Layers>(module: AnyModule, name: Name): module is Layers[Name] {
  checkArgument('isLayer', 'the module', module, aModule);
  checkArgument('isLayer', 'the name', name, aLayer);
  let made: unknown = module.constructor;
  for (; typeof made === 'function'; made = Object.getPrototypeOf(made))
    if ('builtIn' in made && made.builtIn === name) return true;
  return false;
}
