/** Factors and second moments of one sample that a program hands over itself, without a model. */

import { DTypeError, describe, ShapeError, type Tensor } from '@otimes/core';
import { aTensor, checkArgument, checkTensors, type Kind, received, someTensors } from '@otimes/core/extend';
import type { Sharing } from './block.ts';
import { type Factors, type Sample, Statistics } from './factors.ts';
import { aSharing } from './options.ts';
import { Side } from './side.ts';

/** The factors of one batch, from gradients of ONE example's loss: a [batch, shared, dIn] and gs [batch, shared, dOut]. */
export function factors(sample: Sample, sharing: Sharing): Factors {
  checkSample('factors', sample);
  checkArgument('factors', 'sharing', sharing, aSharing);
  return statisticsOf(sample, { sharing, wantsFactors: true }, false).factors(1)!;
}

/** The second moments [dOut, dIn] of such a batch in the bases UA [dIn, dIn] and UG [dOut, dOut]. */
export function exampleSquares(sample: Sample, UA: Tensor, UG: Tensor): Tensor {
  checkSample('exampleSquares', sample);
  checkTensors('exampleSquares', UA, UG);
  const [dIn, dOut] = [sample.a.shape[2]!, sample.gs[0]!.shape[2]!];
  if (String([UA.shape, UG.shape]) !== String([dIn, dIn, dOut, dOut]))
    throw new ShapeError(
      `exampleSquares: expected bases UA [${dIn},${dIn}] and UG [${dOut},${dOut}], got [${UA.shape}] and [${UG.shape}]`,
    );
  const sides = { A: Side.exact(dIn), G: Side.exact(dOut) };
  return statisticsOf(sample, { sharing: 'expand', wantsFactors: false }, true).exampleSquares({ UA, UG, sides }, 1);
}

type Wanted = { readonly sharing: Sharing; readonly wantsFactors: boolean };

function statisticsOf(sample: Sample, o: Wanted, keeps: boolean): Statistics {
  const statistics = new Statistics({
    ...o,
    sideA: Side.exact(sample.a.shape[2]!),
    sideG: Side.exact(sample.gs[0]!.shape[2]!),
  });
  const pass = 1;
  statistics.add({ pass, call: 0 }, sample, 'sample', keeps);
  statistics.ended(pass, true);
  return statistics;
}

const aSample: Kind = {
  expected: 'a sample { a, gs } of a tensor and a list of one tensor or more',
  is: v => {
    if (typeof v !== 'object' || v === null || !aTensor.is(Reflect.get(v, 'a'))) return false;
    const gs: unknown = Reflect.get(v, 'gs');
    return someTensors.is(gs) && Array.isArray(gs) && gs.length > 0;
  },
  hint: v =>
    typeof v === 'object' && v !== null
      ? `a is ${received(Reflect.get(v, 'a'))}, gs ${received(Reflect.get(v, 'gs'))}`
      : '',
};

/** Throws unless a is [batch, shared, dIn] and all gs are [batch, shared, dOut], of one floating dtype. */
function checkSample(op: string, sample: Sample): void {
  checkArgument(op, 'sample', sample, aSample);
  const { a, gs } = sample;
  const [first] = gs;
  const isCanonical =
    a.rank === 3 &&
    gs.every(
      g => g.rank === 3 && g.shape[0] === a.shape[0] && g.shape[1] === a.shape[1] && g.shape[2] === first!.shape[2],
    );
  const shown = `a ${describe(a)}, gs ${gs.map(describe).join(', ')}`;
  if (!isCanonical)
    throw new ShapeError(
      `${op}: expected a [batch, shared, dIn] and gs of one shape [batch, shared, dOut], got ${shown}`,
    );
  if (!a.dtype.startsWith('float') || gs.some(g => g.dtype !== a.dtype))
    throw new DTypeError(`${op}: expected a and gs of one dtype, 'float32' or 'float64', got ${shown}`);
}
