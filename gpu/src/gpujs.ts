/// <reference path="./gpujs-parts.d.ts" />
/**
 * gpu.js as a compiler and nothing else: of the library only what writes WGSL is imported, so that no part of it looks for a GPU, a page
 * or a way to compile text. `build` makes the WGSL synchronously, before it would ask for a device.
 *
 * NOTE: in the published package this file is a bundle with those parts of gpu.js and with acorn, their parser (gpu/bundle.mjs): gpu.js
 * itself brings an old `webgpu` of 134 MB and a `gl` that wants a compiler, which a package cannot spare those who install it.
 */

import { parseExpressionAt } from 'acorn';
import { WebGPUKernel } from 'gpu.js/src/backend/web-gpu/kernel.js';
import { Input } from 'gpu.js/src/input.js';

export type Arguments = {
  /** Arrays of float32. */
  readonly arrays: readonly string[];
  readonly numbers: readonly string[];
  /** Whole numbers. */
  readonly steps: readonly string[];
};

export type Translation = {
  readonly code: string;
  /** Threads of a workgroup along each axis. */
  readonly workgroup: readonly number[];
  /** The place of the first constant that is no length, in bytes. */
  readonly scalars: number | undefined;
};

/**
 * The WGSL of a function in JavaScript, whose arguments come in the order of `Arguments`, over so many axes.
 *
 * @param functions sources of functions that it may call
 */
export function translate(
  source: string,
  axes: number,
  { arrays, numbers, steps }: Arguments,
  functions: readonly string[],
): Translation {
  const kernel = new WebGPUKernel(source, {
    output: Array.from({ length: axes }, () => 1),
    dynamicOutput: true,
    dynamicArguments: true,
    functions,
    argumentTypes: [...arrays.map(() => 'Input'), ...numbers.map(() => 'Float'), ...steps.map(() => 'Integer')],
  });
  // What follows the translation: a device of its own, and the shader on it.
  kernel._buildAsync = async () => {};
  let failed: unknown = null;
  const one = new Input([0], [1]);
  kernel.build(...arrays.map(() => one), ...numbers.map(() => 0.5), ...steps.map(() => 1)).catch((error: unknown) => {
    failed = error;
  });
  const { compiledSource: code, workgroupSize: workgroup, paramsLayout } = kernel;
  if (typeof code !== 'string') throw new Error(`gpu.js: expected a translation of ${source}, got ${failed ?? 'none'}`);
  return { code, workgroup, scalars: paramsLayout.scalarArgs[0]?.offset };
}

/** The syntax tree (ESTree) of an expression, which is all of the text but comments. */
export function parseExpression(text: string): unknown {
  const tree = parseExpressionAt(text, 0, { ecmaVersion: 'latest' });
  if (!/^(\s|\/\/.*|\/\*((?!\*\/)[\s\S])*\*\/)*$/.test(text.slice(tree.end)))
    throw new SyntaxError('more than one expression');
  return tree;
}
