/** The forward algorithm of CTC in tensor operations: for devices that are read with await, and for higher derivatives. */

import { concat, full, stack, type Tensor, tensor, where } from '@otimes/core';
import { defineBuiltIn } from '@otimes/core/extend';

export type Lengths = {
  readonly inputs: readonly number[];
  readonly targets: readonly number[];
  readonly blank: number;
  readonly zeroInfinity: boolean;
};

/** log Σ eˣ of tensors of one shape, −∞ with gradient 0 where all are −∞. */
function logSum(x: readonly Tensor[]): Tensor {
  const most = x.map(one => one.detach()).reduce((a, b) => a.maximum(b));
  const offset = where(most.isFinite(), most, 0);
  const sum = x.map(one => one.sub(offset).exp()).reduce((a, b) => a.add(b));
  const none = sum.eq(0);
  return where(none, -Infinity, where(none, 1, sum).log().add(offset));
}

/** ∞, with gradient NaN where one is asked for. */
const infeasible = /* @__PURE__ */ defineBuiltIn<null>({
  name: 'ctcLoss',
  shape: ([x]) => x!,
  forward: (backend, [x], out) => backend.copy(full(x!.shape, Infinity, { dtype: x!.dtype, device: x!.device }), out),
  backward: gy => [where(gy.eq(0), 0, Number.NaN, gy)],
});

/** −log P(target) [N] for logP [T, N, C] and labels [N, longest], padded with the blank. */
export function composedCtc(logP: Tensor, labels: Tensor, { inputs, targets, blank, zeroInfinity }: Lengths): Tensor {
  const [time, batch] = logP.shape as [number, number, number];
  const { dtype, device } = logP;
  const longest = labels.shape[1]!;
  const states = 2 * longest + 1;
  const int32 = { dtype: 'int32', device } as const;
  const blanks = full([batch, longest], blank, int32);
  // [N, states]: a blank before, between and behind the labels.
  const classOf = concat([stack([blanks, labels], 2).reshape(batch, 2 * longest), blanks.narrow(1, 0, 1)], 1);
  const emitted = logP.gather(2, classOf.unsqueeze(0).expand(time, batch, states));
  const never = (columns: number) => full([batch, columns], -Infinity, { dtype, device });
  const behind = (x: Tensor, by: number) =>
    states > by ? concat([never(by), x.narrow(1, 0, states - by)], 1) : never(states);
  const first = tensor(
    Int32Array.from({ length: states }, (_, s) => (s < 2 ? 1 : 0)),
    int32,
  ).eq(1);
  const twoBefore = concat([blanks.narrow(1, 0, 1), blanks.narrow(1, 0, 1), classOf.narrow(1, 0, states - 2)], 1);
  const skips = classOf.ne(blank).logicalAnd(classOf.ne(twoBefore)).logicalAnd(first.logicalNot());
  const at = (t: number) => emitted.narrow(0, t, 1).squeeze(0);
  let forward = where(first, at(0), -Infinity);
  for (let t = 1; t < time; t++) {
    const next = logSum([forward, behind(forward, 1), where(skips, behind(forward, 2), -Infinity)]).add(at(t));
    const goesOn = tensor(
      Int32Array.from(inputs, n => (t < n ? 1 : 0)),
      { ...int32, shape: [batch, 1] },
    ).eq(1);
    forward = where(goesOn, next, forward);
  }
  const last = (of: (length: number) => number) =>
    forward.gather(1, tensor(Int32Array.from(targets, of), { ...int32, shape: [batch, 1] })).squeeze(1);
  const empty = tensor(
    Int32Array.from(targets, n => (n === 0 ? 1 : 0)),
    int32,
  ).eq(1);
  const total = logSum([
    last(n => 2 * n),
    where(
      empty,
      -Infinity,
      last(n => Math.max(0, 2 * n - 1)),
    ),
  ]);
  const impossible = total.detach().eq(-Infinity);
  const inside = Int32Array.from({ length: time * batch }, (_, i) =>
    Math.floor(i / batch) < inputs[i % batch]! ? 1 : 0,
  );
  const used = where(tensor(inside, { ...int32, shape: [time, batch, 1] }).eq(1), logP, 0);
  return where(impossible, zeroInfinity ? 0 : infeasible([used.sum([0, 2])], null), total.neg());
}
