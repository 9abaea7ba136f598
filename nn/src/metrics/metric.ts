/** What all metrics share: numbers that add up on the device, batch by batch, and are read when somebody asks for the value. */

import { noGrad, type StateDict, stack, Tensor, tensor, unscoped } from '@otimes/core';
import { aStateDict, checkArgument, checkNone, inspect, nameOf, received } from '@otimes/core/extend';

/** Tensors of `2 ** level` batches. */
type Run = { readonly level: number; readonly sums: readonly Tensor[] };

/**
 * A quality of predictions over many batches. `update` adds a batch and reads nothing, so that a device which is read with await is not
 * waited for; `compute` reads. What is added up are sums in pairs of equal length, so that rounding grows with the logarithm of the
 * number of batches. Counts are int32.
 *
 * A metric has `stateDict` and `loadStateDict`, so a checkpoint can hold it.
 */
export abstract class Metric<Value = number> {
  #runs: Run[] = [];

  /** How many tensors a batch adds. */
  protected abstract readonly terms: number;
  /** The value of the sums of all batches; of null where there was none. */
  protected abstract finish(sums: readonly ArrayLike<number>[] | null): Value;

  /** The sums of two sets of batches as those of both; sums unless a metric says otherwise. */
  protected merge(a: readonly Tensor[], b: readonly Tensor[]): readonly Tensor[] {
    return a.map((x, i) => x.add(b[i]!));
  }

  /** Adds what `make` computes of a batch; it may look at weights, and leaves no graph. */
  protected add(make: () => readonly Tensor[]): void {
    unscoped(() =>
      noGrad(() => {
        let run: Run = { level: 0, sums: make() };
        const runs = [...this.#runs];
        for (let last = runs.at(-1); last?.level === run.level; last = runs.at(-1)) {
          run = { level: run.level + 1, sums: this.merge(last.sums, run.sums) };
          runs.pop();
        }
        this.#runs = [...runs, run];
      }),
    );
  }

  /** The sums of everything, null where nothing was added. */
  #all(): readonly Tensor[] | null {
    const [last, ...before] = this.#runs.map(run => run.sums).reverse();
    if (last === undefined) return null;
    return unscoped(() => noGrad(() => before.reduce((sum, sums) => this.merge(sums, sum), last)));
  }

  /** The value over all batches since the last `reset`, read with await. */
  async compute(...none: readonly never[]): Promise<Value> {
    if (none.length > 0) checkNone(`${nameOf(this)}.compute`, none, 'update() takes the batches');
    const sums = this.#all();
    return this.finish(sums === null ? null : await Promise.all(sums.map(x => x.data())));
  }

  /** The same at once. A TypeError on a device that is read with await: there `await compute()`. */
  value(...none: readonly never[]): Value {
    if (none.length > 0) checkNone(`${nameOf(this)}.value`, none, 'update() takes the batches');
    return this.finish(this.#all()?.map(x => x.dataSync()) ?? null);
  }

  /** Forgets all batches. */
  reset(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${nameOf(this)}.reset`, none, 'update() takes the batches');
    this.#runs = [];
  }

  stateDict(): StateDict {
    const state: StateDict = {
      levels: tensor(
        this.#runs.map(run => run.level),
        { dtype: 'int32' },
      ),
    };
    if (this.#runs.length > 0)
      for (let i = 0; i < this.terms; i++) state[`sums.${i}`] = stack(this.#runs.map(run => run.sums[i]!));
    return state;
  }

  /** Goes on from such a state, on the device where its tensors are. All or nothing. */
  loadStateDict(state: StateDict): void {
    const where = `${nameOf(this)}.loadStateDict`;
    checkArgument(where, 'state', state, aStateDict);
    const levels = state.levels instanceof Tensor && state.levels.rank === 1 ? [...state.levels.dataSync()] : null;
    const names = Array.from({ length: levels?.length === 0 ? 0 : this.terms }, (_, i) => `sums.${i}`);
    const fits =
      levels?.every((level, i) => level >= 0 && (i === 0 || level < levels[i - 1]!)) &&
      Object.keys(state).length === names.length + 1 &&
      names.every(name => state[name] instanceof Tensor && state[name].shape[0] === levels?.length);
    if (levels === null || !fits)
      throw new RangeError(
        `${where}: expected a state of a ${nameOf(this)} with levels, ${names.join(', ')}, got ${received(state)}`,
      );
    this.#runs = unscoped(() =>
      levels.map((level, i) => ({ level, sums: names.map(name => state[name]!.narrow(0, i, 1).squeeze(0).clone()) })),
    );
  }

  toString(): string {
    const batches = this.#runs.reduce((sum, run) => sum + 2 ** run.level, 0);
    return `${nameOf(this)}(${batches} batch${batches === 1 ? '' : 'es'})`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

/** What is a first sum over a second one, a count or a weight; NaN where there was no batch. */
export abstract class MeanMetric extends Metric {
  protected readonly terms = 2;

  protected override finish(sums: readonly ArrayLike<number>[] | null): number {
    return sums === null ? Number.NaN : sums[0]![0]! / sums[1]![0]!;
  }
}
