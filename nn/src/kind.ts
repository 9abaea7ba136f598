/** Which layer of the library a module is, asked without the layer's class: so a bundle has the layers of its model alone. */

import { aString, checkArgument } from '@otimes/core/extend';
import type * as nn from './index.ts';
import type { AnyModule } from './module.ts';

type ClassOf<Layer> = { readonly builtIn: string; readonly prototype: Layer };

/** The layers by the names of their classes. */
export type Layers = {
  readonly [Name in keyof typeof nn as (typeof nn)[Name] extends ClassOf<AnyModule>
    ? Name
    : never]: (typeof nn)[Name] extends ClassOf<infer Layer> ? Layer : never;
};

/**
 * Whether a value is that layer of the library, or of a class that extends it: `isLayer(module, 'Conv2d')` is what
 * `module instanceof Conv2d` is, and imports no `Conv2d`. It also knows layers of another copy of this package.
 */
export function isLayer<Name extends keyof Layers>(module: AnyModule, name: Name): module is Layers[Name] {
  checkArgument('isLayer', 'the name', name, aString);
  let made: unknown = (module as AnyModule | null | undefined)?.constructor;
  for (; typeof made === 'function'; made = Object.getPrototypeOf(made))
    if ('builtIn' in made && made.builtIn === name) return true;
  return false;
}
