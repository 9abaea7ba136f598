/** log(1 + eˣ) as an operation, of which other functions are made. */

import type { Tensor } from '@otimes/core';
import { defineBuiltIn } from '@otimes/core/extend';

const op = /* @__PURE__ */ defineBuiltIn<null>({
  name: 'softplus',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward(backend, [x], out) {
    const value = x!.detach();
    backend.binary('add', value.relu(), value.abs().neg().exp().log1p(), out);
  },
  backward: (gy, node) => [gy.mul(node.input(0).sigmoid())],
});

/**
 * log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|) of a floating tensor; never overflows. A separate operation, because the derivatives of max
 * and |·| are wrong at 0.
 */
export const logOnePlusExp = (x: Tensor): Tensor => op([x], null);
