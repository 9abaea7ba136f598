/**
 * What the host tells the GPU. Dispatches are recorded into one encoder and submitted together: when somebody reads, when
 * memory is to be written from the host that the open batch may use, or when the room for constants is used up. Reads are
 * awaited; checks that failed before are told there.
 */

import { OutOfMemoryError, type TypedArray } from '@otimes/core';
import { type BadValue, PendingChecks } from '@otimes/core/extend';

/** Bytes from the constants of one dispatch to those of the next: the alignment of offsets that every adapter accepts. */
const SLICE = 256;
const SLICES = 1024;
/** Bind groups that are kept. */
const MOST_GROUPS = 8192;

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
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly types: string;
  /** Which of its tensors it writes to. */
  readonly writes: readonly boolean[];
};

/** Bytes of the status: the number of the first check that failed (0: none), the position, the value's bits, and whether what is written in place is skipped. */
const STATUS = 16;

// Of GPUShaderStage, GPUMapMode and GPUBufferUsage: in Node they are no globals.
const COMPUTE = 4;
const READ = 1;
const USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 };

/** The error of a check, from the position and the bits of the first bad value. */
type Check = (position: number, bits: number) => Error;

export type CommandStats = { submits: number; dispatches: number; kernels: number; reads: number };

export class Commands {
  readonly device: GPUDevice;
  readonly stats: CommandStats = { submits: 0, dispatches: 0, kernels: 0, reads: 0 };
  /** Kernels that write in place look at it, and do nothing once a check has failed. */
  readonly status: Memory;
  /** The number of the batch that is being recorded. */
  batch = 1;
  readonly #constants: GPUBuffer;
  readonly #mirror = new DataView(new ArrayBuffer(SLICE * SLICES));
  #slices = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  readonly #groups = new Map<string, GPUBindGroup>();
  #age = 0;
  readonly #staging: GPUBuffer[] = [];
  readonly #checks = new PendingChecks<Check>();
  #soon: Promise<void> | null = null;
  #broken: Error | null = null;

  constructor(device: GPUDevice) {
    this.device = device;
    const usage = USAGE.UNIFORM | USAGE.COPY_DST;
    this.#constants = device.createBuffer({ size: SLICE * SLICES, usage });
    this.status = this.create(STATUS);
    device.lost.then(({ message }) => {
      this.#broken ??= new Error(`gpu: the device was lost (${message}); call initGpu() again`);
    });
    device.onuncapturederror = event => {
      event.preventDefault(); // the next read tells it
      this.#broken ??= new Error(`gpu: ${event.error.message}`);
    };
  }

  create(bytes: number): Memory {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const most = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (bytes > most)
      throw new OutOfMemoryError(
        `allocate: ${bytes} bytes are more than the ${most} that a tensor may have on this GPU`,
      );
    const usage = USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST;
    return new Memory(this.device.createBuffer({ size: bytes, usage }));
  }

  /** NOTE: not for memory that the open batch uses. */
  destroy(memory: Memory): void {
    if (memory.age === this.#age) for (const key of memory.groups) this.#groups.delete(key);
    memory.buffer.destroy();
  }

  /**
   * A kernel from WGSL whose binding 0 is its constants; the layout of the others is read off their declarations. `label` is for
   * tools that look at the GPU.
   */
  kernel(code: string, types: string, label: string): Kernel {
    const { device } = this;
    const entries: GPUBindGroupLayoutEntry[] = [
      {
        binding: 0,
        visibility: COMPUTE,
        buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: 16 * Math.ceil(types.length / 4) },
      },
    ];
    for (const [, binding, access] of code.matchAll(/@binding\((\d+)\) var<storage, (read|read_write)>/g))
      entries.push({
        binding: Number(binding),
        visibility: COMPUTE,
        buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
      });
    const layout = device.createBindGroupLayout({ entries });
    const pipeline = device.createComputePipeline({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ code }), entryPoint: 'main' },
    });
    const writes = entries.slice(1).map(({ buffer }) => buffer!.type === 'storage');
    return { id: this.stats.kernels++, pipeline, layout, types, writes };
  }

  dispatch(kernel: Kernel, memories: readonly Memory[], constants: readonly number[], groups: readonly number[]): void {
    if (this.#slices === SLICES) this.submit();
    const at = this.#slices++ * SLICE;
    for (let i = 0; i < constants.length; i++) {
      if (kernel.types[i] === 'f') this.#mirror.setFloat32(at + 4 * i, constants[i]!, true);
      else this.#mirror.setInt32(at + 4 * i, constants[i]!, true);
    }
    this.#encoder ??= this.device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(kernel.pipeline);
    this.#pass.setBindGroup(0, this.#group(kernel, memories), [at]);
    this.#pass.dispatchWorkgroups(groups[0]!, groups[1] ?? 1, groups[2] ?? 1);
    memories.forEach((memory, i) => {
      memory.batch = this.batch;
      if (kernel.writes[i]) memory.writes++;
    });
    this.stats.dispatches++;
  }

  #group(kernel: Kernel, memories: readonly Memory[]): GPUBindGroup {
    let key = `${kernel.id}`;
    for (const memory of memories) key += `,${memory.id}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      checkApart(kernel, memories);
      const entries: GPUBindGroupEntry[] = [{ binding: 0, resource: { buffer: this.#constants, size: SLICE } }];
      memories.forEach(({ buffer }, i) => {
        entries.push({ binding: i + 1, resource: { buffer } });
      });
      group = this.device.createBindGroup({ layout: kernel.layout, entries });
      if (this.#groups.size === MOST_GROUPS) {
        this.#groups.clear();
        this.#age++;
      }
      this.#groups.set(key, group);
      for (const memory of memories) {
        if (memory.age !== this.#age) [memory.groups, memory.age] = [[], this.#age];
        memory.groups.push(key);
      }
    }
    return group;
  }

  /** Writes from the host. NOTE: it overtakes what is recorded, so the memory must not be in use by that. */
  write(memory: Memory, data: TypedArray): void {
    if (memory.batch === this.batch) this.submit();
    memory.writes++;
    this.device.queue.writeBuffer(memory.buffer, 0, data as Float32Array<ArrayBuffer>);
  }

  #copy(from: Memory, offset: number, to: GPUBuffer, at: number, bytes: number): void {
    this.#pass?.end();
    this.#pass = null;
    this.#encoder ??= this.device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from.buffer, offset, to, at, bytes);
    from.batch = this.batch;
  }

  submit(): void {
    if (this.#encoder === null) return;
    this.#pass?.end();
    const { queue } = this.device;
    if (this.#slices > 0) queue.writeBuffer(this.#constants, 0, this.#mirror.buffer, 0, this.#slices * SLICE);
    queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#pass = null;
    this.#slices = 0;
    this.batch++;
    this.stats.submits++;
  }

  /** Announces a check, and gives the number that its kernel is to leave in the status. */
  check(error: BadValue, toValue: (bits: number) => number): number {
    return this.#checks.add((position, bits) => error(position, toValue(bits)));
  }

  /** Runs `undo` when the failure of a check that was announced before is told. */
  onFailure(undo: () => void): void {
    this.#checks.onFailure(undo);
  }

  /**
   * Bytes of a memory. Rejects with the first check that failed before this call and was not told, or with the device's error. With
   * `peek` the failure stays for another read.
   */
  async read(memory: Memory, offset: number, bytes: number, peek: boolean): Promise<ArrayBuffer> {
    if (this.#broken !== null) throw this.#broken;
    const size = 4 * Math.ceil(bytes / 4);
    const staging = this.#stagingOf(size + STATUS);
    if (size > 0) this.#copy(memory, offset, staging, 0, size);
    this.#copy(this.status, 0, staging, size, STATUS);
    const mark = this.#checks.mark();
    this.stats.reads++;
    // Reads that are asked for together travel together.
    this.#soon ??= Promise.resolve().then(() => {
      this.#soon = null;
      this.submit();
    });
    await this.#soon;
    try {
      await staging.mapAsync(READ);
    } catch (error) {
      throw this.#broken ?? new Error(`gpu: a read failed: ${error instanceof Error ? error.message : error}`);
    }
    const data = staging.getMappedRange(0, size + STATUS).slice(0);
    staging.unmap();
    this.#staging.push(staging);
    if (this.#broken !== null) throw this.#broken;
    const [failed, position, bits] = new Uint32Array(data, size, 3);
    if (failed === 0) {
      this.#checks.passed(mark);
      return data.slice(0, bytes);
    }
    throw this.#checks.tell(
      mark,
      failed!,
      peek,
      check => check(position!, bits!),
      () => this.#clear(),
    );
  }

  /** What is called from now on is written again. */
  #clear(): void {
    this.submit();
    this.device.queue.writeBuffer(this.status.buffer, 0, new Uint32Array(4));
  }

  #stagingOf(bytes: number): GPUBuffer {
    const found = this.#staging.findIndex(({ size }) => size >= bytes && size <= 4 * bytes);
    if (found >= 0) return this.#staging.splice(found, 1)[0]!;
    if (this.#staging.length > 16) this.#staging.shift()!.destroy();
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    return this.device.createBuffer({ size, usage: USAGE.MAP_READ | USAGE.COPY_DST });
  }
}

/** WebGPU refuses a buffer that a dispatch both reads and writes; here the stack shows which kernel it is. */
function checkApart({ writes }: Kernel, memories: readonly Memory[]): void {
  memories.forEach((memory, i) => {
    if (writes[i] && memories.indexOf(memory) !== memories.lastIndexOf(memory))
      throw new Error('gpu: expected operands apart from what a kernel writes; one lies in the same memory');
  });
}
