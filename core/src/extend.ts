/** @otimes/core/extend: what authors of packages over @otimes/core use, and programs do not. */

export { type Mark, PendingChecks } from './backends/checks.ts';
export { meanAxes, weightAxes } from './backends/composed/norm.ts';
export { transposed, withLayout } from './backends/operand.ts';
export { mergedAxes, pathTo } from './backends/walk.ts';
export {
  aBoolean,
  aCount,
  aDevice,
  aDType,
  aFunction,
  aNormOrder,
  aNumber,
  anEps,
  anInstance,
  anInteger,
  aPositive,
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
export { type BadValue, int32Error, powerError, readError } from './errors.ts';
export { isExposed, type LazyOptions, lazyTensor, makeLazy, materialize, originOf, versionOf } from './lazy.ts';
export { defineOp as defineBuiltIn } from './op.ts';
export { restoreInto, unscale } from './ops/inplace.ts';
export { onBackwardEnd } from './pass.ts';
export { isPrecise, precisely } from './precise.ts';
export { broadcastShapes, checkShape, contiguousStrides, isContiguous, reducedShape, sizeOf } from './shape.ts';
export { held, withoutEarlyRelease } from './storage.ts';
export { aTensor, borrowGrad, checkTensors, lendNdarray, someTensors } from './tensor.ts';
export { aroundRecomputation } from './transforms/checkpoint.ts';
export { checkTrained, type Noted, noteKnown, noteMoved } from './untrained.ts';
export { canSkip, caughtUp, checkFinite, onFailure, peekData, readsLater, skipIf } from './values.ts';
