/** Kernels of modules that come with operations: a module is compiled when one of its kernels is called for the first time. */

import type { Part, PartExports } from '@otimes/kernels';
import type { Context } from '../context.ts';
import { type Names, type Table, tableOf } from '../table.ts';

/** The table of these kernels of a module, for the context of a backend. */
export function kernelsOf<Module extends keyof PartExports, Name extends Names<PartExports[Module]>>(
  part: Part<Module>,
  names: readonly Name[],
): (c: Context) => Table<PartExports[Module], Name> {
  const tables = new WeakMap<Context, Table<PartExports[Module], Name>>();
  return c => {
    const known = tables.get(c);
    if (known !== undefined) return known;
    c.kernels.load(part);
    c.kernels.bind(() => tables.set(c, tableOf<PartExports[Module], Name>(c.kernels.load(part), names)));
    return tables.get(c)!;
  };
}
