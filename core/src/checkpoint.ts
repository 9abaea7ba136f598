/**
 * Checkpoints: everything that a training run needs to go on, as the bytes of one safetensors file. Tensors stand in it under the
 * path of their part, `model/layers.0.weight`; its metadata has a tree that says what each part is. `node.ts` writes and reads files.
 */

import { checkArgument, dropPromise, isPlainObject, type Kind, received } from './check.ts';
import { fromArray } from './create.ts';
import { FormatError } from './errors.ts';
import { defaultGenerator, Generator } from './random.ts';
import { loadSafetensors, readStateDict, type StateDict, safetensorsMetadata, saveSafetensors } from './safetensors.ts';
import { isTensor, type Tensor } from './tensor.ts';
import { readsLater } from './values.ts';

/** What has a state of tensors by name: modules, optimizers, schedules, loaders, averages of weights. Its `stateDict` gives copies. */
export type Stateful = {
  stateDict(): StateDict;
  loadStateDict(state: StateDict): unknown;
};

/** What a checkpoint can hold: a state, a generator, a tensor, a value of JSON (numbers may be NaN or infinite), or these in lists and records. */
export type CheckpointPart =
  | Stateful
  | Generator
  | Tensor
  | number
  | string
  | boolean
  | null
  | readonly CheckpointPart[]
  | { readonly [name: string]: CheckpointPart };

export type CheckpointParts = { readonly [name: string]: CheckpointPart };

/** What `loadCheckpoint` gives back: the tensors and values of the file, without states and generators. */
export type CheckpointValues = { [name: string]: CheckpointValue };
// biome-ignore lint/suspicious/noExplicitAny: what a program has saved it knows, as with JSON.parse
export type CheckpointValue = any;

/** A part as the tree in the metadata has it. Numbers that JSON lacks are words. */
type Saved =
  | ['state' | 'generator' | 'tensor']
  | ['value', string | boolean | number | null]
  | ['number', string]
  | ['list', Saved[]]
  | ['record', [string, Saved][]];

const [FORMAT, VERSION] = ['otimes-checkpoint', '1'];
const DEFAULT = 'defaultGenerator';

const someParts: Kind = {
  expected: 'parts by name, such as { model, optimizer, epoch }',
  is: v => isPlainObject(v),
  hint: v => (isStateful(v) ? 'give it a name: { model }' : ''),
};

const isStateful = (value: unknown): value is Stateful =>
  typeof value === 'object' &&
  value !== null &&
  'stateDict' in value &&
  'loadStateDict' in value &&
  typeof value.stateDict === 'function' &&
  typeof value.loadStateDict === 'function';

/** A name as one step of a path. */
const step = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');
const below = (path: string, name: string): string => (path === '' ? step(name) : `${path}/${step(name)}`);

function refused(op: string, path: string, value: unknown): TypeError {
  dropPromise(value);
  const expected = 'a state (a model, an optimizer …), a Generator, a tensor, or a value of JSON';
  return new TypeError(`${op}: expected '${path}' to be ${expected}, got ${received(value)}`);
}

/**
 * The bytes of a checkpoint: the states of all parts as they are at the call, with that of the default generator. Training may go on
 * before the promise resolves.
 *
 * @param parts by name: modules, optimizers, schedules, loaders and all else that has `stateDict` and `loadStateDict`; generators;
 * tensors; numbers, strings, booleans, null; and these in lists and records. Devices are free.
 * @throws TypeError for a part that is none of these; what a failed check on a device that is read with await tells
 */
export async function packCheckpoint(parts: CheckpointParts): Promise<Uint8Array> {
  const op = 'packCheckpoint';
  checkArgument(op, 'parts', parts, someParts);
  const tensors: StateDict = {};
  const put = (path: string, x: Tensor): void => {
    tensors[path] = x;
  };
  const save = (value: unknown, path: string, above: readonly unknown[]): Saved => {
    if (above.includes(value)) throw new TypeError(`${op}: '${path}' leads back to a part above it`);
    if (isTensor(value)) {
      put(path, value.detach());
      return ['tensor'];
    }
    if (value instanceof Generator) {
      put(path, wordsOf(value));
      return ['generator'];
    }
    if (isStateful(value)) {
      const state: unknown = value.stateDict();
      if (!isPlainObject(state) || !Object.values(state).every(isTensor)) {
        dropPromise(state);
        throw new TypeError(`${op}: expected stateDict() of '${path}' to give tensors by name, got ${received(state)}`);
      }
      for (const [key, x] of Object.entries(state as StateDict)) put(`${path}/${key}`, x);
      return ['state'];
    }
    if (Array.isArray(value))
      return ['list', Array.from(value, (one, i) => save(one, below(path, `${i}`), [...above, value]))];
    if (isPlainObject(value)) {
      const entries = Object.entries(value).filter(([, one]) => one !== undefined);
      if (entries.some(([name]) => name === '')) throw new TypeError(`${op}: expected names of parts, got ''`);
      return ['record', entries.map(([name, one]) => [name, save(one, below(path, name), [...above, value])])];
    }
    if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0)))
      return ['number', Object.is(value, -0) ? '-0' : String(value)];
    if (value === null || ['number', 'string', 'boolean'].includes(typeof value))
      return ['value', value as string | number | boolean | null];
    throw refused(op, path, value);
  };
  const tree = save(parts, '', []);
  put(`/${DEFAULT}`, wordsOf(defaultGenerator()));
  return saveSafetensors(await hostCopies(tensors), { format: FORMAT, version: VERSION, parts: JSON.stringify(tree) });
}

/** Tensors of all devices on the host, as they are at the call; the same ones where nothing has to be waited for. */
async function hostCopies(tensors: StateDict): Promise<StateDict> {
  return Object.values(tensors).some(readsLater) ? readStateDict(tensors) : tensors;
}

const wordsOf = (rng: Generator): Tensor => fromArray(rng.getState(), [4]);

/** One change of a part, and what undoes it. */
type Change = { readonly path: string; apply(): void; undo(): void };

/**
 * Takes over the states of a checkpoint: of every state and generator in `parts` that of the same name in `bytes`, and of the default
 * generator. Parts of the file that are not asked for, such as the optimizer where only the model is wanted, stay in the file.
 *
 * All or nothing: everything is read and compared before the first part changes, and if a part then refuses its state, those before it
 * get back what they had.
 *
 * @param parts as in `packCheckpoint`; tensors and plain values in it are not read, and may be left out
 * @returns the tensors, on 'cpu', and plain values of the file, `{ epoch }` say, in their lists and records
 * @throws FormatError if the bytes are no checkpoint; an Error that lists the parts which are missing or of another kind, or tells the one
 * that refuses its state
 */
export async function unpackCheckpoint(bytes: Uint8Array, parts: CheckpointParts = {}): Promise<CheckpointValues> {
  const op = 'unpackCheckpoint';
  checkArgument(op, 'parts', parts, someParts);
  const tree = treeOf(bytes);
  const tensors = new Map(Object.entries(loadSafetensors(bytes)));
  const changes: Change[] = [];
  const problems: string[] = [];
  const prepare = async (value: unknown, saved: Saved | undefined, path: string): Promise<void> => {
    const wanted = loadedBy(value);
    if (wanted !== null) {
      if (saved?.[0] !== wanted[0])
        problems.push(`'${path}' is a ${wanted[0]}, and the checkpoint has ${named(saved)} there`);
      else
        changes.push(
          wanted[0] === 'state'
            ? await stateChange(path, wanted[1], tensors)
            : generatorChange(path, wanted[1], tensors),
        );
    } else if (Array.isArray(value)) {
      for (const [i, one] of value.entries())
        await prepare(one, saved?.[0] === 'list' ? saved[1][i] : undefined, below(path, `${i}`));
      if (saved?.[0] === 'list' && holdsStates(value) && saved[1].length !== value.length)
        problems.push(`'${path}' has ${value.length} entries, and the checkpoint ${saved[1].length}`);
    } else if (isPlainObject(value) && !isTensor(value)) {
      for (const [name, one] of Object.entries(value))
        await prepare(
          one,
          saved?.[0] === 'record' ? saved[1].find(([own]) => own === name)?.[1] : undefined,
          below(path, name),
        );
    } else if (typeof value === 'function' || (typeof value === 'object' && value !== null && !isTensor(value)))
      throw refused(op, path, value);
  };
  await prepare(parts, tree, '');
  if (problems.length > 0) throw new Error(`${op}: nothing was loaded\n  ${problems.join('\n  ')}`);
  changes.push(generatorChange(`/${DEFAULT}`, defaultGenerator(), tensors));
  const values = valueAt(tree, '', tensors) as CheckpointValues;
  applyAll(op, changes);
  return values;
}

/** A part that takes over a state, and what it is called; null for values. */
function loadedBy(value: unknown): ['state', Stateful] | ['generator', Generator] | null {
  if (value instanceof Generator) return ['generator', value];
  return !isTensor(value) && isStateful(value) ? ['state', value] : null;
}

/** Whether there is a part that takes over a state in a value. */
const holdsStates = (value: unknown): boolean =>
  loadedBy(value) !== null ||
  (Array.isArray(value) && value.some(holdsStates)) ||
  (isPlainObject(value) && Object.values(value).some(holdsStates));

const named = (saved: Saved | undefined): string => (saved === undefined ? 'nothing' : `a ${saved[0]}`);

async function stateChange(path: string, part: Stateful, tensors: ReadonlyMap<string, Tensor>): Promise<Change> {
  const start = `${path}/`;
  const own = [...tensors].filter(([key]) => key.startsWith(start)).map(([key, x]) => [key.slice(start.length), x]);
  const state: StateDict = Object.fromEntries(own);
  const before = await hostCopies(part.stateDict());
  return {
    path,
    apply: () => {
      const answer: unknown = part.loadStateDict(state);
      if (dropPromise(answer)) throw new TypeError('expected loadStateDict() to be synchronous, got a promise');
    },
    undo: () => void part.loadStateDict(before),
  };
}

function generatorChange(path: string, rng: Generator, tensors: ReadonlyMap<string, Tensor>): Change {
  const words = tensors.get(path)?.dataSync();
  if (words?.length !== 4) throw new FormatError(`checkpoint: expected the 4 words of a generator at '${path}'`);
  const before = rng.getState();
  return { path, apply: () => rng.setState(words), undo: () => rng.setState(before) };
}

/** All of them, or none. */
function applyAll(op: string, changes: readonly Change[]): void {
  for (const [i, { path, apply }] of changes.entries())
    try {
      apply();
    } catch (cause) {
      const lost: string[] = [];
      for (const { path, undo } of changes.slice(0, i + 1).reverse())
        try {
          undo();
        } catch (error) {
          lost.push(`'${path}' could not be put back: ${messageOf(error)}`);
        }
      const end = lost.length === 0 ? 'nothing was loaded' : lost.join('; ');
      throw new Error(`${op}: '${path}' refuses its state, ${end}\n  ${messageOf(cause)}`, { cause });
    }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The tensors and values of the tree; undefined for states and generators. */
function valueAt(saved: Saved, path: string, tensors: ReadonlyMap<string, Tensor>): unknown {
  if (saved[0] === 'tensor') {
    const x = tensors.get(path);
    if (x === undefined) throw new FormatError(`checkpoint: expected a tensor at '${path}', found none`);
    return x;
  }
  if (saved[0] === 'value') return saved[1];
  if (saved[0] === 'number') return Number(saved[1]);
  if (saved[0] === 'list') return saved[1].map((one, i) => valueAt(one, below(path, `${i}`), tensors) ?? null);
  if (saved[0] !== 'record') return undefined;
  const entries = saved[1].map(([name, one]) => [name, valueAt(one, below(path, name), tensors)] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** The checked tree of a checkpoint. */
function treeOf(bytes: Uint8Array): Saved {
  const { format, version, parts = '' } = safetensorsMetadata(bytes);
  if (format !== FORMAT)
    throw new FormatError(
      'checkpoint: these bytes are a safetensors file, and no checkpoint; loadSafetensors reads it',
    );
  if (version !== VERSION)
    throw new FormatError(`checkpoint: expected version ${VERSION} of the format, got ${received(version)}`);
  let tree: unknown;
  try {
    tree = JSON.parse(parts);
  } catch (cause) {
    throw new FormatError('checkpoint: its list of parts is not JSON', { cause });
  }
  if (!isSaved(tree) || tree[0] !== 'record') throw new FormatError('checkpoint: its list of parts is not whole');
  return tree;
}

function isSaved(node: unknown): node is Saved {
  if (!Array.isArray(node)) return false;
  const [kind, value] = node as unknown[];
  if (kind === 'state' || kind === 'generator' || kind === 'tensor') return node.length === 1;
  if (kind === 'value') return value === null || ['string', 'boolean', 'number'].includes(typeof value);
  if (kind === 'number') return typeof value === 'string' && ['-0', 'NaN', 'Infinity', '-Infinity'].includes(value);
  if (!Array.isArray(value)) return false;
  if (kind === 'list') return value.every(isSaved);
  const isEntry = (e: unknown) => Array.isArray(e) && e.length === 2 && typeof e[0] === 'string' && isSaved(e[1]);
  return kind === 'record' && value.every(isEntry);
}
