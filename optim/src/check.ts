/** Checks of what optimizers are made from. */

import { describe, Tensor } from '@otimes/core';

/** Throws unless there is at least one parameter, each is a leaf with a gradient, and none comes twice. */
export function checkParameters(name: string, parameters: readonly Tensor[]): void {
  if (parameters.length === 0) throw new Error(`${name}: expected at least one parameter, got none`);
  const seen = new Set<Tensor>();
  parameters.forEach((p, i) => {
    if (!(p instanceof Tensor)) throw new TypeError(`${name}: parameter ${i} is no tensor`);
    if (!p.requiresGrad || !p.isLeaf)
      throw new Error(`${name}: parameter ${i}, ${describe(p)}, is not a leaf that requires a gradient`);
    if (seen.has(p)) throw new Error(`${name}: parameter ${i}, ${describe(p)}, is given twice`);
    seen.add(p);
  });
}

/** Throws for an option that does not exist: `weight_decay`, say. */
export function checkKnown(name: string, options: object, known: object): void {
  for (const option of Object.keys(options))
    if (!Object.hasOwn(known, option))
      throw new TypeError(`${name}: there is no option '${option}', only ${Object.keys(known).join(', ')}`);
}

export function checkLr(name: string, lr: number): void {
  checkRange(name, 'lr', lr, 0, Infinity);
}

/** Throws unless low ≤ value < high. */
export function checkRange(name: string, option: string, value: number, low: number, high: number): void {
  if (!(value >= low && value < high))
    throw new RangeError(`${name}: expected ${option} in [${low}, ${high}), got ${value}`);
}

/** Throws unless the option is left out or one of the choices. */
export function checkChoice(name: string, option: string, value: string | undefined, choices: readonly string[]): void {
  if (value !== undefined && !choices.includes(value))
    throw new RangeError(
      `${name}: expected ${option} to be ${choices.map(c => `'${c}'`).join(' or ')}, got '${value}'`,
    );
}
