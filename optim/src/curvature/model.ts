/** The model of an optimizer that looks at layers. */

import { anInstance, checkArgument } from '@otimes/core/extend';
import { type AnyModule, Module, type Parameter } from '@otimes/nn';
import { checkParameters } from '../check.ts';

const aModel = anInstance(Module, 'a module', v =>
  Array.isArray(v) || (typeof v === 'object' && v !== null && Symbol.iterator in v)
    ? 'it takes the model itself, not its parameters()'
    : '',
);

/** Throws unless it is a module. */
export function checkModel(name: string, model: AnyModule): void {
  checkArgument(name, 'model', model, aModel);
}

/** The trainable parameters of a model and their paths. Throws where there is none. */
export function trainableOf(name: string, model: AnyModule): ReadonlyMap<Parameter, string> {
  const trainable = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
  const paths = new Map(trainable.map(([path, p]) => [p, path]));
  checkParameters(name, [...paths.keys()]);
  return paths;
}
