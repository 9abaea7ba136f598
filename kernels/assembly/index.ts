// Everything the modules export. A file of kernels adds its line here.
export { dgemm, dsyrk, gemmScratch, sgemm, ssyrk } from './gemm';
export * from './generated/elementwise';
