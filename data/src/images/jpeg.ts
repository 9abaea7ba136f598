/**
 * JPEG by mozjpeg in WebAssembly (@jsquash/jpeg): baseline and progressive, greyscale and colour. What libjpeg warns of, such as
 * the end of a file in the middle of a picture, is an error here: it would fill the rest with grey.
 */

import { FormatError } from '@otimes/core';
import { checkSize, grey, type Picture } from './pixels.ts';

/** The decoder of one thread. */
export type JpegDecoder = (bytes: Uint8Array, channels: 1 | 3, file: string) => Picture;

/** Pixels as mozjpeg gives them: red, green, blue and 255, pixel after pixel. */
type Rgba = { readonly data: Uint8ClampedArray; readonly width: number; readonly height: number };

/** What this needs of the module that Emscripten made. */
type Codec = { decode(bytes: Uint8Array, preserveOrientation: boolean): Rgba | null };

/** The package's module, as far as it is used here. */
export type JpegFactory = (overrides: {
  noInitialRun: boolean;
  wasmBinary: Uint8Array;
  print: (line: string) => void;
  printErr: (line: string) => void;
}) => Promise<Codec>;

/** Starts a decoder of the package's `wasm`; what it gives decodes without awaiting anything more. */
export async function startJpeg(factory: JpegFactory, wasm: Uint8Array): Promise<JpegDecoder> {
  const told: string[] = [];
  const tell = (line: string) => told.push(line);
  const host = Object.getOwnPropertyDescriptor(globalThis, 'ImageData');
  const codec = await factory({ noInitialRun: true, wasmBinary: wasm, print: tell, printErr: tell });
  setImageData(host);
  let hasClass = false;
  return (bytes, channels, file) => {
    checkFrame(bytes, file);
    told.length = 0;
    let pixels: Rgba | null = null;
    let cause: unknown;
    // The codec looks for the global class ImageData when it first needs it, and keeps it.
    const hadClass = hasClass;
    if (!hadClass) setImageData({ value: Pixels, configurable: true, writable: true });
    try {
      pixels = codec.decode(bytes, false);
      hasClass = true;
    } catch (error) {
      cause = error;
    } finally {
      if (!hadClass) setImageData(host);
    }
    if (told.length > 0) throw new FormatError(`${file}: not a whole JPEG: ${told.join('; ')}`, { cause });
    if (pixels === null)
      throw new FormatError(`${file}: the decoder of JPEG failed: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    return planes(pixels, channels);
  };
}

class Pixels implements Rgba {
  readonly data: Uint8ClampedArray;
  readonly width: number;
  readonly height: number;

  constructor(data: Uint8ClampedArray, width: number, height: number) {
    this.data = data;
    this.width = width;
    this.height = height;
  }
}

/** NOTE: the package puts a class ImageData among Node's globals, by which other programs tell browsers from Node: it is taken away again. */
function setImageData(to: PropertyDescriptor | undefined): void {
  if (to === undefined) Reflect.deleteProperty(globalThis, 'ImageData');
  else Object.defineProperty(globalThis, 'ImageData', to);
}

function planes({ data, width, height }: Rgba, channels: 1 | 3): Picture {
  const size = width * height;
  const out = new Uint8Array(channels * size);
  if (channels === 1) for (let i = 0, k = 0; i < size; i++, k += 4) out[i] = grey(data[k]!, data[k + 1]!, data[k + 2]!);
  else
    for (let i = 0, k = 0; i < size; i++, k += 4) {
      out[i] = data[k]!;
      out[size + i] = data[k + 1]!;
      out[2 * size + i] = data[k + 2]!;
    }
  return { data: out, channels, height, width };
}

/** Throws for a frame that the decoder could not take in words that help: too large, or of inks. Finds none in a broken file. */
function checkFrame(bytes: Uint8Array, file: string): void {
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1]!;
    // Start of frame: all of 0xc0 … 0xcf but tables of Huffman codes (c4), of arithmetic ones (cc), and what is reserved (c8).
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      const [height, width] = [bytes[at + 5]! * 256 + bytes[at + 6]!, bytes[at + 7]! * 256 + bytes[at + 8]!];
      checkSize(file, width, height);
      if (bytes[at + 9] === 4)
        throw new FormatError(`${file}: a JPEG of four inks (CMYK); save it as RGB or grey, which have one meaning`);
      return;
    }
    // 0xff may be repeated before a marker.
    at += marker === 0xff ? 1 : 2 + bytes[at + 2]! * 256 + bytes[at + 3]!;
  }
}
