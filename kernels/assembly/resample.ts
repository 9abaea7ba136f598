// Everything the module `resample` exports.
export * from './generated/resample';
