/**
 * Elementwise kernels, written as JavaScript and translated by gpu.js, which is the compiler and nothing else: the dispatch is ours. So
 * launches are recorded with all others, write into memory of the pool, and need no warm-up.
 */

import type { Commands } from './commands.ts';
import type { Kernel } from './launch.ts';
import { translate } from './translate.ts';

export type Compiled = {
  readonly kernel: Kernel;
  /** Threads of a workgroup along each axis. */
  readonly workgroup: readonly number[];
  /** Constants between the lengths of the result and the first number. */
  readonly pad: number;
};

export class ElementwiseCompiler {
  readonly #commands: Commands;
  readonly #known = new Map<string, Compiled>();

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /**
   * The kernel of `body`, in which `arrays` are elements of tensors and `numbers` are numbers. `flat`: one axis and a step for each
   * tensor; else three axes and three steps.
   */
  get(body: string, arrays: readonly string[], numbers: readonly string[], flat: boolean): Compiled {
    const key = `${flat} ${arrays} ${numbers} ${body}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      known = this.#compile(body, arrays, numbers, flat);
      this.#known.set(key, known);
    }
    return known;
  }

  #compile(body: string, arrays: readonly string[], numbers: readonly string[], flat: boolean): Compiled {
    const axes = flat ? ['x'] : ['x', 'y', 'z'];
    const steps = arrays.flatMap(name => [...axes.map(axis => `${name}_${axis}`), `${name}_0`]);
    const place = (name: string) =>
      [...axes.map(axis => `this.thread.${axis} * ${name}_${axis}`), `${name}_0`].join(' + ');
    const loads = arrays.map(name => `const ${name} = ${name}_all[${place(name)}];`);
    const all = [...arrays.map(name => `${name}_all`), ...numbers, ...steps];
    const source = `function(${all.join(', ')}) { ${loads.join(' ')} ${body} }`;
    const { code, workgroup, scalars } = translate(source, axes.length, {
      arrays: arrays.map(name => `${name}_all`),
      numbers,
      steps,
    });
    // outputX, outputY, outputZ, dispatchWidth; four words of dimensions for each array, which a flat index does not use.
    const pad = 4 * arrays.length;
    if (scalars !== 16 + 4 * pad)
      throw new Error('gpu.js: expected the constants of version 2.24.1, to which @otimes/gpu is pinned');
    const types = 'u'.repeat(4 + pad) + 'f'.repeat(numbers.length) + 'i'.repeat(steps.length);
    return { kernel: this.#commands.kernel(code, types, body), workgroup, pad };
  }
}
