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
  versionOf,
} from '@otimes/core/extend';
import { checkTensor, listOf } from './check.ts';
import { aCommunicator, type Communicator } from './curvature/communicator.ts';
import { agreed, column, inTurns, summed, type Turns, told, total } from './curvature/exchange.ts';

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

/** A gradient, how often it had been written to, and its copy. */
type Own = { readonly gradient: Tensor; readonly version: number; readonly copy: Tensor };

function* averaging(parameters: readonly Tensor[], communicator: Communicator, examples: number): Turns<void> {
  // Copies, which take the gradients' place once all is well.
  const own = new Map<Tensor, Own>();
  try {
    const table = yield* told('averageGradients', communicator, 1 + parameters.length, () => {
      unscoped(() => noGrad(() => copies(parameters, own)));
      return [examples, ...parameters.map(p => Number(own.has(p)))];
    });
    for (const i of parameters.keys())
      agreed(column(table, 1 + i), (has, lacks) => {
        const where = `parameter ${i} has a gradient in process ${has} and none in process ${lacks}`;
        return new Error(`averageGradients: ${where}: all processes train the same parameters in a step`);
      });
    const all = total(column(table, 0));
    if (!Number.isFinite(all))
      throw new RangeError(
        `averageGradients: expected a finite sum of the examples of all processes, got ${column(table, 0).join(' + ')} = ${all}`,
      );
    for (const { copy } of own.values()) copy.scale_(examples / all);
    if (own.size > 0) {
      const copies = Array.from(own.values(), ({ copy }) => copy);
      yield* summed(communicator, copies, () => parameters.some(p => isChanged(p, own.get(p))), changed);
    }
    for (const [p, { copy }] of own) p.grad = copy.keep();
  } finally {
    for (const { copy } of own.values()) copy.storage.release();
  }
}

function copies(parameters: readonly Tensor[], into: Map<Tensor, Own>): void {
  for (const p of parameters) {
    const gradient = borrowGrad(p);
    if (gradient !== null) into.set(p, { gradient, version: versionOf(gradient), copy: held(gradient.clone()) });
  }
}

/** Whether a gradient is another one than was told, or was written to. */
function isChanged(p: Tensor, told: Own | undefined): boolean {
  const now = borrowGrad(p);
  return now !== (told?.gradient ?? null) || (now !== null && versionOf(now) !== told?.version);
}

const changed = (rank: number): Error =>
  new Error(
    `averageGradients: gradients of process ${rank} changed while it waited for other processes, and are as they are: await ` +
      'averageGradients() before backward, zeroGrad or a step',
  );
