// Everything the module `images` exports: convolution and pooling, over the memory and the products of the first module.
export {
  convForward_f32, convForward_f64, convInputGrad_f32, convInputGrad_f64, convWeightGrad_f32, convWeightGrad_f64,
  fold_f32, fold_f64, unfold_f32, unfold_f64,
} from './conv';
export { depthwiseScratch } from './planes';
export * from './generated/depthwise';
export { patchGram_f32, patchGram_f64 } from './patch-gram';
export {
  avgPool_f32, avgPool_f64, avgPoolGrad_f32, avgPoolGrad_f64, maxPoolGrad_f32, maxPoolGrad_f64, maxPoolIndex_f32, maxPoolIndex_f64,
} from './pool';
export {
  winogradForward_f32, winogradInputGrad_f32, winogradScratch, winogradUnits, winogradWeightGrad_f32,
} from './winograd';
