// Several processes that train one model, all within this one: what they exchange is there once all have entered it.

import { type Tensor, unscoped } from '@otimes/core';
import type { Module } from '@otimes/nn';
import type { Optimizer } from '@otimes/optim';
import type { Communicator } from '@otimes/optim/curvature';

type Entered = {
  readonly call: string;
  readonly tensors: readonly Tensor[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
};

export class Ranks {
  /** One for each process. */
  readonly communicators: readonly Communicator[];
  /** What all have after each exchange so far. */
  readonly exchanged: (readonly Tensor[])[] = [];
  /** The exchange that fails, counted from now on: 0 is the next. Negative for none. */
  failsIn = -1;
  #entered: (Entered | null)[];

  constructor(size: number) {
    this.#entered = new Array(size).fill(null);
    this.communicators = Array.from({ length: size }, (_, rank) => ({
      rank,
      size,
      sum: tensors => this.#enter(rank, 'sum', tensors),
      broadcast: (tensors, from) => this.#enter(rank, `broadcast from ${from}`, tensors),
    }));
  }

  #enter(rank: number, call: string, tensors: readonly Tensor[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#entered[rank] !== null) throw new Error(`process ${rank} entered '${call}' before the last one ended`);
      this.#entered[rank] = { call, tensors, resolve, reject };
      if (!this.#entered.includes(null)) this.#exchange(this.#entered as Entered[]);
    });
  }

  #exchange(all: readonly Entered[]): void {
    this.#entered = new Array(all.length).fill(null);
    const [{ call, tensors: first }] = all as [Entered];
    const seen = all.map(one => `${one.call}: ${one.tensors.map(x => `${x.dtype}[${x.shape}]`)}`);
    const other = seen.find(one => one !== seen[0]);
    if (other !== undefined || this.failsIn-- === 0) {
      const why = other === undefined ? 'the line is cut' : `the processes differ: ${seen[0]} and ${other}`;
      for (const { reject } of all) reject(new Error(why));
      return;
    }
    const from = call === 'sum' ? null : Number(call.split(' ').at(-1));
    const results = unscoped(() =>
      first.map((_, i) => {
        const parts = all.map(({ tensors }) => tensors[i]!.clone());
        const result = from === null ? parts.reduce((sum, x) => sum.add(x)) : parts[from]!;
        for (const { tensors } of all) tensors[i]!.copy_(result);
        return result;
      }),
    );
    this.exchanged.push(results);
    for (const { resolve } of all) resolve();
  }
}

/** The parts of a batch: so many examples each, or equal ones. */
export function partsOf(x: Tensor, sizes: readonly number[]): Tensor[] {
  let start = 0;
  return sizes.map(size => {
    start += size;
    return x.narrow(0, start - size, size);
  });
}

export const equalParts = (examples: number, size: number): number[] => new Array(size).fill(examples / size);

type Process<M extends Module, O extends Optimizer> = {
  readonly rank: number;
  readonly model: M;
  readonly optimizer: O;
};

/** A model and its optimizer in each of several processes. */
export class RanksRun<M extends Module, O extends Optimizer> {
  readonly ranks: Ranks;
  readonly processes: readonly Process<M, O>[];

  constructor(size: number, model: () => M, make: (model: M, communicator: Communicator) => O) {
    this.ranks = new Ranks(size);
    this.processes = this.ranks.communicators.map(communicator => {
      const own = model();
      return { rank: communicator.rank, model: own, optimizer: make(own, communicator) };
    });
  }

  /** One step of all: `backward` leaves gradients in each. The messages of those that failed. */
  async step(backward: (model: M, rank: number) => unknown): Promise<string[]> {
    const steps = this.processes.map(async ({ model, optimizer, rank }) => {
      optimizer.zeroGrad();
      const before = backward(model, rank);
      // Without a wait all are in the step when this returns.
      if (before instanceof Promise) await before;
      await optimizer.step();
    });
    const settled = await Promise.allSettled(steps);
    return settled.flatMap(one => (one.status === 'fulfilled' ? [] : [String(one.reason)]));
  }
}
