/** Writes the exports of the kernels for single planes: the function of planes.ts, once for each type. */
import { instances } from './elementwise.mjs';

/** The source of generated/depthwise.ts. */
export function depthwise() {
  return ["import { depthwise } from '../planes';", ...instances('planes', { depthwise: ['f32', 'f64'] })].join('\n');
}
