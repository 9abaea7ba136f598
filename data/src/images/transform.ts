/**
 * What transforms of pictures consist of: plain data, so that a list of them can be kept in a file and sent to another thread. `plan.ts`
 * does them; `transforms.ts` makes them.
 */

import { ShapeError } from '@otimes/core';
import { aBoolean, checkArgument, checkOptions, isPlainObject, type Kind, oneOf, received } from '@otimes/core/extend';
import type { Interpolation } from './resample.ts';
import { isArrayOf } from './source.ts';
import type { PaddingMode } from './view.ts';

/** [height, width] */
export type Size = readonly [number, number];

export type RandomCrop = {
  readonly type: 'randomCrop';
  readonly size: Size;
  /** Left, top, right, bottom. */
  readonly padding: readonly [number, number, number, number];
  readonly fill: number | readonly number[];
  readonly paddingMode: PaddingMode;
};
export type CenterCrop = { readonly type: 'centerCrop'; readonly size: Size };
export type RandomHorizontalFlip = { readonly type: 'randomHorizontalFlip'; readonly p: number };
export type Resize = {
  readonly type: 'resize';
  /** One number is the length of the shorter edge. */
  readonly size: number | Size;
  readonly interpolation: Interpolation;
  readonly antialias: boolean;
};
export type RandomResizedCrop = {
  readonly type: 'randomResizedCrop';
  readonly size: Size;
  readonly scale: readonly [number, number];
  readonly ratio: readonly [number, number];
  readonly interpolation: Interpolation;
  readonly antialias: boolean;
};
export type Grayscale = { readonly type: 'grayscale'; readonly numOutputChannels: number };
export type Normalize = {
  readonly type: 'normalize';
  readonly mean: number | readonly number[];
  readonly std: number | readonly number[];
};

/** One transform, as the functions of `transforms` make it. */
export type ImageTransform =
  | RandomCrop
  | CenterCrop
  | RandomHorizontalFlip
  | Resize
  | RandomResizedCrop
  | Grayscale
  | Normalize;

const numbers = (v: unknown): v is number[] => isArrayOf(v, n => typeof n === 'number');
const aLength = (v: unknown): boolean => Number.isInteger(v) && Number(v) >= 1;
const refused = { error: RangeError };
export const aSize: Kind = {
  expected: 'a number of pixels ≥ 1, or [height, width]',
  is: v => aLength(v) || (isArrayOf(v, aLength) && v.length === 2),
  ...refused,
};
const aPadding: Kind = {
  expected: 'a number of pixels ≥ 0, [left and right, top and bottom], or [left, top, right, bottom]',
  is: v => (numbers(v) ? [2, 4].includes(v.length) : typeof v === 'number') && [v].flat().every(isCount),
  ...refused,
};
const isCount = (n: unknown): boolean => Number.isInteger(n) && Number(n) >= 0;
const isByte = (n: unknown): boolean => isCount(n) && Number(n) <= 255;
const aFill: Kind = {
  expected: 'an integer 0 … 255, or one a channel',
  is: v => isByte(v) || (isArrayOf(v, isByte) && v.length > 0),
  ...refused,
};
const aProbability: Kind = {
  expected: 'a number 0 … 1',
  is: v => Number(v) >= 0 && Number(v) <= 1 && typeof v === 'number',
  ...refused,
};
/** Of which the first is no larger. */
const aRange = (expected: string, most: number): Kind => ({
  expected,
  is: v => numbers(v) && v.length === 2 && v[0]! > 0 && v[0]! <= v[1]! && v[1]! <= most,
  ...refused,
});
const aChannelNumber: Kind = { expected: 'a number of channels ≥ 1', is: aLength, ...refused };
const perChannel = (expected: string, is: (n: number) => boolean): Kind => ({
  expected,
  is: v => (typeof v === 'number' || (numbers(v) && v.length > 0)) && [v].flat().every(is),
  ...refused,
});
export const INTERPOLATION = {
  interpolation: oneOf('bilinear', 'nearest'),
  antialias: aBoolean,
};
export const PADDING = {
  padding: aPadding,
  fill: aFill,
  paddingMode: oneOf('constant', 'edge', 'reflect', 'symmetric'),
};
export const RESIZED = {
  scale: aRange('[low, high] with 0 < low ≤ high ≤ 1', 1),
  ratio: aRange('[low, high] with 0 < low ≤ high', Number.MAX_VALUE),
  ...INTERPOLATION,
};

/** What each transform consists of. */
const FIELDS: { readonly [T in ImageTransform['type']]: Record<string, Kind> } = {
  randomCrop: { size: aSize, ...PADDING },
  centerCrop: { size: aSize },
  randomHorizontalFlip: { p: aProbability },
  resize: { size: aSize, ...INTERPOLATION },
  randomResizedCrop: { size: aSize, ...RESIZED },
  grayscale: { numOutputChannels: aChannelNumber },
  normalize: {
    mean: perChannel('a finite number, or one a channel', Number.isFinite),
    std: perChannel('a finite number above 0, or one a channel', n => n > 0 && n < Infinity),
  },
};

/** A transform of which every field is right. */
export function checked<T extends ImageTransform>(transform: T, name: string = transform.type): T {
  const { type, ...fields } = transform;
  const kinds = FIELDS[type];
  checkOptions<object>(name, fields, kinds);
  for (const [field, kind] of Object.entries(kinds))
    checkArgument(name, field, (fields as Record<string, unknown>)[field], kind);
  const { interpolation, antialias } = fields as Partial<Resize>;
  const { mean, std } = fields as Record<string, unknown>;
  if (Array.isArray(mean) && Array.isArray(std) && mean.length !== std.length)
    throw new ShapeError(`${name}: expected as many means as stds, got ${received(mean)} and ${received(std)}`);
  if (interpolation === 'nearest' && antialias)
    throw new RangeError(
      `${name}: 'nearest' takes single pixels, which antialias: true is no use for; it goes with 'bilinear'`,
    );
  return transform;
}

const aList: Kind = { expected: 'an array of transforms', is: Array.isArray };

/**
 * A list of transforms, to be done one after the other. Throws unless each is as the functions of `transforms` make it, which plain
 * data from a file may not be; and unless `normalize`, which knows nothing of bytes, comes last.
 */
export function imageTransforms(transforms: readonly ImageTransform[]): readonly ImageTransform[] {
  checkArgument('imageTransforms', 'transforms', transforms, aList);
  // A list from plain JavaScript may have holes.
  Array.from<unknown>(transforms).forEach((transform, i) => {
    const type = isPlainObject(transform) ? transform.type : undefined;
    if (typeof type !== 'string' || !Object.hasOwn(FIELDS, type))
      throw new TypeError(
        `imageTransforms: expected transform ${i} to be a transform of type ${Object.keys(FIELDS).join(', ')}, ` +
          `got ${type === undefined ? received(transform) : `the type ${received(type)}`}`,
      );
    checked(transform as ImageTransform, `imageTransforms: ${type}`);
    if (type === 'normalize' && i !== transforms.length - 1)
      throw new RangeError(
        `imageTransforms: expected normalize to be the last transform, it is ${i} of ${transforms.length}`,
      );
  });
  return Object.freeze([...transforms]);
}
