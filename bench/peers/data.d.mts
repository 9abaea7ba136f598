export function noise(size: number, seed: number, scale?: number): Float32Array<ArrayBuffer>;
export function labels(size: number, classes: number, seed: number): Int32Array<ArrayBuffer>;
export function oneHot(size: number, classes: number, seed: number): Float32Array<ArrayBuffer>;
export function gram(n: number): Float64Array<ArrayBuffer>;
export function definite(n: number): Float64Array<ArrayBuffer>;
export const BATCHES: number;
export const BLOCK: { d: number; heads: number; hidden: number; positions: number; batch: number };
export const CHARS: { vocabulary: number; d: number; heads: number; depth: number; length: number; batch: number };
