/** Module: a tree of layers with their parameters, forward hooks, and state by PyTorch's dotted names. */

import { type Handle, type StateDict, Tensor } from '@otimes/core';
import {
  aBoolean,
  aFunction,
  aTensor,
  checkArgument,
  checkOptions,
  inspect,
  nameOf,
  noteKnown,
  received,
} from '@otimes/core/extend';
import { keepAll, running } from './calls.ts';
import { changeAll, fieldChange, firstOfEach, hiddenIn, isMember, type Member, membersIn } from './members.ts';
import { Buffer, Parameter } from './parameter.ts';
import { printed } from './print.ts';
import { loadInto } from './state.ts';
import { ModuleTree } from './tree.ts';

/** Any module, whatever it takes and returns. */
// biome-ignore lint/suspicious/noExplicitAny: the parameters of forward are contravariant, so no narrower type covers all
export type AnyModule = Module<any, unknown>;

/** Gets the inputs and the output of a call; what it returns replaces the output, unless that is undefined. */
export type ForwardHook = (module: AnyModule, inputs: readonly unknown[], output: unknown) => unknown;

/** Gets the inputs of a call before it runs. */
export type BeforeHook = (module: AnyModule, inputs: readonly unknown[]) => void;

type Hooks<H> = readonly { readonly hook: H; readonly borrows: boolean }[];

const BORROWS = { borrows: aBoolean };
const RECURSE = { recurse: aBoolean };

/** Plain tensors that require a gradient and were fields of modules before the first call of those. */
const early = new WeakSet<Tensor>();

/**
 * The base of all layers and models. Parameters, buffers and submodules are found in public fields, and in plain objects,
 * arrays, maps and sets in those fields, in that order and by their names: `heads.cat.weight`. A parameter or module in an
 * instance of another class is an error, and so is a plain tensor in the place of a parameter or buffer. `#private` fields are
 * not searched; an optimizer's `step` throws for a layer in one.
 *
 * A subclass implements `forward`; users call `call`, which also runs the hooks. Most modules take one tensor and return one;
 * a module with other inputs or results declares them: `class Pair extends Module<[x: Tensor, y: Tensor], Tensor>`.
 */
export abstract class Module<Args extends readonly unknown[] = [x: Tensor], Result = Tensor> extends ModuleTree {
  /** Layers of the library: the names of the fields that are parameters or buffers in every instance. */
  declare static readonly tensors?: readonly string[];
  /** Whether dropout and batch norm behave as in training. `train` and `eval` set it. */
  training = true;
  /** One object for each registration, so that a hook that is registered twice can be removed once. */
  #hooks: Hooks<ForwardHook> = [];
  #before: Hooks<BeforeHook> = [];
  /** Whether the class is a layer of the library, and not one that extends it: only those have a `builtIn` themselves. */
  readonly #builtIn = Object.hasOwn(this.constructor, 'builtIn');
  #wasCalled = false;
  /** Names of fields in which a parameter or buffer was found. */
  readonly #held = new Set((this.constructor as typeof Module).tensors);
  /** The methods of the class; an instance may have replaced them. */
  readonly #forward = this.forward;
  readonly #call = this.call;

  /** Synchronous. With two inputs or another result: `extends Module<[x: Tensor, y: Tensor], Result>`. */
  abstract forward(...inputs: Args): Result;

  /** What `call` runs instead of `forward`, if anything. */
  #substitute: ((...inputs: Args) => Result) | null = null;
  #substituteBorrows = false;

  /**
   * Makes `call` run `forward` instead of the method: for an optimizer that stores the weights in another basis, for example.
   * It must compute the same function. Throws if there is a substitute already. It may keep the tensors that it gets, unless it
   * `borrows`; see `onForward`.
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
   * Whether this module may keep tensors of a forward pass after it. False for layers of the library; true for classes of the
   * program, also those that extend a layer, and for layers whose `forward` was replaced, unless they override this. A
   * container of layers that keep nothing, such as `Sequential`, releases the tensors between its layers with the graph.
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
    if (running.owners > 0 && this.keepsTensors()) running.foreign++;
    running.depth++;
    try {
      const plain = running.observer === null && this.#before.length === 0 && this.#hooks.length === 0;
      return plain ? this.#run(inputs) : this.#runSeen(inputs);
    } finally {
      running.depth--;
    }
  }

  /** Runs the forward pass with its hooks, or with the observer if there is one. */
  #runSeen(inputs: Args): Result {
    const { observer } = running;
    if (observer !== null) {
      const output = this.#run(inputs);
      observer(this, output, inputs);
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

  /** For the outermost module: its parameters count as known from now on, and one that it cannot list is an error. */
  #beforeFirstCall(): void {
    checkArgument(nameOf(this), 'its forward', this.forward, aFunction);
    if (running.depth === 0) noteKnown(firstOfEach(this.#walk(true), isParameter).values());
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
   * Runs `hook` after each `call`, in the order of registration. The hook may keep the tensors that it gets. With `borrows`
   * (default false) it promises to drop them before backward has passed them, so that their memory can be released then.
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

  /** The entries of this module itself, with their names. */
  protected *members(): Iterable<Member> {
    for (const [name, value] of Object.entries(this)) yield* membersIn(name, value);
  }

  /**
   * Every parameter, buffer and module of the tree, depth first, by its dotted path; one that is used in two places is listed
   * twice. Throws if a module contains itself, and for a tensor that requires a gradient and cannot be listed.
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
          // During a call, tensors that were computed from weights, or that get gradients themselves, may replace the weights.
          const isPlain = value.isLeaf && !value.requiresGrad;
          const lost = module.#held.has(name) && running.depth === 0 && (!calling || isPlain);
          const trains = value.requiresGrad && value.isLeaf;
          // One that was stored during a forward pass, such as an input that the layer remembers, is no weight.
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
    return new Map([['', this as AnyModule], ...this.#all(isModule)]);
  }

  /** Each module right below this one once, by its name. */
  namedChildren(): Map<string, AnyModule> {
    return firstOfEach(this.#walk(false, false), isModule);
  }

  /** Sets training mode in the whole tree. Throws and changes nothing if a module in it is frozen by `Object.freeze`. */
  train(on = true): this {
    checkArgument('train', 'its argument', on, aBoolean);
    const changes = Array.from(this.namedModules(), ([path, module]) =>
      fieldChange(module, 'training', `${prefixOf(path)}training`, on),
    );
    changeAll(`${nameOf(this)}.${on ? 'train' : 'eval'}`, changes);
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
   * Copies values into parameters and buffers, converting between floating dtypes, from any device; from another one that is
   * read with await, pass `await readStateDict(state)`. All or nothing: missing, unexpected, misshapen and released entries are
   * listed in one error, and nothing is loaded.
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
    return printed(this, module => module.members());
  }

  /** The same text as `toString`: `JSON.stringify` shows a module and does not save it; `stateDict` does. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

function isPromise(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value;
}

const prefixOf = (path: string): string => (path === '' ? '' : `${path}.`);

const isModule = (value: object): value is AnyModule => value instanceof Module;
const isParameter = (value: object): value is Parameter => value instanceof Parameter;
