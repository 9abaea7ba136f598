/**
 * CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary version: records of one label byte (CIFAR-100: coarse, then fine) and 3072
 * bytes of pixels, the planes red, green and blue of 32 × 32, row-major. A file is records alone, so files one after another are one, too.
 */

import { FormatError } from '@otimes/core';
import { anInstance, aString, checkArgument, checkOptions, oneOf } from '@otimes/core/extend';
import { type PictureSource, picturesInMemory, sharedBytes, someNames } from './source.ts';

/** Bytes of the pixels of one picture. */
export const PIXELS = 3 * 32 * 32;

/** What differs between the formats. */
export type CifarFormat = {
  /** How many classes each label byte of a record tells apart, in their order. */
  readonly counts: readonly number[];
  /** Which of these bytes is the label. */
  readonly at: number;
  readonly classes: readonly string[];
};

const CLASSES_10 = 'airplane automobile bird cat deer dog frog horse ship truck'.split(' ');

const FINE = (
  'apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar ' +
  'cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl ' +
  'hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom ' +
  'oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road ' +
  'rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank ' +
  'telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm'
).split(' ');

const COARSE = (
  'aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture insects ' +
  'large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals ' +
  'non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2'
).split(' ');

export const CIFAR10: CifarFormat = { counts: [10], at: 0, classes: CLASSES_10 };
export const CIFAR100: Record<'fine' | 'coarse', CifarFormat> = {
  coarse: { counts: [20, 100], at: 0, classes: COARSE },
  fine: { counts: [20, 100], at: 1, classes: FINE },
};

/** Bytes of one record. */
export const recordBytes = (format: CifarFormat): number => format.counts.length + PIXELS;

const aUint8Array = anInstance(Uint8Array, 'a Uint8Array', v =>
  v instanceof ArrayBuffer ? 'new Uint8Array(buffer) is one' : '',
);

export type Cifar10Options = {
  /** What errors call the bytes; defaults to 'the file'. */
  file?: string;
  /** Class names, by label; defaults to the ten of the set. */
  classes?: readonly string[];
};

export type Cifar100Options = Cifar10Options & {
  /** The 100 classes or the 20 superclasses; defaults to 'fine'. `classes` are the names of these. */
  labels?: 'fine' | 'coarse';
};

/**
 * The pictures [3, 32, 32] in a file of CIFAR-10's binary version, data_batch_1.bin say.
 *
 * @throws FormatError for bytes that are not whole records, and for a label beyond 9
 */
export function parseCifar10(bytes: Uint8Array, o: Cifar10Options = {}): PictureSource {
  checkArgument('parseCifar10', 'bytes', bytes, aUint8Array);
  checkOptions('parseCifar10', o, { file: aString, classes: someNames });
  return parsed('parseCifar10', bytes, CIFAR10, o);
}

/**
 * The pictures [3, 32, 32] in a file of CIFAR-100's binary version, train.bin say.
 *
 * @throws FormatError for bytes that are not whole records, and for a label out of range
 */
export function parseCifar100(bytes: Uint8Array, o: Cifar100Options = {}): PictureSource {
  checkArgument('parseCifar100', 'bytes', bytes, aUint8Array);
  checkOptions('parseCifar100', o, { file: aString, classes: someNames, labels: oneOf('fine', 'coarse') });
  return parsed('parseCifar100', bytes, CIFAR100[o.labels ?? 'fine'], o);
}

function parsed(what: string, bytes: Uint8Array, format: CifarFormat, o: Cifar10Options): PictureSource {
  const { file = 'the file', classes = format.classes } = o;
  checkNames(what, classes, format);
  const count = recordsIn(what, bytes.length, format, file);
  const pixels = sharedBytes(count * PIXELS);
  const labels = new Int32Array(count);
  unpack(what, bytes, format, file, pixels, labels, 0);
  return picturesInMemory({ pixels, channels: 3, height: 32, width: 32, labels, classes });
}

/** How many records a file of so many bytes has. */
export function recordsIn(what: string, size: number, format: CifarFormat, file: string): number {
  const record = recordBytes(format);
  const count = Math.floor(size / record);
  if (size === 0) throw new FormatError(`${what}: ${file} is empty, expected records of ${record} bytes`);
  if (size % record !== 0)
    throw new FormatError(
      `${what}: expected ${file} to be records of ${record} bytes, got ${size} bytes, which is ${count} records and ` +
        `${size % record} bytes more: it is truncated, or of another format`,
    );
  return count;
}

/** Writes whole records to `pixels` [n, 3, 32, 32] and `labels` [n], from number `at` of these on. */
export function unpack(
  what: string,
  bytes: Uint8Array,
  format: CifarFormat,
  file: string,
  pixels: Uint8Array,
  labels: Int32Array,
  at: number,
): void {
  const record = recordBytes(format);
  const { counts } = format;
  const count = bytes.length / record;
  for (let i = 0; i < count; i++) {
    const start = i * record;
    for (let k = 0; k < counts.length; k++)
      if (bytes[start + k]! >= counts[k]!)
        throw new FormatError(
          `${what}: ${file}: record ${i} has the ${counts.length === 1 ? '' : k === 0 ? 'coarse ' : 'fine '}label ` +
            `${bytes[start + k]} at byte ${start + k}, expected 0 … ${counts[k]! - 1}`,
        );
    labels[at + i] = bytes[start + format.at]!;
    pixels.set(bytes.subarray(start + counts.length, start + record), (at + i) * PIXELS);
  }
}

/** Throws unless there is a name for each class. */
function checkNames(what: string, classes: readonly string[], format: CifarFormat): void {
  const expected = format.counts[format.at]!;
  if (classes.length !== expected)
    throw new RangeError(`${what}: expected the names of ${expected} classes, got ${classes.length}`);
}
