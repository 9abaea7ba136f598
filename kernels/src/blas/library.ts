/**
 * A native BLAS with LAPACK, opened through koffi (an optional peer dependency). For Node alone: browsers meet `openBlas` of
 * ../browser.ts instead. Symbols are resolved here and nowhere else, whatever a build calls them and however wide its
 * integers are.
 */

import type { BlasInfo, BlasOptions, NativeBlas } from '../blas.ts';
import { lapackOf } from './lapack.ts';
import { overrideWith } from './override.ts';

type Word = number | bigint | string | ArrayBufferView;
/** A C function. Pointers are given as addresses or as the typed array that they point to. */
export type Native = (...x: Word[]) => unknown;

/** The part of koffi that is used here. Typed by us, as neither we nor those who use no native library need it. */
export type Koffi = {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): Native };
  address(view: ArrayBufferView): bigint;
};

/** A library's functions by their plain names, and the type of its integers. */
export type Library = {
  readonly koffi: Koffi;
  /** 'int', or 'int64_t' in a build with 64-bit integers. */
  readonly int: 'int' | 'int64_t';
  /** The function of that name. Throws an Error where the library has none. */
  func(name: string, result: string, parameters: readonly string[]): Native;
};

/** The names to try, in this order. NOTE: OpenBLAS first, as it needs nothing beside itself to run on one thread. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  linux: ['libopenblas.so.0', 'libopenblas.so', 'libmkl_rt.so.2', 'libmkl_rt.so'],
  darwin: [
    'libopenblas.dylib',
    '/opt/homebrew/opt/openblas/lib/libopenblas.dylib',
    '/usr/local/opt/openblas/lib/libopenblas.dylib',
    '/System/Library/Frameworks/Accelerate.framework/Accelerate',
  ],
  win32: ['libopenblas.dll', 'openblas.dll', 'mkl_rt.2.dll', 'mkl_rt.dll'],
};

/**
 * What builds put before and after a symbol, as in scipy_cblas_sgemm64_: OpenBLAS's SYMBOLPREFIX and SYMBOLSUFFIX, of which
 * 64_ says by convention that integers have 64 bits.
 */
const DECORATIONS = ['', 'scipy_'].flatMap(before => ['', '64_'].map(after => [before, after] as const));

/** Opens the library at `path`, or the first of the usual names. Throws an Error that says what is missing. */
export async function openBlas(path?: string, { threads }: BlasOptions = {}): Promise<NativeBlas> {
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0))
    throw new RangeError(`useBlas: expected a positive whole number of threads, got ${threads}`);
  const koffi = await importKoffi();
  const { name, loaded } = load(koffi, path);
  const library = resolve(koffi, name, loaded);
  // Everything is resolved before the library's own state changes.
  const lapack = lapackOf(library);
  const override = overrideWith(library);
  const info = configure(library, name, threads);
  return { info, override, ...lapack };
}

async function importKoffi(): Promise<Koffi> {
  // Not a literal, so that no bundler takes koffi in: it is there or not when the program runs.
  const name = 'koffi';
  try {
    const module = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as { default: Koffi };
    return module.default;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `useBlas: the package koffi, which calls native libraries, does not load: npm install koffi (${why})`,
      {
        cause,
      },
    );
  }
}

function load(koffi: Koffi, path: string | undefined) {
  const names = path === undefined ? (NAMES[process.platform] ?? NAMES.linux!) : [path];
  const reasons: string[] = [];
  for (const name of names) {
    try {
      return { name, loaded: koffi.load(name) };
    } catch (error) {
      reasons.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(
    `useBlas: found no ${names.join(', ')}. Install a BLAS (Debian: apt install libopenblas0; macOS: brew install openblas), ` +
      `or give the path of its library: useBlas('/path/to/libopenblas.so'). The system says: ${reasons.join('; ')}`,
  );
}

function resolve(koffi: Koffi, path: string, loaded: ReturnType<Koffi['load']>): Library {
  const find = (name: string, result: string, parameters: readonly string[]): Native | null => {
    try {
      return loaded.func(name, result, parameters);
    } catch {
      return null;
    }
  };
  const decoration = DECORATIONS.find(([before, after]) => find(`${before}cblas_sgemm${after}`, 'void', []) !== null);
  if (decoration === undefined)
    throw new Error(`useBlas: ${path} has no cblas_sgemm, so it is not a BLAS with C names`);
  const [before, after] = decoration;
  const config = find(`${before}openblas_get_config${after}`, 'const char *', [])?.();
  const wide = after !== '' || (typeof config === 'string' && config.includes('USE64BITINT'));
  return {
    koffi,
    int: wide ? 'int64_t' : 'int',
    func(name, result, parameters) {
      const native = find(before + name + after, result, parameters);
      if (native === null) throw new Error(`useBlas: ${path} has no ${before + name + after}`);
      return native;
    },
  };
}

/** Sets threads last of all, and says what the library is. */
function configure(library: Library, name: string, threads: number | undefined): BlasInfo {
  const has = (symbol: string, result: string, parameters: readonly string[]): Native | null => {
    try {
      return library.func(symbol, result, parameters);
    } catch {
      return null;
    }
  };
  const count = threads ?? 1;
  const openblas = has('openblas_set_num_threads', 'void', ['int']);
  if (openblas !== null) {
    openblas(count);
    const config = String(has('openblas_get_config', 'const char *', [])?.() ?? '');
    // A build without threads goes on with one.
    const granted = Number(has('openblas_get_num_threads', 'int', [])?.() ?? count);
    return { library: name, kind: 'OpenBLAS', config: config.trim(), threads: granted };
  }
  const mkl = has('MKL_Set_Num_Threads', 'void', ['int']);
  if (mkl !== null) {
    // Its defaults ask for a runtime of Intel's, and an environment variable may choose 64-bit integers.
    has('MKL_Set_Interface_Layer', 'int', ['int'])?.(MKL_LP64);
    if (count === 1) has('MKL_Set_Threading_Layer', 'int', ['int'])?.(MKL_SEQUENTIAL);
    mkl(count);
    const text = new Uint8Array(256);
    has('MKL_Get_Version_String', 'void', ['void *', 'int'])?.(text, text.length);
    const config = new TextDecoder().decode(text.subarray(0, text.indexOf(0))).trim();
    // Its threading is chosen once in a process.
    const granted = Number(has('MKL_Get_Max_Threads', 'int', [])?.() ?? count);
    return { library: name, kind: 'MKL', config, threads: granted };
  }
  if (threads !== undefined)
    throw new Error(
      `useBlas: ${name} has no openblas_set_num_threads or MKL_Set_Num_Threads to ask for ${threads} threads`,
    );
  return { library: name, kind: name.includes('Accelerate') ? 'Accelerate' : 'other', config: '', threads: null };
}

const [MKL_LP64, MKL_SEQUENTIAL] = [0, 1];
