// Everything the module `depthwise` exports.
export { depthwiseScratch } from './planes';
export * from './generated/depthwise';
