/** @otimes/data: datasets, loaders and readers of common file formats. Files on disk: @otimes/data/node. */

export { type Collated, collate } from './collate.ts';
export { type Dataset, MappedDataset, randomSplit, Subset, TensorDataset } from './dataset.ts';
export { type DigitsOptions, digitsFromJson, type Labelled } from './digits.ts';
export { gunzip, type IdxOptions, type IdxType, parseIdx, writeIdx } from './idx.ts';
export { type ChannelStatistics, channelStatistics, transformImages } from './images/batch.ts';
export { type Cifar10Options, type Cifar100Options, parseCifar10, parseCifar100 } from './images/cifar.ts';
export { type ImageBatch, ImageLoader, type ImageLoaderOptions } from './images/loader.ts';
export {
  type BytesRecipe,
  type FilesRecipe,
  type Picture,
  type PictureSource,
  picturesInMemory,
  type SourceRecipe,
} from './images/source.ts';
export { type ImageTransform, imageTransforms } from './images/transform.ts';
export * as transforms from './images/transforms.ts';
export { DataLoader, type LoaderOptions } from './loader.ts';
export { averagePool2, normalize, type PerChannel, type Standardization, standardize } from './transforms.ts';
