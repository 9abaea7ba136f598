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

/** What this needs of the module that Emscripten makes of what it is given, and of WebAssembly, which only the DOM's types declare. */
type Codec = { decode?(bytes: Uint8Array, preserveOrientation: boolean): Rgba | null };
type Given = Codec & {
  readonly noInitialRun: boolean;
  readonly print: (line: string) => void;
  readonly printErr: (line: string) => void;
  instantiateWasm(imports: object, done: (instance: object) => void): object;
};
export type JpegFactory = (given: Given) => Promise<unknown>;
type WasmApi = {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: object };
};

/**
 * A decoder by the package's module and its `wasm`. libjpeg ends its program where it can do no more, and what it held then stays in
 * the instance's memory: so the instance that met a broken file is the last to see one, and the next file has a new one.
 */
export function jpegDecoder(factory: JpegFactory, wasm: Uint8Array): JpegDecoder {
  const api = (globalThis as { WebAssembly?: WasmApi }).WebAssembly;
  if (api === undefined) throw new Error('pictureDecoder: JPEG is decoded in WebAssembly, which is turned off here');
  const module = new api.Module(wasm);
  const told: string[] = [];
  const tell = (line: string) => told.push(line);
  const start = (): Codec => {
    const given: Given = {
      ...{ noInitialRun: true, print: tell, printErr: tell },
      instantiateWasm(imports, done) {
        const instance = new api.Instance(module, imports);
        done(instance);
        return instance.exports;
      },
    };
    // As the instance is made at once, so is all of the module, which is `given` itself. Nothing is chained to the promise of one that is
    // there: that would hold the instance until the program awaits something.
    const made = factory(given);
    if (given.decode === undefined) made.catch(() => {});
    return given;
  };
  let codec: Codec = {};
  return (bytes, channels, file) => {
    checkFrame(bytes, file);
    told.length = 0;
    let pixels: Rgba | null = null;
    let cause: unknown;
    try {
      pixels = codec.decode
        ? codec.decode(bytes, false)
        : withImageData(() => {
            codec = start();
            return codec.decode!(bytes, false);
          });
    } catch (error) {
      cause = error;
      codec = {};
    }
    if (pixels !== null && told.length === 0) return planes(pixels, channels);
    const why = told.join('; ') || (cause instanceof Error ? cause.message : 'no reason is told');
    throw new FormatError(`${file}: not a whole JPEG: ${why}`, { cause });
  };
}

/**
 * `run` with a class ImageData among the globals, which an instance looks for when it decodes its first picture. The package puts
 * one there for good, but programs tell browsers from Node by it.
 */
function withImageData<T>(run: () => T): T {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'ImageData');
  Object.defineProperty(globalThis, 'ImageData', { value: Pixels, configurable: true, writable: true });
  try {
    return run();
  } finally {
    if (before === undefined) Reflect.deleteProperty(globalThis, 'ImageData');
    else Object.defineProperty(globalThis, 'ImageData', before);
  }
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
