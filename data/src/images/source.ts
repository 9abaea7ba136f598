/** Labelled pictures by index: what readers of image data sets give, and loaders of batches take. */

import { ShapeError } from '@otimes/core';
import { anInstance, checkArgument, checkOptions, inspect, type Kind, oneOf, received } from '@otimes/core/extend';

/** Pixels of one picture: planes of bytes [channels, height, width], row-major; 0 is black, 255 white or full colour. */
export type Picture = {
  readonly data: Uint8Array;
  readonly channels: 1 | 3;
  readonly height: number;
  readonly width: number;
};

/** Labelled pictures by index, the same on every machine. What another thread needs to read the same ones is `recipe`. */
export interface PictureSource {
  readonly length: number;
  /** Class names, by label. */
  readonly classes: readonly string[];
  /** [length], each 0 … classes.length − 1. */
  readonly labels: Int32Array;
  /**
   * Picture `index`. Its `data` may be a view of the source's memory, which stays valid; nobody writes to it.
   *
   * @throws FormatError that names the file, and the byte or line where there is one
   * @throws RangeError for an index outside of 0 … length − 1
   */
  picture(index: number): Picture;
  /** Structured-cloneable: `openSource(recipe)` of `@otimes/data/node` makes the same source, in any thread. */
  readonly recipe: SourceRecipe;
}

/** What a source is made of. */
export type SourceRecipe = BytesRecipe | FilesRecipe;

/** Pictures of one size, in memory. */
export type BytesRecipe = {
  readonly kind: 'bytes';
  /** [n, channels, height, width]. Over a SharedArrayBuffer it is shared with other threads, over an ArrayBuffer copied. */
  readonly pixels: Uint8Array;
  readonly channels: 1 | 3;
  readonly height: number;
  readonly width: number;
  readonly labels: Int32Array;
  readonly classes: readonly string[];
};

/** JPEG and PNG files, decoded as they are asked for. */
export type FilesRecipe = {
  readonly kind: 'files';
  readonly paths: readonly string[];
  readonly labels: Int32Array;
  readonly classes: readonly string[];
  /** Of every picture: 3 expands greyscale files, 1 makes colours grey. Defaults to 3. */
  readonly channels?: 1 | 3;
};

const aUint8Array = anInstance(Uint8Array, 'a Uint8Array');
const anInt32Array = anInstance(Int32Array, 'an Int32Array');
const aSize: Kind = { expected: 'an integer ≥ 1', is: v => Number.isInteger(v) && Number(v) >= 1, error: RangeError };
export const aChannelCount: Kind = { expected: '1 or 3', is: v => v === 1 || v === 3, error: RangeError };
export const someNames: Kind = {
  expected: 'an array of strings',
  is: v => isArrayOf(v, name => typeof name === 'string'),
};

/** Whether it is an array of what `is` says, without holes, which `every` passes over. */
export const isArrayOf = (v: unknown, is: (one: unknown) => boolean): v is unknown[] =>
  Array.isArray(v) && Array.from(v).every(is);

export function isPicture(v: unknown): v is Picture {
  if (typeof v !== 'object' || v === null) return false;
  const { data, channels, height, width } = v as { [K in keyof Picture]?: unknown };
  if (!(data instanceof Uint8Array && aChannelCount.is(channels) && aSize.is(height) && aSize.is(width))) return false;
  return data.length === Number(channels) * Number(height) * Number(width);
}

/** Throws unless a source of the program's own gave a picture. `name` is what messages call it. */
export function checkPicture(what: string, v: unknown, name: () => string): void {
  if (isPicture(v)) return;
  const { data, channels, height, width } = Object(v) as { [K in keyof Picture]?: unknown };
  const got =
    data instanceof Uint8Array
      ? `${data.length} bytes for channels, height, width [${[channels, height, width]}]`
      : received(v);
  throw new TypeError(`${what}: expected ${name()} to be ${A_PICTURE}, got ${got}`);
}

export const A_PICTURE = '{ data, channels, height, width } with 1 or 3 channels and a Uint8Array of as many bytes';

const BYTES = {
  kind: oneOf('bytes'),
  pixels: aUint8Array,
  channels: aChannelCount,
  height: aSize,
  width: aSize,
  labels: anInt32Array,
  classes: someNames,
};

/**
 * Pictures of one size that are in memory, as a source. It keeps the arrays, which nobody changes afterwards; `kind` may be left out.
 *
 * @throws ShapeError where the numbers of pixels and labels differ
 * @throws RangeError for a label without a class
 */
export function picturesInMemory(o: Omit<BytesRecipe, 'kind'> & { kind?: 'bytes' }): PictureSource {
  checkOptions('picturesInMemory', o, BYTES);
  for (const [name, kind] of Object.entries(BYTES))
    if (name !== 'kind') checkArgument('picturesInMemory', name, o?.[name as keyof typeof o], kind);
  const { pixels, channels, height, width, labels, classes } = o;
  const size = channels * height * width;
  if (pixels.length !== labels.length * size)
    throw new ShapeError(
      `picturesInMemory: ${labels.length} labels take pixels [${labels.length},${channels},${height},${width}], ` +
        `${labels.length * size} bytes, got ${pixels.length}`,
    );
  checkLabels('picturesInMemory', labels, classes);
  return new InMemory({ kind: 'bytes', pixels, channels, height, width, labels, classes });
}

/** What all sources share. On consoles and in JSON a source is one line: its pixels are of no use there. */
export abstract class Source<R extends SourceRecipe> implements PictureSource {
  readonly recipe: R;

  constructor(recipe: R) {
    this.recipe = recipe;
  }

  get length(): number {
    return this.recipe.labels.length;
  }

  get classes(): readonly string[] {
    return this.recipe.classes;
  }

  get labels(): Int32Array {
    return this.recipe.labels;
  }

  abstract picture(index: number): Picture;

  toString(): string {
    const { kind, channels = 3 } = this.recipe;
    const size = kind === 'bytes' ? `${channels},${this.recipe.height},${this.recipe.width}` : `${channels},h,w`;
    return `PictureSource(${this.length} pictures [${size}], ${this.classes.length} classes)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

class InMemory extends Source<BytesRecipe> {
  picture(index: number): Picture {
    checkIndex(index, this.length);
    const { pixels, channels, height, width } = this.recipe;
    const size = channels * height * width;
    return { data: pixels.subarray(index * size, (index + 1) * size), channels, height, width };
  }
}

/** Throws unless every label has a class. */
export function checkLabels(what: string, labels: Int32Array, classes: readonly string[]): void {
  const wrong = labels.findIndex(label => label < 0 || label >= classes.length);
  if (wrong >= 0)
    throw new RangeError(`${what}: label ${wrong} is ${labels[wrong]}, expected 0 … ${classes.length - 1}`);
}

export function checkIndex(index: number, length: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= length)
    throw new RangeError(`picture: index ${index} is out of range for ${length} pictures`);
}

/** `size` bytes that threads can share, where the host has such memory; browsers have it on isolated pages alone. */
export function sharedBytes(size: number): Uint8Array {
  return new Uint8Array(typeof SharedArrayBuffer === 'undefined' ? new ArrayBuffer(size) : new SharedArrayBuffer(size));
}
