/** @otimes/optim: first-order optimizers, and KFAC, EKFAC and STEVE on one Kronecker-factored base. */

export { Adadelta, type AdadeltaOptions } from './adadelta.ts';
export { Adagrad, type AdagradOptions } from './adagrad.ts';
export { Adam, type AdamOptions, AdamW } from './adam.ts';
export { Adamax, type AdamaxOptions } from './adamax.ts';
export { type AverageOptions, averageGradients } from './average.ts';
export { clipGradNorm, clipGradValue } from './clip.ts';
export {
  type BasisTracker,
  type Eigensolver,
  type FixedBasis,
  Kfe,
  type Rotation,
  rotate,
  rotateSquares,
} from './curvature/basis.ts';
export type {
  AffineLayer,
  Canonical,
  ConvolutionLayer,
  KroneckerBlock,
  LayerBlock,
  MatrixBlock,
  Sharing,
  TurnableLayer,
} from './curvature/block.ts';
export type { Description, Descriptions } from './curvature/claims.ts';
export { type Collector, type CollectorOptions, defaultCollectors } from './curvature/collector.ts';
export { attentionCollector } from './curvature/collectors/attention.ts';
export { convTransposeCollector } from './curvature/collectors/conv-transpose.ts';
export { conv1dCollector } from './curvature/collectors/conv1d.ts';
export { conv2dCollector } from './curvature/collectors/conv2d.ts';
export { conv3dCollector } from './curvature/collectors/conv3d.ts';
export { embeddingCollector } from './curvature/collectors/embedding.ts';
export { linearCollector } from './curvature/collectors/linear.ts';
export { recurrentCollector } from './curvature/collectors/recurrent.ts';
export { tiedCollector } from './curvature/collectors/tied.ts';
export { WeightBlock, type WeightBlockOptions, type WeightLayer } from './curvature/collectors/weight.ts';
export { alone, type Communicator } from './curvature/communicator.ts';
export { type SubspaceOptions, subspaceIteration } from './curvature/decompose/subspace.ts';
export type { Factors, LossReduction, Sample } from './curvature/factors.ts';
export type { Route } from './curvature/routes/route.ts';
export { exampleSquares, factors } from './curvature/sample.ts';
export type { Scalar } from './curvature/scalar.ts';
export type { Structure } from './curvature/side.ts';
export type { FisherKind, FisherLoss } from './curvature/sources/fisher.ts';
export type { StructureChoice, StructureOption, StructureOptions } from './curvature/structure.ts';
export { EKFAC, type EKFACOptions } from './ekfac.ts';
export { type EmaOptions, ExponentialMovingAverage } from './ema.ts';
export { KBFGS, type KBFGSOptions, type KBFGSOverride } from './kbfgs.ts';
export { KFAC, type KFACOptions } from './kfac.ts';
export { KLShampoo, type KLShampooOptions } from './kl-shampoo.ts';
export { type AdaptiveDampingOptions, adaptiveDamping, type DampingControl } from './kronecker/adaptive.ts';
export { KRONECKER_OPTIONS, type KroneckerOptions } from './kronecker/options.ts';
export type { Overrides } from './kronecker/overrides.ts';
export { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
export type { BlockReport, Phase, Report } from './kronecker/report.ts';
export type { Kind, Proposal, Rule, RuleNumbers, StepInfo } from './kronecker/rule.ts';
export { AdamRule, type AdamRuleOptions } from './kronecker/rules/adam.ts';
export { type DampedOptions, DampedRule } from './kronecker/rules/damped.ts';
export { type MeasuredOptions, MeasuredRule } from './kronecker/rules/measured.ts';
export { type BlockOptions, BlockState } from './kronecker/state.ts';
export { Lamb, type LambOptions } from './lamb.ts';
export { type Closure, LBFGS, type LBFGSOptions } from './lbfgs.ts';
export { Lion, type LionOptions } from './lion.ts';
export type { Direction, HostWork, MatrixStep } from './matrix/direction.ts';
export { MatrixOptimizer } from './matrix/optimizer.ts';
export { MATRIX_OPTIONS, type MatrixDefaults, type MatrixOptions, type MatrixOverride } from './matrix/options.ts';
export { Muon, type MuonOptions } from './muon.ts';
export { NAdam, type NAdamOptions, NAdamW, type NAdamWOptions } from './nadam.ts';
export { GradientOptimizer, Optimizer, type ParameterGroup, ParameterState, type Parameters } from './optimizer.ts';
export { type PlateauOptions, ReduceLrOnPlateau } from './plateau.ts';
export { RAdam, type RAdamOptions } from './radam.ts';
export { RMSprop, type RMSpropOptions } from './rmsprop.ts';
export { GradScaler, type GradScalerOptions } from './scaler.ts';
export {
  constantLr,
  cosineLr,
  cosineRestartsLr,
  exponentialLr,
  type LrRule,
  multiStepLr,
  type OneCycleOptions,
  oneCycleLr,
  polynomialLr,
  Schedule,
  sequentialLr,
  stepLr,
  warmupLr,
} from './schedule.ts';
export { ScheduleFree, type ScheduleFreeWrapperOptions } from './schedule-free.ts';
export { ScheduleFreeAdamW, type ScheduleFreeOptions } from './schedule-free-adamw.ts';
export { SGD, type SGDOptions } from './sgd.ts';
export { Shampoo, type ShampooOptions } from './shampoo.ts';
export { SINGD, type SINGDOptions } from './singd.ts';
export { SOAP, type SOAPOptions } from './soap.ts';
export { STEVE, type STEVEOptions } from './steve.ts';
