/** What recurrent layers and cells have in common: one layer in one direction over some steps, and who listens to its products. */

import {
  gru,
  type Handle,
  type Lengths,
  lstm,
  type Recurrence,
  type RecurrentOptions,
  rnn,
  type Tensor,
} from '@otimes/core';
import { aFunction, checkArgument, nameOf } from '@otimes/core/extend';
import { linear } from '../functional.ts';
import { Module } from '../module.ts';
import type { Parameter } from '../parameter.ts';

/** A kind of cell; 'tanh' and 'relu' are the plain one. */
export type CellKind = 'tanh' | 'relu' | 'lstm' | 'gru';

/** Rows of a weight for each hidden unit. */
export const GATES: Record<CellKind, number> = { tanh: 1, relu: 1, lstm: 4, gru: 3 };

/** The weights of one layer in one direction. */
export type Weights = {
  /** [gates · hidden, inputs] */
  readonly ih: Parameter;
  /** [gates · hidden, hidden] */
  readonly hh: Parameter;
  /** [gates · hidden] */
  readonly biasIh: Parameter | null;
  readonly biasHh: Parameter | null;
};

/**
 * One use of one layer in one direction: `products` = inputs Wᵀ + biases, whose gradient is that of the sums before the gates' functions, and what the weights were
 * multiplied with.
 */
export type Products = {
  readonly layer: number;
  readonly reverse: boolean;
  /** [T, B, gates · hidden] */
  readonly products: Tensor;
  /** [T, B, inputs] */
  readonly inputs: Tensor;
  /** [T, B, hidden]: the states before each step, without a graph. */
  readonly states: Tensor;
  /** [T, B, hidden]: of a GRU its reset gate, by which the product of the state is multiplied in the last gate; else null. */
  readonly reset: Tensor | null;
  /** Steps of each sequence, or null for all T. */
  readonly lengths: Lengths | null;
};

export type ProductsHook = (products: Products) => void;

/** The base of recurrent layers and cells. */
export abstract class Recurrent<Args extends readonly unknown[], Result> extends Module<Args, Result> {
  #listeners: readonly { readonly hook: ProductsHook }[] = [];

  /**
   * Runs `hook` in each call that records a graph, for each layer and direction as soon as it was computed: for the curvature of the weights. It must drop the tensors that it gets before
   * backward has passed them.
   */
  onProducts(hook: ProductsHook): Handle {
    checkArgument(`${nameOf(this)}.onProducts`, 'the hook', hook, aFunction);
    const added = { hook };
    this.#listeners = [...this.#listeners, added];
    return {
      remove: () => {
        this.#listeners = this.#listeners.filter(one => one !== added);
      },
    };
  }

  /** One layer in one direction on inputs [T, B, features]: its `states`, as the operation of core leaves them. */
  protected run(
    kind: CellKind,
    inputs: Tensor,
    { ih, hh, biasIh, biasHh }: Weights,
    o: RecurrentOptions & { c?: Tensor | null; layer?: number },
  ): Tensor {
    const { layer = 0, ...rest } = o;
    // The biases of a GRU are apart: one is multiplied by the reset gate.
    const bias = kind === 'gru' || biasIh === null || biasHh === null ? biasIh : biasIh.add(biasHh);
    const products = linear(inputs, ih, bias);
    const result = this.#recurrence(kind, products, hh, biasHh, rest);
    const { states } = result;
    if (this.#listeners.length > 0 && states.requiresGrad) {
      const { before, reset } = result;
      const use = {
        layer,
        reverse: o.reverse ?? false,
        products,
        inputs,
        states: before,
        reset,
        lengths: o.lengths ?? null,
      };
      for (const { hook } of this.#listeners) hook(use);
    }
    return states;
  }

  #recurrence(
    kind: CellKind,
    products: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    { c, ...o }: RecurrentOptions & { c?: Tensor | null },
  ): Recurrence {
    if (kind === 'lstm') return lstm(products, weight, { ...o, c: c ?? null });
    return kind === 'gru' ? gru(products, weight, bias, o) : rnn(products, weight, { ...o, nonlinearity: kind });
  }
}
