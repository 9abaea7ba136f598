/** A table of a model: what each layer makes of an input, and how many parameters it has. */

import { defaultGenerator, noGrad, type Shape, scope, Tensor, zeros } from '@otimes/core';
import { anInstance, checkArgument, isPlainObject, nameOf, received, versionOf } from '@otimes/core/extend';
import { observed } from './calls.ts';
import { type AnyModule, Module } from './module.ts';

const WIDTH = 100;

/**
 * Path, layer, shapes of input and output, own parameters and whether these are trained, of every module of a model, as a text of at
 * most 100 columns; below it the sums and the memory of the parameters:
 *
 * ```
 * Path       Layer   Input      Output     Parameters  Trained
 * ```
 *
 * The model runs once, in evaluation mode and without a gradient; no hook runs. Mode, buffers and the default generator are
 * the same afterwards. A module that is called several times shows its first call.
 *
 * @param model the module
 * @param inputs tensors; or a shape with the batch, [1, 3, 32, 32], for zeros of the dtype and device of the model; for a
 * module with several inputs one after the other
 */
export function summary(model: AnyModule, ...inputs: readonly (Tensor | Shape)[]): string {
  checkArgument('summary', 'model', model, anInstance(Module, 'a module'));
  const like = model.parameters()[0];
  const given = inputs.map((x, i) => {
    if (x instanceof Tensor) return x;
    if (Array.isArray(x) && x.every(n => Number.isInteger(n) && n >= 0))
      return zeros(x, like === undefined ? {} : { dtype: like.dtype, device: like.device });
    throw new TypeError(`summary: expected input ${i} to be a tensor, or a shape such as [1, 3], got ${received(x)}`);
  });
  if (given.length === 0)
    throw new TypeError('summary: expected an input, or its shape with the batch, after the model');
  const calls = callsOf(model, given);
  const modules = model.namedModules();
  const counted = new Set<Tensor>();
  const rows = Array.from(modules, ([path, module]) => {
    const own = [...module.namedParameters({ recurse: false }).values()].filter(p => !counted.has(p));
    for (const p of own) counted.add(p);
    const { input = 'not called', output = '' } = calls.get(module) ?? {};
    const trains = own.filter(p => p.requiresGrad).length;
    const trained = own.length === 0 ? '' : trains === own.length ? 'yes' : trains === 0 ? 'no' : 'partly';
    return [path, nameOf(module), input, output, own.length === 0 ? '' : count(own), trained];
  });
  rows[0]![0] = '(model)';
  const trained = [...counted].filter(p => p.requiresGrad);
  const bytes = [...counted].reduce((sum, { size, dtype }) => sum + size * (dtype === 'float64' ? 8 : 4), 0);
  const frozen = trained.length === counted.size ? '' : `, ${count(trained)} of them trained`;
  return `${table(['Path', 'Layer', 'Input', 'Output', 'Parameters', 'Trained'], rows)}\n${count([...counted])} parameters${frozen}, ${size(bytes)}`;
}

type Call = { readonly input: string; readonly output: string };

/** The first call of each module; the model is as before afterwards. */
function callsOf(model: AnyModule, inputs: readonly Tensor[]): Map<AnyModule, Call> {
  const calls = new Map<AnyModule, Call>();
  const modes = Array.from(model.namedModules().values(), module => ({ module, training: module.training }));
  const buffers = Array.from(model.namedBuffers().values(), buffer => {
    return { buffer, version: versionOf(buffer), value: buffer.detach().clone() };
  });
  const rng = defaultGenerator();
  const state = rng.getState();
  const see = (module: AnyModule, output: unknown, given: readonly unknown[]): void => {
    if (!calls.has(module))
      calls.set(module, { input: shapes(given.filter(one => one !== undefined)), output: shapes(output) });
  };
  model.eval();
  try {
    noGrad(() =>
      scope(() => {
        observed(see, () => model.call(...inputs));
      }),
    );
  } finally {
    for (const { module, training } of modes) if (module.training !== training) module.training = training;
    rng.setState(state);
    for (const { buffer, version, value } of buffers)
      if (versionOf(buffer) !== version) noGrad(() => buffer.copy_(value));
  }
  return calls;
}

/** The shape of a tensor, or of those in a list or an object. */
function shapes(output: unknown): string {
  if (output instanceof Tensor) return `[${output.shape.join(', ')}]`;
  if (Array.isArray(output)) return output.map(shapes).join(' ');
  if (isPlainObject(output)) return Object.values(output).map(shapes).join(' ');
  return received(output);
}

function count(parameters: readonly Tensor[]): string {
  return parameters.reduce((sum, { size }) => sum + size, 0).toLocaleString('en');
}

function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Columns as wide as they need to be; the first ones are cut where the sum is more than 100. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map(row => row[i]!.length)));
  for (const [i, least] of [
    [0, 16],
    [2, 18],
    [3, 18],
    [1, 12],
  ] as const) {
    const over = widths.reduce((sum, width) => sum + width + 2, -2) - WIDTH;
    if (over > 0) widths[i] = Math.max(Math.min(widths[i]!, least), widths[i]! - over);
  }
  const cut = (text: string, width: number) => (text.length <= width ? text : `${text.slice(0, width - 1)}…`);
  const numbers = head.indexOf('Parameters');
  const lines = all.map(row =>
    row
      .map((text, i) => (i === numbers ? text.padStart(widths[i]!) : cut(text, widths[i]!).padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
  const rule = '─'.repeat(widths.reduce((sum, width) => sum + width + 2, -2));
  return [lines[0], rule, ...lines.slice(1), rule].join('\n');
}
