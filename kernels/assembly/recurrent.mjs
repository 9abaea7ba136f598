/** Writes the exports of the module `recurrent`: the functions of recur.ts, once for each type. */
import { instances } from './elementwise.mjs';

/** The source of generated/recurrent.ts. */
export function recurrent() {
  const table = { recur: ['f32', 'f64'], recurBackward: ['f32', 'f64'] };
  return ["import { recur, recurBackward } from '../recur';", ...instances('recur', table)].join('\n');
}
