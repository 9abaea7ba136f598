/** Module: a tree of layers with their parameters, forward hooks, and state by PyTorch's dotted names. */

import { describe, type Handle, noGrad, type StateDict, sameShape, Tensor } from '@otimes/core';
import { Buffer, Parameter } from './parameter.ts';

/** Any module, whatever it takes and returns. */
// biome-ignore lint/suspicious/noExplicitAny: the parameters of forward are contravariant, so no narrower type covers all
export type AnyModule = Module<any, unknown>;

/** Sees what went into a module and what came out; a result other than undefined takes the output's place. */
export type ForwardHook = (module: AnyModule, inputs: readonly unknown[], output: unknown) => unknown;

/** Sees what is about to go into a module. */
export type BeforeHook = (module: AnyModule, inputs: readonly unknown[]) => void;

/** One entry of a module: a parameter, a buffer or a submodule, under the name it has there. */
type Member = readonly [name: string, value: Parameter | Buffer | AnyModule];

/**
 * The base of all layers and models. Parameters, buffers and submodules are found in the object's own fields, and in
 * fields that hold arrays of them. A subclass writes `forward`; users write `call`, which also runs the hooks. Messages call it
 * by its class's `name`, which the library's own classes write out, since bundlers shorten it.
 */
export abstract class Module<Args extends readonly unknown[] = [x: Tensor], Result = Tensor> {
  /** Whether dropout and batch statistics act as in training. Switched by `train` and `eval`. */
  training = true;
  /** In boxes, so that a hook that is registered twice is removed once. */
  #hooks: readonly { readonly hook: ForwardHook; readonly borrows: boolean }[] = [];
  #before: readonly { readonly hook: BeforeHook; readonly borrows: boolean }[] = [];

  abstract forward(...inputs: Args): Result;

  /** What `call` runs in the place of `forward`, if anything. */
  #substitute: ((...inputs: Args) => Result) | null = null;

  /**
   * Lets `call` run `forward` elsewhere: by an optimizer that keeps the weights in another basis, say. It must compute the
   * same function. Throws if somebody else does so already.
   */
  substitute(forward: (...inputs: Args) => Result): Handle {
    if (this.#substitute !== null)
      throw new Error(`${this.constructor.name}: its forward pass is substituted already; remove that one first`);
    this.#substitute = forward;
    return {
      remove: () => {
        if (this.#substitute === forward) this.#substitute = null;
      },
    };
  }

  /**
   * Whether this module may hold on to tensors of a forward pass. True unless a class says otherwise, as the layers here
   * do: a container of such layers gives the tensors between them back with the graph, see `Sequential`.
   */
  keepsTensors(): boolean {
    return true;
  }

  /** `forward`, with the hooks before and after it. */
  call(...inputs: Args): Result {
    for (const { hook, borrows } of this.#before) {
      if (!borrows) keepAll(inputs);
      hook(this, inputs);
    }
    let output = this.#substitute === null ? this.forward(...inputs) : this.#substitute(...inputs);
    for (const { hook, borrows } of this.#hooks) {
      if (!borrows) keepAll([...inputs, output]);
      const replaced = hook(this, inputs, output);
      if (replaced !== undefined) output = replaced as Result;
    }
    return output;
  }

  /**
   * Runs `hook` after each `call`, in the order of registration. What it sees is its own to keep, unless it `borrows`:
   * then it promises to let go of tensors when backward has passed them.
   */
  onForward(hook: ForwardHook, { borrows = false }: { borrows?: boolean } = {}): Handle {
    const added = { hook, borrows };
    this.#hooks = [...this.#hooks, added];
    return {
      remove: () => {
        this.#hooks = this.#hooks.filter(one => one !== added);
      },
    };
  }

  /** Runs `hook` before each `call`, in the order of registration; `borrows` as for `onForward`. */
  beforeForward(hook: BeforeHook, { borrows = false }: { borrows?: boolean } = {}): Handle {
    const added = { hook, borrows };
    this.#before = [...this.#before, added];
    return {
      remove: () => {
        this.#before = this.#before.filter(one => one !== added);
      },
    };
  }

  /** The parameters, buffers and submodules of this module itself, under their names. */
  protected *members(): Iterable<Member> {
    for (const [name, value] of Object.entries(this)) {
      if (isMember(value)) yield [name, value];
      else if (Array.isArray(value))
        for (let i = 0; i < value.length; i++) if (isMember(value[i])) yield [`${name}.${i}`, value[i]];
    }
  }

  /** Every entry of the tree, depth first, with its dotted path. A module used in two places comes twice. */
  #walk(prefix: string): Member[] {
    const found: Member[] = [];
    for (const [name, value] of this.members()) {
      const path = prefix === '' ? name : `${prefix}.${name}`;
      found.push([path, value]);
      if (value instanceof Module) found.push(...value.#walk(path));
    }
    return found;
  }

  /** Each parameter once, by the path where it is found first; with `recurse: false` those of this module itself. */
  namedParameters({ recurse = true }: { recurse?: boolean } = {}): Map<string, Parameter> {
    const members = recurse ? this.#walk('') : [...this.members()];
    return firstOfEach(members, (value): value is Parameter => value instanceof Parameter);
  }

  parameters(): Parameter[] {
    return [...this.namedParameters().values()];
  }

  /** Each buffer once, by the path where it is found first. */
  namedBuffers(): Map<string, Buffer> {
    return firstOfEach(this.#walk(''), (value): value is Buffer => value instanceof Buffer);
  }

  /** This module under '' and each below it once, by its dotted path. */
  namedModules(): Map<string, AnyModule> {
    const root: Member = ['', this];
    return firstOfEach([root, ...this.#walk('')], (value): value is AnyModule => value instanceof Module);
  }

  /** Sets training mode on the whole tree. */
  train(on = true): this {
    for (const module of this.namedModules().values()) module.training = on;
    return this;
  }

  /** Evaluation mode: no dropout, running statistics. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Moves parameters and buffers to a device. They become new tensors there, so make optimizers after it; what is on
   * the device already stays as it is. Tied parameters stay tied.
   */
  to(device: string): this {
    const moved = new Map<Tensor, Tensor>();
    const move = (holder: object): void => {
      for (const [name, value] of Object.entries(holder)) {
        if (Array.isArray(value)) move(value);
        if (!(value instanceof Parameter || value instanceof Buffer) || value.device === device) continue;
        const target = moved.get(value) ?? relocated(value, device);
        moved.set(value, target);
        Reflect.set(holder, name, target);
      }
    };
    for (const module of this.namedModules().values()) move(module);
    return this;
  }

  /** Copies of all parameters and buffers by dotted path; a tied one appears under each of its paths. */
  stateDict(): StateDict {
    const state: StateDict = {};
    for (const [path, value] of this.#walk('')) if (!(value instanceof Module)) state[path] = value.detach().clone();
    return state;
  }

  /**
   * Copies values into parameters and buffers, converting between floating dtypes. All or nothing: missing, unexpected
   * and misshapen entries are listed in one error and nothing is loaded.
   *
   * @param strict default true; false allows missing and unexpected entries, not misshapen ones.
   */
  loadStateDict(state: StateDict, { strict = true }: { strict?: boolean } = {}): void {
    const own = new Map<string, Tensor>();
    for (const [path, value] of this.#walk('')) if (!(value instanceof Module)) own.set(path, value);
    const problems: string[] = [];
    for (const [path, target] of own) {
      const value = Object.hasOwn(state, path) ? state[path] : undefined;
      if (value === undefined) {
        if (strict) problems.push(`missing: ${path} ${describe(target)}`);
      } else if (!fits(value, target))
        problems.push(`does not fit: ${path} expects ${describe(target)}, got ${describe(value)}`);
    }
    if (strict)
      for (const [path, value] of Object.entries(state))
        if (!own.has(path)) problems.push(`unexpected: ${path} ${describe(value)}`);
    if (problems.length > 0)
      throw new Error(
        `loadStateDict: nothing was loaded, since ${problems.length} entries are wrong\n  ${problems.join('\n  ')}`,
      );
    noGrad(() => {
      for (const [path, target] of own) if (Object.hasOwn(state, path)) target.copy_(state[path]!);
    });
  }
}

/** What a hook sees is its own: no container releases it. */
function keepAll(values: readonly unknown[]): void {
  for (const x of values) if (x instanceof Tensor) x.keep();
}

function isMember(value: unknown): value is Parameter | Buffer | AnyModule {
  return value instanceof Parameter || value instanceof Buffer || value instanceof Module;
}

function firstOfEach<T extends object>(all: readonly Member[], is: (value: object) => value is T): Map<string, T> {
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

function fits(value: Tensor, target: Tensor): boolean {
  const floats = [value, target].every(x => x.dtype === 'float32' || x.dtype === 'float64');
  return (floats || value.dtype === target.dtype) && sameShape(value.shape, target.shape);
}
