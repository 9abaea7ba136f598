/** Activation checkpointing (Chen et al. 2016): what a function needs for its gradient is computed again when that is wanted. */

import { gradientsUpTo, walking } from '../autograd.ts';
import { aFunction, checkArgument, received } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { describe, GraphError } from '../errors.ts';
import { fullLike } from '../fill.ts';
import { type Differentiable, isRecording, Node, newestOrder, withRecording } from '../graph.ts';
import { add } from '../ops/elementwise.ts';
import { restoreInto } from '../ops/inplace.ts';
import { clone } from '../ops/view.ts';
import { defaultGenerator, type Generator } from '../random.ts';
import { sameShape } from '../shape.ts';
import { held, leave, type Storage, tracking, unscoped } from '../storage.ts';
import { isTensor, type Tensor } from '../tensor.ts';
import { watched } from '../watch.ts';

type Result = Tensor | readonly Tensor[];

/** Puts the program into the state that it had when `fn` ran first. Registered by `aroundRecomputation`. */
type Around = <T>(run: () => T) => T;
const contexts = new Set<() => Around>();

/**
 * For hooks that know where in a program they are, in which call of a model say: `remember` is called in the forward pass of each
 * `checkpoint`, and what it returns runs the second computation of that. The result takes the registration back.
 */
export function aroundRecomputation(remember: () => Around): () => void {
  contexts.add(remember);
  return () => contexts.delete(remember);
}

/** What the first run of `fn` found out. */
type First = {
  readonly outputs: readonly Tensor[];
  /** Tensors that gradients go to, as often as an operation read them: each reading gives one summand of the gradient. */
  readonly reads: readonly Tensor[];
  /** Generators and their states before the first draw. */
  readonly drawn: readonly (readonly [Generator, Int32Array])[];
  /** Whole storages that were written in place, with copies of what was there before. */
  readonly written: readonly { readonly whole: Tensor; readonly before: Tensor }[];
  readonly around: readonly Around[];
};

/** The elements of a storage in one axis. */
const wholeOf = ({ storage }: Tensor, like: Tensor): Tensor => like.make(storage, [storage.size], [1]);

/** Runs `fn` without recording, and notes what a second run needs. */
function firstRun(run: () => readonly Tensor[]): First {
  const reads: Tensor[] = [];
  const drawn = new Map<Generator, Int32Array>();
  const written = new Map<Storage, { whole: Tensor; before: Tensor }>();
  const watch = {
    read(x: readonly Tensor[]) {
      for (const one of x) if (one.requiresGrad) reads.push(one);
    },
    write(y: Tensor) {
      if (written.has(y.storage)) return;
      const whole = wholeOf(y, y);
      written.set(y.storage, { whole, before: watched(null, () => unscoped(() => held(clone(whole)))) });
    },
    draw(rng: Generator) {
      if (!drawn.has(rng))
        drawn.set(
          rng,
          watched(null, () => rng.getState()),
        );
    },
  };
  let outputs: readonly Tensor[] = [];
  const around = [...contexts].map(remember => remember());
  const own = tracking(() => {
    outputs = watched(watch, () => withRecording(false, run));
  });
  // What was made inside and written to is made again.
  for (const storage of own.made) {
    written.get(storage)?.before.storage.release();
    written.delete(storage);
    if (storage.holder === own) leave(storage);
  }
  for (const y of outputs) if (y.requiresGrad) reads.push(y);
  return { outputs, reads, drawn: [...drawn], written: [...written.values()], around };
}

/** Runs `run` as the first run was: with its generators, buffers and contexts; afterwards all are as they are now. */
function replayed<T>({ drawn, written, around }: First, defaultFirst: Generator, run: () => T): T {
  const generators = drawn.map(([rng, state]) => [rng === defaultFirst ? defaultGenerator() : rng, state] as const);
  const states = generators.map(([rng]) => rng.getState());
  const now = written.map(({ whole }) => ({ copy: clone(whole), version: whole.storage.version }));
  const put = (values: readonly Tensor[]) =>
    withRecording(false, () => {
      for (const [i, { whole }] of written.entries()) {
        restoreInto(whole, values[i]!);
        whole.storage.version = now[i]!.version;
      }
    });
  for (const [rng, state] of generators) rng.setState(state);
  put(written.map(({ before }) => before));
  try {
    return around.reduce<() => T>((inner, one) => () => one(inner), run)();
  } finally {
    put(now.map(({ copy }) => copy));
    for (const { copy } of now) copy.storage.release();
    for (const [i, [rng]] of generators.entries()) rng.setState(states[i]!);
  }
}

/**
 * Gradients of outputs that have come in the walk that is running; those of a walk that never came to `junction` are of another. `held` is
 * the memory among them that is the walk's own.
 */
type Arrived = { walk: object | null; readonly gradients: Map<number, Tensor>; held: Storage[] };
type State = { readonly first: First; readonly again: () => readonly Tensor[]; readonly arrived: Arrived };

/** From the gradient of one output nothing flows on yet: it waits until those of all have come. */
const outputRule: Differentiable<{ readonly state: State; readonly index: number }> = {
  name: 'checkpoint',
  builtIn: true,
  backward(gy, { attrs: { state, index }, inputs }) {
    const { arrived } = state;
    if (arrived.walk !== walking) {
      arrived.gradients.clear();
      arrived.held = [];
    }
    arrived.walk = walking;
    arrived.gradients.set(index, gy);
    // The walk would free what its rules made as soon as this one has ended.
    if (walking!.release(gy.storage)) arrived.held.push(held(gy).storage);
    return [fullLike('checkpoint', inputs[0]!, 0)];
  },
};

/** The node between the outputs and all that gradients go to; its result is a number that nobody reads. */
const junctionRule: Differentiable<State> = {
  name: 'checkpoint',
  builtIn: true,
  backward(_, node) {
    const { first, again, arrived } = node.attrs;
    const gradients = arrived.walk === walking ? new Map(arrived.gradients) : new Map<number, Tensor>();
    const waited = arrived.held;
    arrived.gradients.clear();
    arrived.held = [];
    arrived.walk = null;
    // With the values of the first run, or an error.
    const targets = node.inputs.map((_, i) => node.input(i));
    const createGraph = isRecording();
    const newest = newestOrder();
    let made: ReadonlySet<Storage> = new Set();
    const outputs = withRecording(true, () => {
      let found: readonly Tensor[] = [];
      const own = tracking(() => {
        found = again();
      });
      made = new Set(own.made);
      // Not the walk's: `fn` may keep what it makes.
      for (const storage of own.made) if (storage.holder === own) storage.holder = null;
      return found;
    });
    const check = (x: Tensor) => {
      if (x.node === null ? made.has(x.storage) : x.node.order > newest) return;
      throw new GraphError(
        `checkpoint: fn reads ${describe(x)}, which requires a gradient, in the backward pass, but did not in the forward pass; ` +
          'it must compute the same each time',
      );
    };
    for (const [i, y] of outputs.entries()) checkSame(first.outputs[i], y);
    const reached = outputs.flatMap((y, i) => {
      const gy = gradients.get(i);
      return gy !== undefined && y.requiresGrad ? [[y, gy] as const] : [];
    });
    const summands = gradientsUpTo(reached, new Set(targets), createGraph, check);
    // The walk's again, which frees what is no summand.
    for (const storage of waited) if (!storage.kept) leave(storage);
    // Each reading of a tensor is an input of its own, so that sums are made in the order in which they are without a checkpoint.
    return targets.map((x, i) => {
      const rest = summands.get(x) ?? [];
      const isLast = !targets.includes(x, i + 1);
      const taken = isLast ? rest.splice(0) : rest.splice(0, 1);
      return taken.length === 0 ? null : taken.reduce((a, b) => add(a, b));
    });
  },
};

function checkSame(before: Tensor | undefined, now: Tensor): void {
  if (before === undefined || !sameShape(before.shape, now.shape) || before.dtype !== now.dtype)
    throw new GraphError(
      `checkpoint: fn returned ${before === undefined ? 'fewer outputs' : describe(before)} in the forward pass and ` +
        `${describe(now)} in the backward pass; it must compute the same each time`,
    );
}

/**
 * fn(...inputs), of whose graph nothing is kept: `backward` computes it again, and takes the gradients from that. It saves the memory of
 * what lies between inputs and outputs, and costs a second forward pass. The gradients are those of the plain call, to the last bit.
 *
 * `fn` must compute the same both times: what modules are in it should be in the same mode, training or not, in backward (those of the models
 * of `@otimes/nn` with the option `checkpoint` always are). Random numbers are drawn again from the same states, of all generators; what it
 * writes in place (the averages of batch norm) is as the first run left it afterwards. What else it changes, fields of objects say, it changes
 * twice. Hooks on layers see both runs, the first inside of `noGrad`; where they compute a layer in another way if it is recorded, as those of
 * KFAC, EKFAC and STEVE may, gradients can differ in the last bits. Inside of `noGrad` this is the plain call.
 *
 * @param fn returns a tensor or an array of tensors. Parameters, and other tensors that it does not get as arguments, have their gradients too
 * @param inputs what `fn` takes, tensors or not
 * @throws GraphError in backward if an input or a parameter was changed in place since, or if `fn` returned or read something else
 */
export function checkpoint<A extends readonly unknown[], R extends Result>(fn: (...inputs: A) => R, ...inputs: A): R {
  checkArgument('checkpoint', 'fn', fn, aFunction);
  if (!isRecording()) return fn(...inputs);
  let isOne = false;
  const run = (): readonly Tensor[] => {
    const y: unknown = fn(...inputs);
    isOne = isTensor(y);
    const list = isOne ? [y] : y;
    if (!Array.isArray(list) || !list.every(isTensor))
      throw new TypeError(`checkpoint: expected fn to return a tensor or an array of tensors, got ${received(y)}`);
    return list;
  };
  const generator = defaultGenerator();
  const first = firstRun(run);
  const back = (outputs: readonly Tensor[]): R => (isOne ? outputs[0] : outputs) as R;
  if (first.reads.length === 0) return back(first.outputs);
  const like = first.reads[0]!;
  const state: State = {
    first,
    again: () => replayed(first, generator, run),
    arrived: { walk: null, gradients: new Map(), held: [] },
  };
  const token = fullLike('checkpoint', like, 0);
  token.requiresGrad = true;
  // Inputs without a gradient too: their values are needed as they are.
  const plain = inputs.filter(isTensor).filter(x => !x.requiresGrad);
  token.node = new Node(junctionRule, [...first.reads, ...plain], token, state) as Node;
  return back(
    first.outputs.map((y, index) => {
      if (!isFloat(y.dtype)) return y;
      const out = y.make(y.storage, y.shape, y.strides, y.offset);
      out.requiresGrad = true;
      out.node = new Node(outputRule, [token], out, { state, index }) as Node;
      return out;
    }),
  );
}
