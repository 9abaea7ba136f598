/**
 * What the host tells the GPU. Launches are kept, joined with others into dispatches, and submitted together: when somebody reads, when
 * memory is to be written from the host that the open batch may use, or when there are many. Reads are awaited; checks that
 * failed before are told there.
 */

import { OutOfMemoryError, type TypedArray } from '@otimes/core';
import type { BadValue } from '@otimes/core/extend';
import { joinShaders, SLICE } from './join.ts';
import { type Flow, type Kernel, Memory, planOf, USAGE } from './launch.ts';
import { Reads } from './reads.ts';
import { type Group, Schedule } from './schedule.ts';
import { parseShader } from './shader.ts';
import type { CommandStats } from './stats.ts';

/** Launches of a batch, and room for their constants: a slice for each, and one for each dispatch. */
const MOST_LAUNCHES = 2048;
const SLICES = 2 * MOST_LAUNCHES;
/** Submits that the GPU may be behind before `caughtUp` waits. */
const MOST_UNFINISHED = 8;
/** Bind groups that are kept. */
const MOST_GROUPS = 8192;
/** How often a dispatch comes before it is compiled: what comes a few times is not worth it. */
const JOIN_AT = 12;
/** Joined dispatches that are known, and those that are compiled at a time. */
const MOST_JOINED = 2048;
const MOST_COMPILING = 8;
/**
 * Bytes that a batch writes before it is submitted: what takes the GPU some milliseconds should not wait until the host has come to
 * the end of a step.
 */
const MUCH = 2 ** 28;

type Runnable = Pick<Kernel, 'id' | 'layout' | 'pipeline'>;
/** How often a dispatch has come, whether it was given to the compiler, and its kernel once there is one. */
type Joined = { seen: number; begun: boolean; kernel: Runnable | null };

export class Commands {
  readonly device: GPUDevice;
  readonly stats: CommandStats = { submits: 0, dispatches: 0, launches: 0, kernels: 0, compiling: 0, reads: 0 };
  /** The number of the batch that is being recorded. */
  batch = 1;
  readonly #joinAt: number;
  readonly #reads: Reads;
  readonly #constants: GPUBuffer;
  readonly #mirror = new DataView(new ArrayBuffer(SLICE * SLICES));
  readonly #schedule: Schedule;
  readonly #joined = new Map<string, Joined>();
  readonly #groups = new Map<string, GPUBindGroup>();
  #unfinished = 0;
  readonly #waiting: (() => void)[] = [];
  #slices = 0;
  #age = 0;
  #launches = 0;
  /** Bytes that the batch writes. */
  #written = 0;
  /** What is complete of the batch: dispatches, and copies that follow them. */
  #stages: { readonly groups: readonly Group[]; readonly copies: ((encoder: GPUCommandEncoder) => void)[] }[] = [];

  /** @param joinAt how often the same launches come together before they become one dispatch; Infinity: never, as they are called */
  constructor(device: GPUDevice, joinAt = JOIN_AT) {
    this.device = device;
    this.#joinAt = joinAt;
    const usage = USAGE.UNIFORM | USAGE.COPY_DST;
    this.#constants = device.createBuffer({ size: SLICE * SLICES, usage });
    const { maxStorageBuffersPerShaderStage: places, maxComputeWorkgroupStorageSize: shared } = device.limits;
    const limits = { places, shared };
    this.#schedule = new Schedule(limits, joinAt < Infinity);
    this.#reads = new Reads(this, this.create(Reads.bytes));
  }

  /** Kernels that write in place look at it, and do nothing once a check has failed that was announced before them. */
  get status(): Memory {
    return this.#reads.status;
  }

  /** For `GUARD`: what it compares the status with. */
  get seen(): number {
    return this.#reads.seen;
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

  /** A kernel from WGSL whose binding 0 is its constants; see `compile`. */
  kernel(code: string, types: string, name: string): Kernel {
    const id = this.stats.kernels++;
    return {
      id,
      name,
      types,
      shader: parseShader(code),
      ...this.#compile(code, 16 * Math.ceil(types.length / 4), name),
    };
  }

  #compile(code: string, bytes: number, name: string) {
    this.device.pushErrorScope('validation');
    const { descriptor, ...plan } = planOf(this.device, code, bytes, name);
    const pipeline = this.device.createComputePipeline(descriptor);
    this.device.popErrorScope().then(
      error => {
        if (error !== null) this.#reads.refuse(notCompiled(name, error.message), true);
      },
      () => {}, // the device was lost, which is told
    );
    return { ...plan, pipeline };
  }

  dispatch(
    kernel: Kernel,
    memories: readonly Memory[],
    constants: readonly number[],
    groups: readonly number[],
    flow: Flow | null = null,
  ): void {
    checkApart(kernel, memories);
    this.#schedule.add({ kernel, memories, constants, groups: [groups[0]!, groups[1] ?? 1, groups[2] ?? 1], flow });
    memories.forEach((memory, i) => {
      memory.batch = this.batch;
      if (!kernel.writes[i]) return;
      memory.writes++;
      this.#written += memory.bytes;
    });
    this.stats.launches++;
    if (++this.#launches === MOST_LAUNCHES || this.#written > MUCH) this.submit();
  }

  /** Writes from the host. NOTE: it overtakes what is recorded, so the memory must not be in use by that. */
  write(memory: Memory, data: TypedArray): void {
    if (memory.batch === this.batch) this.submit();
    memory.writes++;
    this.device.queue.writeBuffer(memory.buffer, 0, data as Float32Array<ArrayBuffer>);
  }

  /** Copies bytes behind all launches so far, and before those that follow. */
  copy(from: Memory, offset: number, to: GPUBuffer, at: number, bytes: number): void {
    const groups = this.#schedule.end();
    if (groups.length > 0 || this.#stages.length === 0) this.#stages.push({ groups, copies: [] });
    this.#stages.at(-1)!.copies.push(encoder => encoder.copyBufferToBuffer(from.buffer, offset, to, at, bytes));
    from.batch = this.batch;
  }

  submit(): void {
    const rest = this.#schedule.end();
    if (rest.length > 0) this.#stages.push({ groups: rest, copies: [] });
    if (this.#stages.length === 0) return;
    const encoder = this.device.createCommandEncoder();
    for (const { groups, copies } of this.#stages) {
      if (groups.length > 0) {
        const pass = encoder.beginComputePass();
        for (const group of groups) this.#encode(pass, group);
        pass.end();
      }
      for (const copy of copies) copy(encoder);
    }
    const { queue } = this.device;
    if (this.#slices > 0) queue.writeBuffer(this.#constants, 0, this.#mirror.buffer, 0, this.#slices * SLICE);
    queue.submit([encoder.finish()]);
    this.#stages = [];
    [this.#slices, this.#launches, this.#written] = [0, 0, 0];
    this.batch++;
    this.stats.submits++;
    this.#unfinished++;
    const done = () => {
      this.#unfinished--;
      for (const go of this.#waiting.splice(0)) go();
    };
    queue.onSubmittedWorkDone().then(done, done);
    this.#reads.submitted();
  }

  /** Settles when at most `MOST_UNFINISHED` submits are not done; undefined where that is so. Rejects once the device is lost. */
  caughtUp(): Promise<void> | undefined {
    const { lost } = this.#reads;
    if (lost !== null) return Promise.reject(lost);
    return this.#unfinished > MOST_UNFINISHED ? this.#catchUp() : undefined;
  }

  async #catchUp(): Promise<void> {
    while (this.#unfinished > MOST_UNFINISHED)
      await new Promise<void>(go => {
        this.#waiting.push(go);
      });
  }

  #encode(pass: GPUComputePassEncoder, group: Group): void {
    const joined = group.launches.length > 1 ? this.#joinedOf(group) : null;
    if (joined === null) {
      for (const { kernel, memories, constants, groups } of group.launches) {
        const at = this.#constantsOf(kernel.types, constants);
        this.#run(pass, kernel, memories, SLICE, at, groups);
      }
      return;
    }
    const at = SLICE * this.#slices++;
    let total = 0;
    for (const [k, { groups }] of group.launches.entries()) {
      [total, ...groups].forEach((value, i) => {
        this.#mirror.setUint32(at + 16 * k + 4 * i, value, true);
      });
      const { kernel, constants } = group.launches[k]!;
      this.#constantsOf(kernel.types, constants);
      if (group.parents[k] === -1) total += group.workgroupsOf(k);
    }
    const rows = Math.ceil(total / 65535);
    const groups = group.serial ? [1] : [Math.ceil(total / rows), rows];
    const memories = group.places.map(({ memory }) => memory);
    this.#run(pass, joined, memories, SLICE * (1 + group.launches.length), at, groups);
  }

  #constantsOf(types: string, constants: readonly number[]): number {
    const at = SLICE * this.#slices++;
    for (let i = 0; i < constants.length; i++) {
      if (types[i] === 'f') this.#mirror.setFloat32(at + 4 * i, constants[i]!, true);
      else this.#mirror.setInt32(at + 4 * i, constants[i]!, true);
    }
    return at;
  }

  #run(
    pass: GPUComputePassEncoder,
    kernel: Runnable,
    memories: readonly Memory[],
    bytes: number,
    at: number,
    groups: readonly number[],
  ): void {
    pass.setPipeline(kernel.pipeline);
    pass.setBindGroup(0, this.#group(kernel, memories, bytes), [at]);
    pass.dispatchWorkgroups(groups[0]!, groups[1] ?? 1, groups[2] ?? 1);
    this.stats.dispatches++;
  }

  /** The kernel of a dispatch that was joined, once it was worth one and is there. */
  #joinedOf(group: Group): Runnable | null {
    const key = group.signature;
    let joined = this.#joined.get(key);
    if (joined === undefined) {
      if (this.#joined.size === MOST_JOINED) return null;
      joined = { seen: 0, begun: false, kernel: null };
      this.#joined.set(key, joined);
    }
    if (++joined.seen >= this.#joinAt && !joined.begun && this.stats.compiling < MOST_COMPILING)
      this.#beginJoined(joined, group);
    return joined.kernel;
  }

  /** Has it compiled aside. Its launches go on as dispatches of their own meanwhile: nothing waits for a compiler. */
  #beginJoined(joined: Joined, group: Group): void {
    joined.begun = true;
    const parts = group.launches.map(({ kernel, flow }, k) => ({
      shader: kernel.shader!,
      slots: group.slots[k]!,
      parent: group.parents[k]!,
      stores: flow?.stores ?? -1,
    }));
    const code = joinShaders(parts, group.places, group.serial);
    const name = group.launches.map(({ kernel }) => kernel.name).join(group.serial ? ', then ' : ' + ');
    const { layout, descriptor } = planOf(this.device, code, SLICE * (1 + parts.length), name);
    const id = this.stats.kernels++;
    this.stats.compiling++;
    this.device.createComputePipelineAsync(descriptor).then(
      pipeline => {
        this.stats.compiling--;
        joined.kernel = { id, layout, pipeline };
      },
      (error: unknown) => {
        this.stats.compiling--;
        this.#reads.refuse(notCompiled(name, error instanceof Error ? error.message : String(error)), true);
      },
    );
  }

  #group({ id, layout }: Omit<Runnable, 'pipeline'>, memories: readonly Memory[], size: number): GPUBindGroup {
    let key = `${id}`;
    for (const memory of memories) key += `,${memory.id}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      const entries: GPUBindGroupEntry[] = [{ binding: 0, resource: { buffer: this.#constants, size } }];
      memories.forEach(({ buffer }, i) => {
        entries.push({ binding: i + 1, resource: { buffer } });
      });
      group = this.device.createBindGroup({ layout, entries });
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

  /** See `Reads`. */
  check(error: BadValue, toValue: (bits: number) => number, pieces: number): number {
    return this.#reads.check(error, toValue, pieces);
  }

  onFailure(undo: () => void): void {
    this.#reads.onFailure(undo);
  }

  read(memory: Memory, offset: number, bytes: number, peek: boolean): Promise<ArrayBuffer> {
    return this.#reads.read(memory, offset, bytes, peek);
  }
}

const notCompiled = (name: string, why: string) => new Error(`gpu: the kernel '${name}' does not compile: ${why}`);

/** WebGPU refuses a buffer that a dispatch both reads and writes; here the stack shows which kernel it is. */
function checkApart({ writes }: Kernel, memories: readonly Memory[]): void {
  for (let i = 0; i < memories.length; i++)
    for (let j = 0; j < memories.length; j++)
      if (writes[i] && j !== i && memories[i] === memories[j])
        throw new Error('gpu: expected operands apart from what a kernel writes; one lies in the same memory');
}
