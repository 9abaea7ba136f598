/** Pieces of shaders. Binding 0 holds the constants of a dispatch, the tensors follow. */

export type Access = 'read' | 'read_write';
export type Word = 'f32' | 'i32' | 'u32';

export const tensor = (i: number, name: string, access: Access = 'read', word: Word = 'f32') =>
  `@group(0) @binding(${i}) var<storage, ${access}> ${name} : array<${word}>;`;

export const constants = (fields: string) => `struct P { ${fields} }\n@group(0) @binding(0) var<uniform> p : P;`;

/** A flat index of a thread, which folds over y, as one axis has at most 65535 workgroups. */
export const FLAT =
  '@builtin(global_invocation_id) thread : vec3<u32>, @builtin(num_workgroups) workgroups : vec3<u32>';
export const INDEX = 'let i = thread.x + thread.y * workgroups.x * 64u;';

/** Workgroups of 64 threads for `count` threads, folded over y. */
export function flatGroups(count: number): number[] {
  const groups = Math.ceil(count / 64);
  const rows = Math.ceil(groups / 65535);
  return [Math.ceil(groups / rows), rows];
}

/** A workgroup for each of `count` results, folded over y; kernels find theirs by `GROUP`. */
export function rowGroups(count: number): number[] {
  const rows = Math.ceil(count / 65535);
  return [Math.ceil(count / rows), rows];
}
export const GROUP = 'let row = w.x + w.y * wn.x;';
export const PER_GROUP =
  '@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>, @builtin(local_invocation_index) t : u32';

/** The word of the status that is not 0 while steps are skipped. */
export const SKIPS = 3;

/**
 * Kernels that write in place do nothing once a check has failed that was announced before them: what they would write may come from
 * garbage. `seen` is one of their constants, `Commands.seen`. Nor do they in a step that is skipped (`SKIPS`).
 */
export const GUARD = `if (status[0] >= p.seen || status[${SKIPS}] != 0u) { return; }`;

/** The threads of a workgroup join `acc` into entry 0 of the workgroup's array `lanes`. */
export const tree = (threads: number, join: (a: string, b: string) => string) => `
  lanes[t] = acc;
  workgroupBarrier();
  for (var half_ = ${threads / 2}u; half_ > 0u; half_ >>= 1u) {
    if (t < half_) { lanes[t] = ${join('lanes[t]', 'lanes[t + half_]')}; }
    workgroupBarrier();
  }`;

/** 0 … n − 1 as lines of unrolled code. */
export const times = (n: number, line: (i: number) => string) => Array.from({ length: n }, (_, i) => line(i)).join(' ');

/** The axes of a strided walk. */
export const AXES = 8;
const fields = (name: string) => `${name}_s0:vec4<i32>, ${name}_s1:vec4<i32>`;
/** Constants of a walk over `shape` with strides for each of `names`, which begin at a multiple of 16 bytes. */
export const walkFields = (names: readonly string[]) => ['shape', ...names].map(fields).join(', ');
export const walkTypes = (count: number) => 'i'.repeat(AXES * (1 + count));
/** Lines that leave the place of element i of the walk in `${name}_at`. Axes that are not there are not walked. */
export const walk = (names: readonly string[], starts: readonly string[]) => `
  var rest = i32(i);
  ${names.map((name, k) => `var ${name}_at = p.${starts[k]};`).join(' ')}
  ${unwound(names.map(name => [name, `${name}_at`]))}`;

/** Steps `sums` along the axes from the last one, for what is left of an index in `rest`. */
function unwound(sums: readonly (readonly [strides: string, sum: string])[], axis = AXES - 1): string {
  if (axis < 0) return '';
  const at = (name: string) => `p.${name}_s${axis >> 2}[${axis & 3}]`;
  const steps = sums.map(([name, sum]) => `${sum} += k * ${at(name)};`).join(' ');
  return `if (rest > 0) { let before = rest / ${at('shape')}; let k = rest - before * ${at('shape')}; rest = before; ${steps}
    ${unwound(sums, axis - 1)} }`;
}
