/**
 * What a shader consists of, so that several can become one. Shaders here are modules of WGSL with one entry point `main`, whose
 * binding 0 is a struct of constants. One that has something else in it stays alone.
 */

export type Binding = { readonly name: string; readonly writes: boolean; readonly type: string };

/** A variable of a workgroup. */
export type Shared = { readonly name: string; readonly type: string; readonly bytes: number };

export type Shader = {
  /** Functions, structs, constants and variables but for bindings and `main`. */
  readonly declarations: readonly string[];
  /** All names of the module, which are renamed where it is joined with others. */
  readonly names: readonly string[];
  readonly constants: { readonly name: string; readonly type: string };
  readonly bindings: readonly Binding[];
  /** The parameters of `main`, with the built-in value that each is, and its body in braces. */
  readonly parameters: readonly { readonly builtin: string; readonly name: string }[];
  readonly body: string;
  /** Threads of a workgroup along each axis, and all of them. */
  readonly size: readonly [number, number, number];
  readonly threads: number;
  /** Whether threads of a workgroup wait for each other or share memory. */
  readonly together: boolean;
  /** What they share. */
  readonly shared: readonly Shared[];
};

/** Pieces of a module that end on `;` or on the last brace. */
function pieces(code: string): string[] {
  const text = code.replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, ' ');
  const found: string[] = [];
  let [depth, start] = [0, 0];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{') depth++;
    else if (c === '}') depth--;
    if (depth > 0 || (c !== ';' && c !== '}')) continue;
    const piece = text.slice(start, i + 1).trim();
    if (piece !== ';') found.push(piece);
    start = i + 1;
  }
  return found;
}

const UNIFORM = /^@group\(0\)\s*@binding\(0\)\s*var<uniform>\s*(\w+)\s*:\s*(\w+)\s*;$/;
const STORAGE = /^@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)\s*:\s*([^;]+?)\s*;$/;
const SHARED = /^var<workgroup>\s*(\w+)\s*:\s*([^;]+?)\s*;$/;
const NAMED = /^(?:struct|const|alias|fn|var<private>)\s+(\w+)/;
const MAIN = /^@compute\s*@workgroup_size\(([\d\s,]+)\)\s*fn\s+main\s*\(([\s\S]*?)\)\s*(\{[\s\S]*\})$/;
const PARAMETER = /@builtin\((\w+)\)\s*(\w+)\s*:/g;
const KNOWN = [
  'global_invocation_id',
  'local_invocation_id',
  'local_invocation_index',
  'workgroup_id',
  'num_workgroups',
];

/** Whether a function has a variable or parameter of that name. */
export const declares = (text: string, name: string): boolean =>
  !text.startsWith('struct') && new RegExp(`\\b(?:let|var|const)\\s+${name}\\b|[(,]\\s*${name}\\s*:`).test(text);

/** Whether such a function means nothing else by it: the first that is there of it is the declaration, in no inner block. */
function hides(text: string, name: string): boolean {
  const first = new RegExp(`(?<![.\\w])${name}\\b`).exec(text)!.index;
  const before = text.slice(0, first);
  const depth = before.split('{').length - before.split('}').length;
  return depth === 0 || (depth === 1 && /(let|var|const)\s+$/.test(before));
}

/**
 * Variables of a workgroup for several shaders, of which no two run in it at once: as many of each type as one of them has. And for
 * each shader which of them are its own.
 */
export function shareVariables(shaders: readonly Shader[]): { variables: Shared[]; own: number[][] } {
  const variables: Shared[] = [];
  const own = shaders.map(({ shared }) => {
    const taken: number[] = [];
    for (const one of shared) {
      let at = variables.findIndex(({ type }, i) => type === one.type && !taken.includes(i));
      if (at < 0) at = variables.push(one) - 1;
      taken.push(at);
    }
    return taken;
  });
  return { variables, own };
}

/** Bytes of numbers, vectors of four, and arrays of them; null for other types. */
function bytesOf(type: string): number | null {
  const array = /^array<\s*(.+?)\s*,\s*(\d+)u?\s*>$/.exec(type);
  if (array === null) {
    const [, length = '1'] = /^(?:vec([24])<)?(?:f32|u32|i32)>?$/.exec(type) ?? [null, '0'];
    return length === '0' ? null : 4 * Number(length);
  }
  const each = bytesOf(array[1]!);
  return each === null ? null : each * Number(array[2]);
}

/** Null for a shader that cannot be joined with others. */
export function parseShader(code: string): Shader | null {
  const declarations: string[] = [];
  const names: string[] = ['main'];
  const bindings: Binding[] = [];
  let constants: Shader['constants'] | null = null;
  let main: RegExpExecArray | null = null;
  const sharing: Shared[] = [];
  let together = /\b(workgroupBarrier|storageBarrier|workgroupUniformLoad)\b/.test(code);
  for (const piece of pieces(code)) {
    const [uniform, storage, shared, entry] = [UNIFORM, STORAGE, SHARED, MAIN].map(rule => rule.exec(piece));
    if (uniform) {
      constants = { name: uniform[1]!, type: uniform[2]! };
      names.push(uniform[1]!);
    } else if (storage) {
      bindings[Number(storage[1]) - 1] = {
        name: storage[3]!,
        writes: storage[2] === 'read_write',
        type: storage[4]!.replace(/\s+/g, ''),
      };
      names.push(storage[3]!);
    } else if (shared) {
      together = true;
      const bytes = bytesOf(shared[2]!);
      if (bytes === null) return null;
      sharing.push({ name: shared[1]!, type: shared[2]!.replace(/\s+/g, ''), bytes });
      names.push(shared[1]!);
    } else if (entry) main = entry;
    else {
      const name = NAMED.exec(piece)?.[1];
      // `override`, `enable`, a type of shared memory that is not known here.
      if (name === undefined) return null;
      names.push(name);
      declarations.push(piece);
    }
  }
  if (constants === null || main === null || /\bsubgroup\w+\s*\(|\bquad\w+\s*\(/.test(code)) return null;
  const [x = 1, y = 1, z = 1] = main[1]!
    .split(',')
    .filter(part => part.trim() !== '')
    .map(Number);
  const parameters = [...main[2]!.matchAll(PARAMETER)].map(([, builtin, name]) => ({ builtin: builtin!, name: name! }));
  if (parameters.some(({ builtin }) => !KNOWN.includes(builtin))) return null;
  // The constants become an expression, so nothing may declare their name but a function that has it for a variable throughout.
  const isOwn = (text: string) => declares(text, constants!.name) && !hides(text, constants!.name);
  if (declares(main[3]!, constants.name) || declarations.some(isOwn)) return null;
  return {
    declarations,
    names,
    constants,
    bindings,
    parameters,
    body: main[3]!,
    size: [x, y, z],
    threads: x * y * z,
    together,
    shared: sharing,
  };
}
