/**
 * Parameters that nobody trains. A program that hides a layer where modules do not look, or that moves a model after its
 * optimizer was made, would train the rest in silence; modules and optimizers tell each other here, and `step` says so.
 */

import { describe } from './errors.ts';
import { backwardPass } from './pass.ts';
import type { Tensor } from './tensor.ts';

/** What a module lists or an optimizer holds. */
const known = new WeakSet<Tensor>();
/** What `Module.to` replaced by a tensor on another device; null until there is any. */
let moved: WeakSet<Tensor> | null = null;

/** The backward pass that the next two are of. */
let pass = 0;
/** A parameter that got a gradient and that nobody knows. */
let stray: WeakRef<Tensor> | null = null;
/** The first known parameter of the same pass. */
let witness: WeakRef<Tensor> | null = null;

/** Notes that a module lists these parameters, or that an optimizer holds them. */
export function noteKnown(parameters: Iterable<Tensor>): void {
  for (const p of parameters) known.add(p);
}

/** Notes that a parameter receives a gradient. */
export function noteGradient(p: Tensor): void {
  if (pass !== backwardPass()) {
    pass = backwardPass();
    stray = null;
    witness = null;
  }
  const isKnown = known.has(p);
  if (isKnown) witness ??= new WeakRef(p);
  else if (pass !== 0) stray ??= new WeakRef(p);
}

/** Notes that another tensor, on another device, takes the place of this parameter. */
export function noteMoved(p: Tensor): void {
  moved ??= new WeakSet();
  moved.add(p);
}

/** Throws if an optimizer of these parameters steps tensors that their model has left, or leaves one out by mistake. */
export function checkTrained(op: string, parameters: readonly Tensor[]): void {
  const left = moved === null ? undefined : parameters.find(p => moved?.has(p));
  if (left !== undefined)
    throw new Error(
      `${op}: the model moved to another device, this optimizer has ${describe(left)} on '${left.device}'; ` +
        'make the optimizer after model.to(…)',
    );
  const lost = stray?.deref();
  const beside = witness?.deref();
  if (lost === undefined || beside === undefined || known.has(lost) || !parameters.includes(beside)) return;
  if (lost.requiresGrad && lost.borrowGrad() !== null)
    throw new Error(
      `${op}: a parameter ${describe(lost)} gets gradients, but no module lists it and no optimizer has it; #private ` +
        'fields and closures are not searched: make the field public, give it to an optimizer, or freeze it',
    );
}
