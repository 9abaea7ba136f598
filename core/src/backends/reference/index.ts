/** The reference backend: plain typed arrays and plain loops. Slow and obviously right; the twin of every fast backend. */

import { aDevice, checkArgument } from '../../check.ts';
import type { Backend } from '../backend.ts';
import { ABSENT } from '../parts.ts';
import * as check from './check.ts';
import * as elementwise from './elementwise.ts';
import * as loss from './layers/loss.ts';
import * as memory from './memory.ts';
import * as product from './product.ts';
import * as reduce from './reduce.ts';
import * as select from './select.ts';
import * as update from './update.ts';

/**
 * Every kernel, as a function that needs no backend, but for those that come with their operations. These files export kernels and
 * nothing else.
 */
export const kernels = {
  ...memory,
  ...elementwise,
  ...reduce,
  ...select,
  ...update,
  ...product,
  ...loss,
  ...check,
  ...ABSENT,
};

export interface ReferenceBackend extends Backend {
  readonly onHost: true;
}

/**
 * The kernels as methods, for subclasses that replace some of them. No kernel calls another through `this`: each that is to
 * change is replaced itself.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the methods that the interface adds are assigned below
export class ReferenceBackend {
  static readonly name: string = 'ReferenceBackend';
  readonly device: string;
  readonly onHost = true;

  /** @param device the name of the device; default 'reference' */
  constructor(device = 'reference') {
    checkArgument('ReferenceBackend', 'device', device, aDevice);
    this.device = device;
  }
}
Object.assign(ReferenceBackend.prototype, kernels);
