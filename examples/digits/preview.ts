/** Digits of the data set as pictures of block characters, side by side as a little equation. */

import type { Labelled } from '@otimes/data';

/** Lines of equal length. */
export type Picture = string[];

/** Two pixels a character, one above the other. */
const BLOCKS = [' ', '▄', '▀', '█'];

/** An image, rows of 0 (paper) … 1 (ink), without its empty left and right margins. Pixels from 0.4 on are ink. */
export function drawDigit(rows: readonly (readonly number[])[]): Picture {
  const ink = rows.map(row => row.map(pixel => pixel >= 0.4));
  const width = ink[0]?.length ?? 0;
  const columns = Array.from({ length: width }, (_, x) => x).filter(x => ink.some(row => row[x]));
  return Array.from({ length: Math.ceil(ink.length / 2) }, (_, y) => {
    let line = '';
    for (let x = columns[0] ?? 0; x <= (columns.at(-1) ?? -1); x++)
      line += BLOCKS[(ink[2 * y]?.[x] ? 2 : 0) + (ink[2 * y + 1]?.[x] ? 1 : 0)];
    return line;
  });
}

/** Pictures of one height with signs between them and labels beneath. Lines that are empty in all of them go. */
export function sideBySide(pictures: readonly Picture[], labels: readonly string[], signs: readonly string[]): string {
  const height = Math.max(0, ...pictures.map(picture => picture.length));
  const filled = Array.from({ length: height }, (_, y) => y).filter(y => pictures.some(p => p[y]?.trim()));
  const [top, bottom] = [filled[0] ?? 0, filled.at(-1) ?? -1];
  const middle = Math.floor((top + bottom) / 2);
  const lines: string[] = [];
  for (let y = top; y <= bottom; y++)
    lines.push(
      pictures.map((p, i) => (i === 0 ? '' : `   ${(y === middle && signs[i - 1]) || ' '}   `) + p[y]).join(''),
    );
  lines.push(pictures.map((p, i) => center(labels[i] ?? '', p[0]?.length ?? 0)).join(' '.repeat(7)));
  return lines.map(line => line.trimEnd()).join('\n');
}

/**
 * "2 ⊗ 3 = 6", handwritten: numbers are 1 × 1 matrices, and their Kronecker product is the one of school. `seed` chooses
 * the hands. Nothing if the set lacks one of the digits.
 */
export function kroneckerProduct({ images, labels }: Labelled, seed = 0): string {
  const digits = [2, 3, 6];
  const known = [...labels.dataSync()];
  const pictures = digits.flatMap(digit => {
    const places = known.flatMap((label, i) => (label === digit ? [i] : []));
    const place = places[seed % places.length];
    return place === undefined ? [] : [drawDigit(images.slice(place).toArray() as number[][])];
  });
  return pictures.length < digits.length ? '' : sideBySide(pictures, digits.map(String), ['⊗', '=']);
}

function center(text: string, width: number): string {
  return (' '.repeat(Math.max(0, Math.floor((width - text.length) / 2))) + text).padEnd(width);
}
