/** Recurrent cells: one step, for loops of one's own. */

import { describe, ShapeError, Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions, type Kind, nameOf, oneOf } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import { checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { uniform } from '../init.ts';
import { Parameter } from '../parameter.ts';
import type { LSTMState } from './layers.ts';
import { type CellKind, GATES, Recurrent, type Weights } from './products.ts';

export type RecurrentCellOptions = Placement & {
  /** Default true. */
  bias?: boolean;
};

const OPTIONS = { bias: aBoolean, ...PLACEMENT };
const aPair: Kind = {
  expected: 'a pair of tensors [h, c]',
  is: v => Array.isArray(v) && v.length === 2 && v.every(x => x instanceof Tensor),
};

/** What the cells share: weights, all of which start uniform in ±1/√hiddenSize. */
abstract class Cell<State, Result> extends Recurrent<[x: Tensor, state?: State | null], Result> {
  static override readonly tensors: readonly string[] = ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'];
  readonly inputSize: number;
  readonly hiddenSize: number;
  /** [gates · hidden, inputs] */
  weight_ih: Parameter;
  /** [gates · hidden, hidden] */
  weight_hh: Parameter;
  /** [gates · hidden] */
  bias_ih: Parameter | null;
  /** [gates · hidden] */
  bias_hh: Parameter | null;
  readonly #kind: CellKind;

  constructor(name: string, kind: CellKind, inputSize: number, hiddenSize: number, o: RecurrentCellOptions) {
    super();
    checkPositive(name, { inputSize, hiddenSize });
    checkOptions(name, o, OPTIONS);
    this.#kind = kind;
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    const [bound, rows, at] = [1 / Math.sqrt(hiddenSize), GATES[kind] * hiddenSize, placed(o)];
    const draw = (...shape: number[]) => new Parameter(uniform(shape, -bound, bound, at));
    this.weight_ih = draw(rows, inputSize);
    this.weight_hh = draw(rows, hiddenSize);
    this.bias_ih = o.bias === false ? null : draw(rows);
    this.bias_hh = o.bias === false ? null : draw(rows);
  }

  /** The weights, as those of a layer. */
  weightsOf(): Weights {
    return { ih: this.weight_ih, hh: this.weight_hh, biasIh: this.bias_ih, biasHh: this.bias_hh };
  }

  /** The tensors of the next state, from those of the one before, null for zeros. */
  protected step(x: Tensor, before: readonly (Tensor | null)[]): Tensor[] {
    if ((x.rank !== 1 && x.rank !== 2) || x.shape.at(-1) !== this.inputSize)
      throw new ShapeError(
        `${nameOf(this)}: expected an input [B, ${this.inputSize}] or [${this.inputSize}], got ${describe(x)}`,
      );
    const batched = x.rank === 2;
    const [h, c] = before.map((s, i) => s && this.#state(i === 0 ? 'h' : 'c', s, x));
    const all = insides(this, () => {
      const inputs = batched ? x.unsqueeze(0) : x.reshape([1, 1, this.inputSize]);
      return this.run(this.#kind, inputs, this.weightsOf(), { h: h ?? null, c: c ?? null });
    });
    return before.map((_, i) => {
      const state = all.narrow(0, 1 + i, 1).squeeze(0);
      return batched ? state : state.squeeze(0);
    });
  }

  #state(name: string, state: Tensor, x: Tensor): Tensor {
    if (!(state instanceof Tensor)) checkArgument(nameOf(this), name, state, aTensor);
    const shape = [...x.shape.slice(0, -1), this.hiddenSize];
    if (state.shape.join() !== shape.join())
      throw new ShapeError(`${nameOf(this)}: expected ${name} [${shape.join(', ')}], got ${describe(state)}`);
    return x.rank === 2 ? state : state.unsqueeze(0);
  }
}

/** A step of a plain recurrent network: `call(x, h)` → tanh(W_ih x + b_ih + W_hh h + b_hh), for x [B, inputSize] and h [B, hiddenSize], default zeros, or both without B. */
export class RNNCell extends Cell<Tensor, Tensor> {
  static readonly builtIn: string = 'RNNCell';
  readonly nonlinearity: 'tanh' | 'relu';

  /** @param o nonlinearity: 'tanh' (default) or 'relu' */
  constructor(
    inputSize: number,
    hiddenSize: number,
    o: RecurrentCellOptions & { nonlinearity?: 'tanh' | 'relu' } = {},
  ) {
    checkOptions('RNNCell', o, { ...OPTIONS, nonlinearity: oneOf('tanh', 'relu') });
    const { nonlinearity = 'tanh', ...rest } = o;
    super('RNNCell', nonlinearity, inputSize, hiddenSize, rest);
    this.nonlinearity = nonlinearity;
  }

  override forward(x: Tensor, state?: Tensor | null): Tensor {
    return this.step(x, [state ?? null])[0]!;
  }
}

/** A step of `LSTM`: `call(x, [h, c])` → [h, c], for x [B, inputSize] and states [B, hiddenSize], default zeros, or all without B. */
export class LSTMCell extends Cell<LSTMState, LSTMState> {
  static readonly builtIn: string = 'LSTMCell';

  constructor(inputSize: number, hiddenSize: number, o: RecurrentCellOptions = {}) {
    super('LSTMCell', 'lstm', inputSize, hiddenSize, o);
  }

  override forward(x: Tensor, state?: LSTMState | null): LSTMState {
    if (state != null) checkArgument(nameOf(this), 'the state', state, aPair);
    const [h, c] = this.step(x, state ?? [null, null]);
    return [h!, c!];
  }
}

/** A step of `GRU`: `call(x, h)` → h, for x [B, inputSize] and h [B, hiddenSize], default zeros, or both without B. */
export class GRUCell extends Cell<Tensor, Tensor> {
  static readonly builtIn: string = 'GRUCell';

  constructor(inputSize: number, hiddenSize: number, o: RecurrentCellOptions = {}) {
    super('GRUCell', 'gru', inputSize, hiddenSize, o);
  }

  override forward(x: Tensor, state?: Tensor | null): Tensor {
    return this.step(x, [state ?? null])[0]!;
  }
}
