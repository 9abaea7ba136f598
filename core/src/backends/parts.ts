/**
 * Kernels that come with their operations. A program that never convolves needs none of a convolution's, so the plain devices
 * get them from the files of the operations (ops/conv.ts, pool.ts and norm.ts call `bring` of bring.ts), and a bundle without
 * these operations has none of that code.
 */

/** An operation that brings kernels → their names. */
const PARTS = {
  conv2d: ['convForward', 'convInputGrad', 'convWeightGrad', 'unfold', 'fold', 'patchGram'],
  maxPool2d: ['maxPoolIndex', 'avgPool', 'avgPoolGrad'],
  layerNorm: ['normalize', 'normalizeInputGrad', 'normalizeWeightGrad'],
};

/** What stands in their place until then: for programs that call kernels themselves. */
export const ABSENT: Record<string, () => never> = Object.fromEntries(
  Object.entries(PARTS).flatMap(([operation, names]) =>
    names.map(name => [
      name,
      () => {
        throw new Error(
          `${name}: this bundle has no such kernel; it comes with ${operation} of '@otimes/core', import that too`,
        );
      },
    ]),
  ),
);
