/** How modules look as text: a tree like PyTorch's, with shapes, options and counts of parameters. */

import type { Tensor } from '@otimes/core';
import { nameOf } from '@otimes/core/extend';
import { type Member, ModuleBase } from './members.ts';
import type { AnyModule } from './module.ts';
import { Buffer, Parameter } from './parameter.ts';

/** The tree under `module`; `membersOf` lists the entries of one module. */
export function printed(module: AnyModule, membersOf: (module: AnyModule) => Iterable<Member>): string {
  const counted = new Set<Tensor>();
  const print = (one: AnyModule, above: readonly object[]): string => {
    const [own, below]: [string[], string[]] = [[], []];
    let count = 0;
    for (const [name, value] of membersOf(one)) {
      if (value instanceof ModuleBase)
        below.push(`(${name}): ${above.includes(value) ? '…' : print(value as AnyModule, [...above, one])}`);
      else if (value instanceof Parameter || value instanceof Buffer) {
        own.push(`${name} [${value.shape.join(', ')}]`);
        if (value instanceof Parameter && !counted.has(value)) count += value.size;
        if (value instanceof Parameter) counted.add(value);
      }
    }
    for (const [name, value] of Object.entries(one)) {
      const numbers =
        Array.isArray(value) && value.length > 0 && value.length < 9 && value.every(n => typeof n === 'number');
      if (numbers) own.push(`${name} [${value.join(', ')}]`);
      else if (name !== 'training' && /^(number|boolean|string)$/.test(typeof value)) own.push(`${name} ${value}`);
    }
    const inside = own.join(', ') + (below.length > 0 ? `\n${below.join('\n')}`.replaceAll('\n', '\n  ') : '');
    return `${nameOf(one)}(${inside}${below.length > 0 ? '\n' : ''})${count > 0 ? ` ${count.toLocaleString('en')} parameters` : ''}`;
  };
  const tree = print(module, []);
  const total = [...counted].reduce((sum, { size }) => sum + size, 0);
  return tree.includes('\n') ? `${tree} ${total.toLocaleString('en')} parameters` : tree;
}
