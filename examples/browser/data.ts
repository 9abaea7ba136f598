/** Points in the square and their class: spirals, or whether ink lies where they are. */

import { Generator, rand } from '@otimes/core';
import type { Dataset, Points } from './protocol.ts';

/** Whether there is ink. */
const DRAWINGS: Partial<Record<Dataset, (x: number, y: number) => boolean>> = {
  smile(x, y) {
    const eye = Math.hypot((Math.abs(x) - 0.32) / 0.11, (y - 0.3) / 0.17) < 1;
    const mouth = y < -0.08 && Math.abs(Math.hypot(x, y + 0.02) - 0.5) < 0.1;
    return eye || mouth || Math.abs(Math.hypot(x, y) - 0.88) < 0.08;
  },
  '⊗'(x, y) {
    const r = Math.hypot(x, y);
    return Math.abs(r - 0.75) < 0.1 || (r < 0.75 && Math.abs(Math.abs(x) - Math.abs(y)) < 0.13);
  },
};

export function points(name: Dataset, count: number): Points {
  const random = rand([count, 2], { rng: new Generator(7) }).dataSync();
  const xy = new Float32Array(2 * count);
  const labels = new Int32Array(count);
  const ink = DRAWINGS[name];
  for (let i = 0; i < count; i++) {
    const [u, v] = [random[2 * i]!, random[2 * i + 1]!];
    if (ink) {
      xy.set([2 * u - 1, 2 * v - 1], 2 * i);
      labels[i] = ink(2 * u - 1, 2 * v - 1) ? 1 : 0;
    } else {
      labels[i] = i % 2;
      const angle = 1.75 * 2 * Math.PI * Math.sqrt(u) + labels[i]! * Math.PI;
      const r = 0.95 * Math.sqrt(u) + 0.05 * (v - 0.5);
      xy.set([r * Math.cos(angle), r * Math.sin(angle)], 2 * i);
    }
  }
  return { xy, labels };
}
