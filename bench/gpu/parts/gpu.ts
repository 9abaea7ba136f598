/**
 * The GPU for benchmarks: opened by hand, so that the time of its passes can be taken. With `perKernel` each dispatch is a
 * pass of its own, which tells what every kernel takes and slows the whole down.
 */

import { spawnSync } from 'node:child_process';
import { type GpuBackend, type GpuInfo, gpuBackend, initGpu } from '@otimes/gpu';
import { create, globals } from 'webgpu';
import { TOGGLES } from '../../../gpu/src/node.ts';

/** Passes that one set has room for: two queries each, the most that WebGPU allows. */
const PASSES = 2048;
/** Sets of a clock at most. */
const SETS = 8;

// NOTE: must stay reachable, as the process dies when it is collected.
let root: GPU | null = null;

/** Takes the time of passes between `start` and `stop`. */
export class PassClock {
  readonly #device: GPUDevice;
  readonly #sets: GPUQuerySet[] = [];
  /** What each pass ran; 'pass' if many kernels. */
  #names: string[] = [];
  #on = false;
  #missed = 0;
  #perKernel = false;

  constructor(device: GPUDevice) {
    this.#device = device;
    const plain = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (o?: GPUCommandEncoderDescriptor) => this.#watched(plain(o));
  }

  #watched(encoder: GPUCommandEncoder): GPUCommandEncoder {
    const begin = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = (o?: GPUComputePassDescriptor) => {
      if (!this.#on) return begin(o);
      return this.#perKernel ? this.#split(begin) : begin(this.#timed('pass'));
    };
    return encoder;
  }

  #timed(name: string): GPUComputePassDescriptor {
    const [set, at] = [Math.floor(this.#names.length / PASSES), 2 * (this.#names.length % PASSES)];
    if (set === SETS) {
      this.#missed++;
      return {};
    }
    this.#sets[set] ??= this.#device.createQuerySet({ type: 'timestamp', count: 2 * PASSES });
    this.#names.push(name);
    const querySet = this.#sets[set];
    return { timestampWrites: { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 } };
  }

  /** A pass that begins a real one at each dispatch. */
  #split(begin: (o: GPUComputePassDescriptor) => GPUComputePassEncoder): GPUComputePassEncoder {
    let pipeline: GPUComputePipeline;
    const groups = new Map<number, Parameters<GPUComputePassEncoder['setBindGroup']>>();
    const pass = {
      setPipeline(next: GPUComputePipeline) {
        pipeline = next;
      },
      setBindGroup(...all: Parameters<GPUComputePassEncoder['setBindGroup']>) {
        groups.set(all[0], all);
      },
      dispatchWorkgroups: (x: number, y?: number, z?: number) => {
        const one = begin(this.#timed(`${pipeline.label} [${[x, y, z].filter(n => n !== undefined).join(', ')}]`));
        one.setPipeline(pipeline);
        for (const all of groups.values()) one.setBindGroup(...all);
        one.dispatchWorkgroups(x, y, z);
        one.end();
      },
      end() {},
    };
    return pass as Partial<GPUComputePassEncoder> as GPUComputePassEncoder;
  }

  start(perKernel = false): void {
    [this.#names, this.#on, this.#missed, this.#perKernel] = [[], true, 0, perKernel];
  }

  /** Milliseconds of each pass since `start`, and how many passes there was no room for. */
  async stop(): Promise<{ passes: { name: string; ms: number }[]; missed: number }> {
    this.#on = false;
    const names = this.#names;
    if (names.length === 0) return { passes: [], missed: this.#missed };
    const size = 16 * names.length;
    const device = this.#device;
    const resolved = device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const mapped = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    for (let first = 0; first < names.length; first += PASSES)
      encoder.resolveQuerySet(
        this.#sets[first / PASSES]!,
        0,
        2 * Math.min(PASSES, names.length - first),
        resolved,
        16 * first,
      );
    encoder.copyBufferToBuffer(resolved, 0, mapped, 0, size);
    device.queue.submit([encoder.finish()]);
    await mapped.mapAsync(GPUMapMode.READ);
    const ticks = new BigUint64Array(mapped.getMappedRange().slice(0));
    for (const buffer of [mapped, resolved]) buffer.destroy();
    const passes = names.map((name, i) => ({ name, ms: Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6 }));
    return { passes, missed: this.#missed };
  }
}

export type BenchGpu = {
  readonly info: GpuInfo;
  readonly backend: GpuBackend;
  /** Null where the adapter has no timestamps. */
  readonly clock: PassClock | null;
  /** What the driver says of itself. */
  readonly driver: string;
};

/** Opens the device 'gpu', as `initGpu` does. Throws where there is no adapter. */
export async function openBenchGpu({ memoryLimit = 16e9, mixed = false } = {}): Promise<BenchGpu> {
  Object.assign(globalThis, globals);
  // Timestamps are rounded to 0.1 ms otherwise, against attacks that programs of one's own need not fear.
  root ??= create([`enable-dawn-features=${TOGGLES}`, 'disable-dawn-features=timestamp_quantization']);
  const adapter = await root.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) {
    // Says what is missing.
    await initGpu();
    throw new Error('bench: an adapter came only at the second look');
  }
  let clock: PassClock | null = null;
  const request = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async o => {
    const device = await request(o);
    if (device.features.has('timestamp-query')) clock = new PassClock(device);
    return device;
  };
  const info = await initGpu({ adapter, memoryLimit, mixed });
  const { vendor, architecture, device, description } = adapter.info;
  const asked = ['--query-gpu=name,driver_version,clocks.max.sm', '--format=csv,noheader'];
  const card = vendor === 'nvidia' && spawnSync('nvidia-smi', asked, { encoding: 'utf8' }).stdout?.trim();
  const driver = [vendor, architecture, device, description, card].filter(Boolean).join(', ');
  return { info, backend: gpuBackend()!, clock, driver };
}
