/** Checks of constructor arguments. */

/** Throws unless each of the named sizes is an integer ≥ 1. */
export function checkPositive(where: string, sizes: Record<string, number>): void {
  for (const [name, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${where}: expected ${name} to be an integer ≥ 1, got ${value}`);
}
