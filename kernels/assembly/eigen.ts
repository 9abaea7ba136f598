// Everything the module `eigen` exports: the symmetric eigenproblem, over the memory and the products of the first module.
export { divide_f32, divide_f64, symmetrise_f32, symmetrise_f64 } from './linalg/door';
export { eigh_f32, eigh_f64, eighWork_f32, eighWork_f64 } from './linalg/eigh';
