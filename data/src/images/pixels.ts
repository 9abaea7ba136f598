/** What decoders share: how large a picture may be, and how colours become grey. */

import { FormatError } from '@otimes/core';

export type { Picture } from './source.ts';

/** More pixels than a photo has; a file that claims more would take gigabytes before anybody sees that it is broken. */
export const MOST = 2 ** 26;

export function checkSize(file: string, width: number, height: number): void {
  if (width === 0 || height === 0)
    throw new FormatError(`${file}: expected a picture with pixels, got ${width} × ${height}`);
  if (width * height > MOST) throw new FormatError(`${file}: expected at most 2²⁶ pixels, got ${width} × ${height}`);
}

/** Luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in integers as Pillow's `convert('L')` computes it. */
export const grey = (r: number, g: number, b: number): number => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
