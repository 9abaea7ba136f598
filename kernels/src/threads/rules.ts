/** How calls are cut for which the first axis that is longer than 1 is not the best. */

/** Pieces a thread, at most: so that who comes late, or is held up, leaves its share to others. */
export const PER_THREAD = 4;

export type Choice = {
  /** Which axis of the plan. */
  readonly axis: number;
  /** In place of the axis' own. */
  readonly unit?: number;
  /** What the last piece has at least. */
  readonly smallest?: number;
  /** Pieces at most. */
  readonly most?: number;
};

type Rule = (
  o: {
    /** Elements that pieces are multiples of at most. */
    readonly line: number;
    readonly threads: number;
  },
  ...x: number[]
) => Choice;

/** Rows or columns of a product that give a worker enough between two packings of the other operand. */
const STRIP = 256;
/** Fewer rows or columns are computed another way, see `FEW` in assembly/gemm.ts: a piece has so few where the whole has. */
const SMALLEST = 13;

export const RULES: Readonly<Record<'copy' | 'each' | 'filters' | 'product' | 'triangle' | 'wide', Rule>> = {
  /** Along the axis in which the result lies farther apart. */
  copy({ line }, rows, cols, xRow, outRow, outCol) {
    const byRows = rows! > 1 && (Math.abs(outRow!) >= Math.abs(outCol!) || cols === 1);
    return byRows ? { axis: 0, unit: xRow === 1 ? line : 1 } : { axis: 1 };
  },

  /** A piece a thread: each transforms the same operand for itself, in memory of its own. */
  each: ({ threads }) => ({ axis: 0, most: threads }),

  /** One image alone by output channels, whose weights are packed six rows at a time. */
  filters: ({ threads }, n, groups) => (n === 1 && groups === 1 ? { axis: 1, most: threads } : { axis: 0 }),

  /**
   * Rows of a triangle in two pieces a thread: n of them are as long as 1, 3, … 2n − 1, and the longest are taken first. Each packs
   * what lies left of its diagonal.
   */
  triangle: ({ threads }) => ({ axis: 0, most: 2 * threads, smallest: SMALLEST }),

  /** Few pieces a thread, because each packs all of the other operand. */
  wide: ({ threads }) => ({ axis: 0, most: 2 * threads }),

  product({ threads }, m, n, batch, cBatch) {
    // Products in one place add up in order.
    if (batch! >= 2 * threads && cBatch !== 0) return { axis: 0 };
    // Each piece packs all of the operand that is not cut: let that be the smaller one.
    const byRows = n === 1 || (m! >= SMALLEST && m! >= n!);
    // As many for each thread, or some wait for the others: three for two threads take as long as four.
    const each = Math.min(PER_THREAD, Math.floor((byRows ? m! : n!) / STRIP / threads));
    const most = threads * Math.max(1, each);
    return byRows ? { axis: 1, most, smallest: SMALLEST } : { axis: 2, most, smallest: m! >= SMALLEST ? SMALLEST : 2 };
  },
};
