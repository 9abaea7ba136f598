/**
 * Random programs, one statement after the other on every device. Each statement gets the same bits everywhere, so that what
 * it gives may be compared by the rules of `agree.ts`, and no rounding adds up; what came out on the reference goes on. All
 * that is held must have the same bits at the end: a write beside its target shows.
 */

import {
  adamMoments,
  adamStep,
  batchNormEval,
  conv2d,
  type DType,
  Generator,
  grad,
  gram,
  linear,
  noGrad,
  scope,
  sgdStep,
  type Tensor,
  tensor,
} from '@otimes/core';
import { type Domain, nonzero, positive, real } from '../../test/arbitraries/tensor.ts';
import { opEntries } from '../../test/suites/ops.ts';
import {
  disagreement,
  ELEMENTWISE,
  EPS,
  EXACT,
  isExtreme,
  NUDGE,
  RANGED,
  SLACK,
  sameBits,
  type Values,
} from './agree.ts';
import type { Device } from './devices.ts';
import { Draw, everywhere, fitted, fresh, type Value } from './operands.ts';

type Run = (...x: Tensor[]) => readonly Tensor[];
type Outcome = { tensors: readonly Tensor[]; values: Values[] } | { error: string };

const isFloat = (dtype: DType): dtype is 'float32' | 'float64' => dtype === 'float32' || dtype === 'float64';
const valuesOf = (x: Tensor): Values => ({ shape: x.shape, dtype: x.dtype, data: x.dataSync() });
const shown = (x: Tensor) => `${x.dtype}[${x.shape}]/[${x.strides}]+${x.offset}`;
/** Programs stay near ordinary numbers unless they mean not to. */
const TAME = 1000;
const MOST_ELEMENTS = 300;

/** n m max(1, m), of operands of up to 16 n elements, of which the largest finite one is m: what may cancel inside. */
function largest(operands: readonly Values[]): number {
  let [m, n] = [0, 1];
  for (const { dtype, data } of operands) {
    n = Math.max(n, data.length / 16);
    if (dtype !== 'bool') for (const x of Array.from(data)) if (Number.isFinite(x)) m = Math.max(m, Math.abs(x));
  }
  return n * m * Math.max(1, m);
}

/** What differs, thrown by a statement. */
class Deviation extends Error {}

export type Counts = { statements: number; gradients: number; refused: number };

export class Lockstep {
  readonly #draw: Draw;
  readonly #devices: readonly Device[];
  readonly #names: RegExp;
  readonly #extreme: boolean;
  readonly #counts: Counts;
  readonly log: string[] = [];
  #held: Value[] = [];

  constructor(seed: number, devices: readonly Device[], counts: Counts) {
    this.#draw = new Draw(seed);
    this.#devices = devices;
    this.#names = new RegExp(`\\b(${devices.map(({ name }) => name).join('|')})\\b`, 'g');
    this.#extreme = this.#draw.once(5);
    this.#counts = counts;
  }

  /** Runs statements and the last comparison; tells what differed, or null. */
  run(statements: number): string | null {
    try {
      for (let i = 0; i < statements; i++) this.#statement(0);
      for (const value of this.#held) this.#sameEverywhere(value, 'what is held at the end');
      return null;
    } catch (error) {
      if (!(error instanceof Deviation)) return `threw ${error instanceof Error ? error.stack : error}`;
      return error.message;
    }
  }

  #statement(depth: number): void {
    this.#counts.statements++;
    const kind = this.#draw.below(40);
    if (kind < 26) this.#operation();
    else if (kind < 31) this.#write();
    else if (kind < 33) this.#optimizerKernel();
    else if (kind < 36) this.#passage();
    else if (kind < 38 && depth < 2) this.#scope(depth);
    else if (kind === 38) this.#large();
    else this.#evaluation();
    if (this.#held.length > 12) this.#held.splice(this.#draw.below(this.#held.length), 1);
  }

  // --- operands -----------------------------------------------------------------------------------------------------

  #operand(shape: readonly number[], dtype: DType, domain: Domain, mayReuse = true): Value {
    if (mayReuse && !this.#draw.once(3)) {
      const fitting = this.#held.filter(([x]) => x!.dtype === dtype);
      if (fitting.length > 0) {
        const found = fitted(this.#draw, this.#draw.one(fitting), shape);
        if (found !== null) return found;
      }
    }
    return fresh(this.#draw, this.#devices, { shape, dtype, domain, extreme: this.#extreme && mayReuse });
  }

  #hold(value: Value): void {
    const [x] = value;
    if (x!.size > MOST_ELEMENTS || this.#draw.once(4)) return;
    const wild = isFloat(x!.dtype) && x!.dataSync().some(v => !(Math.abs(v) < TAME));
    if (wild && !this.#extreme && !this.#draw.once(20)) return;
    this.#held.push(value);
  }

  // --- comparison ---------------------------------------------------------------------------------------------------

  #sameEverywhere(value: Value, what: string): void {
    const expected = value[0]!.dataSync();
    for (const [i, x] of value.entries())
      if (!sameBits(x.dataSync(), expected))
        throw new Deviation(
          `${what}, ${shown(x)}, on ${this.#devices[i]!.name}: ${x.dataSync()}, expected ${expected}`,
        );
  }

  /**
   * Runs the same everywhere and compares, as `agree.ts` says. Returns what came out, null where every device refused in
   * the same words. `twins` are results that must agree with each other: a gradient with and without its own graph.
   */
  #compared(
    name: string,
    operands: readonly Value[],
    run: Run,
    twins: readonly [number, number][] = [],
  ): (Outcome & { all: Outcome[] }) | null {
    this.log.push(`${name}(${operands.map(([x]) => shown(x!)).join(', ')})`);
    // Of before, as the statement may write.
    const before = operands.map(([x]) => valuesOf(x!));
    const all = this.#devices.map((_, i) =>
      this.#outcome(
        run,
        operands.map(x => x[i]!),
      ),
    );
    const first = all[0]!;
    const extreme = before.some(isExtreme);
    const fail = (device: string, words: string): never => {
      const data = before.map(
        ({ dtype, shape, data }) => `${dtype}[${shape}] ${Array.from(data, x => (Object.is(x, -0) ? '-0' : x))}`,
      );
      throw new Deviation(`${this.log.at(-1)} on ${device}: ${words}; operands ${data.join(' | ').slice(0, 1500)}`);
    };
    for (const [i, device] of this.#devices.entries()) {
      const twin = device.bitsOf === null ? 0 : this.#devices.findIndex(({ name }) => name === device.bitsOf);
      const [got, want] = [all[i]!, all[twin]!];
      if ('error' in got || 'error' in want) {
        const [a, b] = [got, want].map(o => ('error' in o ? o.error : 'no error'));
        if (a !== b) fail(device.name, `${a}, on ${this.#devices[twin]!.name} ${b}`);
        continue;
      }
      if (got.values.length !== want.values.length)
        fail(device.name, `${got.values.length} results, not ${want.values.length}`);
      for (const [k, value] of got.values.entries()) {
        const exact = device.bitsOf !== null || EXACT.has(name);
        const strict = ELEMENTWISE.has(name) || RANGED.has(name);
        const allowed = () => (ELEMENTWISE.has(name) ? null : this.#explained(before, run, k, RANGED.has(name)));
        const wild = !strict && (extreme || isExtreme(want.values[k]!));
        const words = disagreement(value, want.values[k]!, { exact, extreme: wild, allowed });
        if (words !== null) fail(device.name, `result ${k}: ${words}`);
      }
      for (const [p, q] of twins) {
        const o = { exact: false, extreme: true, allowed: () => this.#explained(before, run, q) };
        const words = disagreement(got.values[p]!, got.values[q]!, o);
        if (words !== null) fail(device.name, `result ${p} against ${q}: ${words}`);
      }
    }
    if ('error' in first) {
      this.#counts.refused++;
      return null;
    }
    return { ...first, all };
  }

  #outcome(run: Run, x: readonly Tensor[]): Outcome {
    try {
      const tensors = run(...x);
      return { tensors, values: tensors.map(valuesOf) };
    } catch (error) {
      return { error: String(error).replace(this.#names, 'DEVICE') };
    }
  }

  /** How far rounding may move each element of result k. */
  #explained(before: readonly Values[], run: Run, k: number, strict = false): Float64Array | null {
    // Of its own: what a program draws depends on no device.
    const rng = new Generator(k);
    const at = (nudge: number): Values | null => {
      const x = before.map(({ shape, dtype, data }) => {
        const float = isFloat(dtype);
        const moved = Array.from(data, v => (float ? v * (1 + nudge * (2 * rng.uniform() - 1)) : v));
        return tensor(moved, { shape, dtype: float ? 'float64' : dtype, device: 'reference' });
      });
      const outcome = this.#outcome(run, x);
      return 'error' in outcome ? null : outcome.values[k]!;
    };
    const still = at(0);
    if (still === null) return null;
    const room = new Float64Array(still.data.length);
    for (let i = 0; i < 4; i++) {
      const moved = at(NUDGE);
      if (moved === null) return null;
      for (let j = 0; j < room.length; j++) room[j] = Math.max(room[j]!, Math.abs(moved.data[j]! - still.data[j]!));
    }
    // By the coarsest operand.
    const eps = before.some(({ dtype }) => dtype === 'float32') ? EPS.float32 : EPS.float64;
    const floor = strict ? 0 : largest(before);
    return room.map((x, i) => SLACK * eps * (x / NUDGE + Math.abs(still.data[i]!) + floor));
  }

  /** Results for the rest of the program: those that there are where all have the same bits, else the reference's. */
  #settled(all: readonly Outcome[], k: number): Value {
    const value = all.map(o => ('error' in o ? null : o.tensors[k]!)) as Tensor[];
    const data = value[0]!.dataSync();
    if (value.every(x => sameBits(x.dataSync(), data))) return value;
    return everywhere(this.#devices, value[0]!);
  }

  // --- statements ---------------------------------------------------------------------------------------------------

  #operation(): void {
    const entry = this.#draw.one(opEntries);
    const use = this.#draw.from(entry.use);
    const dtypes = entry.dtypes ?? (['float32', 'float32', 'float64', 'float64', 'int32', 'bool'] as const);
    const common = this.#draw.one(dtypes);
    const operands = use.inputs.map(({ shape, domain, dtype }) => {
      const mine = dtype ?? (this.#draw.once(5) ? this.#draw.one(dtypes) : common);
      return this.#operand(shape, mine, domain, dtype === undefined || dtype === 'bool');
    });
    const run: Run = (...x) => [use.run(...x)];
    const result = this.#compared(entry.name, operands, run);
    if (result === null || 'error' in result) return;
    this.#hold(this.#settled(result.all, 0));
    if (entry.differentiable !== false && this.#draw.once(3))
      this.#gradients(entry.name, operands, use.run, result.tensors[0]!);
  }

  /** First gradients, with and without a graph of their own, and the gradients of their weighted sum. */
  #gradients(name: string, operands: readonly Value[], f: (...x: Tensor[]) => Tensor, y: Tensor): void {
    const floats = operands.flatMap(([x], i) => (isFloat(x!.dtype) ? [i] : []));
    if (floats.length === 0 || !isFloat(y.dtype)) return;
    this.#counts.gradients++;
    const like = (x: Tensor) =>
      fresh(this.#draw, this.#devices, { shape: x.shape, dtype: x.dtype, domain: real, extreme: false });
    const [gy, weights] = [like(y), floats.map(i => like(operands[i]![0]!))];
    const n = operands.length;
    const run: Run = (...all) => {
      const x = all.slice(0, n).map((t, i) => {
        const own = t.detach();
        if (floats.includes(i)) own.requiresGrad = true;
        return own;
      });
      const [seed, ws] = [all[n]!, all.slice(n + 1)];
      const leaves = floats.map(i => x[i]!);
      const out = f(...x);
      const o = { gy: seed.astype(out.dtype), allowUnused: true } as const;
      const plain = grad(out, leaves, o);
      const recorded = grad(f(...x), leaves, { ...o, createGraph: true });
      const absent = (g: Tensor | null, i: number) => g ?? leaves[i]!.detach().mul(0);
      const end = recorded
        .flatMap((g, i) => (g?.requiresGrad ? [g.mul(ws[i]!).sum().astype('float64')] : []))
        .reduce<Tensor | null>((sum, s) => (sum === null ? s : sum.add(s)), null);
      const second = end === null ? [] : grad(end, leaves, { allowUnused: true }).map(absent);
      return [...plain.map(absent), ...recorded.map(absent), ...second].map(g => g.detach());
    };
    const m = floats.length;
    const twins = floats.map((_, i): [number, number] => [i, m + i]);
    this.#compared(`gradients of ${name}`, [...operands, gy, ...weights], run, this.#extreme ? [] : twins);
  }

  /** In place, into views of what is held, by operands that may overlap with it. */
  #write(): void {
    const targets = this.#held.filter(([x]) => isFloat(x!.dtype) || x!.dtype === 'int32');
    const y =
      targets.length > 0 && !this.#draw.once(4)
        ? this.#draw.one(targets)
        : this.#operand([3, 4], this.#draw.one(['float32', 'float64'] as const), real, false);
    const [{ shape, dtype }] = y as readonly [Tensor];
    const narrower = () => {
      const s = shape.map(n => (this.#draw.once(4) ? 1 : n));
      return s.slice(this.#draw.once(4) ? this.#draw.below(s.length + 1) : 0);
    };
    const own = isFloat(dtype) ? dtype : 'float32';
    const any = this.#draw.once(5) ? this.#draw.one(['float32', 'float64', 'int32', 'bool'] as const) : own;
    const [alpha, keep] = [this.#draw.one([1, -0.5, 2, 0]), this.#draw.one([1, 0.9, 0, -1])];
    const ways: [string, Value[], (y: Tensor, ...x: Tensor[]) => Tensor][] = [
      ['copy_', [this.#operand(narrower(), dtype === 'int32' ? 'int32' : any, real)], (y, x) => y.copy_(x!)],
      ['addScaled_', [this.#operand(narrower(), any, real)], (y, x) => y.addScaled_(x!, alpha, keep)],
      ['scale_', [], y => y.scale_(alpha)],
      [
        'addcdiv_',
        [this.#operand(narrower(), own, real), this.#operand(narrower(), own, nonzero)],
        (y, x, d) => y.addcdiv_(x!, d!, alpha, keep),
      ],
    ];
    const [name, others, write] = this.#draw.one(ways);
    const result = this.#compared(name, [y, ...others], (y, ...x) => noGrad(() => [write(y!, ...x)]));
    if (result === null) return;
    const expected = y[0]!.dataSync();
    for (const [i, x] of y.entries())
      if (i > 0 && !sameBits(x.dataSync(), expected))
        x.copy_(tensor([...expected], { shape, dtype, device: this.#devices[i]!.name }));
  }

  /** What optimizers call: moments, and whole steps in place. */
  #optimizerKernel(): void {
    const dtype = this.#draw.one(['float32', 'float64'] as const);
    const shape = this.#draw.one([[0], [1], [7], [3, 5], [64], [130]]);
    const dense = (domain: Domain): Value => this.#operand(shape, dtype, domain).map(x => x.clone());
    const [p, m, v, g] = [
      dense(real),
      dense(real),
      this.#operand(shape, dtype, positive, false).map(x => x.clone()),
      this.#operand(shape, dtype, real),
    ];
    const o = { beta1: 0.9, beta2: 0.99, eps: 1e-3, correction1: 0.1, correction2: 0.5 };
    const ways: [string, Value[], Run][] = [
      ['adamMoments', [m, v, g], (m, v, g) => [adamMoments(m!, v!, g!, null, o), m!, v!]],
      [
        'adamStep',
        [p, m, v, g],
        (p, m, v, g) => {
          adamStep(p!, m!, v!, g!, { ...o, lr: 0.1, keep: 0.99 });
          return [p!, m!, v!];
        },
      ],
      [
        'sgdStep',
        [p, m, g],
        (p, m, g) => {
          sgdStep(p!, m!, g!, { lr: 0.1, momentum: 0.9, gain: 0.7, bufferWeight: 1, gradientWeight: 0.5 });
          return [p!, m!];
        },
      ],
    ];
    const [name, operands, run] = this.#draw.one(ways);
    this.#compared(name, operands, run);
  }

  /** Out of the library and in again: ndarrays share memory, arrays and other devices copy. */
  #passage(): void {
    if (this.#held.length === 0) return this.#operation();
    const x = this.#draw.one(this.#held);
    const device = (x: Tensor) => x.device;
    const ways: [string, (x: Tensor) => Tensor][] = [
      ['through an ndarray', x => tensor(x.ndarray(), { device: device(x) })],
      ['through another device', x => x.to(x.device === 'reference' ? 'simd' : 'reference').to(x.device)],
      ['through arrays', x => tensor(x.toArray(), { dtype: x.dtype, shape: x.shape, device: device(x) })],
    ];
    const [name, go] = this.#draw.one(ways);
    if (name === 'through an ndarray' && x[0]!.dtype === 'bool') return;
    const result = this.#compared(name, [x], x => [go(x!)]);
    if (result !== null) this.#hold(this.#settled(result.all, 0));
  }

  /** Statements in a scope: what it returns and what is kept stays. */
  #scope(depth: number): void {
    const before = this.#held;
    this.log.push('scope {');
    const { result, kept } = scope(() => {
      this.#held = [...before];
      const count = 1 + this.#draw.below(4);
      for (let i = 0; i < count; i++) this.#statement(depth + 1);
      const made = this.#held.filter(value => !before.includes(value));
      const kept = made.filter(() => this.#draw.once(3));
      for (const value of kept) for (const x of value) x.keep();
      const result = made.length === 0 ? [] : [this.#draw.one(made)];
      return { result, kept };
    });
    this.log.push('}');
    this.#held = [...before, ...kept, ...result.filter(value => !kept.includes(value))];
    for (const value of this.#held.slice(before.length)) this.#sameEverywhere(value, 'what a scope left');
  }

  /** Products of sizes at which blocks, tails and native libraries come into play. */
  #large(): void {
    const dtype = this.#draw.one(['float32', 'float64'] as const);
    const n = (least: number, most: number) => least + this.#draw.below(most - least + 1);
    const make = (...shape: number[]) => this.#operand(shape, dtype, real, false);
    const [m, k, o] = [n(15, 40), n(15, 40), n(15, 40)];
    const ways: (() => [string, Value[], (...x: Tensor[]) => Tensor])[] = [
      () => ['matmul', [make(m, k), make(k, o)], (a, b) => a!.matmul(b!)],
      () => ['matmul of stacks', [make(2, m, k), make(this.#draw.once(2) ? 1 : 2, k, o)], (a, b) => a!.matmul(b!)],
      () => ['linear', [make(m, k), make(o, k), make(o)], (x, w, b) => linear(x!, w!, b!)],
      () => ['gram', [make(n(40, 70), n(60, 70))], x => gram(x!)],
      () => {
        const [c, f, h] = [n(1, 8), n(1, 9), n(6, 14)];
        const options = { padding: this.#draw.below(2), stride: 1 + this.#draw.below(2) };
        return ['conv2d', [make(2, c, h, h), make(f, c, 3, 3)], (x, w) => conv2d(x!, w!, options)];
      },
    ];
    const [name, operands, f] = this.#draw.one(ways)();
    const result = this.#compared(`large ${name}`, operands, (...x) => [f(...x)]);
    if (result !== null && !('error' in result) && this.#draw.once(2))
      this.#gradients(`large ${name}`, operands, f, result.tensors[0]!);
  }

  /** Batch normalisation with given statistics, which the table of operations does not have. */
  #evaluation(): void {
    const dtype = this.#draw.one(['float32', 'float64'] as const);
    const [b, c, rest] = [this.#draw.below(4), 1 + this.#draw.below(3), this.#draw.one([[], [3], [2, 2]])];
    const of = (shape: number[], domain: Domain) => this.#operand(shape, dtype, domain, domain === real);
    const operands = [of([b, c, ...rest], real), of([c], real), of([c], positive), of([c], real), of([c], real)];
    const f = (x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) =>
      batchNormEval(x, mean, variance, weight, bias, 1e-3);
    const run = (...x: Tensor[]) => f(...(x as [Tensor, Tensor, Tensor, Tensor, Tensor]));
    const result = this.#compared('batchNormEval', operands, (...x) => [run(...x)]);
    if (result !== null && this.#draw.once(2)) {
      const still = (...x: Tensor[]) => run(x[0]!, x[1]!.detach(), x[2]!.detach(), x[3]!, x[4]!);
      if (!('error' in result)) this.#gradients('batchNormEval', operands, still, result.tensors[0]!);
    }
  }
}
