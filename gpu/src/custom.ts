/** `gpuKernel`: a user's own elementwise function, in JavaScript, on every device. */

import {
  type Backend,
  type DType,
  DTypeError,
  defineOp,
  describe,
  GraphError,
  type Op,
  type Operand,
  promote,
  type Shape,
  type Tensor,
} from '@otimes/core';
import {
  aString,
  broadcastShapes,
  checkArgument,
  checkOptions,
  checkTensors,
  isPlainObject,
  type OptionKinds,
  pathTo,
  received,
  sizeOf,
  withLayout,
} from '@otimes/core/extend';
import type { GpuBackend } from './backend.ts';
import { type Entry, type KernelSource, kernelSource } from './custom-source.ts';

/** Arguments of a kernel: for each of the function's a tensor, or a number that is the same for all elements. */
export type KernelArguments<A extends readonly number[]> = { readonly [I in keyof A]: Tensor | number };

/** What a function sees as `this`. */
export type KernelThis = { readonly constants: Readonly<Record<string, number>> };

export type KernelOptions<A extends readonly number[] = readonly number[]> = {
  /** In errors and in the graph; default: the function's name, or 'gpuKernel'. */
  readonly name?: string;
  /** Numbers that the function finds as `this.constants.name`; they are written into the kernel. */
  readonly constants?: Readonly<Record<string, number>>;
  /**
   * The gradient, a function of the same kind: of that of the result, `gy`, and the arguments it makes an array with the gradient by
   * each argument. It is compiled as the function is, and has no gradient itself.
   */
  readonly gradient?: ((this: KernelThis, gy: number, ...x: A) => readonly number[]) | string;
  /**
   * Instead of `gradient`: the same in tensor operations, so that there are gradients of any order. Null where there is none. A result
   * that broadcasting made larger is summed to the argument's shape.
   */
  readonly backward?: (gy: Tensor, ...x: KernelArguments<A>) => readonly (Tensor | null)[];
};

const functionOrText = {
  expected: 'a function, or its text',
  is: (v: unknown) => typeof v === 'function' || typeof v === 'string',
};
const OPTIONS: OptionKinds<KernelOptions> = {
  name: aString,
  constants: {
    expected: 'an object of numbers',
    is: v => isPlainObject(v) && Object.values(v).every(x => typeof x === 'number'),
  },
  gradient: functionOrText,
  backward: { expected: 'a function', is: v => typeof v === 'function' },
};

type Plain = (this: KernelThis, ...x: readonly number[]) => unknown;

/** A function on both sides: its text for a GPU, and itself for the CPU, which of a text is there on demand. */
type Both = { readonly source: KernelSource; plain(): Plain; readonly self: KernelThis };

function bothOf(
  who: string,
  f: ((...x: never) => unknown) | string,
  constants: Readonly<Record<string, number>>,
  returns: 'a number' | 'an array',
): Both {
  if (typeof f === 'function') checkNotNative(who, f);
  const source = kernelSource(who, String(f), constants, returns);
  let plain: Plain | null = typeof f === 'string' ? null : (f as Plain);
  return {
    source,
    plain() {
      plain ??= evaluated(who, source.expression);
      return plain;
    },
    self: { constants },
  };
}

/** Some functions have no text: those of the language, and what `bind` makes. */
function checkNotNative(
  who: string,
  f: ((...x: never) => unknown) & { readonly name: string; readonly length: number },
): void {
  if (!/\{\s*\[\s*native code\s*\]\s*\}\s*$/.test(String(f))) return;
  if (Reflect.get(Math, f.name) !== f)
    throw new TypeError(
      `${who}: ${f.name.trim() || 'the function'} is native code, as all that bind makes; give the function itself, its numbers as arguments or constants`,
    );
  const list = f.length === 2 ? 'x, y' : 'x';
  const head = f.length === 2 ? `(${list})` : list;
  throw new TypeError(`${who}: Math.${f.name} is native code, wrap it: ${head} => Math.${f.name}(${list})`);
}

function evaluated(who: string, expression: string): Plain {
  try {
    return new Function(`return (${expression}\n);`)() as Plain;
  } catch (error) {
    throw new Error(
      `${who}: on a CPU a function's text has to be evaluated, and that failed (${error}); the function itself needs no right to it`,
      { cause: error },
    );
  }
}

/** The arguments of a call: numbers where they are, null for the next tensor. */
type Call = { readonly args: readonly (number | null)[] };

const isGpu = (backend: Backend): backend is GpuBackend => 'elementwise' in backend;
/** Arrays that gpu.js takes. */
const MOST_TENSORS = 7;

/** out ← the function of tensors and numbers, or entry `pick` of what it returns. */
function compute(
  who: string,
  { source, plain, self }: Both,
  backend: Backend,
  x: readonly Operand[],
  args: readonly (number | null)[],
  out: Operand,
  pick?: Entry,
): void {
  if (isGpu(backend)) {
    if (x.length > MOST_TENSORS)
      throw new RangeError(`${who}: a kernel on '${backend.device}' takes ${MOST_TENSORS} tensors, got ${x.length}`);
    let next = 0;
    const names = args.map((_, i) => `a${i}`);
    const operands = Object.fromEntries(args.map((value, i) => [names[i], value ?? x[next++]!] as const));
    return backend.elementwise(source.body(names, pick), operands as Record<string, Operand | number>, out);
  }
  if (backend.readAsync !== undefined)
    throw new TypeError(`${who}: expected the device 'gpu', or one that is read at once, got '${backend.device}'`);
  const size = sizeOf(out.shape);
  const columns = x.map(t => backend.read(withLayout(t, out.shape, pathTo(t, out.shape).strides)));
  const rounded = out.dtype === 'float32' ? Math.fround : (value: number) => value;
  const values = args.map(value => (value === null ? 0 : rounded(value)));
  const tensors = args.flatMap((value, i) => (value === null ? [i] : []));
  const target = out.storage.array;
  const run = plain();
  for (let i = 0; i < size; i++) {
    for (const [k, at] of tensors.entries()) values[at] = columns[k]![i]!;
    const result = run.apply(self, values);
    target[out.offset + i] = pick === undefined ? numberOf(who, result) : entryOf(who, result, pick);
  }
}

function numberOf(who: string, value: unknown): number {
  if (typeof value === 'number' || typeof value === 'boolean') return Number(value);
  throw new TypeError(`${who}: expected the function to return a number, got ${received(value)}`);
}

function entryOf(who: string, value: unknown, pick: Entry): number {
  if (Array.isArray(value) && value.length === pick.of) return numberOf(`${who}'s gradient`, value[pick.entry]);
  throw new TypeError(`${who}: expected the gradient to return ${pick.of} numbers, got ${received(value)}`);
}

function resultOf(who: string, x: readonly Tensor[]): { shape: Shape; dtype: DType } {
  for (const t of x)
    if (t.dtype !== 'float32' && t.dtype !== 'float64')
      throw new DTypeError(`${who}: expected floating tensors, got ${describe(t)}; x.astype('float32') makes one`);
  return {
    shape: x.map(t => t.shape).reduce((a, b) => broadcastShapes(who, a, b)),
    dtype: x.map(t => t.dtype).reduce(promote),
  };
}

/** The gradient by one argument of a function with `params`. */
function slopeOf(
  who: string,
  gradient: NonNullable<KernelOptions['gradient']>,
  constants: Readonly<Record<string, number>>,
  params: readonly string[],
): (gy: Tensor, x: readonly (Tensor | number)[], pick: Entry) => Tensor {
  const name = `${who}'s gradient`;
  const both = bothOf(name, gradient, constants, 'an array');
  const most = params.length + 1;
  if (both.source.params.length > most)
    throw new TypeError(
      `${name}: expected a function of (gy, ${params.join(', ')}), got (${both.source.params.join(', ')})`,
    );
  const names = Array.from({ length: most }, (_, i) => `a${i}`);
  for (const entry of params.keys()) both.source.body(names, { entry, of: params.length });
  const op = defineOp<Call & { readonly pick: Entry }>({
    name,
    shape: x => resultOf(name, x),
    forward: (backend, x, out, { args, pick }) => compute(who, both, backend, x, args, out, pick),
    backward() {
      throw new GraphError(`${name}: has no gradient itself; the option backward, in tensor operations, has`);
    },
  });
  return (gy, x, pick) => {
    const args = x.map(value => (typeof value === 'number' ? value : null));
    return op([gy, ...x.filter(value => typeof value !== 'number')], { args: [null, ...args], pick });
  };
}

/** The function that `gpuKernel` makes. */
export type Kernel<A extends readonly number[]> = (...x: KernelArguments<A>) => Tensor;

/**
 * An elementwise function in JavaScript as an operation on tensors. On a GPU gpu.js translates its text; on a CPU it runs itself. It computes with
 * its arguments, numbers, and functions of `Math`; it may have variables, conditions and loops. Tensors broadcast.
 *
 *     const leaky = gpuKernel((x: number, slope: number) => (x > 0 ? x : slope * x), {
 *       gradient: (gy, x, slope) => [x > 0 ? gy : slope * gy, x > 0 ? 0 : x * gy],
 *     });
 *     leaky(x, 0.1);
 */
export function gpuKernel<A extends readonly number[]>(
  f: (this: KernelThis, ...x: A) => number | boolean,
  options?: KernelOptions<A>,
): Kernel<A>;
/** The same of the function's text: for code that is made, or that something rewrites. */
export function gpuKernel(source: string, options?: KernelOptions): Kernel<readonly number[]>;
export function gpuKernel(
  f: ((this: KernelThis, ...x: never) => number | boolean) | string,
  options: KernelOptions = {},
): Kernel<readonly number[]> {
  checkArgument('gpuKernel', 'the function', f, functionOrText);
  checkOptions('gpuKernel', options, OPTIONS);
  const { constants = {}, gradient, backward } = options;
  const name = options.name ?? ((typeof f === 'function' && f.name) || 'gpuKernel');
  const who = name === 'gpuKernel' ? name : `gpuKernel: ${name}`;
  if (gradient !== undefined && backward !== undefined)
    throw new TypeError(`${who}: expected gradient or backward, got both`);
  const forward = bothOf(who, f, constants, 'a number');
  const { params } = forward.source;
  if (params.length === 0) throw new TypeError(`${who}: expected a function of at least one argument`);
  const slope = gradient === undefined ? null : slopeOf(who, gradient, constants, params);
  const op: Op<Call> = defineOp<Call>({
    name: who,
    shape: x => resultOf(who, x),
    forward: (backend, x, out, { args }) => compute(who, forward, backend, x, args, out),
    backward(gy, node) {
      let next = 0;
      const x = node.attrs.args.map(value => value ?? node.input(next++));
      const tensors = x.flatMap((value, i) => (typeof value === 'number' ? [] : [i]));
      if (slope !== null)
        return tensors.map((i, k) => (node.needs(k) ? slope(gy, x, { entry: i, of: params.length }) : null));
      if (backward === undefined)
        throw new GraphError(
          `${who}: has no gradient; the option gradient gives it, or backward, in tensor operations`,
        );
      const all: unknown = backward(gy, ...x);
      if (!Array.isArray(all) || all.length !== params.length)
        throw new TypeError(
          `${who}: expected backward to return ${params.length} tensors or null, got ${received(all)}`,
        );
      return tensors.map(i => all[i] as Tensor | null);
    },
  });
  return (...x) => {
    const list = `(${params.join(', ')})`;
    if (x.length !== params.length)
      throw new TypeError(
        `${who}: expected ${params.length} argument${params.length === 1 ? '' : 's'} ${list}, got ${x.length}`,
      );
    const args = x.map(value => (typeof value === 'number' ? value : null));
    const tensors = x.filter(value => typeof value !== 'number');
    checkTensors(who, ...tensors);
    if (tensors.length === 0) throw new TypeError(`${who}: expected a tensor among ${list}, got numbers alone`);
    return op(tensors, { args });
  };
}
