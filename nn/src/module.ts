/** Module: a tree of layers with their parameters, forward hooks, and state by PyTorch's dotted names. */

import { type Handle, owningIntermediates, type StateDict, Tensor } from '@otimes/core';
import {
  aBoolean,
  aDevice,
  aFunction,
  aTensor,
  checkArgument,
  checkOptions,
  inspect,
  nameOf,
  noteKnown,
  noteMoved,
  received,
} from '@otimes/core/extend';
import {
  type Change,
  changeAll,
  fieldChange,
  hiddenIn,
  isMember,
  type Member,
  ModuleBase,
  membersIn,
  replaceIn,
} from './members.ts';
import { Buffer, Parameter } from './parameter.ts';
import { loadInto } from './state.ts';

/** Any module, whatever it takes and returns. */
// biome-ignore lint/suspicious/noExplicitAny: the parameters of forward are contravariant, so no narrower type covers all
export type AnyModule = Module<any, unknown>;

/** Sees what went into a module and what came out; a result other than undefined takes the output's place. */
export type ForwardHook = (module: AnyModule, inputs: readonly unknown[], output: unknown) => unknown;

/** Sees what is about to go into a module. */
export type BeforeHook = (module: AnyModule, inputs: readonly unknown[]) => void;

type Hooks<H> = readonly { readonly hook: H; readonly borrows: boolean }[];

const BORROWS = { borrows: aBoolean };
const RECURSE = { recurse: aBoolean };

/** Calls that are running, one in another. */
let depth = 0;
/** Containers that are running and own what is made in them. */
let owners = 0;
/** Counts the calls in which code of the program may have kept a tensor that a container would have owned. */
let foreign = 0;
/** Plain tensors that require a gradient and were in modules before their first call. */
const early = new WeakSet<Tensor>();
/** Sees each call in the place of the hooks. */
let observer: ((module: AnyModule, output: unknown) => void) | null = null;

/**
 * Runs the forward pass of `container`, whose intermediate tensors go with the graph. If it comes to a layer that may keep
 * what it sees, or to a hook that does not borrow, they stay as long as they can be reached, as other tensors do.
 */
export function insides(container: object, run: () => Tensor): Tensor {
  const before = foreign;
  const checked = () => tensorFrom(run(), container, () => 'its output');
  owners++;
  try {
    return owningIntermediates(checked, () => foreign === before);
  } finally {
    owners--;
  }
}

/** `value`, unless a layer of the program gave `container` something that is no tensor. `what` names it. */
export function tensorFrom(value: Tensor, container: object, what: () => string): Tensor {
  if (!(value instanceof Tensor)) checkArgument(nameOf(container), what(), value, aTensor);
  return value;
}

/** Runs `run`, in which `see` is told of every call and no hook is. */
export function observed<T>(see: (module: AnyModule, output: unknown) => void, run: () => T): T {
  const before = observer;
  observer = see;
  try {
    return run();
  } finally {
    observer = before;
  }
}

/**
 * The base of all layers and models. Parameters, buffers and submodules are found in public fields, and in plain objects,
 * arrays, maps and sets there, in that order and under those names: `heads.cat.weight`. What lies in instances of other
 * classes is an error, and so is a plain tensor where a parameter or buffer was; `#private` fields are not seen, and an
 * optimizer's `step` throws for a layer in one.
 *
 * A subclass writes `forward`; users write `call`, which also runs the hooks. One input and a tensor are the rule; a module
 * with others says so: `class Pair extends Module<[x: Tensor, y: Tensor], Tensor>`.
 */
export abstract class Module<Args extends readonly unknown[] = [x: Tensor], Result = Tensor> extends ModuleBase {
  /** The members that are parameters and buffers in every instance of a layer of the library, and of what extends it. */
  declare static readonly tensors?: readonly string[];
  /** Whether dropout and batch statistics act as in training. Switched by `train` and `eval`. */
  training = true;
  /** In boxes, so that a hook that is registered twice is removed once. */
  #hooks: Hooks<ForwardHook> = [];
  #before: Hooks<BeforeHook> = [];
  /** Whether this is a layer of the library itself: the very class, which has its name there. */
  readonly #builtIn = Object.hasOwn(this.constructor, 'builtIn');
  #wasCalled = false;
  /** Names under which a parameter or buffer was found. */
  readonly #held = new Set((this.constructor as typeof Module).tensors);
  /** The methods of the class, which an instance may have others in the place of. */
  readonly #forward = this.forward;
  readonly #call = this.call;

  /** Synchronous. With two inputs or another result: `extends Module<[x: Tensor, y: Tensor], Result>`. */
  abstract forward(...inputs: Args): Result;

  /** What `call` runs in the place of `forward`, if anything. */
  #substitute: ((...inputs: Args) => Result) | null = null;
  #substituteBorrows = false;

  /**
   * Lets `call` run `forward` elsewhere: by an optimizer that keeps the weights in another basis, say. It must compute the
   * same function. Throws if somebody else does so already. What it sees is its own to keep, unless it `borrows`.
   */
  substitute(forward: (...inputs: Args) => Result, o: { borrows?: boolean } = {}): Handle {
    const name = nameOf(this);
    checkArgument(`${name}.substitute`, 'forward', forward, aFunction);
    checkOptions(`${name}.substitute`, o, BORROWS);
    if (this.#substitute !== null)
      throw new Error(
        `${name}: its forward pass is substituted already; remove that one first; a Kronecker optimizer has detach()`,
      );
    this.#substitute = forward;
    this.#substituteBorrows = o.borrows ?? false;
    return {
      remove: () => {
        if (this.#substitute === forward) this.#substitute = null;
      },
    };
  }

  /**
   * Whether this module may hold on to tensors of a forward pass. False for layers of the library, true for classes of the
   * program (those that extend a layer, too) and for layers with a `forward` of their own, unless they override this: a
   * container of layers that keep nothing gives the tensors between them back with the graph, see `Sequential`.
   */
  keepsTensors(): boolean {
    return (
      !this.#builtIn ||
      this.forward !== this.#forward ||
      this.call !== this.#call ||
      (this.#substitute !== null && !this.#substituteBorrows)
    );
  }

  /** `forward`, with the hooks before and after it. */
  call(...inputs: Args): Result {
    if (!this.#wasCalled) this.#beforeFirstCall();
    if (this.#builtIn) this.#checkInputs(inputs);
    if (owners > 0 && this.keepsTensors()) foreign++;
    depth++;
    try {
      const plain = observer === null && this.#before.length === 0 && this.#hooks.length === 0;
      return plain ? this.#run(inputs) : this.#runSeen(inputs);
    } finally {
      depth--;
    }
  }

  /** With whoever watches: the observer, or else the hooks. */
  #runSeen(inputs: Args): Result {
    if (observer !== null) {
      const output = this.#run(inputs);
      observer(this, output);
      return output;
    }
    for (const { hook, borrows } of this.#before) {
      if (!borrows) keepAll(inputs);
      this.#checkNoInput(hook(this, inputs));
    }
    let output = this.#run(inputs);
    for (const { hook, borrows } of this.#hooks) {
      if (!borrows) keepAll([...inputs, output]);
      const replaced = hook(this, inputs, output);
      if (replaced !== undefined) output = this.#checkOutput(replaced, output) as Result;
    }
    return output;
  }

  #run(inputs: Args): Result {
    const output = this.#substitute === null ? this.forward(...inputs) : this.#substitute(...inputs);
    if (!(output instanceof Tensor) && (output === undefined || isPromise(output)))
      throw new TypeError(
        `${nameOf(this)}: expected forward to return a tensor or other result, got ${received(output)}` +
          (output === undefined ? '; is its return missing?' : '; forward passes are synchronous'),
      );
    return output;
  }

  /** Of the outermost module: all parameters that it lists count as known, and what it cannot list is an error. */
  #beforeFirstCall(): void {
    checkArgument(nameOf(this), 'its forward', this.forward, aFunction);
    if (depth === 0) noteKnown(firstOfEach(this.#walk(true), isParameter).values());
    this.#wasCalled = true;
  }

  #checkInputs(inputs: readonly unknown[]): void {
    if (!(inputs[0] instanceof Tensor)) checkArgument(nameOf(this), 'its input', inputs[0], aTensor);
    const wanted = this.forward.length;
    if (inputs.length > 1 && inputs.length > wanted && !Object.hasOwn(this, 'forward'))
      throw new TypeError(`${nameOf(this)}: expected ${wanted} input${wanted === 1 ? '' : 's'}, got ${inputs.length}`);
  }

  #checkNoInput(given: unknown): void {
    if (given === undefined || !(given instanceof Tensor || Array.isArray(given) || isPromise(given))) return;
    throw new TypeError(
      `${nameOf(this)}: a hook before the forward pass must return nothing, since it cannot change the input; ` +
        `got ${received(given)}`,
    );
  }

  #checkOutput(replaced: unknown, output: unknown): unknown {
    if (!isPromise(replaced) && (!(output instanceof Tensor) || replaced instanceof Tensor)) return replaced;
    throw new TypeError(
      `${nameOf(this)}: expected a forward hook to return nothing, or what takes the place of ${received(output)}, got ` +
        `${received(replaced)}${isPromise(replaced) ? '; hooks are synchronous' : ''}`,
    );
  }

  /**
   * Runs `hook` after each `call`, in the order of registration. What it sees is its own to keep, unless it `borrows`:
   * then it promises to let go of tensors when backward has passed them.
   */
  onForward(hook: ForwardHook, o: { borrows?: boolean } = {}): Handle {
    const added = this.#registration('onForward', hook, o);
    this.#hooks = [...this.#hooks, added];
    return {
      remove: () => {
        this.#hooks = this.#hooks.filter(one => one !== added);
      },
    };
  }

  /** Runs `hook` before each `call`, in the order of registration; `borrows` as for `onForward`. */
  beforeForward(hook: BeforeHook, o: { borrows?: boolean } = {}): Handle {
    const added = this.#registration('beforeForward', hook, o);
    this.#before = [...this.#before, added];
    return {
      remove: () => {
        this.#before = this.#before.filter(one => one !== added);
      },
    };
  }

  #registration<H>(op: string, hook: H, o: { borrows?: boolean }): { hook: H; borrows: boolean } {
    checkArgument(`${nameOf(this)}.${op}`, 'the hook', hook, aFunction);
    checkOptions(`${nameOf(this)}.${op}`, o, BORROWS);
    return { hook, borrows: o.borrows ?? false };
  }

  /** The entries of this module itself, under their names. */
  protected *members(): Iterable<Member> {
    for (const [name, value] of Object.entries(this)) yield* membersIn(name, value);
  }

  /**
   * Every parameter, buffer and module of the tree, depth first, by its dotted path; one used in two places is there twice.
   * Throws for a tree that is none, and for what may want to be trained and cannot be listed.
   */
  #walk(calling = false, recurse = true): Map<string, Parameter | Buffer | AnyModule> {
    const found = new Map<string, Parameter | Buffer | AnyModule>();
    const others: Member[] = [];
    const refuse = (path: string, what: string) => new TypeError(`${nameOf(this)}: '${path}' ${what}`);
    const visit = (module: AnyModule, prefix: string, above: readonly object[]): void => {
      for (const [name, value] of module.members()) {
        const path = prefix + name;
        if (isMember(value)) {
          if (above.includes(value))
            throw refuse(path, 'leads back to a module above it; keep that in a #private field');
          if (found.has(path)) throw refuse(path, 'is the name of two entries');
          found.set(path, value);
          if (value instanceof Tensor) module.#held.add(name);
          if (recurse && value instanceof Module) visit(value, `${path}.`, [...above, value]);
        } else if (!(value instanceof Tensor)) {
          if (recurse) others.push([path, value]);
        } else {
          // A call may run with tensors in the place of weights that were computed from them, or that get gradients themselves.
          const isPlain = value.isLeaf && !value.requiresGrad;
          const lost = module.#held.has(name) && depth === 0 && (!calling || isPlain);
          const trains = value.requiresGrad && value.isLeaf;
          // One that came in a forward pass, an input that the layer remembers say, is nobody's weight.
          const stray = trains && (!module.#wasCalled || early.has(value));
          if (!lost && stray && calling && !module.#wasCalled) early.add(value);
          else if (lost || stray)
            throw refuse(
              path,
              `is a plain tensor${lost ? '' : ' that requires a gradient'}, so it is not trained: make it a new Parameter(…)` +
                (lost ? ' or Buffer(…), or noGrad(() => layer.weight.copy_(…))' : ''),
            );
        }
      }
    };
    visit(this, '', [this]);
    const seen = new Set<unknown>([this, ...found.values()]);
    for (const [path, value] of others) {
      const hidden = hiddenIn(value, path, seen);
      if (hidden !== '')
        throw refuse(
          hidden,
          `is not found, since ${nameOf(value)} is no module: let that extend Module, or keep it in a #private field`,
        );
    }
    return found;
  }

  #all<T extends object>(is: (value: object) => value is T): Map<string, T> {
    return firstOfEach(this.#walk(), is);
  }

  /** Each parameter once, by the path where it is found first; with `recurse: false` those of this module itself. */
  namedParameters(o: { recurse?: boolean } = {}): Map<string, Parameter> {
    checkOptions('namedParameters', o, RECURSE);
    const found = firstOfEach(this.#walk(false, o.recurse), isParameter);
    noteKnown(found.values());
    return found;
  }

  /** The same without the paths. */
  parameters(o: { recurse?: boolean } = {}): Parameter[] {
    checkOptions('parameters', o, RECURSE);
    return [...this.namedParameters(o).values()];
  }

  /** Each buffer once, by the path where it is found first. */
  namedBuffers(...none: readonly never[]): Map<string, Buffer> {
    checkOptions('namedBuffers', none[0], {});
    return this.#all((value): value is Buffer => value instanceof Buffer);
  }

  /** This module under '' and each below it once, by its dotted path. */
  namedModules(...none: readonly never[]): Map<string, AnyModule> {
    checkOptions('namedModules', none[0], {});
    const below = this.#all((value): value is AnyModule => value instanceof Module);
    return new Map([['', this as AnyModule], ...below]);
  }

  /** Sets training mode on the whole tree, or throws and leaves all of it, if a layer in it is frozen by `Object.freeze`. */
  train(on = true): this {
    checkArgument('train', 'its argument', on, aBoolean);
    const changes = Array.from(this.namedModules(), ([path, module]) =>
      fieldChange(module, 'training', `${prefixOf(path)}training`, on),
    );
    changeAll(`${nameOf(this)}.${on ? 'train' : 'eval'}`, changes);
    return this;
  }

  /** Evaluation mode: no dropout, running statistics. */
  eval(...none: readonly never[]): this {
    checkOptions('eval', none[0], {});
    return this.train(false);
  }

  /**
   * Moves parameters and buffers to a device. They become new tensors there, without gradients, so make optimizers after it;
   * what is on the device already stays as it is. Tied parameters stay tied. Throws and moves nothing if one is in a place
   * that is frozen or read-only.
   */
  to(device: string): this {
    checkArgument('to', 'device', device, aDevice);
    const moved = new Map<Tensor, Parameter | Buffer>();
    const there = (value: Parameter | Buffer): Parameter | Buffer => {
      if (value.device === device) return value;
      const target = moved.get(value) ?? relocated(value, device);
      moved.set(value, target);
      return target;
    };
    const changes: Change[] = [];
    for (const [path, module] of this.namedModules()) replaceIn(module, prefixOf(path), there, changes);
    changeAll(`${nameOf(this)}.to`, changes);
    for (const value of moved.keys()) noteMoved(value);
    return this;
  }

  /** Copies of all parameters and buffers by dotted path; a tied one appears under each of its paths. */
  stateDict(...none: readonly never[]): StateDict {
    checkOptions('stateDict', none[0], {});
    const state: StateDict = {};
    for (const [path, value] of this.#tensors()) state[path] = value.detach().clone();
    return state;
  }

  /**
   * Copies values into parameters and buffers, converting between floating dtypes, from any device. All or nothing: missing,
   * unexpected, misshapen and released entries are listed in one error and nothing is loaded.
   *
   * @param o strict: default true; false allows missing and unexpected entries, not misshapen ones.
   */
  loadStateDict(state: StateDict, o: { strict?: boolean } = {}): void {
    loadInto(nameOf(this), this.#tensors(), state, o);
  }

  #tensors(): Map<string, Tensor> {
    const tensors = new Map<string, Tensor>();
    for (const [path, value] of this.#walk()) if (!(value instanceof Module)) tensors.set(path, value);
    return tensors;
  }

  /** The tree as PyTorch prints it, with the shapes of parameters, the options of layers, and counts of parameters. */
  override toString(): string {
    const counted = new Set<Tensor>();
    const tree = this.#print(counted, []);
    const total = [...counted].reduce((sum, { size }) => sum + size, 0);
    return tree.includes('\n') ? `${tree} ${total.toLocaleString('en')} parameters` : tree;
  }

  #print(counted: Set<Tensor>, above: readonly object[]): string {
    const [own, below]: [string[], string[]] = [[], []];
    let count = 0;
    for (const [name, value] of this.members()) {
      if (value instanceof Module)
        below.push(`(${name}): ${above.includes(value) ? '…' : value.#print(counted, [...above, this])}`);
      else if (value instanceof Parameter || value instanceof Buffer) {
        own.push(`${name} [${value.shape.join(', ')}]`);
        if (value instanceof Parameter && !counted.has(value)) count += value.size;
        if (value instanceof Parameter) counted.add(value);
      }
    }
    for (const [name, value] of Object.entries(this)) {
      const numbers =
        Array.isArray(value) && value.length > 0 && value.length < 9 && value.every(one => typeof one === 'number');
      if (numbers) own.push(`${name} [${value.join(', ')}]`);
      else if (name !== 'training' && /^(number|boolean|string)$/.test(typeof value)) own.push(`${name} ${value}`);
    }
    const inside = own.join(', ') + (below.length > 0 ? `\n${below.join('\n')}`.replaceAll('\n', '\n  ') : '');
    return `${nameOf(this)}(${inside}${below.length > 0 ? '\n' : ''})${count > 0 ? ` ${count.toLocaleString('en')} parameters` : ''}`;
  }

  /** As `toString`: `JSON.stringify` shows what there is and does not save it; see `stateDict`. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

/** What a hook sees is its own: no container releases it, nor what the hook makes of it. */
function keepAll(values: readonly unknown[]): void {
  foreign++;
  for (const x of values) if (x instanceof Tensor) x.keep();
}

function isPromise(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value;
}

const prefixOf = (path: string): string => (path === '' ? '' : `${path}.`);

const isParameter = (value: object): value is Parameter => value instanceof Parameter;

function firstOfEach<T extends object>(all: Iterable<Member>, is: (value: object) => value is T): Map<string, T> {
  const seen = new Set<object>();
  const found = new Map<string, T>();
  for (const [path, value] of all) {
    if (!is(value) || seen.has(value)) continue;
    seen.add(value);
    found.set(path, value);
  }
  return found;
}

function relocated(value: Parameter | Buffer, device: string): Parameter | Buffer {
  const there = value.detach().to(device);
  return value instanceof Parameter ? new Parameter(there, { requiresGrad: value.requiresGrad }) : new Buffer(there);
}
