/** Scopes: stretches of a program at whose end the memory that was made inside is given back. `storage.ts` has the table. */

import { aFunction, checkArgument, dropPromise, received } from './check.ts';
import type { Node } from './graph.ts';
import { inScope, leave, Scope, Storage, tracking, within } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** The tensors that a node's rule may ask for: result, inputs, and those that its attributes are or hold, such as statistics. */
function neededBy({ result, inputs, attrs }: Node): Tensor[] {
  const own = isTensor(attrs) ? [attrs] : typeof attrs === 'object' && attrs !== null ? Object.values(attrs) : [];
  return [result, ...inputs, ...own.filter(isTensor)];
}

/** What the graph of a tensor needs for backward survives the scopes that are open. */
export function keepGraph(x: { readonly node: Node | null }): void {
  if (!inScope()) return;
  const open: (Node | null)[] = [x.node];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node === null || node.survives || node.freed) continue;
    node.survives = true;
    for (const one of neededBy(node)) {
      const { holder } = one.storage;
      if (holder instanceof Scope && holder.releases) one.storage.keep();
      open.push(one.node);
    }
  }
}

const ENDED =
  'when its scope ended; return it from the scope, mark it with keep(), or copy it out with toArray() before';
const INSIDE =
  'with its graph, since a built-in layer or loss made it between its input and its result; a forward hook on the layer may ' +
  'keep it, and so may a module with a forward of its own';

/**
 * Runs `run` and then releases every tensor created inside, except those in its result (a tensor, or arrays, maps, sets
 * and objects of them), what their graphs need for backward, gradients of leaves, and what was marked with `keep` or is
 * seen by an ndarray. Nothing but an accelerator: without it the same memory is collected a little later. Nested scopes
 * hand what they return to the scope around them.
 */
export function scope<T>(run: () => T): T {
  if (typeof run !== 'function') checkArgument('scope', 'run', run, aFunction);
  const own = new Scope(true);
  let result: T | undefined;
  try {
    result = within(own, run);
    if (result instanceof Promise && dropPromise(result))
      throw new TypeError('scope: expected a synchronous function, got one that returns a promise');
    return result;
  } finally {
    if (own.made.length > 0) end(own, result);
  }
}

/** Releases what a scope made, but for what is kept and what escapes to the scope around it. */
function end(own: Scope, result: unknown): void {
  const escaping = storagesIn(result);
  for (const storage of own.made) {
    if (storage.holder !== own) continue;
    if (escaping.has(storage)) leave(storage);
    else storage.release(ENDED);
  }
}

/**
 * Runs `run`, which makes tensors that only its result depends on and that nobody else sees. They are released with the
 * graph that they became part of, or at once where they became part of none. For the insides of built-in layers.
 *
 * @param owns asked at the end: whether that is so. False where code ran that may have kept what it saw; default true.
 */
export function owningIntermediates(run: () => Tensor, owns: () => boolean = () => true): Tensor {
  if (typeof run !== 'function') checkArgument('owningIntermediates', 'run', run, aFunction);
  let result: Tensor | undefined;
  const own = tracking(() => {
    result = run();
  });
  if (!(result?.storage instanceof Storage))
    throw new TypeError(`owningIntermediates: expected run to return a tensor, got ${received(result)}`);
  const { storage, node } = result;
  let adopted = false;
  const owning = owns();
  for (const one of own.made) {
    if (one.holder !== own) continue;
    if (one === storage || !owning) leave(one);
    else if (node === null) one.release(INSIDE);
    else {
      one.holder = node;
      adopted = true;
    }
  }
  // Some have a node of their own; indices and masks have none.
  if (adopted) node!.adopt(own.made);
  return result;
}

/** Releases what a node that is freed, or several of them, was the holder of. */
export function releaseInside(holder: object, storages: readonly Storage[]): void {
  for (const storage of storages) if (storage.holder === holder) storage.release(INSIDE);
}

/**
 * The storages of all tensors in `value` (a tensor, or arrays, maps, sets and objects of them), and of all that their
 * graphs need for backward.
 */
function storagesIn(value: unknown): Set<Storage> {
  const storages = new Set<Storage>();
  const seen = new Set<unknown>();
  const open: unknown[] = [];
  const all = (items: Iterable<unknown>) => {
    for (const item of items) if (typeof item === 'object' && item !== null && !seen.has(item)) open.push(item);
  };
  all([value]);
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    if (typeof item !== 'object' || item === null || seen.has(item)) continue;
    seen.add(item);
    if (isTensor(item)) {
      storages.add(item.storage);
      // A node that backward freed needs nothing any more.
      if (item.node !== null && !item.node.freed) all(neededBy(item.node));
    } else if (Array.isArray(item) || item instanceof Set) all(item);
    else if (item instanceof Map) all(item.values());
    else if (!ArrayBuffer.isView(item)) all(Object.values(item));
  }
  return storages;
}

const isTensor = (item: unknown): item is Tensor =>
  typeof item === 'object' && item !== null && 'storage' in item && item.storage instanceof Storage;
