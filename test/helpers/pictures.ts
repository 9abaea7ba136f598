// Pictures for tests, and transforms of them in the plainest way: pixel by pixel, one transform after the other.

import { Generator } from '@otimes/core';
import {
  type ImageBatch,
  ImageLoader,
  type ImageLoaderOptions,
  type ImageTransform,
  type Picture,
  type PictureSource,
  picturesInMemory,
  transforms as T,
} from '@otimes/data';
import type { EpochKey } from '../../data/src/epochs.ts';
import { pictureGenerator } from '../../data/src/images/random.ts';

type Size = readonly [channels: 1 | 3, height: number, width: number];

export function randomPicture([channels, height, width]: Size, rng: Generator): Picture {
  const data = Uint8Array.from({ length: channels * height * width }, () => rng.integer(0, 256));
  return { data, channels, height, width };
}

/** n pictures in memory that threads share, of ten classes. */
export function randomSource(n: number, [channels, height, width]: Size = [3, 8, 8], seed = 0): PictureSource {
  const rng = new Generator(seed);
  const pixels = new Uint8Array(new SharedArrayBuffer(n * channels * height * width));
  for (let i = 0; i < pixels.length; i++) pixels[i] = rng.integer(0, 256);
  const labels = Int32Array.from({ length: n }, (_, i) => i % 10);
  return picturesInMemory({ pixels, channels, height, width, labels, classes: [...'0123456789'] });
}

/** A loader of 37 pictures [3, 8, 8] in 8 batches, with crops and flips. */
export const loaderOf = (o: Partial<ImageLoaderOptions> = {}, from: PictureSource = pictures): ImageLoader =>
  new ImageLoader(from, { batchSize: 5, shuffle: true, rng: new Generator(7), transforms: augment, ...o });
export const augment = [T.randomCrop(8, { padding: 2 }), T.randomHorizontalFlip(), T.normalize([0.5, 0.4, 0.3], 0.25)];
export const pictures = randomSource(37);

/** A batch as text, to the last bit. */
export const bits = ([images, labels]: ImageBatch): string =>
  `${images.shape} ${Buffer.from(Float32Array.from(images.dataSync()).buffer).toString('base64')} ${labels.dataSync()}`;
export const epochNow = (loader: ImageLoader): string[] => Array.from(loader, bits);
export async function epochLater(loader: ImageLoader): Promise<string[]> {
  const batches: string[] = [];
  for await (const batch of loader) batches.push(bits(batch));
  return batches;
}

/** Values [c][y][x] in the units of bytes. */
export type Planes = number[][][];

export const planesOf = ({ data, channels, height, width }: Picture): Planes =>
  made(channels, height, width, (c, y, x) => data[(c * height + y) * width + x]!);

const made = (channels: number, rows: number, cols: number, at: (c: number, y: number, x: number) => number): Planes =>
  Array.from({ length: channels }, (_, c) =>
    Array.from({ length: rows }, (_, y) => Array.from({ length: cols }, (_, x) => at(c, y, x))),
  );

/** The place on an axis of n pixels that a padded place repeats; −1 for the fill. */
function mirrored(i: number, n: number, mode: string): number {
  if (mode === 'constant') return i < 0 || i >= n ? -1 : i;
  if (mode === 'edge') return Math.min(Math.max(i, 0), n - 1);
  const there = Array.from({ length: n }, (_, k) => k);
  const back = [...there].reverse();
  const pattern = [...there, ...(mode === 'reflect' ? back.slice(1, -1) : back)];
  return pattern.at(i % pattern.length)!;
}

export function padded(
  planes: Planes,
  [left, top, right, bottom]: readonly number[],
  mode: string,
  fill: number | readonly number[],
): Planes {
  const [rows, cols] = [planes[0]!.length, planes[0]![0]!.length];
  return made(planes.length, rows + top! + bottom!, cols + left! + right!, (c, y, x) => {
    const [row, col] = [mirrored(y - top!, rows, mode), mirrored(x - left!, cols, mode)];
    if (row < 0 || col < 0) return typeof fill === 'number' ? fill : fill[fill.length === 1 ? 0 : c]!;
    return planes[c]![row]![col]!;
  });
}

export const cut = (planes: Planes, top: number, left: number, rows: number, cols: number): Planes =>
  made(planes.length, rows, cols, (c, y, x) => planes[c]![top + y]![left + x]!);

export const turned = (planes: Planes): Planes => planes.map(plane => plane.map(row => [...row].reverse()));

/** One axis from n to m: weights [m][n] by the definition, without windows. */
function weights(n: number, m: number, antialias: boolean): number[][] {
  const scale = n / m;
  const spread = antialias ? Math.max(scale, 1) : 1;
  return Array.from({ length: m }, (_, i) => {
    const centre = antialias ? (i + 0.5) * scale : Math.min(Math.max((i + 0.5) * scale, 0.5), n - 0.5);
    const row = Array.from({ length: n }, (_, j) => Math.max(0, 1 - Math.abs(j + 0.5 - centre) / spread));
    const sum = row.reduce((a, b) => a + b);
    return row.map(w => w / sum);
  });
}

/** Bilinear, by two products with matrices. */
export function scaled(planes: Planes, height: number, width: number, antialias: boolean): Planes {
  const down = weights(planes[0]!.length, height, antialias);
  const across = weights(planes[0]![0]!.length, width, antialias);
  return made(planes.length, height, width, (c, y, x) =>
    planes[c]!.reduce(
      (sum, row, i) => sum + down[y]![i]! * row.reduce((inner, v, j) => inner + across[x]![j]! * v, 0),
      0,
    ),
  );
}

/** What a list of random crops, flips, centre crops, bilinear sizes, greys and normalize makes of a picture: floats [c][y][x]. */
export function slowly(picture: Picture, transforms: readonly ImageTransform[], key: EpochKey, index: number): Planes {
  const rng = pictureGenerator(key, index);
  const size = (planes: Planes) => [planes[0]!.length, planes[0]![0]!.length] as const;
  let planes = planesOf(picture);
  let values = (x: number, _: number): number => Math.fround(x / 255);
  for (const t of transforms) {
    if (t.type === 'randomCrop') {
      const around = padded(planes, t.padding, t.paddingMode, t.fill);
      const [rows, cols] = size(around);
      const top = rng.integer(0, rows - t.size[0] + 1);
      planes = cut(around, top, rng.integer(0, cols - t.size[1] + 1), ...t.size);
    } else if (t.type === 'randomHorizontalFlip') {
      if (rng.uniform() < t.p) planes = turned(planes);
    } else if (t.type === 'resize' && typeof t.size !== 'number') {
      planes = scaled(planes, ...t.size, t.antialias);
    } else if (t.type === 'grayscale') {
      const all = planes;
      const grey = all.length === 1 ? all[0]! : made(1, ...size(all), (_, y, x) => luma(all, y, x))[0]!;
      planes = Array.from({ length: t.numOutputChannels }, () => grey);
    } else if (t.type === 'normalize') {
      const of = (all: number | readonly number[], c: number) => Math.fround(typeof all === 'number' ? all : all[c]!);
      values = (x, c) => Math.fround(Math.fround(Math.fround(x / 255) - of(t.mean, c)) / of(t.std, c));
    } else throw new Error(`slowly: no ${t.type}`);
  }
  return planes.map((plane, c) => plane.map(row => row.map(x => values(x, c))));
}

const luma = (planes: Planes, y: number, x: number): number =>
  Math.fround(0.299 * planes[0]![y]![x]! + 0.587 * planes[1]![y]![x]! + 0.114 * planes[2]![y]![x]!);
