/** Where products are not to be rounded: devices that were asked to take operands of products in fewer bits do not within it. */

let depth = 0;

/** Runs without rounding of operands, as in steps of optimizers. */
export function precisely<T>(run: () => T): T {
  depth++;
  try {
    return run();
  } finally {
    depth--;
  }
}

/** Whether a kernel that is called now computes in all bits. For devices. */
export const isPrecise = (): boolean => depth > 0;
