/** One shader of several: side by side, each in workgroups of its own, or one after the other in a single workgroup. */

import { declares, type Shader } from './shader.ts';

/** Bytes from the constants of one launch to those of the next: the alignment of offsets that every adapter accepts. */
export const SLICE = 256;

/** A shader with the place of each of its tensors among those of the joined one. */
export type Part = { readonly shader: Shader; readonly slots: readonly number[] };

export type Slot = { readonly type: string; readonly writes: boolean };

/**
 * Its constants: a vec4 for each part, the number of its first workgroup and its workgroups along x, y and z, in one slice; then
 * the parts' own, a slice each. `serial`: each part has one workgroup's work or little more, and sees what those before it wrote.
 */
export function joinShaders(parts: readonly Part[], slots: readonly Slot[], serial: boolean): string {
  const threads = Math.max(...parts.map(({ shader }) => shader.threads));
  const structs = parts.map(({ shader }, k) => `@align(${SLICE}) k${k}_ : ${shader.constants.type}_${k},`);
  const bindings = slots.map(
    ({ type, writes }, i) =>
      `@group(0) @binding(${i + 1}) var<storage, ${writes ? 'read_write' : 'read'}> slot${i}_ : ${type};`,
  );
  const runs = parts.map((part, k) => partCode(part, k, threads));
  return `
struct Joined_ { parts : array<vec4<u32>, ${parts.length}>, ${structs.join(' ')} }
@group(0) @binding(0) var<uniform> joined_ : Joined_;
${bindings.join('\n')}
${runs.join('\n')}
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) w_ : vec3<u32>, @builtin(num_workgroups) wn_ : vec3<u32>, @builtin(local_invocation_index) t_ : u32) {
${serial ? inTurn(parts, threads) : sideBySide(parts)}
}`;
}

const sideBySide = (parts: readonly Part[]) => `  let at = w_.x + w_.y * wn_.x;
${parts
  .map((_, k) => {
    const next = k + 1 < parts.length ? `if (at < joined_.parts[${k + 1}].x) ` : '';
    return `  ${k > 0 ? 'else ' : ''}${next}{ run_${k}(at - joined_.parts[${k}].x, t_); }`;
  })
  .join('\n')}`;

function inTurn(parts: readonly Part[], threads: number): string {
  const lines = parts.map(({ shader }, k) => {
    const each = shader.together ? 1 : threads / shader.threads;
    const step = shader.together ? ' workgroupBarrier();' : '';
    return `  { let end = joined_.parts[${k}].y * joined_.parts[${k}].z * joined_.parts[${k}].w;
    for (var at = 0u; at * ${each}u < end; at++) { run_${k}(at, t_);${step} } }`;
  });
  return lines.join('\n  storageBarrier();\n');
}

/** The functions of a part: its own under other names, and `run_k(workgroup, thread)`. */
function partCode({ shader, slots }: Part, k: number, threads: number): string {
  const { names, constants, bindings, size, parameters } = shader;
  const renamed = new Map(names.map(name => [name, `${name}_${k}`]));
  renamed.set(constants.name, `joined_.k${k}_`);
  bindings.forEach(({ name }, i) => {
    renamed.set(name, `slot${slots[i]}_`);
  });
  const pattern = new RegExp(`(?<![.\\w])(${[...renamed.keys()].join('|')})\\b`, 'g');
  // Fields keep their names: they stand behind a dot, or before a colon in a struct.
  const fields = new RegExp(`${pattern.source}(?!\\s*:)`, 'g');
  const rename = (text: string) => {
    const keeps = declares(text, constants.name) ? constants.name : null;
    return text.replace(text.startsWith('struct') ? fields : pattern, name =>
      name === keeps ? name : renamed.get(name)!,
    );
  };
  const main = `fn main(${parameters.map(({ builtin, name }) => `${name} : ${builtin === 'local_invocation_index' ? 'u32' : 'vec3<u32>'}`).join(', ')}) ${shader.body}`;
  const value: Readonly<Record<string, string>> = {
    workgroup_id: 'id',
    num_workgroups: 'n',
    local_invocation_index: 't',
    local_invocation_id: 'l',
    global_invocation_id: `id * vec3<u32>(${size.join('u, ')}u) + l`,
  };
  // Where nothing is done together, a workgroup may stand for several smaller ones.
  const split = !shader.together && shader.threads < threads;
  const own = split
    ? `let at = group_ * ${threads / shader.threads}u + thread_ / ${shader.threads}u; let t = thread_ % ${shader.threads}u;`
    : 'let at = group_; let t = thread_;';
  return `${shader.declarations.map(rename).join('\n')}
${rename(main)}
fn run_${k}(group_ : u32, thread_ : u32) {
  ${own}
  let n = joined_.parts[${k}].yzw;
  if (at >= n.x * n.y * n.z) { return; }
  let id = vec3<u32>(at % n.x, (at / n.x) % n.y, at / (n.x * n.y));
  let l = vec3<u32>(t % ${size[0]}u, (t / ${size[0]}u) % ${size[1]}u, t / ${size[0] * size[1]}u);
  main_${k}(${parameters.map(({ builtin }) => value[builtin]).join(', ')});
}`;
}
