/** @otimes/core/extend: what authors of packages over @otimes/core use, and programs do not. */

export {
  aBoolean,
  aCount,
  aDevice,
  aDType,
  aFunction,
  aNumber,
  anInstance,
  anInteger,
  aShape,
  aStateDict,
  aString,
  axes,
  checkArgument,
  checkNone,
  checkOptions,
  checkRange,
  dropPromise,
  inspect,
  isPlainObject,
  type Kind,
  nameOf,
  type OptionKinds,
  oneOf,
  orNull,
  received,
} from './check.ts';
export { type BadValue, readError } from './errors.ts';
export { isExposed, type LazyOptions, lazyTensor, makeLazy, materialize, originOf, versionOf } from './lazy.ts';
export { defineOp as defineBuiltIn } from './op.ts';
export { onBackwardEnd } from './pass.ts';
export { checkShape } from './shape.ts';
export { held, withoutEarlyRelease } from './storage.ts';
export { aTensor, borrowGrad, checkTensors, lendNdarray, someTensors } from './tensor.ts';
export { checkTrained, type Noted, noteKnown, noteMoved } from './untrained.ts';
export { checkFinite, onFailure, peekData, readsLater } from './values.ts';
