/** What a list of transforms does with pictures: geometry first, as views of bytes or floats, then one pass that writes a batch. */

import { type Generator, ShapeError } from '@otimes/core';
import type { EpochKey } from '../epochs.ts';
import { MOST } from './pixels.ts';
import { pictureGenerator } from './random.ts';
import { resampled } from './resample.ts';
import { checkPicture, type Picture, type PictureSource } from './source.ts';
import type { ImageTransform, Normalize, RandomCrop, RandomResizedCrop, Resize, Size } from './transform.ts';
import {
  copied,
  cropped,
  flipped,
  isGrey,
  isPlain,
  ofPicture,
  type Padding,
  type Values,
  type View,
  whole,
  write,
} from './view.ts';

/** Memory for the floats of a batch [B, C, H, W]. */
export type Allocate = (shape: readonly [number, number, number, number]) => Float32Array;

/** Of a source, what reading takes; without a recipe its pictures have no names. */
export type Readable = Pick<PictureSource, 'picture'> & Partial<Pick<PictureSource, 'recipe'>>;

/** Whether a list of transforms draws random numbers. */
export const isRandom = (transforms: readonly ImageTransform[]): boolean =>
  transforms.some(({ type }) => type.startsWith('random'));

/** A checked list of transforms, ready to be done. It keeps memory for what is between them: one for each thread. */
export class ImagePlan {
  readonly #geometry: readonly Exclude<ImageTransform, Normalize>[];
  readonly #normalize: Normalize | undefined;
  readonly #random: boolean;
  readonly #scratch = new Map<string, Uint8Array | Float32Array>();
  /** For pictures of so many channels. */
  readonly #values = new Map<number, Values>();

  constructor(transforms: readonly ImageTransform[]) {
    this.#geometry = transforms.filter(one => one.type !== 'normalize');
    this.#normalize = transforms.find(one => one.type === 'normalize');
    this.#random = isRandom(transforms);
  }

  /**
   * The pictures of a source at `indices`, transformed, in memory that `allocate` gives for the shape of the first.
   *
   * @param what messages begin with
   * @param reading is told the index of each picture before it is read, and stops the batch by returning false
   * @throws ShapeError that names two pictures which differ in size
   */
  fill(
    what: string,
    source: Readable,
    indices: Int32Array,
    key: EpochKey,
    allocate: Allocate,
    reading: (index: number) => boolean = () => true,
  ): void {
    let out: Float32Array | null = null;
    let first: View | null = null;
    for (let b = 0; b < indices.length; b++) {
      const index = indices[b]!;
      if (!reading(index)) return;
      const name = () => nameOf(source, index);
      const picture = source.picture(index);
      checkPicture(what, picture, name);
      const view = this.view(picture, key, index, name);
      first ??= view;
      const { channels, rows, cols } = view;
      if (channels !== first.channels || rows !== first.rows || cols !== first.cols)
        throw new ShapeError(
          `${what}: expected the pictures of a batch to have one size, got ${sizeOf(first)} of ` +
            `${nameOf(source, indices[0]!)} and ${sizeOf(view)} of ${nameOf(source, index)}; ` +
            'transforms.resize([height, width]) or a crop gives them one',
        );
      out ??= allocate([indices.length, channels, rows, cols]);
      write(view, this.#valuesOf(channels), out, b * channels * rows * cols);
    }
  }

  /** A picture after all but `normalize`. It is valid until the next call. */
  view(picture: Picture, key: EpochKey, index: number, name: () => string): View {
    const rng = this.#random ? pictureGenerator(key, index) : null;
    let view = ofPicture(picture);
    for (let i = 0; i < this.#geometry.length; i++) view = this.#apply(i, view, rng, name);
    return view;
  }

  #apply(i: number, view: View, rng: Generator | null, name: () => string): View {
    const transform = this.#geometry[i]!;
    switch (transform.type) {
      case 'randomCrop':
        return this.#randomCrop(i, view, transform, rng!, name);
      case 'centerCrop':
        return this.#cropped(i, view, centred(view, transform.size), transform.size, ZEROS, name);
      case 'randomHorizontalFlip':
        return rng!.uniform() < transform.p ? flipped(view) : view;
      case 'resize':
        return this.#resized(i, view, sizeAfter(transform.size, view), transform, name);
      case 'randomResizedCrop': {
        const [corner, size] = randomPart(view, transform, rng!);
        return this.#resized(i, this.#cropped(i, view, corner, size, null, name), transform.size, transform, name);
      }
      case 'grayscale':
        return this.#grey(i, view, transform.numOutputChannels, name);
    }
  }

  #randomCrop(i: number, view: View, o: RandomCrop, rng: Generator, name: () => string): View {
    const [left, top, right, bottom] = o.padding;
    const [rows, cols] = [view.rows + top + bottom, view.cols + left + right];
    const [height, width] = o.size;
    if (rows < height || cols < width)
      throw new ShapeError(
        `randomCrop: expected at least [${height},${width}] with the padding, got [${rows},${cols}] of ${name()}`,
      );
    const fill = typeof o.fill === 'number' ? [o.fill] : o.fill;
    if (fill.length > 1 && fill.length !== view.channels)
      throw new ShapeError(
        `randomCrop: expected a fill for ${view.channels} channels, got ${fill.length} for ${name()}`,
      );
    const y = rng.integer(0, rows - height + 1);
    const x = rng.integer(0, cols - width + 1);
    return this.#cropped(i, view, [y - top, x - left], o.size, { mode: o.paddingMode, fill }, name);
  }

  #cropped(i: number, view: View, corner: Size, size: Size, padding: Padding | null, name: () => string): View {
    this.#checkSize(i, size, name);
    return cropped(view, corner, size, padding, n => this.#memory(i, 'crop', view.data instanceof Uint8Array, n));
  }

  #resized(i: number, view: View, size: Size, o: Resize | RandomResizedCrop, name: () => string): View {
    this.#checkSize(i, size, name);
    if (size[0] === view.rows && size[1] === view.cols) return view;
    const bytes = view.data instanceof Uint8Array;
    const from = isPlain(view) ? view : copied(view, n => this.#memory(i, 'plain', bytes, n));
    return resampled(from, size, o, (asBytes, n) => this.#memory(i, 'resize', asBytes, n));
  }

  /** Throws for more pixels than a picture can have. */
  #checkSize(i: number, [height, width]: Size, name: () => string): void {
    if (height * width > MOST)
      throw new ShapeError(
        `${this.#geometry[i]!.type}: expected at most 2²⁶ pixels, got [${height},${width}] of ${name()}`,
      );
  }

  #grey(i: number, view: View, channels: number, name: () => string): View {
    if (isGrey(view)) return { ...view, channels, stride: 0 };
    if (view.channels !== 3)
      throw new ShapeError(`grayscale: expected 3 channels, or equal ones, got ${view.channels} of ${name()}`);
    const bytes = view.data instanceof Uint8Array;
    const { data, stride, height, width } = copied(view, n => this.#memory(i, 'colours', bytes, n));
    const grey = this.#memory(i, 'grey', false, stride);
    for (let p = 0; p < stride; p++)
      grey[p] = 0.299 * data[p]! + 0.587 * data[stride + p]! + 0.114 * data[2 * stride + p]!;
    return whole({ data: grey, height, width }, channels, 0);
  }

  /** Memory of one transform, used again for the next picture. */
  #memory(i: number, what: string, bytes: boolean, size: number): Uint8Array | Float32Array {
    const name = `${i} ${what} ${bytes}`;
    const kept = this.#scratch.get(name);
    if (kept !== undefined && kept.length >= size) return kept;
    const made = bytes ? new Uint8Array(size) : new Float32Array(size);
    this.#scratch.set(name, made);
    return made;
  }

  #valuesOf(channels: number): Values {
    let values = this.#values.get(channels);
    if (values === undefined) {
      values = valuesFor(channels, this.#normalize);
      this.#values.set(channels, values);
    }
    return values;
  }
}

const ZEROS: Padding = { mode: 'constant', fill: [0] };

/** How messages call a picture: by its file where it has one. */
export function nameOf({ recipe }: Pick<Readable, 'recipe'>, index: number): string {
  return recipe?.kind === 'files' ? recipe.paths[index]! : `picture ${index}`;
}

const sizeOf = ({ channels, rows, cols }: View): string => `[${channels},${rows},${cols}]`;

/** Half to the even number, as Python rounds. */
const rounded = (x: number): number => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** The corner of a window in the middle. */
const centred = ({ rows, cols }: View, [height, width]: Size): Size => [
  rows >= height ? rounded((rows - height) / 2) : -Math.floor((height - rows) / 2),
  cols >= width ? rounded((cols - width) / 2) : -Math.floor((width - cols) / 2),
];

/** A size, or that with a shorter edge of so many pixels. */
function sizeAfter(size: number | Size, { rows, cols }: View): Size {
  if (typeof size !== 'number') return size;
  return rows <= cols ? [size, Math.trunc((size * cols) / rows)] : [Math.trunc((size * rows) / cols), size];
}

/** Corner and size of what `randomResizedCrop` takes. */
function randomPart({ rows, cols }: View, { scale, ratio }: RandomResizedCrop, rng: Generator): [Size, Size] {
  const between = (low: number, high: number): number => low + (high - low) * rng.uniform();
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = rows * cols * between(...scale);
    const aspect = Math.exp(between(Math.log(ratio[0]), Math.log(ratio[1])));
    const width = rounded(Math.sqrt(area * aspect));
    const height = rounded(Math.sqrt(area / aspect));
    if (width < 1 || width > cols || height < 1 || height > rows) continue;
    const top = rng.integer(0, rows - height + 1);
    return [
      [top, rng.integer(0, cols - width + 1)],
      [height, width],
    ];
  }
  let [height, width] = [rows, cols];
  if (cols / rows < ratio[0]) height = rounded(cols / ratio[0]);
  else if (cols / rows > ratio[1]) width = rounded(rows * ratio[1]);
  // A picture of one row or column may have no part with such a ratio: then it is a pixel.
  [height, width] = [Math.max(height, 1), Math.max(width, 1)];
  return [
    [(rows - height) >> 1, (cols - width) >> 1],
    [height, width],
  ];
}

/** Bytes to floats: x / 255, then (x − mean) / std, each rounded to float32. */
function valuesFor(channels: number, normalize: Normalize | undefined): Values {
  const each = (value: number | readonly number[] | undefined, other: number): number[] => {
    const all = value === undefined ? [other] : typeof value === 'number' ? [value] : value;
    if (all.length !== 1 && all.length !== channels)
      throw new ShapeError(
        `normalize: expected pictures of ${all.length} channels for as many numbers, got ${channels}`,
      );
    return Array.from({ length: channels }, (_, c) => Math.fround(all[all.length === 1 ? 0 : c]!));
  };
  const means = each(normalize?.mean, 0);
  const stds = each(normalize?.std, 1);
  const change = (value: number, c: number): number =>
    Math.fround(Math.fround(Math.fround(value / 255) - means[c]!) / stds[c]!);
  return { tables: means.map((_, c) => Float32Array.from({ length: 256 }, (_, byte) => change(byte, c))), change };
}
