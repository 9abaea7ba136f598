/** Modules in a list or under names: containers that hold layers and do not say how these are called. */

import { anInstance, anInteger, aTensor, checkArgument, isPlainObject, type Kind } from '@otimes/core/extend';
import type { Member } from '../members.ts';
import { type AnyModule, Module } from '../module.ts';

const aModule = anInstance(Module, 'a module');

const iterable: Kind = {
  expected: 'an array or another iterable of modules',
  // A tensor is iterable, too.
  is: v => typeof v === 'object' && v !== null && Symbol.iterator in v && !aTensor.is(v),
};

/** What both share: the names of what they hold stand without that of the field. */
abstract class Holder extends Module<[], never> {
  override forward(): never {
    throw new TypeError(`${this.name()}: has no forward pass of its own; call the modules in it`);
  }

  protected abstract name(): string;

  protected override *members(): Iterable<Member> {
    for (const [name, value] of super.members()) yield [name.replace(/^items\./, ''), value];
  }
}

/** Modules in an array, with the names '0', '1', … `for (const layer of list)` goes through them. */
export class ModuleList<M extends AnyModule = AnyModule> extends Holder implements Iterable<M> {
  static readonly builtIn: string = 'ModuleList';
  readonly items: M[] = [];

  constructor(modules: Iterable<M> = []) {
    super();
    checkArgument('ModuleList', 'modules', modules, iterable);
    this.push(...modules);
  }

  get length(): number {
    return this.items.length;
  }

  /** The module at an index; a negative one counts from the end. Undefined if there is none. */
  at(index: number): M | undefined {
    checkArgument('ModuleList.at', 'index', index, anInteger);
    return this.items.at(index);
  }

  /** Puts modules at the end. */
  push(...modules: M[]): this {
    modules.forEach((one, i) => {
      checkArgument('ModuleList.push', `module ${i}`, one, aModule);
    });
    this.items.push(...modules);
    return this;
  }

  /** Puts a module in front of the one at an index 0 … length, from which on names count one more. */
  insert(index: number, module: M): this {
    const aPlace: Kind = {
      expected: `an index 0 … ${this.length}`,
      is: v => Number.isInteger(v) && Number(v) >= 0 && Number(v) <= this.length,
      error: RangeError,
    };
    checkArgument('ModuleList.insert', 'index', index, aPlace);
    checkArgument('ModuleList.insert', 'module', module, aModule);
    this.items.splice(index, 0, module);
    return this;
  }

  [Symbol.iterator](): Iterator<M> {
    return this.items[Symbol.iterator]();
  }

  protected override name(): string {
    return 'ModuleList';
  }
}

const aName: Kind = {
  expected: "a name without a dot, such as 'head'",
  is: v => typeof v === 'string' && v !== '' && !v.includes('.'),
};

/** Modules under names, in the order in which they came: the methods are those of a Map. */
export class ModuleDict<M extends AnyModule = AnyModule> extends Holder implements Iterable<[name: string, module: M]> {
  static readonly builtIn: string = 'ModuleDict';
  readonly items: Map<string, M> = new Map();

  /** @param modules an object of modules by name, or what a Map is made from */
  constructor(modules: Readonly<Record<string, M>> | Iterable<readonly [name: string, module: M]> = {}) {
    super();
    const entries = isPlainObject(modules) ? Object.entries(modules as Record<string, M>) : modules;
    checkArgument('ModuleDict', 'modules', entries, { ...iterable, expected: 'an object of modules by name' });
    for (const entry of entries as Iterable<readonly [string, M]>) {
      checkArgument('ModuleDict', 'each entry', entry, { expected: '[name, module]', is: Array.isArray });
      this.set(...entry);
    }
  }

  get size(): number {
    return this.items.size;
  }

  get(name: string): M | undefined {
    return this.items.get(name);
  }

  has(name: string): boolean {
    return this.items.has(name);
  }

  set(name: string, module: M): this {
    checkArgument('ModuleDict.set', 'name', name, aName);
    checkArgument('ModuleDict.set', `'${name}'`, module, aModule);
    this.items.set(name, module);
    return this;
  }

  /** Whether there was one of that name, which is gone now. */
  delete(name: string): boolean {
    return this.items.delete(name);
  }

  keys(): Iterator<string> & Iterable<string> {
    return this.items.keys();
  }

  values(): Iterator<M> & Iterable<M> {
    return this.items.values();
  }

  entries(): Iterator<[name: string, module: M]> & Iterable<[name: string, module: M]> {
    return this.items.entries();
  }

  [Symbol.iterator](): Iterator<[name: string, module: M]> {
    return this.items[Symbol.iterator]();
  }

  protected override name(): string {
    return 'ModuleDict';
  }
}
