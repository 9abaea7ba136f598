// Everything the module `order` exports.
export * from './generated/order';
