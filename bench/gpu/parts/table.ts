/** Results as Markdown. */

import type { Sample } from './measure.ts';
import { MODES, type Mode } from './peer.ts';
import type { Row } from './rows.ts';

export type Result = {
  readonly row: Row;
  /** Why it could not be measured. */
  readonly error?: string;
  readonly gpu?: Sample;
  /** Milliseconds of the first unit, compiling and all. */
  readonly firstMs?: number;
  readonly flops?: number;
  readonly bytes?: number;
  /** Milliseconds a unit of the CPU engine. */
  readonly cpuMs?: number;
  /** Milliseconds a unit of PyTorch. */
  readonly torch?: Partial<Record<Mode, number>>;
  /** Why PyTorch has none. */
  readonly torchError?: string;
};

const digits = (x: number): string =>
  x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x >= 0.1 ? x.toFixed(2) : x.toFixed(3);

/** How fast the GPU does what counts: TFLOP/s or GB/s. */
export function rate({ bytes = 0, flops = 0, row }: Result, ms: number): string {
  if (row.part === 'memory') return `${digits(bytes / ms / 1e6)} GB/s`;
  const tera = flops / ms / 1e9;
  return tera >= 0.1 ? `${tera.toFixed(2)} TFLOP/s` : `${digits(1000 * tera)} GFLOP/s`;
}

/** Of Adam on the same model. */
function timesAdam(result: Result, all: readonly Result[]): string {
  if (!result.row.title.endsWith('STEVE') || result.gpu === undefined) return '';
  const title = result.row.title.replace(/STEVE$/, 'Adam');
  const adam = all.find(({ row }) => row.title === title)?.gpu;
  return adam === undefined ? '' : `(${(result.gpu.ms / adam.ms).toFixed(2)} × Adam)`;
}

/** A peer's time, and how many times as fast otimes is. */
const beside = (ms: number | undefined, own: number): string =>
  ms === undefined ? '' : `${digits(ms)} (${(ms / own).toFixed(2)}×)`;

const PARTS: Record<Row['part'], string> = {
  training: 'Training steps',
  products: 'Products',
  convolutions: 'Convolutions',
  memory: 'Kernels that memory bounds',
};

function cells(result: Result, all: readonly Result[], columns: Columns): string[] {
  const { gpu, cpuMs, torch = {}, row } = result;
  if (gpu === undefined) return [row.title, result.error ?? ''];
  const training = row.part === 'training';
  return [
    row.title,
    `${digits(gpu.ms)}${training ? ` ${timesAdam(result, all)}` : ''}`.trim(),
    rate(result, gpu.ms),
    ...(training ? [digits(gpu.hostMs), gpu.gpuMs === null ? '' : digits(gpu.gpuMs)] : []),
    ...(training ? [String(Math.round(gpu.dispatches)), digits(gpu.submits)] : []),
    ...(columns.cpu ? [beside(cpuMs, gpu.ms)] : []),
    ...columns.modes.map(mode => beside(torch[mode], gpu.ms)),
  ];
}

type Columns = { readonly cpu: boolean; readonly modes: readonly Mode[] };

/** A table for each part. */
export function markdown(results: readonly Result[]): string {
  const parts = (Object.keys(PARTS) as Row['part'][]).map(part => {
    const own = results.filter(({ row }) => row.part === part);
    if (own.length === 0) return [];
    const columns: Columns = {
      cpu: own.some(({ cpuMs }) => cpuMs !== undefined),
      modes: MODES.filter(mode => own.some(({ torch }) => torch?.[mode] !== undefined)),
    };
    const head = [
      PARTS[part],
      'ms',
      'rate',
      ...(part === 'training' ? ['host, ms', 'GPU, ms', 'dispatches', 'submits'] : []),
      ...(columns.cpu ? ['CPU engine, ms'] : []),
      ...columns.modes.map(mode => `PyTorch ${mode}, ms`),
    ];
    const line = (row: readonly string[]) => `| ${head.map((_, i) => row[i] ?? '').join(' | ')} |`;
    return [
      line(head),
      `|---|${'---:|'.repeat(head.length - 1)}`,
      ...own.map(one => line(cells(one, results, columns))),
    ];
  });
  return parts
    .filter(lines => lines.length > 0)
    .map(lines => lines.join('\n'))
    .join('\n\n');
}
