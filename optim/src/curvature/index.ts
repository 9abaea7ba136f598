/**
 * @otimes/optim/curvature: Kronecker-factored curvature of a model's layers, A ⊗ G for each, whatever it is used for. It knows
 * nothing of optimizers.
 *
 * For what is built on it, another optimizer or estimate: `collectBlocks` and `checkClaims` find the blocks of a model, each of which
 * gets a `LayerCurvature`. A `Recorder` for each, and `capture`, which puts their hooks on the model, collect `Statistics` in backward
 * passes; these give `Factors`, which the layer averages. `Refresher` and `Decomposer` turn them into a basis, `Kfe`.
 */

export {
  type BasisTracker,
  checkFactor,
  type Eigensolver,
  Kfe,
  type Rotation,
  rotate,
  rotateSquares,
  type Sides,
} from './basis.ts';
export type {
  AffineLayer,
  BlockUse,
  Canonical,
  ConvolutionLayer,
  KroneckerBlock,
  LayerBlock,
  MatrixBlock,
  See,
  Sharing,
  TurnableLayer,
} from './block.ts';
export { checkClaims, type Description, type Descriptions } from './claims.ts';
export { type Collector, type CollectorOptions, collectBlocks, defaultCollectors } from './collector.ts';
export { attentionCollector } from './collectors/attention.ts';
export { convTransposeCollector } from './collectors/conv-transpose.ts';
export { conv1dCollector } from './collectors/conv1d.ts';
export { conv2dCollector } from './collectors/conv2d.ts';
export { conv3dCollector } from './collectors/conv3d.ts';
export { embeddingCollector } from './collectors/embedding.ts';
export { linearCollector } from './collectors/linear.ts';
export { recurrentCollector } from './collectors/recurrent.ts';
export { tiedCollector } from './collectors/tied.ts';
export { WeightBlock, type WeightBlockOptions, type WeightLayer } from './collectors/weight.ts';
export { alone, type Communicator, owner } from './communicator.ts';
export { Decomposer } from './decompose/here.ts';
export { type SubspaceOptions, subspaceIteration } from './decompose/subspace.ts';
export { CurvatureEstimate } from './estimate.ts';
export {
  type Factors,
  gradientScale,
  type LossReduction,
  meanGradient,
  type Sample,
  type Statistics,
  type Use,
} from './factors.ts';
export { LayerCurvature, type LayerOptions } from './layer.ts';
export { KroneckerOperator } from './operator.ts';
export type { OperatorFactors } from './operator-factors.ts';
export type { DampingOptions, FromFactorsOptions, SampleOptions, SolveOptions } from './operator-options.ts';
export type { CurvatureOptions } from './options.ts';
export { type Pending, Refresher, type RefreshJob, type RefreshOptions } from './refresh.ts';
export type { Route } from './routes/route.ts';
export { exampleSquares, factors } from './sample.ts';
export type { Scalar } from './scalar.ts';
export { type Part, type Segment, Side, type SideSizes, type Spectrum, type Structure } from './side.ts';
export { type CaptureOptions, capture, type LayerSink, type Need } from './sources/activations.ts';
export type { FisherKind, FisherLoss } from './sources/fisher.ts';
export { type Demand, Recorder } from './sources/recorder.ts';
