// Everything the module `math` exports.
export * from './generated/math';
