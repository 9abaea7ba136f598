/** What a matrix optimizer proposes for one matrix, and the checks of it. */

import { sameShape, Tensor } from '@otimes/core';
import { aFunction, dropPromise, received } from '@otimes/core/extend';
import { isLike, showOn } from '../check.ts';
import { finiteMagnitude, foundIn } from '../kronecker/finite.ts';

/** What a step does with one matrix: nothing of it has happened yet. */
export type Direction = {
  /** [rows, columns]: W ← (1 − lr · weightDecay) W − lr · update. Null leaves W as it is. */
  readonly update: Tensor | null;
  /** What takes the place of the slots, in their order. */
  readonly slots: readonly Tensor[];
};

/** The matrix of a step. */
export type MatrixStep = {
  /** Of the parameter. */
  readonly path: string;
  readonly rows: number;
  readonly columns: number;
  /** How many steps it has made before. */
  readonly steps: number;
  /** The names of its slots, in their order. */
  readonly slotNames: readonly string[];
};

/** What the host has to compute before the direction of a step is known: decompositions, say. */
export type HostWork = {
  /** Copied to the host, 'cpu'; with await where their device is read so. */
  readonly reads: readonly Tensor[];
  /** What these are, for the error of a step in which one is not finite. Default 'input of hostWork'. */
  readonly what?: string;
  /** From these copies, what `direction` gets as `solved`, on 'cpu'; the base takes it to the device of the weight. */
  readonly solve: (found: readonly Tensor[]) => readonly Tensor[];
};

type Like = Pick<Tensor, 'shape' | 'dtype' | 'device'>;

/** What the answer for a matrix must be. */
export type Expected = {
  readonly name: string;
  readonly path: string;
  /** [rows, columns], as the update. */
  readonly weight: Like;
  readonly slots: readonly Like[];
  readonly slotNames: readonly string[];
  /** Whether numbers that are not finite are looked for. */
  readonly isFinite: boolean;
};

/** What `direction` returned, if it is what the class says and a step can take it; throws what else it is. */
export function checkedDirection(answer: unknown, expected: Expected): Direction {
  const { name, path, weight, slots, slotNames } = expected;
  if (
    !isDirection(answer) ||
    (answer.update !== null && !isLike(answer.update, weight)) ||
    answer.slots.length !== slots.length ||
    !answer.slots.every((x, i) => isLike(x, slots[i]!))
  ) {
    dropPromise(answer);
    const { dtype, shape, device } = weight;
    const each = slots.every(slot => sameShape(slot.shape, shape))
      ? `with an update and ${slots.length} slots, each ${dtype}[${shape}] on '${device}'`
      : `with an update ${dtype}[${shape}] and slots [${slots.map(slot => `${dtype}[${slot.shape}]`).join(', ')}] on '${device}'`;
    throw new TypeError(
      `${name}: expected direction() of '${path}' to return { update, slots } ${each}, got ${shown(answer)}; no parameter was changed`,
    );
  }
  if (expected.isFinite) {
    const where = `'${path}'`;
    if (answer.update !== null) finiteMagnitude(answer.update, foundIn(name, 'update', where));
    answer.slots.forEach((x, i) => {
      finiteMagnitude(x, foundIn(name, `new ${slotNames[i]}`, where));
    });
  }
  return answer;
}

const isDirection = (v: unknown): v is Direction =>
  typeof v === 'object' && v !== null && 'update' in v && 'slots' in v && Array.isArray(v.slots);

/** As messages show it. */
function shown(answer: unknown): string {
  if (typeof answer !== 'object' || answer === null || !('update' in answer && 'slots' in answer))
    return received(answer);
  const on = (x: unknown) => (x instanceof Tensor ? showOn(x) : received(x));
  const { update, slots } = answer;
  return `update ${on(update)}, slots ${Array.isArray(slots) ? `[${slots.map(on).join(', ')}]` : received(slots)}`;
}

/** What `hostWork` returned, if it is what it must be, of finite numbers. */
export function checkedWork(name: string, path: string, work: unknown): HostWork | null {
  const isWork = (v: unknown): v is HostWork =>
    typeof v === 'object' && v !== null && areTensors(Reflect.get(v, 'reads')) && aFunction.is(Reflect.get(v, 'solve'));
  if (work === null) return null;
  if (!isWork(work)) {
    dropPromise(work);
    throw new TypeError(
      `${name}: expected hostWork() of '${path}' to return { reads, solve }, a list of tensors and a function, or null, got ` +
        `${received(work)}; no parameter was changed`,
    );
  }
  const { reads, what = 'input of hostWork', solve } = work;
  for (const x of reads) finiteMagnitude(x, foundIn(name, what, `'${path}'`));
  return {
    reads,
    solve: found => {
      const solved: unknown = solve(found);
      if (areTensors(solved)) return solved;
      dropPromise(solved);
      throw new TypeError(
        `${name}: expected solve() of '${path}' to return a list of tensors, got ${received(solved)}; no parameter was changed`,
      );
    },
  };
}

const areTensors = (v: unknown): v is readonly Tensor[] => Array.isArray(v) && v.every(x => x instanceof Tensor);
