/** Which modules the collectors of this package claim. */

import { type AnyModule, isLayer, type Layers } from '@otimes/nn';

/** What blocks read of a layer. */
const RECURRENT = ['weightsOf', 'onProducts', 'hiddenSize'];
const MEMBERS = {
  Embedding: ['weight'],
  Linear: ['weight', 'bias'],
  Conv1d: ['weight', 'bias'],
  Conv2d: ['weight', 'bias'],
  Conv3d: ['weight', 'bias'],
  ConvTranspose1d: ['weight', 'bias'],
  ConvTranspose2d: ['weight', 'bias'],
  MultiHeadAttention: ['q', 'k', 'v', 'o'],
  RNN: RECURRENT,
  LSTM: RECURRENT,
  GRU: RECURRENT,
  RNNCell: RECURRENT,
  LSTMCell: RECURRENT,
  GRUCell: RECURRENT,
};

/**
 * Whether a module is that layer of the library or extends it. Throws a TypeError for a class that has taken the layer's
 * `builtIn` and has none of its members.
 */
export function isOurs<Name extends keyof typeof MEMBERS>(module: AnyModule, name: Name): module is Layers[Name] {
  if (!isLayer(module, name)) return false;
  const missing = MEMBERS[name].find(member => !(member in module));
  if (missing === undefined) return true;
  throw new TypeError(
    `${name}: expected a layer with ${MEMBERS[name].join(', ')}, got ${module.constructor.name} without ${missing}; ` +
      'the static builtIn is for classes of @otimes/nn',
  );
}

/**
 * Whether such a layer also runs the library's `forward`. A class of the program's own that has another one may compute anything, of
 * which the layer's input and the gradient of its output tell nothing.
 */
export function computesAs<Name extends keyof typeof MEMBERS>(module: AnyModule, name: Name): module is Layers[Name] {
  if (!isOurs(module, name)) return false;
  let owner: object = module;
  while (!Object.hasOwn(owner, 'forward')) owner = Object.getPrototypeOf(owner);
  const made = owner === module ? null : owner.constructor;
  return made !== null && Object.hasOwn(made, 'builtIn') && Reflect.get(made, 'builtIn') === name;
}
