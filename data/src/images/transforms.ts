/**
 * Transforms of pictures, with torchvision's names and parameters: the namespace `transforms` of `@otimes/data`.
 *
 * Pictures are bytes, [channels, height, width]. In a batch they are float32: 0 … 1, or what `normalize` makes of that.
 */

import { checkArgument, checkOptions } from '@otimes/core/extend';
import type { Interpolation } from './resample.ts';
import {
  aSize,
  type CenterCrop,
  checked,
  type Grayscale,
  INTERPOLATION,
  type Normalize,
  PADDING,
  type RandomCrop,
  type RandomHorizontalFlip,
  type RandomResizedCrop,
  RESIZED,
  type Resize,
  type Size,
} from './transform.ts';
import type { PaddingMode } from './view.ts';

const pair = (size: number | Size): Size => (typeof size === 'number' ? [size, size] : size);

/**
 * A window of `size` at a random place of the picture with `padding` around it.
 *
 * @param size pixels, of a square or [height, width]
 * @param o `padding` in pixels: on all sides, [left and right, top and bottom] or [left, top, right, bottom]; defaults to 0.
 *   `fill`, an integer 0 … 255 or one a channel, is what 'constant' padding is of; defaults to 0. `paddingMode` defaults to 'constant'.
 * @throws ShapeError at a picture that is smaller than the window
 */
export function randomCrop(
  size: number | Size,
  o: {
    padding?: number | readonly [number, number] | readonly [number, number, number, number];
    fill?: number | readonly number[];
    paddingMode?: PaddingMode;
  } = {},
): RandomCrop {
  checkArgument('randomCrop', 'size', size, aSize);
  checkOptions('randomCrop', o, PADDING);
  const { padding = 0, fill = 0, paddingMode = 'constant' } = o;
  const [left, top, right = left, bottom = top] = typeof padding === 'number' ? [padding, padding] : padding;
  return { type: 'randomCrop', size: pair(size), padding: [left, top, right, bottom], fill, paddingMode };
}

/** The window of `size` in the middle; of a picture that is smaller all, with zeros around it. */
export function centerCrop(size: number | Size): CenterCrop {
  checkArgument('centerCrop', 'size', size, aSize);
  return { type: 'centerCrop', size: pair(size) };
}

/** The picture from right to left, with probability `p`. */
export function randomHorizontalFlip(p = 0.5): RandomHorizontalFlip {
  return checked({ type: 'randomHorizontalFlip', p });
}

/**
 * The picture in another size.
 *
 * @param size [height, width], or the length of the shorter edge, with the longer one in proportion (rounded down)
 * @param o `interpolation` defaults to 'bilinear'. `antialias`, where a picture becomes smaller, takes the mean of all pixels that fall
 *   into one; defaults to true for 'bilinear'.
 */
export function resize(size: number | Size, o: { interpolation?: Interpolation; antialias?: boolean } = {}): Resize {
  checkArgument('resize', 'size', size, aSize);
  checkOptions('resize', o, INTERPOLATION);
  const { interpolation = 'bilinear', antialias = interpolation === 'bilinear' } = o;
  return checked({ type: 'resize', size, interpolation, antialias });
}

/**
 * A random part of the picture in `size`: Inception's augmentation (Szegedy et al. 2015).
 *
 * @param o `scale`, the smallest and the largest part of the area, defaults to [0.08, 1]; `ratio`, of width to height, to [3/4, 4/3].
 *   What fits into the picture is tried ten times; then it is the largest part in the middle with a ratio in the range, of at least one pixel.
 *   `interpolation` and `antialias` are those of `resize`.
 */
export function randomResizedCrop(
  size: number | Size,
  o: {
    scale?: readonly [number, number];
    ratio?: readonly [number, number];
    interpolation?: Interpolation;
    antialias?: boolean;
  } = {},
): RandomResizedCrop {
  checkArgument('randomResizedCrop', 'size', size, aSize);
  checkOptions('randomResizedCrop', o, RESIZED);
  const { scale = [0.08, 1], ratio = [3 / 4, 4 / 3], interpolation = 'bilinear' } = o;
  const { antialias = interpolation === 'bilinear' } = o;
  return checked({ type: 'randomResizedCrop', size: pair(size), scale, ratio, interpolation, antialias });
}

/**
 * Grey, 0.299 red + 0.587 green + 0.114 blue (ITU-R 601), in so many equal channels; defaults to 1. A grey picture stays as it is,
 * and gets that many channels.
 */
export function grayscale(numOutputChannels = 1): Grayscale {
  return checked({ type: 'grayscale', numOutputChannels });
}

/**
 * (x − mean) / std of values x in 0 … 1, as torchvision's ToTensor and Normalize compute it in float32. The last of a list.
 *
 * @param mean one number, or one a channel; `channelStatistics` computes both
 */
export function normalize(mean: number | readonly number[], std: number | readonly number[]): Normalize {
  return checked({ type: 'normalize', mean, std });
}
