/** Arrays of any rank by plain loops over their indices: the slow second opinion on every operation. */

export type Index = readonly number[];

export class Dense {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;

  /** @param data the elements in row-major order */
  constructor(shape: readonly number[], data: ArrayLike<number>) {
    this.shape = shape;
    this.data = data;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** The element at an index; leading ones too many are dropped and lengths of 1 repeat, as in broadcasting. */
  at(index: Index): number {
    const lead = index.length - this.rank;
    let position = 0;
    for (let i = 0; i < this.rank; i++)
      position = position * this.shape[i]! + (this.shape[i] === 1 ? 0 : index[i + lead]!);
    return this.data[position]!;
  }
}

/** All indices of a shape in row-major order. */
export function indices(shape: readonly number[]): Index[] {
  let all: Index[] = [[]];
  for (const length of shape) all = all.flatMap(index => Array.from({ length }, (_, i) => [...index, i]));
  return all;
}

export function build(shape: readonly number[], element: (index: Index) => number): Dense {
  return new Dense(shape, indices(shape).map(element));
}

/** The common shape, aligned at the last axis. */
export function broadcastShape(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map(s => s.length));
  return Array.from({ length: rank }, (_, i) => {
    const lengths = shapes.map(s => s[i - (rank - s.length)] ?? 1);
    return lengths.find(n => n !== 1) ?? 1;
  });
}

export function elementwise(f: (...x: number[]) => number, ...x: Dense[]): Dense {
  return build(broadcastShape(...x.map(d => d.shape)), index => f(...x.map(d => d.at(index))));
}

const positive = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);

/** `f` of the values along the axes, for each index of the others. */
export function reduced(
  x: Dense,
  axes: number | readonly number[] | undefined,
  keepdim: boolean,
  f: (values: number[]) => number,
): Dense {
  const all = x.shape.map((_, i) => i);
  const over = axes === undefined ? all : [axes].flat().map(a => positive(a, x.rank));
  const thin = build(
    x.shape.map((n, i) => (over.includes(i) ? 1 : n)),
    index => {
      const inner = indices(x.shape.map((n, i) => (over.includes(i) ? n : 1)));
      return f(inner.map(step => x.at(index.map((at, i) => at + step[i]!))));
    },
  );
  return keepdim
    ? thin
    : new Dense(
        x.shape.filter((_, i) => !over.includes(i)),
        thin.data,
      );
}

/** `f` of each row along an axis, in place of that row. */
export function along(x: Dense, axis: number, f: (row: number[]) => number[]): Dense {
  const at = positive(axis, x.rank);
  const row = (index: Index) =>
    Array.from({ length: x.shape[at]! }, (_, i) => x.at(index.map((k, a) => (a === at ? i : k))));
  return build(x.shape, index => f(row(index))[index[at]!]!);
}

/** The indices that Python's slice(start, stop, step) takes from `length` elements; see PySlice_AdjustIndices. */
export function pythonRange(length: number, start: number | null, stop: number | null, step: number): number[] {
  const [lower, upper] = step < 0 ? [-1, length - 1] : [0, length];
  const bound = (value: number) => (value < 0 ? Math.max(value + length, lower) : Math.min(value, upper));
  const from = start === null ? (step < 0 ? upper : lower) : bound(start);
  const to = stop === null ? (step < 0 ? lower : upper) : bound(stop);
  const taken: number[] = [];
  for (let i = from; step < 0 ? i > to : i < to; i += step) taken.push(i);
  return taken;
}

/** Einstein summation by one loop over the values of all letters. */
export function einsumLoops(equation: string, ...x: Dense[]): Dense {
  const [left, right] = equation.replaceAll(' ', '').split('->');
  const operands = left!.split(',');
  const letters = [...new Set(operands.join(''))];
  const length = new Map(operands.flatMap((labels, k) => [...labels].map((l, i) => [l, x[k]!.shape[i]!] as const)));
  const once = letters.filter(l => operands.join('').split(l).length === 2).sort();
  const kept = right === undefined ? once : [...right];
  const summed = letters.filter(l => !kept.includes(l));
  const inner = indices(summed.map(l => length.get(l)!));
  return build(
    kept.map(l => length.get(l)!),
    outer => {
      let sum = 0;
      for (const step of inner) {
        const value = (l: string) => (kept.includes(l) ? outer[kept.indexOf(l)]! : step[summed.indexOf(l)]!);
        sum += operands.reduce((product, labels, k) => product * x[k]!.at([...labels].map(value)), 1);
      }
      return sum;
    },
  );
}
