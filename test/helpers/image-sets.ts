/**
 * Synthetic sets of images in exactly the formats of well-known ones, for tests: small, seeded, and learnable, as each class has a
 * colour and stripes of its own under noise. The writers give what a reader must find.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { Generator, tensor } from '@otimes/core';
import { writeIdx } from '@otimes/data';

/** Pictures [n, channels, size, size] and their labels. */
export type Labelled = { pixels: Uint8Array[]; labels: number[] };

export type SyntheticOptions = {
  /** Pictures for training and for test or validation; default 40 and 20. */
  train?: number;
  test?: number;
  /** Of the noise and of the order of labels; default 0. */
  seed?: number;
  /** The largest change of a byte by noise; default 20. */
  noise?: number;
};

/** A picture of a class: planes [channels, size, size] of a colour with stripes, both its own, and noise. */
export function classPicture(label: number, channels: 1 | 3, size: number, rng: Generator, noise: number): Uint8Array {
  const out = new Uint8Array(channels * size * size);
  const [period, slope] = [3 + (label % 5), (label % 3) - 1];
  for (let c = 0; c < channels; c++) {
    const base = 60 + ((label * (37 + 50 * c) + 40 * c) % 136);
    for (let y = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        const i = (c * size + y) * size + x;
        const stripe = (((x + slope * y) % period) + period) % period < period / 2 ? 25 : -25;
        out[i] = Math.max(0, Math.min(255, base + stripe + noise * (2 * rng.uniform() - 1)));
      }
  }
  return out;
}

/** `count` pictures, in which all labels come equally often up to one, in random order. */
export function labelled(count: number, classes: number, channels: 1 | 3, size: number, seed: number, noise = 20) {
  const rng = new Generator(seed);
  const labels = Array.from(rng.permutation(count), i => i % classes);
  return { labels, pixels: labels.map(label => classPicture(label, channels, size, rng, noise)) };
}

const PIXELS = 3 * 32 * 32;
const CIFAR10_NAMES = 'airplane automobile bird cat deer dog frog horse ship truck'.split(' ');

/** CIFAR-10's binary version: `train` ≥ 5 pictures over data_batch_1.bin … data_batch_5.bin, test_batch.bin, batches.meta.txt. */
export function writeSyntheticCifar10(folder: string, o: SyntheticOptions = {}): { train: Labelled; test: Labelled } {
  const { train = 40, test = 20, seed = 0, noise } = o;
  mkdirSync(folder, { recursive: true });
  const sets = { train: labelled(train, 10, 3, 32, seed, noise), test: labelled(test, 10, 3, 32, seed + 1, noise) };
  const end = (batch: number) => Math.floor((batch * train) / 5);
  for (let i = 0; i < 5; i++)
    writeFileSync(join(folder, `data_batch_${i + 1}.bin`), records(sets.train, [l => l], end(i), end(i + 1)));
  writeFileSync(join(folder, 'test_batch.bin'), records(sets.test, [l => l]));
  writeFileSync(join(folder, 'batches.meta.txt'), `${CIFAR10_NAMES.join('\n')}\n\n`);
  return sets;
}

/** The superclass that the writer gives to a class of CIFAR-100: five classes each, in another order than the real set's. */
export const coarseOf = (fine: number): number => fine % 20;

/** CIFAR-100's binary version with fine labels 0 … 99: train.bin and test.bin; names only where asked for. */
export function writeSyntheticCifar100(
  folder: string,
  o: SyntheticOptions & { names?: boolean } = {},
): { train: Labelled; test: Labelled } {
  const { train = 120, test = 100, seed = 0, noise, names = false } = o;
  mkdirSync(folder, { recursive: true });
  const sets = { train: labelled(train, 100, 3, 32, seed, noise), test: labelled(test, 100, 3, 32, seed + 1, noise) };
  writeFileSync(join(folder, 'train.bin'), records(sets.train, [coarseOf, l => l]));
  writeFileSync(join(folder, 'test.bin'), records(sets.test, [coarseOf, l => l]));
  const list = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}_${i}\n`).join('');
  if (names) {
    writeFileSync(join(folder, 'fine_label_names.txt'), list('fine', 100));
    writeFileSync(join(folder, 'coarse_label_names.txt'), list('coarse', 20));
  }
  return sets;
}

function records({ pixels, labels }: Labelled, bytes: ((label: number) => number)[], from = 0, to = labels.length) {
  const record = bytes.length + PIXELS;
  const chosen = labels.slice(from, to);
  const out = new Uint8Array(chosen.length * record);
  chosen.forEach((label, i) => {
    out.set(
      bytes.map(byte => byte(label)),
      i * record,
    );
    out.set(pixels[from + i]!, i * record + bytes.length);
  });
  return out;
}

/** The four files of MNIST, 28 × 28, not gzip'd, of `classes` digits (default 10). */
export function writeSyntheticMnist(
  folder: string,
  o: SyntheticOptions & { classes?: number } = {},
): { train: Labelled; test: Labelled } {
  const { train = 40, test = 20, seed = 0, noise, classes = 10 } = o;
  mkdirSync(folder, { recursive: true });
  const sets = {
    train: labelled(train, classes, 1, 28, seed, noise),
    test: labelled(test, classes, 1, 28, seed + 1, noise),
  };
  for (const [prefix, { pixels, labels }] of [
    ['train', sets.train],
    ['t10k', sets.test],
  ] as const) {
    const all = Int32Array.from(pixels.flatMap(one => [...one]));
    const images = tensor(all, { shape: [pixels.length, 28, 28] });
    writeFileSync(join(folder, `${prefix}-images-idx3-ubyte`), writeIdx(images, { type: 'uint8' }));
    const ids = tensor(Int32Array.from(labels));
    writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte`), writeIdx(ids, { type: 'uint8' }));
  }
  return sets;
}

export type TinyImageNetSetOptions = SyntheticOptions & {
  /** Default 4, of the real set 200. */
  classes?: number;
  /** Height and width; default 64, as of the real set. */
  size?: number;
};

/**
 * Tiny ImageNet's layout: `train` pictures a class (default 4), `test` for validation (default 6). Every fifth picture is a grey JPEG.
 * Words has names of other ids as well, and wnids.txt is not sorted, as of the real set.
 */
export async function writeSyntheticTinyImageNet(folder: string, o: TinyImageNetSetOptions = {}) {
  const { train = 4, test = 6, seed = 0, noise, classes = 4, size = 64 } = o;
  const encode = await jpegEncoder();
  const rng = new Generator(seed);
  const wnids = Array.from({ length: classes }, (_, i) => `n0${String(9000000 - 1000 * ((i * 7) % classes) - i)}`);
  const write = (path: string, label: number, i: number) => {
    const grey = i % 5 === 4;
    const pixels = classPicture(label, grey ? 1 : 3, size, rng, noise ?? 20);
    writeFileSync(path, encode(pixels, { channels: grey ? 1 : 3, size, progressive: i % 3 === 0 }));
  };
  const words = wnids.map((wnid, i) => `${wnid}\tclass ${i}, thing ${i}`);
  words.splice(1, 0, 'n00001740\tentity');
  mkdirSync(join(folder, 'val/images'), { recursive: true });
  writeFileSync(join(folder, 'wnids.txt'), `${wnids.join('\n')}\n`);
  writeFileSync(join(folder, 'words.txt'), `${words.join('\n')}\n`);
  for (const [label, wnid] of wnids.entries()) {
    mkdirSync(join(folder, 'train', wnid, 'images'), { recursive: true });
    for (let i = 0; i < train; i++) write(join(folder, 'train', wnid, 'images', `${wnid}_${i}.JPEG`), label, i);
    writeFileSync(join(folder, 'train', wnid, `${wnid}_boxes.txt`), `${wnid}_0.JPEG\t0\t0\t${size - 1}\t${size - 1}\n`);
  }
  const labels = Array.from({ length: test }, (_, i) => (i * 3 + 1) % classes);
  for (const [i, label] of labels.entries()) write(join(folder, `val/images/val_${i}.JPEG`), label, i);
  const rows = labels.map((label, i) => `val_${i}.JPEG\t${wnids[label]}\t0\t${i}\t${size - 2}\t${size - 1}\n`);
  writeFileSync(join(folder, 'val/val_annotations.txt'), rows.join(''));
  return { wnids, labels };
}

/** A folder of JPEG or PNG files for each class: `train` (default 4) a class, NAME_0 and so on. */
export async function writeSyntheticImageFolder(
  folder: string,
  o: SyntheticOptions & { classes?: readonly string[]; size?: number; format?: 'jpg' | 'png' } = {},
): Promise<void> {
  const { train = 4, seed = 0, noise, classes = ['cat', 'dog', 'owl'], size = 32, format = 'jpg' } = o;
  const encode = await jpegEncoder();
  const rng = new Generator(seed);
  for (const [label, name] of classes.entries()) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < train; i++) {
      const pixels = classPicture(label, 3, size, rng, noise ?? 20);
      const file = format === 'jpg' ? encode(pixels, { channels: 3, size }) : png(pixels, { channels: 3, size });
      writeFileSync(join(folder, name, `${name}_${i}.${format}`), file);
    }
  }
}

/** RGBA, pixel after pixel, of planes. */
function interleaved(pixels: Uint8Array, channels: 1 | 3, alpha: boolean): Uint8Array {
  const size = pixels.length / channels;
  const step = alpha ? 4 : channels;
  const out = new Uint8Array(size * step).fill(255);
  for (let i = 0; i < size; i++)
    for (let c = 0; c < Math.min(step, 3); c++) out[i * step + c] = pixels[(channels === 1 ? 0 : c) * size + i]!;
  return out;
}

type Encode = (
  pixels: Uint8Array,
  o: { channels: 1 | 3; size: number; quality?: number; progressive?: boolean },
) => Uint8Array;

/** An encoder of JPEG: planes [channels, size, size] to a file, grey ones for one channel. */
export async function jpegEncoder(): Promise<Encode> {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'ImageData');
  const { default: factory } = await import('@jsquash/jpeg/codec/enc/mozjpeg_enc.js');
  const { defaultEncodeOptions } = await import('@jsquash/jpeg/meta.js');
  const path = createRequire(import.meta.url).resolve('@jsquash/jpeg/codec/enc/mozjpeg_enc.wasm');
  const encoder = await factory({ noInitialRun: true, wasmBinary: readFileSync(path) });
  if (before === undefined) Reflect.deleteProperty(globalThis, 'ImageData');
  return (pixels, { channels, size, quality = 95, progressive = false }) => {
    const o = { ...defaultEncodeOptions, quality, progressive, color_space: channels === 1 ? 1 : 3 };
    return encoder.encode(interleaved(pixels, channels, true), size, size, o).slice();
  };
}

/** One chunk of a PNG file. */
export function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(data.length + 12);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  out.set(data, 8);
  out.writeUInt32BE(crc32(out.subarray(4, -4)), data.length + 8);
  return out;
}

/** CRC-32 as of PNG and zlib, bit by bit: Node has it from 20.15 on. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

export const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** PNG's header chunk. `color`: 0 grey, 2 colours, 3 palette, 4 grey and alpha, 6 colours and alpha. */
export function pngHeader(width: number, height: number, depth: number, color: number, interlaced = 0): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, color, 0, 0, interlaced], 8);
  return chunk('IHDR', header);
}

/** A PNG file of rows of bytes, none of them filtered. */
export function pngOfRows(header: Buffer, rows: readonly Uint8Array[], palette?: Uint8Array): Buffer {
  const data = deflateSync(Buffer.concat(rows.flatMap(row => [Buffer.of(0), row])));
  const colors = palette === undefined ? [] : [chunk('PLTE', palette)];
  return Buffer.concat([PNG_SIGNATURE, header, ...colors, chunk('IDAT', data), chunk('IEND', new Uint8Array(0))]);
}

/** Planes [channels, size, size] as a PNG file of 8 bits. */
export function png(pixels: Uint8Array, { channels, size }: { channels: 1 | 3; size: number }): Buffer {
  const all = interleaved(pixels, channels, false);
  const rows = Array.from({ length: size }, (_, y) => all.subarray(y * size * channels, (y + 1) * size * channels));
  return pngOfRows(pngHeader(size, size, 8, channels === 1 ? 0 : 2), rows);
}
