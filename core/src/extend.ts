/** @otimes/core/extend: what authors of packages over @otimes/core use, and programs do not. */

export {
  aBoolean,
  aDevice,
  aDType,
  aFunction,
  aNumber,
  anInstance,
  anInteger,
  aShape,
  aString,
  axes,
  checkArgument,
  checkOptions,
  isPlainObject,
  type Kind,
  type OptionKinds,
  oneOf,
  orNull,
  received,
} from './check.ts';
export { onBackwardEnd } from './pass.ts';
export { withoutEarlyRelease } from './storage.ts';
export { aTensor, lendNdarray } from './tensor.ts';
