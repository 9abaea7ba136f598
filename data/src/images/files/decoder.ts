/** JPEG and PNG files to pixels, in Node. The libraries are loaded when the first picture is asked for, once in each thread. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { inflateSync } from 'node:zlib';
import { FormatError } from '@otimes/core';
import { anInstance, aString, checkArgument, checkOptions } from '@otimes/core/extend';
import { jpegDecoder } from '../jpeg.ts';
import { pngPicture } from '../png.ts';
import { aChannelCount, type Picture } from '../source.ts';

export type DecodeOptions = {
  /** 3 for planes red, green and blue, to which grey is expanded; 1 for grey, ITU-R BT.601's luma of colours. Defaults to 3. */
  channels?: 1 | 3;
  /** What errors call the bytes; defaults to 'the file'. */
  file?: string;
};

/** Decodes one JPEG or PNG, told apart by their first bytes. */
export type PictureDecoder = (bytes: Uint8Array, o?: DecodeOptions) => Picture;

const aUint8Array = anInstance(Uint8Array, 'a Uint8Array', v =>
  v instanceof ArrayBuffer ? 'new Uint8Array(buffer) is one' : '',
);
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

const unpackedLength = (parts: readonly Uint8Array[]): number => inflateSync(Buffer.concat(parts)).length;

let started: Promise<PictureDecoder> | undefined;

/**
 * The decoder of JPEG (baseline and progressive, grey and colour) and PNG (every type; with palette, 16 bits and alpha, which is left
 * out). It is synchronous once it is there. As in torchvision's ImageFolder pictures are not turned by EXIF's orientation.
 *
 * What it gives throws a FormatError for anything else, a broken file, four inks (CMYK), or more than 2²⁶ pixels.
 */
export function pictureDecoder(): Promise<PictureDecoder> {
  started ??= start();
  // A failure is told again, to whoever asks again: it may have been the memory.
  started.catch(() => {
    started = undefined;
  });
  return started;
}

async function start(): Promise<PictureDecoder> {
  const { default: factory } = await import('@jsquash/jpeg/codec/dec/mozjpeg_dec.js');
  const { decode: decodePng } = await import('fast-png');
  const path = createRequire(import.meta.url).resolve('@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm');
  const decodeJpeg = jpegDecoder(factory, readFileSync(path));
  return (bytes, o = {}) => {
    checkArgument('pictureDecoder', 'bytes', bytes, aUint8Array);
    checkOptions('pictureDecoder', o, { channels: aChannelCount, file: aString });
    const { channels = 3, file = 'the file' } = o;
    if (bytes[0] === 0xff && bytes[1] === 0xd8) return decodeJpeg(bytes, channels, file);
    if (PNG.every((byte, i) => bytes[i] === byte)) return pngPicture(decodePng, unpackedLength, bytes, channels, file);
    const first = [...bytes.subarray(0, 8)].map(byte => byte.toString(16).padStart(2, '0')).join(' ');
    throw new FormatError(
      `${file}: neither JPEG nor PNG: ${bytes.length === 0 ? 'it is empty' : `its first bytes are ${first}`}`,
    );
  };
}
