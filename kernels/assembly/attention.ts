// Everything the module `attention` exports.
export * from './generated/attention';
