/** One shader of several: side by side, each in workgroups of its own, or one after the other in a single workgroup. */

import { withFollowers, withValue } from './follow.ts';
import { declares, type Shader, shareVariables } from './shader.ts';

/** Bytes from the constants of one launch to those of the next: the alignment of offsets that every adapter accepts. */
export const SLICE = 256;

/** A shader with the place of each of its tensors among those of the joined one; −1 for the results of `parent`, which it takes as they come. */
export type Part = {
  readonly shader: Shader;
  readonly slots: readonly number[];
  /** The part with whose results it goes on, or −1. */
  readonly parent: number;
  /** The tensor with whose elements others go on. */
  readonly stores: number;
};

export type Slot = { readonly type: string; readonly writes: boolean };

/**
 * Its constants: a vec4 for each part, the number of its first workgroup and its workgroups along x, y and z, in one slice; then
 * the parts' own, a slice each. `serial`: each part has one workgroup's work or little more, and sees what those before it wrote.
 */
export function joinShaders(parts: readonly Part[], slots: readonly Slot[], serial: boolean): string {
  const threads = Math.max(...parts.map(({ shader, parent }) => (parent < 0 ? shader.threads : 1)));
  const structs = parts.map(({ shader }, k) => `@align(${SLICE}) k${k}_ : ${shader.constants.type}_${k},`);
  const bindings = slots.map(
    ({ type, writes }, i) =>
      `@group(0) @binding(${i + 1}) var<storage, ${writes ? 'read_write' : 'read'}> slot${i}_ : ${type};`,
  );
  const { variables, own } = shareVariables(parts.map(({ shader }) => shader));
  const runs = parts.map((_, k) => partCode(parts, k, threads, own[k]!));
  return `
struct Joined_ { parts : array<vec4<u32>, ${parts.length}>, ${structs.join(' ')} }
@group(0) @binding(0) var<uniform> joined_ : Joined_;
${bindings.join('\n')}
${variables.map(({ type }, i) => `var<workgroup> shared${i}_ : ${type};`).join('\n')}
${runs.join('\n')}
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) w_ : vec3<u32>, @builtin(num_workgroups) wn_ : vec3<u32>, @builtin(local_invocation_index) t_ : u32) {
${serial ? inTurn(parts, threads) : sideBySide(parts)}
}`;
}

/** The numbers of the parts that have workgroups of their own. */
const leading = (parts: readonly Part[]) => [...parts.keys()].filter(k => parts[k]!.parent < 0);

function sideBySide(parts: readonly Part[]): string {
  const all = leading(parts);
  const lines = all.map((k, i) => {
    const next = i + 1 < all.length ? `if (at < joined_.parts[${all[i + 1]}].x) ` : '';
    return `  ${i > 0 ? 'else ' : ''}${next}{ run_${k}(at - joined_.parts[${k}].x, t_); }`;
  });
  return `  let at = w_.x + w_.y * wn_.x;\n${lines.join('\n')}`;
}

function inTurn(parts: readonly Part[], threads: number): string {
  const lines = leading(parts).map(k => {
    const { shader } = parts[k]!;
    const each = shader.together ? 1 : threads / shader.threads;
    const step = shader.together ? ' workgroupBarrier();' : '';
    return `  { let end = joined_.parts[${k}].y * joined_.parts[${k}].z * joined_.parts[${k}].w;
    for (var at = 0u; at * ${each}u < end; at++) { run_${k}(at, t_);${step} } }`;
  });
  return lines.join('\n  storageBarrier(); workgroupBarrier();\n');
}

/** The functions of a part: its own under other names, and `run_k(workgroup, thread)`, or `then_k(element)` where it goes on with results. */
function partCode(parts: readonly Part[], k: number, threads: number, shared: readonly number[]): string {
  const { shader, slots, parent, stores } = parts[k]!;
  const { names, constants, bindings, size, parameters } = shader;
  const followers = [...parts.keys()]
    .filter(i => parts[i]!.parent === k)
    .map(i => ({ value: `taken_${i}_`, call: (element: string) => `then_${i}(${element})` }));
  const inner = (text: string) => {
    let code = text;
    bindings.forEach(({ name }, i) => {
      if (slots[i] === -1) code = withValue(code, name, `taken_${k}_`);
    });
    if (followers.length === 0) return code;
    const { name, type } = bindings[stores]!;
    return withFollowers(code, name, type.includes('vec4'), followers);
  };
  const renamed = new Map(names.map(name => [name, `${name}_${k}`]));
  renamed.set(constants.name, `joined_.k${k}_`);
  bindings.forEach(({ name }, i) => {
    renamed.set(name, `slot${slots[i]}_`);
  });
  shader.shared.forEach(({ name }, i) => {
    renamed.set(name, `shared${shared[i]}_`);
  });
  const pattern = new RegExp(`(?<![.\\w])(${[...renamed.keys()].join('|')})\\b`, 'g');
  // Fields keep their names: they stand behind a dot, or before a colon in a struct.
  const fields = new RegExp(`${pattern.source}(?!\\s*:)`, 'g');
  const rename = (given: string) => {
    const text = inner(given);
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
  const code = `${shader.declarations.map(rename).join('\n')}\n${rename(main)}`;
  const call = `  let id = vec3<u32>(at % n.x, (at / n.x) % n.y, at / (n.x * n.y));
  let l = vec3<u32>(t % ${size[0]}u, (t / ${size[0]}u) % ${size[1]}u, t / ${size[0] * size[1]}u);
  main_${k}(${parameters.map(({ builtin }) => value[builtin]).join(', ')});`;
  if (parent >= 0)
    return `var<private> taken_${k}_ : f32;
${code}
fn then_${k}(element_ : u32) {
  let n = joined_.parts[${k}].yzw;
  let at = element_ / ${shader.threads}u; let t = element_ % ${shader.threads}u;
${call}
}`;
  return `${code}
fn run_${k}(group_ : u32, thread_ : u32) {
  ${own}
  let n = joined_.parts[${k}].yzw;
  if (at >= n.x * n.y * n.z) { return; }
${call}
}`;
}
