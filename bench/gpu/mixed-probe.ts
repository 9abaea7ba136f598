/**
 * What an adapter makes of products with operands in f16: features and matrix configurations, and the rate of several kernels, each checked
 * against a product on the CPU. A kernel that fails says why, and the next one runs.
 *
 *     node mixed-probe.js [sizes, 1024,2048,4096] [seconds after which no other kernel begins, 200]
 */

/// <reference types="@webgpu/types" />

import { createRequire } from 'node:module';

type Config = { componentType: string; resultComponentType: string; M: number; N: number; K: number };
type Info = GPUAdapterInfo & { subgroupMatrixConfigs?: readonly Config[] };

const { create, globals } = createRequire(import.meta.url)('webgpu') as {
  create(options: string[]): GPU;
  globals: object;
};
Object.assign(globalThis, globals);
const root = create(['enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia']);
const adapter = await root.requestAdapter({ powerPreference: 'high-performance' });
if (adapter === null) throw new Error('no adapter');
const info = adapter.info as Info;
const { limits } = adapter;
const configs = [...(info.subgroupMatrixConfigs ?? [])];
console.log(`adapter: ${info.vendor} ${info.architecture} ${info.description} fallback ${info.isFallbackAdapter}`);
console.log(`features: ${[...adapter.features].join(' ')}`);
console.log(
  `limits: workgroup bytes ${limits.maxComputeWorkgroupStorageSize}, invocations ${limits.maxComputeInvocationsPerWorkgroup}, ` +
    `x ${limits.maxComputeWorkgroupSizeX}, storage buffers ${limits.maxStorageBuffersPerShaderStage}, binding ${limits.maxStorageBufferBindingSize}, ` +
    `subgroup ${info.subgroupMinSize} … ${info.subgroupMaxSize}`,
);
for (const c of configs)
  console.log(`matrix: ${c.componentType} -> ${c.resultComponentType} M ${c.M} N ${c.N} K ${c.K}`);
const wanted = ['shader-f16', 'subgroups', 'timestamp-query', 'chromium-experimental-subgroup-matrix'];
const device = await adapter.requestDevice({
  requiredFeatures: wanted.filter(f => adapter.features.has(f)) as GPUFeatureName[],
  requiredLimits: {
    maxBufferSize: limits.maxBufferSize,
    maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
    maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
  },
});
device.onuncapturederror = e => {
  e.preventDefault();
  console.log(`  uncaptured: ${e.error.message.slice(0, 2000)}`);
};
device.lost.then(({ message }) => console.log(`  device lost: ${message}`));

const slow = info.vendor === 'google' || info.vendor === 'mesa' || info.isFallbackAdapter;
const sizes = (process.argv[2] ?? (slow ? '128,256' : '1024,2048,4096')).split(',').map(Number);
const until = performance.now() + 1000 * Number(process.argv[3] ?? 200);
const subgroup = info.subgroupMaxSize ?? 32;

// ---- Kernels. A [m, k] and B [k, n] lie as f16, eight in a vec4<u32>; Y [m, n] is f32.

type Variant = { name: string; bm: number; bn: number; threads: number; code: string; aT?: boolean; bT?: boolean };
const HEAD = (types: string) => `struct P { m : u32, n : u32, k : u32, pad : u32 }
@group(0) @binding(0) var<uniform> p : P;
@group(0) @binding(1) var<storage, read> A : array<${types}>;
@group(0) @binding(2) var<storage, read> B : array<${types}>;
@group(0) @binding(3) var<storage, read_write> Y : array<f32>;`;
const times = (n: number, line: (i: number) => string) => Array.from({ length: n }, (_, i) => line(i)).join('\n');
const grid = (r: number, c: number, line: (i: number, j: number) => string) => times(r, i => times(c, j => line(i, j)));
const MATRIX = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

type Tile = {
  bm: number;
  bn: number;
  bk: number;
  wm: number;
  wn: number;
  /** Two stages in workgroup memory, and one barrier a stage. */
  double?: boolean;
  /** Results through workgroup memory, element by element with a test, as edges need it. */
  tested?: boolean;
  /** A lies as [k, m], B as [n, k]. */
  aT?: boolean;
  bT?: boolean;
  /** The next stage is read into registers while this one is multiplied. */
  ahead?: boolean;
  /** Workgroups of y that follow each other, so that what they read is near. */
  swizzle?: number;
};

/** Stages in workgroup memory, wm × wn results a subgroup. */
function staged(c: Config, t: Tile): Variant {
  const { bm, bn, bk, wm, wn, double = false, tested = false, aT = false, bT = false, ahead = true, swizzle = 0 } = t;
  const across = bn / wn;
  const subgroups = (bm / wm) * across;
  const threads = subgroups * subgroup;
  // Rows of workgroup memory in vec4<u32>, one more than needed against bank conflicts.
  const a = aT ? { rows: bk, cols: bm / 8 } : { rows: bm, cols: bk / 8 };
  const b = bT ? { rows: bn, cols: bk / 8 } : { rows: bk, cols: bn / 8 };
  const [as, bs] = [a.cols + 1, b.cols + 1];
  const [an, bm_] = [a.rows * as, b.rows * bs];
  const [aPer, bPer] = [(a.rows * a.cols) / threads, (b.rows * b.cols) / threads];
  if (aPer % 1 !== 0 || bPer % 1 !== 0) throw new Error(`uneven ${JSON.stringify(t)} for ${threads} threads`);
  const [ri, ci] = [wm / c.M, wn / c.N];
  const buffers = double ? 2 : 1;
  const fetch = (k: string) => `
    ${times(aPer, i => `{ let e = t + ${i * threads}u; ra${i} = A[${aT ? `(${k} + e / ${a.cols}u) * lda + row / 8u` : `(row + e / ${a.cols}u) * lda + (${k}) / 8u`} + e % ${a.cols}u]; }`)}
    ${times(bPer, i => `{ let e = t + ${i * threads}u; rb${i} = B[${bT ? `(col + e / ${b.cols}u) * ldb + (${k}) / 8u` : `(${k} + e / ${b.cols}u) * ldb + col / 8u`} + e % ${b.cols}u]; }`)}`;
  const put = (stage: string) => `
    ${times(aPer, i => `{ let e = t + ${i * threads}u; As[${stage} * ${an}u + (e / ${a.cols}u) * ${as}u + e % ${a.cols}u] = ra${i}; }`)}
    ${times(bPer, i => `{ let e = t + ${i * threads}u; Bs[${stage} * ${bm_}u + (e / ${b.cols}u) * ${bs}u + e % ${b.cols}u] = rb${i}; }`)}`;
  const left = (i: number, s: number, stage: string) => {
    const at = aT
      ? `${s * c.K}u * ${as}u + (wr + ${i * c.M}u) / 8u`
      : `(wr + ${i * c.M}u) * ${as}u + ${(s * c.K) / 8}u`;
    return `let l${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${c.K}, ${c.M}>, ${aT ? 'col_major' : 'row_major'}>(&As, ${stage} * ${an}u + ${at}, ${as}u);`;
  };
  const right = (j: number, s: number, stage: string) => {
    const at = bT
      ? `(wc + ${j * c.N}u) * ${bs}u + ${(s * c.K) / 8}u`
      : `${s * c.K}u * ${bs}u + (wc + ${j * c.N}u) / 8u`;
    return `let r${j} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${c.N}, ${c.K}>, ${bT ? 'col_major' : 'row_major'}>(&Bs, ${stage} * ${bm_}u + ${at}, ${bs}u);`;
  };
  const multiply = (stage: string) =>
    times(
      bk / c.K,
      s => `{
      ${times(ri, i => left(i, s, stage))}
      ${times(ci, j => right(j, s, stage))}
      ${grid(ri, ci, (i, j) => `y${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, y${i}_${j});`)}
    }`,
    );
  const loop = double
    ? `${fetch('0u')} ${put('0u')}
  var stage = 0u;
  workgroupBarrier();
  for (var k = 0u; k < p.k; k += ${bk}u) {
    let more = k + ${bk}u < p.k;
    if (more) { ${fetch(`(k + ${bk}u)`)} }
    ${multiply('stage')}
    if (more) { ${put('(1u - stage)')} }
    workgroupBarrier();
    stage = 1u - stage;
  }`
    : ahead
      ? `${fetch('0u')}
  for (var k = 0u; k < p.k; k += ${bk}u) {
    ${put('0u')}
    workgroupBarrier();
    if (k + ${bk}u < p.k) { ${fetch(`(k + ${bk}u)`)} }
    ${multiply('0u')}
    workgroupBarrier();
  }`
      : `for (var k = 0u; k < p.k; k += ${bk}u) {
    ${fetch('k')} ${put('0u')}
    workgroupBarrier();
    ${multiply('0u')}
    workgroupBarrier();
  }`;
  const end = tested
    ? grid(
        ri,
        ci,
        (i, j) => `subgroupMatrixStore<row_major>(&Ys, sg * ${c.M * c.N}u, y${i}_${j}, ${c.N}u);
  workgroupBarrier();
  for (var e = lane; e < ${c.M * c.N}u; e += ${subgroup}u) {
    let i = row + wr + ${i * c.M}u + e / ${c.N}u; let j = col + wc + ${j * c.N}u + e % ${c.N}u;
    if (i < p.m && j < p.n) { Y[i * p.n + j] = Ys[sg * ${c.M * c.N}u + e]; }
  }
  workgroupBarrier();`,
      )
    : grid(
        ri,
        ci,
        (i, j) =>
          `subgroupMatrixStore<row_major>(&Y, (row + wr + ${i * c.M}u) * p.n + col + wc + ${j * c.N}u, y${i}_${j}, p.n);`,
      );
  const place =
    swizzle > 0
      ? `let flat = w.y * wn.x + w.x; let band = flat / (${swizzle}u * wn.x); let first = band * ${swizzle}u;
  let high = min(${swizzle}u, wn.y - first); let rest = flat - first * wn.x;
  let row = (first + rest % high) * ${bm}u; let col = (rest / high) * ${bn}u;`
      : `let row = w.y * ${bm}u; let col = w.x * ${bn}u;`;
  const code = `${MATRIX}
${HEAD('vec4<u32>')}
var<workgroup> As : array<vec4<u32>, ${buffers * an}>;
var<workgroup> Bs : array<vec4<u32>, ${buffers * bm_}>;
${tested ? `var<workgroup> Ys : array<f32, ${subgroups * c.M * c.N}>;` : ''}
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>,
    @builtin(local_invocation_index) t : u32, @builtin(subgroup_id) sg : u32, @builtin(subgroup_invocation_id) lane : u32) {
  ${place}
  let lda = ${aT ? 'p.m' : 'p.k'} / 8u; let ldb = ${bT ? 'p.k' : 'p.n'} / 8u;
  let wr = (sg / ${across}u) * ${wm}u; let wc = (sg % ${across}u) * ${wn}u;
  ${times(aPer, i => `var ra${i} : vec4<u32>;`)} ${times(bPer, i => `var rb${i} : vec4<u32>;`)}
  ${grid(ri, ci, (i, j) => `var y${i}_${j} : subgroup_matrix_result<f32, ${c.N}, ${c.M}>;`)}
  ${loop}
  ${end}
}`;
  const flags = [
    double && 'double',
    !double && ahead && 'ahead',
    tested && 'tested',
    aT && 'A^T',
    bT && 'B^T',
    swizzle > 0 && `swizzle ${swizzle}`,
  ];
  const name = `matrix ${c.M}x${c.N}x${c.K} staged ${bm}x${bn}x${bk}, ${wm}x${wn} a subgroup, ${threads} threads ${flags.filter(Boolean).join(' ')}`;
  return { name, bm, bn, threads, code, aT, bT };
}

/** Matrices straight from storage, without workgroup memory. */
function straight(c: Config, wm: number, wn: number, across: number, down: number, type: string): Variant {
  const [ri, ci] = [wm / c.M, wn / c.N];
  const per = type === 'vec4<u32>' ? 8 : 1;
  const code = `${MATRIX}
${HEAD(type)}
@compute @workgroup_size(${across * down * subgroup}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(subgroup_id) sg : u32) {
  let row = w.y * ${wm * down}u + (sg / ${across}u) * ${wm}u; let col = w.x * ${wn * across}u + (sg % ${across}u) * ${wn}u;
  ${grid(ri, ci, (i, j) => `var y${i}_${j} : subgroup_matrix_result<f32, ${c.N}, ${c.M}>;`)}
  for (var k = 0u; k < p.k; k += ${c.K}u) {
    ${times(ri, i => `let l${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${c.K}, ${c.M}>, row_major>(&A, ((row + ${i * c.M}u) * p.k + k) / ${per}u, p.k / ${per}u);`)}
    ${times(ci, j => `let r${j} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${c.N}, ${c.K}>, row_major>(&B, (k * p.n + col + ${j * c.N}u) / ${per}u, p.n / ${per}u);`)}
    ${grid(ri, ci, (i, j) => `y${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, y${i}_${j});`)}
  }
  ${grid(ri, ci, (i, j) => `subgroupMatrixStore<row_major>(&Y, (row + ${i * c.M}u) * p.n + col + ${j * c.N}u, y${i}_${j}, p.n);`)}
}`;
  const threads = across * down * subgroup;
  const name = `matrix ${c.M}x${c.N}x${c.K} straight ${type}, ${wm}x${wn} a subgroup, ${down}x${across} subgroups`;
  return { name, bm: wm * down, bn: wn * across, threads, code };
}

/**
 * Without matrices: t × t results a thread in float32, 16 × 16 threads, A transposed in workgroup memory. `keep` is how operands lie
 * there: as f32, as pairs of f16 in a u32 (core WGSL), or as f16.
 */
function tiles(keep: 'f32' | 'pairs' | 'f16', t: number, bk: number): Variant {
  const side = 16 * t;
  const chunks = (side * bk) / 8;
  const word = keep === 'pairs' ? 'u32' : keep;
  const stride = side;
  const half = (v: string, h: number) => `(${v}[${h >> 1}] ${h & 1 ? '>> 16u' : '& 0xffffu'})`;
  // One thread reads 8 halves along k of a row of A, or along n of a row of B.
  const aPut =
    keep === 'f32'
      ? times(
          4,
          q =>
            `{ let f = unpack2x16float(v[${q}]); As[(kk + ${2 * q}u) * ${stride}u + i] = f.x; As[(kk + ${2 * q + 1}u) * ${stride}u + i] = f.y; }`,
        )
      : keep === 'f16'
        ? times(
            4,
            q =>
              `{ let f = bitcast<vec2<f16>>(v[${q}]); As[(kk + ${2 * q}u) * ${stride}u + i] = f.x; As[(kk + ${2 * q + 1}u) * ${stride}u + i] = f.y; }`,
          )
        : times(8, h => `As[((kk + ${h}u) * ${stride}u + i) >> 1u] = ${half('v', h)} | (${half('v2', h)} << 16u);`);
  const bPut =
    keep === 'f32'
      ? times(
          4,
          q =>
            `{ let f = unpack2x16float(v[${q}]); Bs[kk * ${stride}u + j + ${2 * q}u] = f.x; Bs[kk * ${stride}u + j + ${2 * q + 1}u] = f.y; }`,
        )
      : keep === 'f16'
        ? times(
            4,
            q =>
              `{ let f = bitcast<vec2<f16>>(v[${q}]); Bs[kk * ${stride}u + j + ${2 * q}u] = f.x; Bs[kk * ${stride}u + j + ${2 * q + 1}u] = f.y; }`,
          )
        : times(4, q => `Bs[(kk * ${stride}u + j + ${2 * q}u) >> 1u] = v[${q}];`);
  const aRows = keep === 'pairs' ? 2 : 1;
  const use = (n: string, at: string) =>
    keep === 'pairs'
      ? times(
          t / 2,
          q =>
            `let ${n}p${q} = unpack2x16float(${n === 'a' ? 'As' : 'Bs'}[(${at} >> 1u) + ${q}u]); let ${n}${2 * q} = ${n}p${q}.x; let ${n}${2 * q + 1} = ${n}p${q}.y;`,
        )
      : times(t, i => `let ${n}${i} = f32(${n === 'a' ? 'As' : 'Bs'}[${at} + ${i}u]);`);
  const code = `${keep === 'f16' ? 'enable f16;' : ''}
${HEAD('vec4<u32>')}
var<workgroup> As : array<${word}, ${(bk * stride) / (keep === 'pairs' ? 2 : 1)}>;
var<workgroup> Bs : array<${word}, ${(bk * stride) / (keep === 'pairs' ? 2 : 1)}>;
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(local_invocation_id) l : vec3<u32>, @builtin(local_invocation_index) t : u32) {
  let row = w.y * ${side}u; let col = w.x * ${side}u;
  ${grid(t, t, (i, j) => `var y${i}_${j} = 0.0;`)}
  for (var k = 0u; k < p.k; k += ${bk}u) {
    for (var e = t; e < ${chunks / aRows}u; e += 256u) {
      let i = (e / ${bk / 8}u) * ${aRows}u; let kk = (e % ${bk / 8}u) * 8u;
      let v = A[((row + i) * p.k + k + kk) / 8u]; ${keep === 'pairs' ? 'let v2 = A[((row + i + 1u) * p.k + k + kk) / 8u];' : ''}
      ${aPut}
    }
    for (var e = t; e < ${chunks}u; e += 256u) {
      let kk = e / ${side / 8}u; let j = (e % ${side / 8}u) * 8u;
      let v = B[((k + kk) * p.n + col + j) / 8u];
      ${bPut}
    }
    workgroupBarrier();
    for (var kk = 0u; kk < ${bk}u; kk++) {
      ${use('a', `(kk * ${stride}u + l.y * ${t}u)`)}
      ${use('b', `(kk * ${stride}u + l.x * ${t}u)`)}
      ${grid(t, t, (i, j) => `y${i}_${j} += a${i} * b${j};`)}
    }
    workgroupBarrier();
  }
  ${grid(t, t, (i, j) => `Y[(row + l.y * ${t}u + ${i}u) * p.n + col + l.x * ${t}u + ${j}u] = y${i}_${j};`)}
}`;
  return { name: `tiles ${side}x${side}x${bk}, ${keep} in workgroup memory`, bm: side, bn: side, threads: 256, code };
}

// ---- Running

function toHalf(x: number): number {
  if (x === 0) return 0;
  const sign = x < 0 ? 0x8000 : 0;
  const e = Math.max(-14, Math.floor(Math.log2(Math.abs(x))));
  const m = Math.round((Math.abs(x) / 2 ** e) * 1024);
  return sign + ((e + 14) << 10) + m;
}
function fromHalf(h: number): number {
  const e = (h >> 10) & 31;
  const m = h & 1023;
  const x = e === 0 ? (m / 1024) * 2 ** -14 : (1 + m / 1024) * 2 ** (e - 15);
  return h & 0x8000 ? -x : x;
}
let seed = 1;
const random = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
  return (seed >>> 8) / 2 ** 24 - 0.5;
};

const most = Math.max(...sizes);
const halves = () => Uint16Array.from({ length: most * most }, () => toHalf(random()));
const [ha, hb] = [halves(), halves()];
const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
const bufferOf = (
  bytes: number,
  data?: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>,
) => {
  const buffer = device.createBuffer({ size: bytes, usage: storage | GPUBufferUsage.UNIFORM });
  if (data !== undefined) device.queue.writeBuffer(buffer, 0, data);
  return buffer;
};
const [bufA, bufB] = [bufferOf(2 * most * most, ha), bufferOf(2 * most * most, hb)];
const bufY = bufferOf(4 * most * most);
const uniform = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });

async function read(buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const staging = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const e = device.createCommandEncoder();
  e.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
  device.queue.submit([e.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const data = staging.getMappedRange().slice(0);
  staging.destroy();
  return data;
}

async function pipelineOf(code: string): Promise<GPUComputePipeline | null> {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const bad = messages.filter(m => m.type !== 'info');
  for (const m of bad) console.log(`  ${m.type}, line ${m.lineNum}: ${m.message.slice(0, 1200)}`);
  await device.popErrorScope();
  if (bad.some(m => m.type === 'error')) return null;
  try {
    return await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  } catch (error) {
    console.log(`  pipeline: ${String(error).slice(0, 1200)}`);
    return null;
  }
}

function launch(pipeline: GPUComputePipeline, buffers: GPUBuffer[], groups: number[], count: number): void {
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const e = device.createCommandEncoder();
  const pass = e.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  for (let i = 0; i < count; i++) pass.dispatchWorkgroups(groups[0]!, groups[1] ?? 1);
  pass.end();
  device.queue.submit([e.finish()]);
}

/** Seconds of one launch: the best of three rounds. */
async function seconds(run: (count: number) => void): Promise<number> {
  const time = async (count: number) => {
    const from = performance.now();
    run(count);
    await device.queue.onSubmittedWorkDone();
    return (performance.now() - from) / 1000;
  };
  await time(1);
  const count = Math.max(
    1,
    Math.min(200, Math.ceil(((slow ? 0.02 : 0.06) / (await time(slow ? 1 : 3))) * (slow ? 1 : 3))),
  );
  let best = Infinity;
  for (let i = 0; i < (slow ? 1 : 3); i++) best = Math.min(best, (await time(count)) / count);
  return best;
}

async function worst(n: number, { aT, bT }: Variant): Promise<number> {
  const y = new Float32Array(await read(bufY, 4 * n * n));
  let error = 0;
  for (let s = 0; s < 200; s++) {
    const at = s === 0 ? 0 : s === 1 ? n * n - 1 : Math.floor((random() + 0.5) * n * n);
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let k = 0; k < n; k++)
      sum += fromHalf(ha[aT ? k * n + i : i * n + k]!) * fromHalf(hb[bT ? j * n + k : k * n + j]!);
    error = Math.max(error, Math.abs(sum - y[at]!));
  }
  return error;
}

async function measure(v: Variant): Promise<void> {
  console.log(v.name);
  try {
    const from = performance.now();
    const pipeline = await pipelineOf(v.code);
    if (pipeline === null) return;
    const compile = performance.now() - from;
    const line: string[] = [];
    for (const n of sizes) {
      if (n % v.bm !== 0 || n % v.bn !== 0) {
        line.push(`${n}: no whole tiles`);
        continue;
      }
      device.queue.writeBuffer(uniform, 0, new Uint32Array([n, n, n, 0]));
      device.queue.writeBuffer(bufY, 0, new Float32Array(n * n));
      const groups = [n / v.bn, n / v.bm];
      const s = await seconds(count => launch(pipeline, [uniform, bufA, bufB, bufY], groups, count));
      const error = await worst(n, v);
      line.push(
        `${n}: ${((2 * n ** 3) / s / 1e9).toFixed(0)} GFLOP/s, error ${error.toExponential(1)}${error > 1e-3 * n ** 0.5 ? ' WRONG' : ''}`,
      );
    }
    console.log(`  ${line.join(' | ')} | compiled in ${compile.toFixed(0)} ms`);
  } catch (error) {
    console.log(`  failed: ${String(error).slice(0, 2000)}`);
  }
}

/** What packing makes of numbers at the edges of f16, and its rate. */
async function packing(): Promise<void> {
  const edge = [
    65504,
    65519,
    65520,
    1e6,
    -1e6,
    1e38,
    Infinity,
    -Infinity,
    Number.NaN,
    6e-8,
    2.9e-8,
    6.2e-5,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    0.1,
  ];
  const code = (body: string, enable = '') => `${enable}
struct P { m : u32, n : u32, k : u32, pad : u32 }
@group(0) @binding(0) var<uniform> p : P;
@group(0) @binding(1) var<storage, read> X : array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> Z : array<vec2<u32>>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) g : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>) {
  let i = g.x + g.y * wn.x * 256u; if (i >= p.n) { return; } let x = X[i]; ${body} }`;
  const plain = code('Z[i] = vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw));');
  const cast = code('let h = vec4<f16>(x); Z[i] = bitcast<vec2<u32>>(h);', 'enable f16;');
  const count = 2 ** (slow ? 16 : 26);
  const [x, z] = [bufferOf(4 * count), bufferOf(2 * count)];
  for (const [name, text] of [
    ['pack2x16float', plain],
    ['f16()', cast],
  ] as const) {
    const pipeline = await pipelineOf(text);
    if (pipeline === null) continue;
    device.queue.writeBuffer(x, 0, new Float32Array([...edge, 0]));
    device.queue.writeBuffer(uniform, 0, new Uint32Array([0, count / 4, 0, 0]));
    const groups = Math.ceil(count / 4 / 256);
    const rows = Math.ceil(groups / 65535);
    const s = await seconds(n => launch(pipeline, [uniform, x, z], [Math.ceil(groups / rows), rows], n));
    const h = new Uint16Array(await read(z, 32));
    console.log(
      `${name}: ${((6 * count) / s / 1e9).toFixed(0)} GB/s; ${edge.map((e, i) => `${e} -> 0x${h[i]!.toString(16)}`).join(', ')}`,
    );
  }
  x.destroy();
  z.destroy();
}

await packing();
const config =
  configs.find(c => c.componentType === 'f16' && c.resultComponentType === 'f32' && c.M === 16 && c.N === 16) ??
  configs.find(c => c.componentType === 'f16' && c.resultComponentType === 'f32');
const all: (() => Variant)[] = [];
if (config === undefined || !device.features.has('chromium-experimental-subgroup-matrix'))
  console.log('no f16 matrices with results in f32');
else {
  const c = config;
  const tile = (bm: number, bn: number, bk: number, wm: number, wn: number, more: Partial<Tile> = {}) =>
    all.push(() => staged(c, { bm, bn, bk, wm, wn, ...more }));
  const small = { bm: 4 * c.M, bn: 4 * c.N, bk: 32, wm: 2 * c.M, wn: 4 * c.N };
  if (slow) {
    all.push(() => straight(c, 2 * c.M, 2 * c.N, 2, 2, 'f16'));
    all.push(() => straight(c, 2 * c.M, 2 * c.N, 2, 2, 'vec4<u32>'));
    for (const more of [
      {},
      { ahead: false },
      { double: true },
      { tested: true },
      { aT: true, swizzle: 2 },
      { bT: true },
    ])
      all.push(() => staged(c, { ...small, ...more }));
    all.push(() => staged(c, { ...small, aT: true, bT: true, double: true, tested: true }));
  } else {
    tile(128, 128, 32, 64, 32);
    tile(128, 128, 32, 64, 64);
    tile(128, 128, 32, 64, 32, { double: true });
    tile(128, 128, 32, 64, 64, { double: true });
    tile(128, 128, 32, 64, 32, { swizzle: 8 });
    tile(128, 128, 32, 64, 32, { tested: true });
    tile(128, 128, 32, 64, 32, { aT: true });
    tile(128, 128, 32, 64, 32, { bT: true });
    tile(128, 128, 32, 64, 32, { aT: true, bT: true });
    tile(64, 64, 32, 32, 32);
    tile(64, 64, 64, 32, 32);
    tile(64, 64, 32, 32, 32, { double: true });
    tile(128, 64, 32, 32, 32);
    tile(128, 64, 64, 32, 32);
    tile(128, 128, 64, 64, 32);
    tile(128, 128, 32, 64, 32, { ahead: false });
    tile(256, 128, 32, 64, 64);
    tile(256, 128, 32, 64, 64, { double: true });
    tile(256, 128, 32, 64, 64, { swizzle: 4 });
    tile(128, 256, 32, 64, 64, { double: true });
    tile(128, 256, 64, 64, 64);
    all.push(() => straight(c, 2 * c.M, 2 * c.N, 2, 2, 'f16'));
    all.push(() => straight(c, 4 * c.M, 4 * c.N, 2, 2, 'vec4<u32>'));
    for (const other of configs)
      if (
        other !== c &&
        other.componentType === 'f16' &&
        other.resultComponentType === 'f32' &&
        other.K % 8 === 0 &&
        other.N % 8 === 0
      )
        all.push(() => staged(other, { bm: 128, bn: 128, bk: 32, wm: 64, wn: 32 }));
  }
}
for (const make of all) {
  if (performance.now() > until) {
    console.log('no time for more');
    break;
  }
  try {
    await measure(make());
  } catch (error) {
    console.log(`  failed: ${String(error).slice(0, 2000)}`);
  }
}
for (const keep of ['pairs', 'f32', 'f16'] as const)
  for (const t of [8, 4]) if (performance.now() < until) await measure(tiles(keep, t, 16));
console.log('done');
device.destroy();
