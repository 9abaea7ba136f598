// Everything the module `recurrent` exports.
export * from './generated/recurrent';
