/** What the functions of this package work with: the queue, the memory, and the kernels that were made so far. */

import type { DType, Operand, Storage } from '@otimes/core';
import { contiguousStrides, sizeOf } from '@otimes/core/extend';
import type { Commands } from './commands.ts';
import { ElementwiseCompiler } from './compiler.ts';
import type { Kernel, Memory } from './launch.ts';
import { withLibrary } from './math.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import { GpuRegion, Pool } from './pool.ts';

export type Context = {
  readonly device: string;
  readonly commands: Commands;
  readonly pool: Pool;
  readonly compiler: ElementwiseCompiler;
  readonly kernels: Map<string, Kernel>;
  /** What is in use until the next tensor is made. */
  readonly temporaries: GpuRegion[];
  /** Products that are called now take their operands in f16. */
  readonly mixed: boolean;
  /** Matrices of f16 that its subgroups multiply, if it has any. */
  readonly unit: MatrixUnit | null;
};

/** A context with nothing in it; `mixed` is asked at each product. */
export function newContext(
  commands: Commands,
  memoryLimit: number,
  o: { device?: string; mixed?: () => boolean; unit?: MatrixUnit | null } = {},
): Context {
  const { device = 'gpu', mixed = () => false, unit = null } = o;
  return {
    device,
    commands,
    pool: new Pool(commands, memoryLimit),
    compiler: new ElementwiseCompiler(commands),
    kernels: new Map(),
    temporaries: [],
    get mixed() {
      return mixed();
    },
    unit,
  };
}

export function regionOf(c: Context, size: number, idle = false): GpuRegion {
  return new GpuRegion(c.pool, c.pool.allocate(4 * size, idle), size, c.device);
}

export function memoryOf(x: Operand): Memory {
  const { memory } = x.storage;
  if (!(memory instanceof GpuRegion)) throw new Error('gpu: expected memory of this device');
  return memory.memory;
}

/** Memory as an operand of this layout, for kernels here, which ask of its storage nothing else. */
export const operandOver = (memory: GpuRegion, layout: Omit<Operand, 'storage'>): Operand => ({
  ...layout,
  storage: { memory } as unknown as Storage,
});

/** A kernel by its name, made at its first use; it may call the functions of math.ts. */
export function kernelOf(c: Context, name: string, make: () => { code: string; types: string }): Kernel {
  let kernel = c.kernels.get(name);
  if (kernel === undefined) {
    const { code, types } = make();
    kernel = c.commands.kernel(withLibrary(code), types, name);
    c.kernels.set(name, kernel);
  }
  return kernel;
}

/** Memory of the pool as an operand without gaps, for the kernel that is being called: `releaseTemporaries` gives it back. */
export function temporary(c: Context, dtype: DType, shape: readonly number[]): Operand {
  const memory = regionOf(c, sizeOf(shape));
  c.temporaries.push(memory);
  return operandOver(memory, { dtype, shape, strides: contiguousStrides(shape), offset: 0 });
}

/** Gives back what kernels that were called before have taken. So the same step of a program finds the same memory each time. */
export function releaseTemporaries({ temporaries }: Context): void {
  for (const memory of temporaries) memory.release();
  temporaries.length = 0;
}
