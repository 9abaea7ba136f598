/**
 * @otimes/optim/curvature: Kronecker-factored curvature of a model's layers, A ⊗ G for each, whatever it is used for. It knows
 * nothing of optimizers.
 */

export { type Eigensolver, Kfe } from './basis.ts';
export type { AffineLayer, Canonical, KroneckerBlock, LayerBlock, MatrixBlock, Sharing } from './block.ts';
export type { Description } from './claims.ts';
export { type Collector, type CollectorOptions, defaultCollectors } from './collector.ts';
export { attentionCollector } from './collectors/attention.ts';
export { conv2dCollector } from './collectors/conv2d.ts';
export { linearCollector } from './collectors/linear.ts';
export { WeightBlock, type WeightBlockOptions, type WeightLayer } from './collectors/weight.ts';
export { alone, type Communicator, owner } from './communicator.ts';
export { CurvatureEstimate } from './estimate.ts';
export type { Factors, LossReduction, Sample } from './factors.ts';
export { LayerCurvature } from './layer.ts';
export { KroneckerOperator } from './operator.ts';
export type { OperatorFactors } from './operator-factors.ts';
export type { DampingOptions, FromFactorsOptions, SampleOptions, SolveOptions } from './operator-options.ts';
export type { CurvatureOptions } from './options.ts';
export type { Route } from './routes/route.ts';
export { exampleSquares, factors } from './sample.ts';
export type { FisherKind, FisherLoss } from './sources/fisher.ts';
