/** Gradients of several processes that train one model, between `backward` and `step`. */

import { noGrad, type Tensor, unscoped } from '@otimes/core';
import {
  aNumber,
  borrowGrad,
  checkArgument,
  checkOptions,
  held,
  type Kind,
  type OptionKinds,
} from '@otimes/core/extend';
import { checkTensor, listOf } from './check.ts';
import { aCommunicator, type Communicator } from './curvature/communicator.ts';
import { agreed, column, inTurns, type Turns, told, total } from './curvature/exchange.ts';

export type AverageOptions = {
  /** How many this process has in the batch: parts weigh by it. Default 1, which is right for parts of equal size. */
  examples?: number;
};

const someExamples: Kind = {
  expected: 'a number > 0',
  is: v => aNumber.is(v) && Number(v) > 0 && Number(v) < Infinity,
  error: RangeError,
};
const OPTIONS: OptionKinds<AverageOptions> = { examples: someExamples };

/**
 * Replaces gradients by their average over all processes, Σ_r n_r g_r / Σ_r n_r with the `examples` n_r of each. If each
 * has the mean loss of its own part, that is the gradient of the mean over all parts: `clipGradNorm`, and the step of an optimizer
 * that needs gradients alone, SGD, Adam or Muon say, are then those of the whole batch, and the same to the bit in all processes.
 * KFAC, EKFAC and STEVE do that themselves, with the option `communicator`.
 *
 *     loss.backward();
 *     await averageGradients(model.parameters(), communicator);
 *     optimizer.step();
 *
 * @returns a promise if the communicator does; until it is settled the gradients are what they were
 * @throws if a parameter has a gradient in some processes only; that, and what else throws, leaves the gradients as they were
 */
export function averageGradients(
  parameters: Iterable<Tensor>,
  communicator: Communicator,
  o: AverageOptions = {},
): void | Promise<void> {
  const op = 'averageGradients';
  const all = [...new Set(listOf(op, parameters))];
  all.forEach((p, i) => {
    checkTensor(op, p, i);
  });
  checkArgument(op, 'communicator', communicator, aCommunicator);
  checkOptions<AverageOptions>(op, o, OPTIONS);
  if (communicator.size > 1) return inTurns(averaging(all, communicator, o.examples ?? 1));
}

function* averaging(parameters: readonly Tensor[], communicator: Communicator, examples: number): Turns<void> {
  // Copies, which take the gradients' place once all is well.
  const own = new Map<Tensor, Tensor>();
  try {
    const table = yield* told(communicator, 1 + parameters.length, () => {
      unscoped(() => noGrad(() => copies(parameters, own)));
      return [examples, ...parameters.map(p => Number(own.has(p)))];
    });
    for (const i of parameters.keys())
      agreed(column(table, 1 + i), (has, lacks) => {
        const where = `parameter ${i} has a gradient in process ${has} and none in process ${lacks}`;
        return new Error(`averageGradients: ${where}: all processes train the same parameters in a step`);
      });
    const share = examples / total(column(table, 0));
    for (const g of own.values()) g.scale_(share);
    if (own.size > 0) yield communicator.sum([...own.values()]);
    for (const [p, g] of own) p.grad = g.keep();
  } finally {
    for (const g of own.values()) g.storage.release();
  }
}

function copies(parameters: readonly Tensor[], into: Map<Tensor, Tensor>): void {
  for (const p of parameters) {
    const g = borrowGrad(p);
    if (g !== null) into.set(p, held(g.clone()));
  }
}
