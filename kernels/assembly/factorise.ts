// Everything the module `factorise` exports: Cholesky and QR, over the memory and the products of the first module.
export {
  cholesky_f32, cholesky_f64, choleskyWork_f32, choleskyWork_f64,
  cholInverse_f32, cholInverse_f64, cholInverseWork_f32, cholInverseWork_f64,
  solveLower_f32, solveLower_f64, solveLowerWork_f32, solveLowerWork_f64,
} from './linalg/cholesky';
export { lowerOnly_f32, lowerOnly_f64, mirror_f32, mirror_f64, symmetrise_f32, symmetrise_f64 } from './linalg/door';
export { qr_f32, qr_f64, qrWork_f32, qrWork_f64 } from './linalg/qr';
