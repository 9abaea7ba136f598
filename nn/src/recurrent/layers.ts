/** Recurrent layers over whole sequences, as PyTorch has them. */

import { concat, describe, type Generator, type Lengths, ShapeError, Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions, type Kind, nameOf, oneOf } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { dropout } from '../functional.ts';
import { uniform } from '../init.ts';
import { Parameter } from '../parameter.ts';
import { type CellKind, GATES, Recurrent, type Weights } from './products.ts';

export type RecurrentLayerOptions = Placement & {
  /** Layers, one on the states of the other; default 1. */
  numLayers?: number;
  /** Default true. */
  bias?: boolean;
  /** Whether x and the output are [B, T, features] and not [T, B, features]; default false. The state is [layers, B, hidden] either way. */
  batchFirst?: boolean;
  /** Probability of dropping an element between two layers, in training; default 0. */
  dropout?: number;
  /** A second layer beside each that runs from the last step to the first, whose states follow those of the other as features; default false. */
  bidirectional?: boolean;
};

/** Of an LSTM: h and c. */
export type LSTMState = readonly [h: Tensor, c: Tensor];

const OPTIONS = {
  numLayers: {
    expected: 'an integer ≥ 1',
    is: (v: unknown) => Number.isInteger(v) && Number(v) >= 1,
    error: RangeError,
  },
  bias: aBoolean,
  batchFirst: aBoolean,
  dropout: aProbability,
  bidirectional: aBoolean,
  ...PLACEMENT,
};

const aPair: Kind = {
  expected: 'a pair of tensors [h, c]',
  is: v => Array.isArray(v) && v.length === 2 && v.every(x => x instanceof Tensor),
};

const suffixOf = (layer: number, reverse: boolean) => `l${layer}${reverse ? '_reverse' : ''}`;

/**
 * What RNN, LSTM and GRU share. Parameters are fields with PyTorch's names: of layer k `weight_ih_lk` [gates · hidden, inputs], `weight_hh_lk` [gates · hidden,
 * hidden], `bias_ih_lk` and `bias_hh_lk` [gates · hidden], and the same with `_reverse`; all start uniform in ±1/√hidden.
 */
abstract class RecurrentLayer<State> extends Recurrent<
  [x: Tensor, state?: State | null, lengths?: Lengths | null],
  [output: Tensor, state: State]
> {
  static override readonly tensors: readonly string[] = ['weight_ih_l0', 'weight_hh_l0'];
  readonly inputSize: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly bias: boolean;
  readonly batchFirst: boolean;
  readonly dropout: number;
  readonly bidirectional: boolean;
  [weights: `weight_${string}`]: Parameter;
  [biases: `bias_${string}`]: Parameter;
  readonly #kind: CellKind;
  readonly #rng: Generator | undefined;

  constructor(name: string, kind: CellKind, inputSize: number, hiddenSize: number, o: RecurrentLayerOptions) {
    super();
    checkPositive(name, { inputSize, hiddenSize });
    checkOptions(name, o, OPTIONS);
    this.#kind = kind;
    this.#rng = o.rng;
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    this.numLayers = o.numLayers ?? 1;
    this.bias = o.bias ?? true;
    this.batchFirst = o.batchFirst ?? false;
    this.dropout = o.dropout ?? 0;
    this.bidirectional = o.bidirectional ?? false;
    const [bound, rows, at] = [1 / Math.sqrt(hiddenSize), GATES[kind] * hiddenSize, placed(o)];
    const draw = (...shape: number[]) => new Parameter(uniform(shape, -bound, bound, at));
    for (const { layer, reverse } of this.#parts()) {
      const inputs = layer === 0 ? inputSize : hiddenSize * this.#directions.length;
      const suffix = suffixOf(layer, reverse);
      this[`weight_ih_${suffix}`] = draw(rows, inputs);
      this[`weight_hh_${suffix}`] = draw(rows, hiddenSize);
      if (!this.bias) continue;
      this[`bias_ih_${suffix}`] = draw(rows);
      this[`bias_hh_${suffix}`] = draw(rows);
    }
  }

  get #directions(): readonly boolean[] {
    return this.bidirectional ? [false, true] : [false];
  }

  /** Layers and directions, in the order of the state. */
  #parts(): { layer: number; reverse: boolean }[] {
    return Array.from({ length: this.numLayers }, (_, layer) =>
      this.#directions.map(reverse => ({ layer, reverse })),
    ).flat();
  }

  /** The weights of a layer in a direction. */
  weightsOf(layer: number, reverse = false): Weights {
    const suffix = suffixOf(layer, reverse);
    const [biasIh, biasHh] = this.bias ? [this[`bias_ih_${suffix}`]!, this[`bias_hh_${suffix}`]!] : [null, null];
    return { ih: this[`weight_ih_${suffix}`]!, hh: this[`weight_hh_${suffix}`]!, biasIh, biasHh };
  }

  /** The output, and the tensors of the last state, from those of the first, null for zeros. */
  protected runAll(x: Tensor, first: readonly (Tensor | null)[], lengths: Lengths | null): [Tensor, Tensor[]] {
    const { batchFirst, inputSize, numLayers, hiddenSize } = this;
    const order = batchFirst ? '[B, T, ' : '[T, B, ';
    if ((x.rank !== 2 && x.rank !== 3) || x.shape.at(-1) !== inputSize)
      throw new ShapeError(
        `${nameOf(this)}: expected an input ${order}${inputSize}] or [T, ${inputSize}], got ${describe(x)}`,
      );
    const batched = x.rank === 3;
    const batchAxis = batchFirst ? 0 : 1;
    const inputs = batched ? (batchFirst ? x.transpose(0, 1) : x) : x.unsqueeze(1);
    const [steps, batch] = inputs.shape as [number, number];
    const count = this.#directions.length;
    const states = first.map((s, i) => s && this.#state(i === 0 ? 'h0' : 'c0', s, batched ? batch : null));
    const all = insides(this, () => this.#joined(inputs, states, lengths));
    const output = all.narrow(0, 0, steps);
    const last = first.map((_, i) => {
      // [layers, B, directions · hidden] → [layers · directions, B, hidden]
      const rows = all.narrow(0, steps + i * numLayers, numLayers);
      const apart = count === 1 ? rows : rows.reshape([numLayers, batch, count, hiddenSize]).permute(0, 2, 1, 3);
      const state = count === 1 ? apart : apart.reshape([numLayers * count, batch, hiddenSize]);
      return batched ? state : state.squeeze(1);
    });
    if (!batched) return [output.squeeze(1), last];
    return [batchAxis === 0 ? output.transpose(0, 1) : output, last];
  }

  /** A state [layers · directions, B, hidden]; one without a batch has no second axis. */
  #state(name: string, state: Tensor, batch: number | null): Tensor {
    if (!(state instanceof Tensor)) checkArgument(nameOf(this), name, state, aTensor);
    const count = this.numLayers * this.#directions.length;
    const shape = [count, ...(batch === null ? [] : [batch]), this.hiddenSize];
    if (state.shape.join() !== shape.join())
      throw new ShapeError(`${nameOf(this)}: expected ${name} [${shape.join(', ')}], got ${describe(state)}`);
    return batch === null ? state.unsqueeze(1) : state;
  }

  /**
   * [T + layers, B, directions · hidden], of an LSTM [T + 2 · layers, …]: the output, and behind it the last states layer by layer. One
   * tensor, so that all that is made on the way belongs to its graph.
   */
  #joined(x: Tensor, states: readonly (Tensor | null)[], lengths: Lengths | null): Tensor {
    const { numLayers } = this;
    const [steps, directions] = [x.shape[0]!, this.#directions];
    const ends: Tensor[][] = states.map(() => []);
    let inputs = x;
    for (let layer = 0; layer < numLayers; layer++) {
      if (layer > 0) inputs = dropout(inputs, this.dropout, this.training, this.#rng);
      const both = directions.map((reverse, d) => {
        const [h, c] = states.map(s => s?.narrow(0, layer * directions.length + d, 1).squeeze(0));
        const o = { h: h ?? null, c: c ?? null, lengths, reverse, layer };
        return this.run(this.#kind, inputs, this.weightsOf(layer, reverse), o);
      });
      const joined = both.length === 1 ? both[0]! : concat(both, 2);
      if (numLayers === 1) return joined;
      inputs = joined.narrow(0, 0, steps);
      for (const [i, rows] of ends.entries()) rows.push(joined.narrow(0, steps + i, 1));
    }
    return concat([inputs, ...ends.flat()], 0);
  }
}

/**
 * A plain recurrent network (Elman 1990): h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh) for all steps of x.
 *
 * `call(x, h0, lengths)` → [output, hN]: x [T, B, inputSize], or [B, T, inputSize] with `batchFirst`, or [T, inputSize]; h0
 * [layers · directions, B, hiddenSize], zeros where it is left out or null; output [T, B, directions · hiddenSize], or as x, the states
 * of the last layer; hN as h0, the states at the end.
 *
 * `lengths`, integers or an int32 tensor [B], are the steps of each sequence, in any order: behind its end the output is 0, hN is the state at its
 * end, and the reverse direction begins there, as with PyTorch's `pack_padded_sequence`.
 */
export class RNN extends RecurrentLayer<Tensor> {
  static readonly builtIn: string = 'RNN';
  readonly nonlinearity: 'tanh' | 'relu';

  /** @param o nonlinearity: 'tanh' (default) or 'relu' */
  constructor(
    inputSize: number,
    hiddenSize: number,
    o: RecurrentLayerOptions & { nonlinearity?: 'tanh' | 'relu' } = {},
  ) {
    checkOptions('RNN', o, { ...OPTIONS, nonlinearity: oneOf('tanh', 'relu') });
    const { nonlinearity = 'tanh', ...rest } = o;
    super('RNN', nonlinearity, inputSize, hiddenSize, rest);
    this.nonlinearity = nonlinearity;
  }

  override forward(x: Tensor, state?: Tensor | null, lengths?: Lengths | null): [Tensor, Tensor] {
    const [output, [h]] = this.runAll(x, [state ?? null], lengths ?? null);
    return [output, h!];
  }
}

/**
 * Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gates of Gers et al. 2000): i, f, o = σ and g = tanh of
 * W_ih x_t + b_ih + W_hh h_{t−1} + b_hh, c_t = f c_{t−1} + i g, h_t = o tanh c_t. The rows of the weights are those of i, f, g, o.
 *
 * `call(x, [h0, c0], lengths)` → [output, [hN, cN]]; shapes and `lengths` as for `RNN`. There is no projection of the states (PyTorch's proj_size).
 */
export class LSTM extends RecurrentLayer<LSTMState> {
  static readonly builtIn: string = 'LSTM';

  constructor(inputSize: number, hiddenSize: number, o: RecurrentLayerOptions = {}) {
    super('LSTM', 'lstm', inputSize, hiddenSize, o);
  }

  override forward(x: Tensor, state?: LSTMState | null, lengths?: Lengths | null): [Tensor, LSTMState] {
    if (state != null) checkArgument(nameOf(this), 'the state', state, aPair);
    const [output, [h, c]] = this.runAll(x, state ?? [null, null], lengths ?? null);
    return [output, [h!, c!]];
  }
}

/**
 * Gated recurrent units (Cho et al. 2014): r, z = σ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), n = tanh(W_in x_t + b_in + r (W_hn h_{t−1} + b_hn)),
 * h_t = (1 − z) n + z h_{t−1}. The rows of the weights are those of r, z, n.
 *
 * `call(x, h0, lengths)` → [output, hN]; shapes and `lengths` as for `RNN`.
 */
export class GRU extends RecurrentLayer<Tensor> {
  static readonly builtIn: string = 'GRU';

  constructor(inputSize: number, hiddenSize: number, o: RecurrentLayerOptions = {}) {
    super('GRU', 'gru', inputSize, hiddenSize, o);
  }

  override forward(x: Tensor, state?: Tensor | null, lengths?: Lengths | null): [Tensor, Tensor] {
    const [output, [h]] = this.runAll(x, [state ?? null], lengths ?? null);
    return [output, h!];
  }
}
