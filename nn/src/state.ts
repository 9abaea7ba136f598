/** Loading a state dict: all of it or nothing. */

import { describe, noGrad, type StateDict, type Storage, sameShape, Tensor } from '@otimes/core';
import {
  aBoolean,
  aStateDict,
  checkArgument,
  checkOptions,
  readsLater,
  received,
  restoreInto,
} from '@otimes/core/extend';

/** Copies the entries of `state` into the tensors of the same paths; see `Module.loadStateDict`. */
export function loadInto(
  name: string,
  own: ReadonlyMap<string, Tensor>,
  state: StateDict,
  o: { strict?: boolean },
): void {
  const op = `${name}.loadStateDict`;
  checkArgument(op, 'state', state, aStateDict);
  checkOptions(op, o, { strict: aBoolean });
  const strict = o.strict ?? true;
  const problems: string[] = [];
  const targets = new Set<Storage>([...own.values()].map(({ storage }) => storage));
  const copies: [target: Tensor, value: Tensor][] = [];
  for (const [path, target] of own) {
    if (!Object.hasOwn(state, path)) {
      if (strict) problems.push(`missing: ${path} ${describe(target)}`);
      continue;
    }
    const value: unknown = state[path];
    if (!(value instanceof Tensor) || !fits(value, target))
      problems.push(`does not fit: ${path} expects ${describe(target)}, got ${shown(value)}`);
    else if (value.storage.released || target.storage.released)
      problems.push(`released: ${path} ${describe(value)} has no values any more`);
    // Targets are written one after the other: a value that lies in one of them is copied before.
    else if (value.device === target.device)
      copies.push([target, targets.has(value.storage) ? value.detach().clone() : value]);
    else if (readsLater(value))
      problems.push(`on '${value.device}': ${path} is read with await; load what await readStateDict(state) gives`);
    else copies.push([target, value.detach().to(target.device)]);
  }
  if (strict)
    for (const [path, value] of Object.entries(state))
      if (!own.has(path)) problems.push(`unexpected: ${path} ${shown(value)}`);
  const some = problems.length === 1 ? '1 entry is' : `${problems.length} entries are`;
  if (problems.length > 0)
    throw new Error(`loadStateDict: nothing was loaded, since ${some} wrong\n  ${problems.join('\n  ')}`);
  noGrad(() => {
    for (const [target, value] of copies) restoreInto(target, value);
  });
}

const shown = (value: unknown): string => received(value) + (value instanceof Tensor ? '' : ', not a tensor(…)');

function fits(value: Tensor, target: Tensor): boolean {
  const floats = [value, target].every(x => x.dtype === 'float32' || x.dtype === 'float64');
  return (floats || value.dtype === target.dtype) && sameShape(value.shape, target.shape);
}
