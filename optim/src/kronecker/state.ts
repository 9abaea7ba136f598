/** What a Kronecker optimizer remembers of a block, and how that is saved. */

import type { StateDict, Tensor } from '@otimes/core';
import { type StateReader, scalar } from '../state-dict.ts';
import type { KroneckerBlock } from './block.ts';
import type { Factors } from './factors.ts';
import { Kfe } from './kfe.ts';

/** The statistics of the current step, from the backward pass just run. */
export type Pending = {
  readonly batch: number;
  /** Null on steps that do not update the factors. */
  readonly factors: Factors | null;
  /** Second moments of the examples in a basis. Throws on steps that collected no samples. */
  readonly squares: (kfe: Kfe) => Tensor;
};

export class BlockState {
  readonly block: KroneckerBlock;
  /** Running averages of the factors. */
  A: Tensor | null = null;
  G: Tensor | null = null;
  /** True if G is that of 'expand' because that of 'reduce' vanished. */
  expandedG = false;
  kfe: Kfe | null = null;
  pending: Pending | null = null;
  /** Tensors of the optimizer itself, [dOut, dIn] in the coordinates of `kfe` unless it says otherwise. */
  readonly slots = new Map<string, Tensor>();
  /** Moment updates since the slots were last set to zero. */
  count = 0;

  constructor(block: KroneckerBlock) {
    this.block = block;
  }

  /** For messages: `linear 'layers.0'`. */
  get label(): string {
    return `${this.block.collector} '${this.block.path}'`;
  }

  save(into: StateDict): void {
    const prefix = `blocks.${this.block.path}.`;
    if (this.A === null || this.G === null) return;
    into[`${prefix}count`] = scalar(this.count);
    into[`${prefix}expandedG`] = scalar(Number(this.expandedG));
    const tensors = { A: this.A, G: this.G, ...this.kfe };
    for (const [name, value] of Object.entries(tensors)) into[`${prefix}${name}`] = value.detach().clone();
    for (const [name, value] of this.slots) into[`${prefix}${name}`] = value.detach().clone();
  }

  /** The saved state of `block`; problems are left with the reader. */
  static load(block: KroneckerBlock, reader: StateReader, slotNames: readonly string[]): BlockState {
    const state = new BlockState(block);
    const prefix = `blocks.${block.path}.`;
    if (!reader.has(`${prefix}count`)) return state;
    const { dtype } = block.parameters[0]!;
    const [a, g] = [block.dIn, block.dOut];
    const read = (name: string, shape: readonly number[]) => reader.tensor(prefix + name, { shape, dtype });
    state.count = reader.number(`${prefix}count`);
    state.expandedG = reader.number(`${prefix}expandedG`) !== 0;
    state.A = read('A', [a, a]);
    state.G = read('G', [g, g]);
    state.kfe = new Kfe({ UA: read('UA', [a, a]), UG: read('UG', [g, g]), sA: read('sA', [a]), sG: read('sG', [g]) });
    for (const name of slotNames) state.slots.set(name, read(name, [g, a]));
    return state;
  }
}
