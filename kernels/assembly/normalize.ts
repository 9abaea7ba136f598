// Everything the module `normalize` exports.
export * from './generated/normalize';
