/** Transforms of whole sets of images or features. */

import { DTypeError, noGrad, ShapeError, Tensor, tensor, where } from '@otimes/core';
import { aTensor, checkArgument, checkFinite, type Kind, readsLater } from '@otimes/core/extend';

/** One number, one a channel of images [..., channels, h, w], or a tensor that broadcasts. */
export type PerChannel = number | readonly number[] | Tensor;

const perChannelKind: Kind = {
  expected: 'a number, an array of one number a channel, or a tensor',
  is: v =>
    typeof v === 'number' ||
    v instanceof Tensor ||
    (Array.isArray(v) && Array.from(v).every(n => typeof n === 'number')),
};

/**
 * (images − mean) / std, on the device of the images; a `mean` or `std` on another one is copied there.
 *
 * @throws RangeError for a std of 0; on a device that is read with await, the next read rejects with it
 */
export function normalize(images: Tensor, mean: PerChannel, std: PerChannel): Tensor {
  checkFloat('normalize', images);
  checkArgument('normalize', 'mean', mean, perChannelKind);
  checkArgument('normalize', 'std', std, perChannelKind);
  const divisor = perChannel(images, 'std', std);
  const zeros = where(divisor.eq(0), Number.NaN, 0);
  checkFinite(zeros, () => new RangeError('normalize: cannot divide by a std of 0'));
  return images.sub(perChannel(images, 'mean', mean)).div(divisor);
}

function perChannel(images: Tensor, name: string, value: PerChannel): Tensor {
  if (value instanceof Tensor)
    return beside(value, images, `normalize: ${name} is`, `give await ${name}.cpu(), which is copied to any device`);
  const { dtype, device } = images;
  if (typeof value === 'number') return tensor(value, { dtype, device });
  if (images.shape.at(-3) !== value.length)
    throw new ShapeError(
      `normalize: expected images [..., ${value.length}, h, w] for ${value.length} numbers, got [${images.shape.join(',')}]`,
    );
  return tensor(value, { dtype, device }).reshape(value.length, 1, 1);
}

/** Half the height and width: means of 2×2 pixels, [..., h, w] → [..., h/2, w/2]. */
export function averagePool2(images: Tensor): Tensor {
  checkArgument('averagePool2', 'images', images, aTensor);
  const { shape } = images;
  const [h = 1, w = 1] = shape.slice(-2);
  if (shape.length < 2 || h % 2 !== 0 || w % 2 !== 0)
    throw new ShapeError(`averagePool2: expected [..., h, w] with even h and w, got [${shape.join(',')}]`);
  return images.reshape(...shape.slice(0, -2), h / 2, 2, w / 2, 2).mean([-3, -1]);
}

/** `value` on the device of `x`. Throws, in these words, where its elements have to be awaited. */
function beside(value: Tensor, x: Tensor, what: string, todo: string): Tensor {
  if (value.device === x.device || !readsLater(value)) return value.to(x.device);
  throw new TypeError(`${what} on '${value.device}', which is read with await, and the set on '${x.device}': ${todo}`);
}

/**
 * Mean and standard deviation of each feature, and the same change for any other set. `apply` works on the device of its set, to
 * which mean and std are copied; only from a device that is read with await there is no way to another one within a call.
 */
export type Standardization = { mean: Tensor; std: Tensor; apply: (x: Tensor) => Tensor };

/**
 * Statistics of the training set [n, ...features], to bring every set to mean 0 and standard deviation 1 (of n, not
 * n − 1). The `std` of a feature that is constant up to rounding is 1, so that the feature becomes 0.
 */
export function standardize(train: Tensor): Standardization {
  checkFloat('standardize', train);
  if (train.rank === 0 || train.shape[0] === 0)
    throw new ShapeError(`standardize: expected [n, ...features] with n ≥ 1, got [${train.shape.join(',')}]`);
  return noGrad(() => {
    const mean = train.mean(0);
    const spread = train.var(0, { correction: 0 }).sqrt();
    const rounding = mean.abs().mul(train.dtype === 'float32' ? 1e-6 : 1e-14);
    const std = where(spread.gt(rounding), spread, 1);
    return {
      mean,
      std,
      apply(x) {
        checkFloat('standardize', x);
        const todo =
          "standardize the training set on 'cpu', whose statistics are copied to any device, or move this set";
        const there = (value: Tensor) => beside(value, x, 'standardize: the training set was', todo);
        return x.sub(there(mean)).div(there(std));
      },
    };
  });
}

function checkFloat(what: string, x: Tensor): void {
  checkArgument(what, 'its input', x, aTensor);
  if (x.dtype !== 'float32' && x.dtype !== 'float64')
    throw new DTypeError(`${what}: expected float32 or float64, got ${x.dtype}[${x.shape.join(',')}]`);
}
