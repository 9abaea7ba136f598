/** gpu.js as the compiler: its parts that @otimes/gpu imports, and the bundle of them that is published, write what gpu.js writes. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { GPU, Input } from 'gpu.js';
import t from 'tap';
import { BINARY, UNARY, UNARY_GRAD, WHERE } from '../gpu/src/functions.ts';
import { translate } from '../gpu/src/gpujs.ts';
import { STUBS } from '../gpu/src/translate.ts';
import { law } from './helpers/law.ts';

const { bundled } = (await import(new URL('../gpu/bundle.mjs', import.meta.url).href)) as {
  bundled(): Promise<string>;
};

/** Every body, with the names of its operands. */
const bodies: (readonly [body: string, names: readonly string[]])[] = [
  ...Object.values(UNARY).map(body => [body, ['x']] as const),
  ...Object.values(UNARY_GRAD).map(body => [body, ['gy', 'a']] as const),
  ...Object.values(BINARY).map(body => [body, ['a', 'b']] as const),
  [WHERE, ['c', 'a', 'b']],
];

/** Each with its operands as arrays, over one axis and over three, and with the last as a number. */
const cases = bodies.flatMap(([body, names]) =>
  [
    { axes: 1, arrays: names, numbers: [] },
    { axes: 3, arrays: names, numbers: [] },
    { axes: 1, arrays: names.slice(0, -1), numbers: names.slice(-1) },
  ].map(({ axes, arrays, numbers }) => {
    const along = ['x', 'y', 'z'].slice(0, axes);
    const steps = arrays.flatMap(name => along.map(axis => `${name}_${axis}`));
    const place = (name: string) => along.map(axis => `this.thread.${axis} * ${name}_${axis}`).join(' + ');
    const loads = arrays.map(name => `const ${name} = ${name}_all[${place(name)}];`).join(' ');
    const all = arrays.map(name => `${name}_all`);
    const source = `function(${[...all, ...numbers, ...steps].join(', ')}) { ${loads} ${body} }`;
    return { source, axes, names: { arrays: all, numbers, steps } };
  }),
);

type Built = {
  _buildAsync(): Promise<void>;
  build(...args: unknown[]): Promise<void>;
  readonly compiledSource: string;
  readonly paramsLayout: { readonly scalarArgs: readonly { readonly offset: number }[] };
  readonly workgroupSize: readonly number[];
};

/** As a program asks gpu.js for a kernel, with a `navigator.gpu` that it wants to see and that is never used. */
function whole({ source, axes, names: { arrays, numbers, steps } }: (typeof cases)[number]) {
  const value = { gpu: { requestAdapter: async () => null } };
  Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
  const made = new GPU({ mode: 'webgpu' as 'gpu' }).createKernel(source as never, {
    output: new Array<number>(axes).fill(1),
    dynamicOutput: true,
    dynamicArguments: true,
    functions: STUBS as never,
    argumentTypes: Object.fromEntries([
      ...arrays.map(name => [name, 'Input']),
      ...numbers.map(name => [name, 'Float']),
      ...steps.map(name => [name, 'Integer']),
    ]),
  });
  const { kernel } = made as typeof made & { kernel: Built };
  kernel._buildAsync = async () => {};
  kernel.build(...arrays.map(() => new Input([0], [1])), ...numbers.map(() => 0.5), ...steps.map(() => 1));
  const { compiledSource: code, workgroupSize: workgroup, paramsLayout } = kernel;
  return { code, workgroup, scalars: paramsLayout.scalarArgs[0]?.offset };
}

const text = await bundled();

law(t, 'the parts of gpu.js that are used, and the bundle of them, write the WGSL of the whole', async () => {
  const url = `data:text/javascript;base64,${Buffer.from(text).toString('base64')}`;
  const published = (await import(url)) as { translate: typeof translate };
  assert.ok(cases.length > 100);
  for (const one of cases) {
    const expected = whole(one);
    assert.match(expected.code, /@compute/);
    assert.deepEqual(translate(one.source, one.axes, one.names, STUBS), expected, one.source);
    assert.deepEqual(published.translate(one.source, one.axes, one.names, STUBS), expected, one.source);
  }
});

law(t, 'the bundle is the same bytes whenever it is made', async () => assert.equal(await bundled(), text));

law(t, 'the bundle imports nothing, compiles no text, and carries the licences of what is in it', async () => {
  const { metafile } = await build({ stdin: { contents: text }, bundle: true, write: false, metafile: true });
  assert.deepEqual(metafile.inputs['<stdin>']!.imports, []);
  assert.doesNotMatch(text.slice(text.indexOf('*/')), /\beval\(|\bFunction\(/);
  const root = new URL('..', import.meta.url);
  for (const path of ['gpu.js', 'gpu.js/node_modules/acorn'])
    assert.ok(text.includes(readFileSync(new URL(`node_modules/${path}/LICENSE`, root), 'utf8').trim()), path);
});

law(t, 'what gpu.js cannot translate is an error where the kernel is made', () => {
  const none = { arrays: [], numbers: ['x'], steps: [] };
  assert.throws(() => translate('function(x) { return nowhere(x); }', 1, none, []));
  assert.throws(() => translate('function(x) { return x +; }', 1, none, []));
});
