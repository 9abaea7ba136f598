/** What operations are made of others on devices that have no kernel for them. Apart, so that it brings no kernels along. */

import type { Backend } from '../backends/backend.ts';
import { noGrad } from '../graph.ts';
import { scope } from '../scope.ts';
import type { Tensor } from '../tensor.ts';

/** out ← what `compose` gives: unrecorded, and what it makes goes back. For devices without a kernel. */
export function composeInto(backend: Backend, out: Tensor, compose: () => Tensor): void {
  scope(() => {
    backend.copy(noGrad(compose), out);
  });
}
