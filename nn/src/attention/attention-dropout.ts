/** The dropout inside of attention, which knows whether anybody would miss its call. */

import type { Handle } from '@otimes/core';
import { running } from '../calls.ts';
import { Dropout } from '../dropout.ts';
import type { Module } from '../module.ts';

/**
 * Whether a call of a layer returns its input and nobody sees it, so that attention may leave the call, and the weights themselves, out.
 * Not where a hook or a substitute was ever registered, or where the layer or its methods were replaced.
 */
export let isIdle: (layer: Module) => boolean;

/** A `Dropout` that notes what was registered. */
export class AttentionDropout extends Dropout {
  static override readonly builtIn: string = 'Dropout';
  #watched = false;

  static {
    isIdle = layer =>
      #watched in layer &&
      !layer.#watched &&
      Object.getPrototypeOf(layer) === AttentionDropout.prototype &&
      !['forward', 'call'].some(name => Object.hasOwn(layer, name)) &&
      running.observer === null &&
      (layer.p === 0 || !layer.training);
  }

  override onForward(...x: Parameters<Module['onForward']>): Handle {
    this.#watched = true;
    return super.onForward(...x);
  }

  override beforeForward(...x: Parameters<Module['beforeForward']>): Handle {
    this.#watched = true;
    return super.beforeForward(...x);
  }

  override substitute(...x: Parameters<Module['substitute']>): Handle {
    this.#watched = true;
    return super.substitute(...x);
  }
}
