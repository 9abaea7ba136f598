/**
 * Elementwise kernels, written as JavaScript and translated by gpu.js. gpu.js is the compiler and nothing else: its `build`
 * makes the WGSL before it asks for a device, synchronously, and the dispatch is ours. So launches are recorded with all
 * others, write into memory of the pool, and need no warm-up.
 */

import { GPU, Input } from 'gpu.js';
import type { Commands, Kernel } from './commands.ts';

/** The parts of a built gpu.js kernel that are used; its typings lack them. */
type Built = {
  _buildAsync(): Promise<void>;
  build(...args: unknown[]): Promise<void>;
  compiledSource: string;
  paramsLayout: { scalarArgs: readonly { offset: number }[]; byteLength: number };
  workgroupSize: readonly number[];
};

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
  #gpu: GPU | null = null;

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
    const built = translate(this.#gpujs(), `function(${all.join(', ')}) { ${loads.join(' ')} ${body} }`, axes.length, {
      arrays: arrays.map(name => `${name}_all`),
      numbers,
      steps,
    });
    // outputX, outputY, outputZ, dispatchWidth; four words of dimensions for each array, which a flat index does not use.
    const pad = 4 * arrays.length;
    if (built.paramsLayout.scalarArgs[0]?.offset !== 16 + 4 * pad)
      throw new Error('gpu.js: expected the constants of version 2.24.1, to which @otimes/gpu is pinned');
    const types = 'u'.repeat(4 + pad) + 'f'.repeat(numbers.length) + 'i'.repeat(steps.length);
    return { kernel: this.#commands.kernel(built.compiledSource, types, body), workgroup: built.workgroupSize, pad };
  }

  #gpujs(): GPU {
    if (this.#gpu === null) {
      // gpu.js wants to see navigator.gpu, and never uses it here.
      const { navigator } = globalThis as { navigator?: { gpu?: unknown } };
      if (navigator?.gpu === undefined)
        Object.defineProperty(globalThis, 'navigator', {
          value: { ...navigator, gpu: { requestAdapter: async () => null } },
          configurable: true,
          writable: true,
        });
      this.#gpu = new GPU({ mode: 'webgpu' as 'gpu' });
    }
    return this.#gpu;
  }
}

function translate(
  gpu: GPU,
  source: string,
  axes: number,
  { arrays, numbers, steps }: Record<'arrays' | 'numbers' | 'steps', readonly string[]>,
): Built {
  const typed = (names: readonly string[], type: string) => names.map(name => [name, type]);
  const made = gpu.createKernel(source as never, {
    output: Array.from({ length: axes }, () => 1),
    dynamicOutput: true,
    dynamicArguments: true,
    argumentTypes: Object.fromEntries([
      ...typed(arrays, 'Input'),
      ...typed(numbers, 'Float'),
      ...typed(steps, 'Integer'),
    ]),
  });
  const built = (made as unknown as { kernel: Built }).kernel;
  // What follows the translation: a device of its own, and the shader on it.
  built._buildAsync = async () => {};
  let failed: unknown = null;
  const one = new Input([0], [1]);
  built.build(...arrays.map(() => one), ...numbers.map(() => 0.5), ...steps.map(() => 1)).catch((error: unknown) => {
    failed = error;
  });
  if (typeof built.compiledSource !== 'string')
    throw new Error(`gpu.js: expected a translation of ${source}, got ${failed ?? 'none'}`);
  return built;
}
