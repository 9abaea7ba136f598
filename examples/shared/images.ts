/** Handwritten digits of 14 × 14 pixels, and rows of pictures in the terminal. */

import type { Tensor } from '@otimes/core';
import { averagePool2, type Labelled } from '@otimes/data';
import { loadDigits } from '../digits/load.ts';

/** Half of the pixels each way of the 28 × 28 ones: images [n, 1, 14, 14] with 0 (paper) … 1 (ink), labels int32 [n]. */
export function smallDigits(): { train: Labelled; test: Labelled } {
  const { train, test } = loadDigits();
  const small = ({ images, labels }: Labelled) => ({ images: averagePool2(images).unsqueeze(1).contiguous(), labels });
  return { train: small(train), test: small(test) };
}

/** From paper to ink. */
const SHADES = [' ', '░', '▒', '▓', '█'];

/** Images [n, 1, H, W] of 0 … 1 side by side, two characters a pixel column and one a row. */
export function picture(images: Tensor): string {
  const rows = images.squeeze(1).toArray() as number[][][];
  const shade = (pixel: number) => SHADES[Math.round(pixel * (SHADES.length - 1))]!.repeat(2);
  return rows[0]!
    .map((_, y) =>
      rows
        .map(image => image[y]!.map(shade).join(''))
        .join(' ')
        .trimEnd(),
    )
    .join('\n');
}
