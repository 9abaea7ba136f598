/**
 * Compiles kernels/assembly with AssemblyScript into the modules that are committed, packed, as base64 under
 * kernels/src/generated, so that users need no toolchain; and makes types and plans of kernels/signatures.txt.
 *
 *   node kernels/build.mjs           writes them
 *   node kernels/build.mjs --check   compares instead, exit code 1 on a difference (CI)
 *   node kernels/build.mjs --names   writes them with the names of functions, for a profiler; not to be committed
 *
 * They are the variant `relaxed` (128-bit SIMD with fused multiply-add); src/unfused.ts makes `simd` of it where that does
 * not run. They import their memory. What has too many parameters to write by hand is itself generated: assembly/NAME.mjs
 * exports a function NAME() whose result the other files import as './generated/NAME'; it exists in memory alone.
 *
 * They are arranged (arrange.mjs) and packed with LZMA; assembly/unpack.ts, which has the inverses, is a module too.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import asc from 'assemblyscript/asc';
import lzma from 'lzma';
import { arranged, padded } from './arrange.mjs';
import { sections } from './module.mjs';
import { signaturesIn } from './signatures.mjs';

const here = dirname(fileURLToPath(import.meta.url));
/**
 * Name of the generated file and its constant → the file of kernels/assembly with what the module exports. All but the first
 * import products from an instance of `kernels`, and are modules of their own so that who needs none bundles none.
 */
const MODULES = {
  kernels: 'index.ts',
  ...Object.fromEntries(
    ['images', 'normalize', 'attention', 'resample', 'math', 'order', 'recurrent', 'eigen', 'factorise'].map(name => [
      name,
      `${name}.ts`,
    ]),
  ),
};

/** Name → what writes it. */
const generators = new Map();
for (const file of readdirSync(join(here, 'assembly')).sort()) {
  const name = file.replace(/\.mjs$/, '');
  if (name !== file) generators.set(name, (await import(`./assembly/${file}`))[name]);
}

const generated = new Map([...generators].map(([name, write]) => [`generated/${name}.ts`, write()]));

/** The bytes of a module. */
async function compileKernels(entry) {
  const options = ['-O3', '--importMemory', '--noExportMemory', '--maximumMemory', '65536'];
  if (process.argv.includes('--names')) options.push('--debug');
  const texts = [];
  const binary = await compile(entry, [...options, '--enable', 'simd,relaxed-simd'], texts);
  checkFused(binary, texts[0]);
  return binary;
}

/** Makes sure of what src/unfused.ts relies on: the bytes of fused operations stand nowhere else, and none but these is there. */
function checkFused(binary, text) {
  const inText = name => text.split(`${name} `).length + text.split(`${name}\n`).length - 2;
  for (const [name, byte] of [
    ['f32x4.relaxed_madd', 0x85],
    ['f64x2.relaxed_madd', 0x87],
  ]) {
    let found = 0;
    for (let i = 0; i + 2 < binary.length; i++)
      if (binary[i] === 0xfd && binary[i + 1] === byte && binary[i + 2] === 0x02) found++;
    if (found !== inText(name))
      throw new Error(
        `build: ${inText(name)} ${name} in the text, but their bytes stand in ${found} places: reorder something`,
      );
  }
  const others = text.match(/\w+\.relaxed_(?!madd)\w+/g);
  if (others !== null) throw new Error(`build: src/unfused.ts knows no ${others[0]}`);
}

async function compile(entry, options, texts = null) {
  let binary = null;
  const { error, stderr } = await asc.main(
    [
      entry,
      '-o',
      'out.wasm',
      ...(texts ? ['-t', 'out.wat'] : []),
      '--noAssert',
      '--runtime',
      'stub',
      '--initialMemory',
      '1',
      ...options,
    ],
    {
      readFile(name) {
        const source = generated.get(name.replaceAll('\\', '/'));
        if (source !== undefined) return source;
        try {
          return readFileSync(join(here, 'assembly', name), 'utf8');
        } catch {
          return null;
        }
      },
      writeFile(name, contents) {
        if (name.endsWith('.wat')) texts.push(String(contents));
        else binary = contents;
      },
      listFiles: () => [],
    },
  );
  const complaints = stderr.toString().trim();
  if (complaints !== '') console.error(complaints);
  if (error !== null) throw error;
  if (sections(binary).has(11))
    throw new Error('build: a kernel keeps constant data (an array, a string), but several instances share one memory');
  return binary;
}

/** Makes sure that the decoder knows all the instructions of a module. */
function checkRestored(bytes, binary) {
  const { memory, restore } = new WebAssembly.Instance(new WebAssembly.Module(decoder)).exports;
  const at = memory.buffer.byteLength;
  memory.grow(Math.ceil((bytes.length + 2 * binary.length) / 65536));
  const view = new Uint8Array(memory.buffer);
  view.set(bytes, at);
  const out = at + bytes.length;
  if (Buffer.compare(view.slice(out, restore(at, out)), binary) !== 0)
    throw new Error('build: assembly/unpack.ts does not restore what arrange.mjs has arranged');
}

/** LZMA with the header of a .lzma file. */
function pack(bytes) {
  // Level 7 has a dictionary of 8 MB; above it nothing gets smaller.
  const packed = Uint8Array.from(lzma.compress(bytes, 7));
  if (packed[0] !== 3 + 9 * (0 + 5 * 2))
    throw new Error('build: expected lc = 3, lp = 0, pb = 2, as unpack.ts has them');
  return packed;
}

/** A generated file: one constant, laid out as the formatter would. */
const fileSource = (
  entry,
  name,
  value,
) => `// Generated by kernels/build.mjs from kernels/assembly/${entry}: do not edit.
export const ${name} =${value};
`;
const base64 = bytes => `'${Buffer.from(bytes).toString('base64')}'`;

const check = process.argv.includes('--check');
mkdirSync(join(here, 'src/generated'), { recursive: true });
function write(name, source, report) {
  const path = join(here, 'src/generated', `${name}.gen.ts`);
  if (!check) writeFileSync(path, source);
  else if (!existsSync(path) || readFileSync(path, 'utf8') !== source) {
    console.error(`${path} differs from what its source compiles to: run node kernels/build.mjs`);
    process.exitCode = 1;
  }
  console.log(`${name}: ${report}, ${gzipSync(source, { level: 9 }).length} bytes as gzipped source`);
}

const signatures = signaturesIn(join(here, 'signatures.txt'));
for (const name of ['types', 'plans']) write(name, signatures[name], 'from signatures.txt');
const decoder = await compile('unpack.ts', ['-Oz', '--maximumMemory', '256']);
write('unpack', fileSource('unpack.ts', 'unpack', `\n  ${base64(decoder)}`), `${decoder.length} bytes`);
for (const [name, entry] of Object.entries(MODULES)) {
  const binary = padded(await compileKernels(entry));
  signatures.check(name, binary);
  const bytes = arranged(binary);
  checkRestored(bytes, binary);
  const packed = pack(bytes);
  const value = ` {\n  decoder,\n  size: ${bytes.length},\n  packed:\n    ${base64(packed)},\n}`;
  const source = fileSource(entry, name, value).replace(
    'export',
    `import { unpack as decoder } from './unpack.gen.ts';\n\nexport`,
  );
  write(name, source, `${binary.length} bytes, packed ${packed.length}`);
}
