/** Moving a module to another device or dtype: all of its parameters and buffers, or none. */

import type { DType, Tensor } from '@otimes/core';
import { nameOf, noteMoved, readsLater, versionOf } from '@otimes/core/extend';
import { type Change, changeAll, replaceIn } from './members.ts';
import type { AnyModule } from './module.ts';
import { type Buffer, type Parameter, placedOn } from './parameter.ts';

type Held = Parameter | Buffer;

/** Puts `there(value)` in the place of each parameter and buffer where that is not the value itself. Tied ones stay tied. */
function replaceAll(module: AnyModule, op: string, there: (value: Held, path: string) => Held): void {
  const moved = new Map<Tensor, Held>();
  const changes: Change[] = [];
  for (const [path, holder] of module.namedModules()) {
    const prefix = path === '' ? '' : `${path}.`;
    const replace = (value: Held): Held => {
      const target = moved.get(value) ?? there(value, prefix);
      if (target !== value) moved.set(value, target);
      return target;
    };
    replaceIn(holder, prefix, replace, changes);
  }
  changeAll(`${nameOf(module)}.${op}`, changes);
  for (const value of moved.keys()) noteMoved(value);
}

/** As `Module.to`. */
export function moveTo(module: AnyModule, to: string): void {
  if (/^float(32|64)$/.test(to))
    return replaceAll(module, 'to', value =>
      value.dtype.startsWith('float') && value.dtype !== to
        ? placedOn(value, value.detach().astype(to as DType))
        : value,
    );
  for (const [path, value] of heldBy(module))
    if (readsLater(value) && value.device !== to)
      throw new TypeError(
        `${nameOf(module)}.to: '${path}' is on '${value.device}', which is read with await: await model.cpu() moves the model to ` +
          `'cpu'${to === 'cpu' ? '' : `, and to('${to}') then there`}`,
      );
  replaceAll(module, 'to', value => (value.device === to ? value : placedOn(value, value.detach().to(to))));
}

/** As `Module.cpu`. */
export async function bringToCpu(module: AnyModule): Promise<void> {
  const reads = new Map<Tensor, { copy: Promise<Tensor>; version: number; path: string }>();
  for (const [path, value] of heldBy(module))
    if (value.device !== 'cpu' && !reads.has(value))
      // The version after the read has begun, which computes what is late.
      reads.set(value, { copy: value.detach().cpu(), version: versionOf(value), path });
  const copies = new Map(await Promise.all([...reads].map(async ([value, { copy }]) => [value, await copy] as const)));
  const changed = (path: string) =>
    new Error(
      `${nameOf(module)}.cpu: ${path} changed while the values were read; nothing was moved. await cpu() before the model is changed`,
    );
  for (const [value, { version, path }] of reads) if (versionOf(value) !== version) throw changed(`'${path}'`);
  replaceAll(module, 'cpu', (value, prefix) => {
    if (value.device === 'cpu') return value;
    const found = copies.get(value);
    if (found === undefined) throw changed(prefix === '' ? 'a field' : `a field of '${prefix.slice(0, -1)}'`);
    return placedOn(value, found);
  });
}

function* heldBy(module: AnyModule): Iterable<readonly [path: string, value: Held]> {
  yield* module.namedParameters();
  yield* module.namedBuffers();
}
