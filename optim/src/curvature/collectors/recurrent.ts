/**
 * The collector of RNN, LSTM, GRU and their cells: of each layer and direction the weight of the inputs and that of the states, each
 * with its bias. Time steps share both weights. Of both, g is the gradient of the sums before the gates' functions, and a is the
 * input, or the state before the step. Each gate's rows are a block, so that G is [hidden, hidden] four times and not [4 hidden, 4 hidden]:
 * docs/collectors.md has what that costs and saves.
 */

import { concat, type Handle, type Lengths, Tensor, tensor } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { AnyModule, GRU, GRUCell, LSTM, LSTMCell, Products, RNN, RNNCell } from '@otimes/nn';
import type { Canonical, LayerBlock, See } from '../block.ts';
import type { Collector, CollectorOptions } from '../collector.ts';
import { computesAs } from './claim.ts';
import { WeightBlock, type WeightBlockOptions } from './weight.ts';

type Layer = RNN | LSTM | GRU;
type Cell = RNNCell | LSTMCell | GRUCell;

/** The gates by which the rows of a weight are told apart, in their order. */
const GATES: Readonly<Record<number, readonly string[]>> = { 1: [''], 3: ['r', 'z', 'n'], 4: ['i', 'f', 'g', 'o'] };

function layerOf(module: AnyModule): Layer | null {
  if (computesAs(module, 'LSTM')) return module;
  if (computesAs(module, 'GRU')) return module;
  return computesAs(module, 'RNN') ? module : null;
}

function cellOf(module: AnyModule): Cell | null {
  if (computesAs(module, 'LSTMCell')) return module;
  if (computesAs(module, 'GRUCell')) return module;
  return computesAs(module, 'RNNCell') ? module : null;
}

/**
 * Claims every RNN, LSTM and GRU and their cells; `sharing` defaults to 'expand'. Of layer k the blocks are `PATH.ih_lk` and
 * `PATH.hh_lk`, and with `_reverse` those of the other direction; of a cell `PATH.ih` and `PATH.hh`; behind these the gate, `.i`, `.f`, `.g`, `.o` of
 * an LSTM and `.r`, `.z`, `.n` of a GRU. A weight that is frozen has no
 * block, and neither has that of the states where that of the inputs is frozen, since nobody computes its g there; it is left to
 * `rest`. So is a class that extends one of these and has a `forward` of its own.
 */
export const recurrentCollector: Collector = {
  name: 'recurrent',
  collect(module, path, options) {
    const cell = cellOf(module);
    if (cell !== null) return blocksOf(cell, path, '', 0, false, options);
    const layer = layerOf(module);
    if (layer === null) return null;
    return Array.from({ length: layer.numLayers }, (_, k) => k).flatMap(k =>
      (layer.bidirectional ? [false, true] : [false]).flatMap(reverse =>
        blocksOf(layer, path, `_l${k}${reverse ? '_reverse' : ''}`, k, reverse, options),
      ),
    );
  },
};

function blocksOf(
  module: Layer | Cell,
  path: string,
  suffix: string,
  layer: number,
  reverse: boolean,
  { sharing = 'expand' }: CollectorOptions,
): LayerBlock[] {
  const { ih, hh, biasIh, biasHh } = module.weightsOf(layer, reverse);
  if (!ih.requiresGrad) return [];
  const rows = ih.shape[0]!;
  const gates = GATES[rows / module.hiddenSize]!;
  return [
    { name: 'ih', weight: ih, bias: biasIh },
    { name: 'hh', weight: hh, bias: biasHh },
  ].flatMap(({ name, weight, bias }) =>
    weight.requiresGrad
      ? gates.map((gate, k) => {
          const own = `${path === '' ? '' : `${path}.`}${name}${suffix}${gate && `.${gate}`}`;
          const size = rows / gates.length;
          const at: [number, number] = [k * size, (k + 1) * size];
          const o = { collector: 'recurrent', path: own, sharing, weights: { weight, bias }, rows: at };
          return new RecurrentBlock(module, { layer, reverse, ofStates: name === 'hh' }, o);
        })
      : [],
  );
}

/** Which weight of a module. */
type Which = { readonly layer: number; readonly reverse: boolean; readonly ofStates: boolean };

type Tap = AnyModule & Pick<LSTM, 'onProducts'>;

class RecurrentBlock extends WeightBlock<Tap> {
  readonly #which: Which;

  constructor(module: Tap, which: Which, o: WeightBlockOptions) {
    super(module, o);
    this.#which = which;
  }

  /** Never asked: `listen` brings the form of each use. */
  override canonical(): Canonical {
    throw new Error(
      `recurrent collector: the input of '${this.path}' alone does not tell what its weight was multiplied with`,
    );
  }

  listen(see: See): Handle {
    const { layer, reverse, ofStates } = this.#which;
    return this.tap.onProducts(use => {
      if (use.layer !== layer || use.reverse !== reverse) return;
      // [T, B, …] → [B, T, …]
      const inputs = (ofStates ? use.states : use.inputs).detach().transpose(0, 1);
      see(inputs, use.products, gy => this.#canonical(use, inputs, gy));
    });
  }

  /** @param gy [T, B, gates · hidden] */
  #canonical({ reset, lengths }: Products, inputs: Tensor, gy: Tensor): Canonical {
    const g = this.#gradients(gy, reset).transpose(0, 1);
    const a = this.homogeneous(this.typed(inputs));
    if (lengths === null) return { a, g };
    if (this.sharing === 'reduce')
      throw new Error(
        `recurrent collector: sharing 'reduce' of '${this.path}' takes sequences of one length; 'expand' takes lengths`,
      );
    const [batch, steps] = [a.shape[0]!, a.shape[1]!];
    const ends = this.#ends(lengths);
    const counts = Array.from({ length: batch * steps }, (_, i) => Number(i % steps < ends[Math.floor(i / steps)]!));
    const mask = tensor(counts, { shape: [batch, steps, 1], dtype: a.dtype, device: a.device });
    return { a: a.mul(mask), g, rows: counts.reduce((sum, one) => sum + one, 0) };
  }

  /** The rows that are the block's, of the gradient of the products with the inputs, or with the states. */
  #gradients(gy: Tensor, reset: Tensor | null): Tensor {
    const own = (x: Tensor) => (x.shape[2] === this.dOut ? x : x.narrow(2, this.first, this.dOut));
    if (reset === null || !this.#which.ofStates) return own(gy);
    // The last gate of a GRU multiplies the product of the states by r.
    const n = reset.shape[2]!;
    if (this.first === 2 * n) return own(gy).mul(reset);
    if (this.dOut === n) return own(gy);
    return concat([gy.narrow(2, 0, 2 * n), gy.narrow(2, 2 * n, n).mul(reset)], 2);
  }

  #ends(lengths: Lengths): ArrayLike<number> {
    if (!(lengths instanceof Tensor)) return lengths;
    if (!readsLater(lengths)) return lengths.dataSync();
    throw new Error(
      `recurrent collector: '${this.path}' needs the lengths at once, and those on '${lengths.device}' are read with await; give an array`,
    );
  }
}
