// Everything the first module exports. A file of kernels adds its line here, or in the entry of another module.
export { firstNotFinite_f32, firstNotFinite_f64, firstOutside_i32 } from './check';
export { convScratch } from './conv-scratch';
export { dgemm, dproduct, dsyrk, gemmScratch, sgemm, sproduct, ssyrk } from './gemm';
export * from './generated/elementwise';
