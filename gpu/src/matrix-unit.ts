/** The matrix units of a GPU, as an experimental feature of WebGPU offers them. */

/** Rows, columns and terms of one small product of f16 with results in f32, and the threads of a subgroup, which compute it together. */
export type MatrixUnit = { readonly m: number; readonly n: number; readonly k: number; readonly threads: number };

export const MATRIX_FEATURES: readonly string[] = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'];

/** As Chromium and Dawn have it, beyond the standard. */
type Config = { componentType: string; resultComponentType: string; M: number; N: number; K: number };
type Info = GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<Config> };

/**
 * The largest that the adapter has, if its subgroups have one size.
 * @internal
 */
export function matrixUnit({ features, info }: GPUAdapter): MatrixUnit | null {
  if (!MATRIX_FEATURES.every(name => features.has(name))) return null;
  const { subgroupMinSize: threads, subgroupMaxSize, subgroupMatrixConfigs = [] } = info as Info;
  if (threads === undefined || threads !== subgroupMaxSize) return null;
  const units = [...subgroupMatrixConfigs]
    .filter(c => c.componentType === 'f16' && c.resultComponentType === 'f32' && c.K % 8 === 0 && c.N % 8 === 0)
    .map(({ M: m, N: n, K: k }) => ({ m, n, k, threads }));
  const size = ({ m, n, k }: MatrixUnit) => m * n * k;
  return units.sort((a, b) => size(b) - size(a))[0] ?? null;
}
