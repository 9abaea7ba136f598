/** What the queue works with: buffers, and shaders that were compiled for the device. */

import type { Shader } from './shader.ts';

/** Which dispatches of a batch use a memory: the last that writes, that reads, that adds to it; −1 for none. And the launch that wrote. */
export type Use = { batch: number; wrote: number; read: number; added: number; by: Launch | null };

/** A buffer of the pool. */
export class Memory {
  static #count = 0;
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly id = Memory.#count++;
  /** The last batch that uses it. */
  batch = 0;
  /** How often it was written to. */
  writes = 0;
  readonly use: Use = { batch: 0, wrote: -1, read: -1, added: -1, by: null };
  /** The keys of the bind groups with this buffer, of one age of their table. */
  groups: string[] = [];
  age = 0;

  constructor(buffer: GPUBuffer) {
    this.buffer = buffer;
    this.bytes = buffer.size;
  }
}

/** A compute shader; `types` has a letter for each constant: u, i or f. */
export type Kernel = {
  readonly id: number;
  /** For errors, and for tools that look at the GPU. */
  readonly name: string;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly types: string;
  /** Which of its tensors it writes to, and to which of those in atomic steps whose order does not matter. */
  readonly writes: readonly boolean[];
  readonly adds: readonly boolean[];
  /** What it may be joined by with others; null if it stays alone. */
  readonly shader: Shader | null;
};

/** Which element belongs to which thread, where that is simple. */
export type Flow = {
  /** The tensor, by its place among the kernel's, of which it stores the first `count` elements, each by a statement `NAME[…] = …;`. */
  readonly stores?: number;
  readonly count: number;
  /** Whether thread i computes element i of its results, alone, and takes of these tensors element i and no other. */
  readonly takes?: readonly boolean[];
};

/** One run of a kernel. */
export type Launch = {
  readonly kernel: Kernel;
  readonly memories: readonly Memory[];
  readonly constants: readonly number[];
  readonly groups: readonly [number, number, number];
  readonly flow: Flow | null;
};

// Of GPUShaderStage, GPUMapMode and GPUBufferUsage: in Node they are no globals.
const COMPUTE = 4;
export const READ = 1;
export const USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 };

/** What is to be compiled, and what is known before it is. */
export type Plan = {
  readonly layout: GPUBindGroupLayout;
  readonly descriptor: GPUComputePipelineDescriptor;
  readonly writes: readonly boolean[];
  readonly adds: readonly boolean[];
};

/** A kernel from WGSL whose binding 0 is its constants, of so many bytes; the layout of the others is read off their declarations. */
export function planOf(device: GPUDevice, code: string, bytes: number, label: string): Plan {
  const entries: GPUBindGroupLayoutEntry[] = [
    { binding: 0, visibility: COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: bytes } },
  ];
  const adds: boolean[] = [];
  for (const [, binding, access, type] of code.matchAll(
    /@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*\w+\s*:\s*([^;]*)/g,
  )) {
    entries.push({
      binding: Number(binding),
      visibility: COMPUTE,
      buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
    });
    adds.push(type!.includes('atomic'));
  }
  const layout = device.createBindGroupLayout({ label, entries });
  const descriptor = {
    label,
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ label, code }), entryPoint: 'main' },
  };
  return { layout, descriptor, writes: entries.slice(1).map(({ buffer }) => buffer!.type === 'storage'), adds };
}
