/**
 * Parameters that nobody trains. A program that hides a layer where modules do not look, or that moves a model after its
 * optimizer was made, would train the rest in silence; modules and optimizers tell each other here, and `step` says so.
 */

import { nameOf } from './check.ts';
import { describe } from './errors.ts';
import { backwardPass } from './pass.ts';
import type { Tensor } from './tensor.ts';

/** What each parameter of a module keeps for this, as fields of the parameter: they are written for each gradient. */
export interface Noted {
  /** Whether a module lists it, or an optimizer holds it. */
  known: boolean;
  /** The last backward pass that left it a gradient. */
  pass: number;
}

/** What `Module.to` replaced by a tensor on another device; null until there is any. */
let moved: WeakSet<Tensor> | null = null;
/** The last backward pass with a parameter that nobody knows, and that parameter; 0 if there was none. */
let strayPass = 0;
let stray: WeakRef<Tensor & Noted> | null = null;

const isNoted = (p: Tensor): p is Tensor & Noted => 'known' in p && 'pass' in p;

/** Notes that a module lists these parameters, or that an optimizer holds them. */
export function noteKnown(parameters: Iterable<Tensor>): void {
  for (const p of parameters) if (isNoted(p)) p.known = true;
}

/** Notes that a leaf receives a gradient of the backward pass that is running. */
export function noteGradient(p: Tensor): void {
  if (!isNoted(p)) return;
  const pass = backwardPass();
  if (p.known) p.pass = pass;
  else if (pass !== strayPass) {
    strayPass = pass;
    stray = new WeakRef(p);
  }
}

/** Notes that another tensor, on another device or of another dtype, takes the place of this parameter. */
export function noteMoved(p: Tensor): void {
  moved ??= new WeakSet();
  moved.add(p);
}

/** Throws if an optimizer of these parameters steps tensors that their model has left, or leaves one out by mistake. */
export function checkTrained(optimizer: object, parameters: readonly Tensor[]): void {
  if (moved === null && strayPass === 0) return;
  const left = moved === null ? undefined : parameters.find(p => moved?.has(p));
  if (left !== undefined)
    throw new Error(
      `${nameOf(optimizer)}: the model moved to another device or dtype, this optimizer has ${describe(left)} on '${left.device}'; ` +
        'make the optimizer after model.to(…)',
    );
  if (strayPass === 0) return;
  const lost = stray?.deref();
  if (lost === undefined || lost.known) {
    strayPass = 0;
    return;
  }
  if (lost.requiresGrad && lost.borrowGrad() !== null && parameters.some(p => isNoted(p) && p.pass === strayPass))
    throw new Error(
      `${nameOf(optimizer)}: a parameter ${describe(lost)} gets gradients, but no module lists it and no optimizer has it, so it would ` +
        'stay as it is. Modules do not find what lies in #private fields or closures: put it, or its layer, into a ' +
        'public field; or give it to an optimizer, or switch its requiresGrad off',
    );
}
