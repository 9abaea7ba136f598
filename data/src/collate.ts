/** Samples to a batch: tensors are stacked along a new first axis, and tuples and records are batched part by part. */

import { ShapeError, stack, Tensor, tensor } from '@otimes/core';
import { checkArgument, isPlainObject as isRecord, received } from '@otimes/core/extend';

/** The batch of samples of type S. */
export type Collated<S> = S extends Tensor | number | boolean
  ? Tensor
  : S extends string | bigint | symbol | null | undefined
    ? never
    : { -readonly [K in keyof S]: Collated<S[K]> };

/**
 * One batch of at least one sample. Tensors must agree in shape and dtype; numbers become a float32 vector and booleans
 * a bool vector.
 *
 * @throws RangeError for an integer that float32 does not hold, such as an id beyond 2²⁴: its sample should have a tensor
 */
export function collate<S>(samples: readonly S[]): Collated<S> {
  checkArgument('collate', 'samples', samples, { expected: 'an array of samples', is: Array.isArray });
  if (samples.length === 0) throw new RangeError('collate: expected at least one sample, got none');
  return collateAt(samples, 'sample') as Collated<S>;
}

function collateAt(samples: readonly unknown[], path: string): unknown {
  const [first] = samples;
  if (first instanceof Tensor) return stack(samples.map((x, i) => checkTensor(x, first, path, i)));
  if (typeof first === 'number' || typeof first === 'boolean') {
    const values = samples.map((x, i) => (typeof x === typeof first ? Number(x) : fail(samples, path, i)));
    const wrong = values.find(
      x => Math.fround(x) !== x && (Number.isSafeInteger(x) || Math.abs(Math.fround(x)) === Infinity),
    );
    if (wrong !== undefined)
      throw new RangeError(
        `collate: ${path} is ${wrong}, which float32 does not hold; give a tensor, such as ` +
          `tensor(${wrong}, { dtype: '${wrong === (wrong | 0) ? 'int32' : 'float64'}' })`,
      );
    return tensor(values, { dtype: typeof first === 'number' ? 'float32' : 'bool' });
  }
  if (Array.isArray(first)) {
    const parts = samples.map((x, i) => {
      return Array.isArray(x) && x.length === first.length ? (x as unknown[]) : fail(samples, path, i);
    });
    return first.map((_, k) =>
      collateAt(
        parts.map(x => x[k]),
        `${path}[${k}]`,
      ),
    );
  }
  // Instances of other classes have no parts that could be batched.
  if (isRecord(first)) {
    const keys = Object.keys(first);
    const parts = samples.map((x, i) => {
      const same = isRecord(x) && Object.keys(x).length === keys.length && keys.every(key => Object.hasOwn(x, key));
      return same ? x : fail(samples, path, i);
    });
    const entries = keys.map(key => [
      key,
      collateAt(
        parts.map(x => x[key]),
        `${path}.${key}`,
      ),
    ]);
    return Object.fromEntries(entries);
  }
  const hint = ArrayBuffer.isView(first) ? 'make it a tensor(…), or ' : '';
  throw new TypeError(`collate: no rule for ${path}, ${kind(first)}; ${hint}give the loader its own collate`);
}

function checkTensor(x: unknown, first: Tensor, path: string, i: number): Tensor {
  if (x instanceof Tensor && x.dtype === first.dtype && String(x.shape) === String(first.shape)) return x;
  return fail([first], path, i, x);
}

function fail(samples: readonly unknown[], path: string, i: number, x: unknown = samples[i]): never {
  throw new ShapeError(`collate: ${path} is ${kind(samples[0])} at first and ${kind(x)} at position ${i} of the batch`);
}

function kind(value: unknown): string {
  if (value instanceof Tensor) return `${value.dtype}[${value.shape.join(',')}]`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return `{ ${Object.keys(value).join(', ')} }`;
  return typeof value === 'object' || value === undefined
    ? received(value).replace(/^a (?=[AEIO])/, 'an ')
    : `a ${typeof value}`;
}
