/** The kernels of @otimes/kernels by operation and dtype; an entry that is missing has no kernel. */

import type { Element, Exports } from '@otimes/kernels';
import type { DType } from '../../dtype.ts';

/** How the kernels call the dtypes. */
const SUFFIX: Record<DType, Element> = { float32: 'f32', float64: 'f64', int32: 'i32', bool: 'bool' };

export type Names<E> = { readonly [K in keyof E]: K extends `${infer Name}_${Element}` ? Name : never }[keyof E];
/** The function that the exports of a name have in common. */
type Kernel<E, Name extends string> = E[keyof E & `${Name}_${Element}`];

export type Table<E, Name extends Names<E>> = { readonly [N in Name]: Partial<Record<DType, Kernel<E, N>>> };

/** The exports `name_type` of every name, looked up once: joining strings at each call would cost more than small kernels do. */
export function tableOf<E extends object, Name extends Names<E>>(exports: E, names: readonly Name[]): Table<E, Name> {
  const byName = new Map<string, unknown>(Object.entries(exports));
  const rows = names.map(name => {
    const entries = Object.entries(SUFFIX).map(([dtype, suffix]) => [dtype, byName.get(`${name}_${suffix}`)]);
    return [name, Object.fromEntries(entries.filter(([, kernel]) => kernel !== undefined))];
  });
  return Object.fromEntries(rows) as Table<E, Name>;
}

/** copy from the first dtype to the second. */
export function copiesOf(exports: Exports): Readonly<Record<DType, Record<DType, Exports['copy_f32_f64']>>> {
  const to = (from: Element) => ({
    float32: exports[`copy_${from}_f32`],
    float64: exports[`copy_${from}_f64`],
    int32: exports[`copy_${from}_i32`],
    bool: exports[`copy_${from}_bool`],
  });
  return { float32: to('f32'), float64: to('f64'), int32: to('i32'), bool: to('bool') };
}
