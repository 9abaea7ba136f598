/** Changes of whole sets of images or features. */

import { DTypeError, noGrad, ShapeError, Tensor, tensor, where } from '@otimes/core';

/** One number, one a channel of images [..., channels, h, w], or a tensor that broadcasts. */
export type PerChannel = number | readonly number[] | Tensor;

/** (images − mean) / std. */
export function normalize(images: Tensor, mean: PerChannel, std: PerChannel): Tensor {
  checkFloat('normalize', images);
  const divisor = perChannel(images, std);
  if (divisor.eq(0).any().item() === 1) throw new RangeError('normalize: cannot divide by a std of 0');
  return images.sub(perChannel(images, mean)).div(divisor);
}

function perChannel(images: Tensor, value: PerChannel): Tensor {
  if (value instanceof Tensor) return value;
  const { dtype } = images;
  if (typeof value === 'number') return tensor(value, { dtype });
  if (images.shape.at(-3) !== value.length)
    throw new ShapeError(
      `normalize: expected images [..., ${value.length}, h, w] for ${value.length} numbers, got [${images.shape.join(',')}]`,
    );
  return tensor(value, { dtype }).reshape(value.length, 1, 1);
}

/** Half the height and width: means of 2×2 pixels, [..., h, w] → [..., h/2, w/2]. */
export function averagePool2(images: Tensor): Tensor {
  const { shape } = images;
  const [h = 1, w = 1] = shape.slice(-2);
  if (shape.length < 2 || h % 2 !== 0 || w % 2 !== 0)
    throw new ShapeError(`averagePool2: expected [..., h, w] with even h and w, got [${shape.join(',')}]`);
  return images.reshape(...shape.slice(0, -2), h / 2, 2, w / 2, 2).mean([-3, -1]);
}

/** Mean and standard deviation of each feature, and the same change for any other set. */
export type Standardization = { mean: Tensor; std: Tensor; apply: (x: Tensor) => Tensor };

/**
 * Statistics of the training set [n, ...features], to bring every set to mean 0 and standard deviation 1 (of n, not
 * n − 1). A feature that is constant up to rounding has `std` 1, so that it becomes 0.
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
    return { mean, std, apply: x => x.sub(mean).div(std) };
  });
}

function checkFloat(what: string, x: Tensor): void {
  if (x.dtype !== 'float32' && x.dtype !== 'float64')
    throw new DTypeError(`${what}: expected float32 or float64, got ${x.dtype}[${x.shape.join(',')}]`);
}
