/**
 * Arranges a module so that it packs better: the indices of locals, a sixth of all bytes, go from their instructions to the end.
 * assembly/unpack.ts has the inverse, `restore`, and this is the same walk over instructions.
 */
import { Reader, sections } from './module.mjs';

/** local.get, local.set, local.tee */
const isLocal = op => op >= 0x20 && op <= 0x22;

/** Moves a reader behind the operands of an instruction. */
function skipOperands(reader, op) {
  const numbers = count => {
    for (; count > 0; count--) reader.number();
  };
  if (op === 0xfd) {
    const vector = reader.number();
    if (vector >= 21 && vector < 35) reader.at++;
    else if (vector === 12 || vector === 13) reader.at += 16;
    else if (vector < 12 || (vector >= 84 && vector < 94)) numbers(vector >= 84 && vector < 92 ? 3 : 2);
  } else if (op >= 0x28 && op < 0x3f) numbers(2);
  else if (op === 0xfc) {
    const bulk = reader.number();
    if (bulk > 9) numbers(12 - bulk);
  } else if (op === 0x0e) numbers(reader.number() + 1);
  else if (op === 0x43) reader.at += 4;
  else if (op === 0x44) reader.at += 8;
  else if ([0x02, 0x03, 0x04, 0x0c, 0x0d, 0x10, 0x23, 0x24, 0x41, 0x42].includes(op)) numbers(1);
}

/** The module with lengths of functions in 3 bytes each, as `restore` writes them: larger ones than need be are allowed. */
export function padded(bytes) {
  const code = sections(bytes).get(10);
  const reader = new Reader(code);
  const count = reader.number();
  const content = [...code.subarray(0, reader.at)];
  for (let i = 0; i < count; i++) {
    const length = reader.number();
    content.push((length & 127) | 128, ((length >> 7) & 127) | 128, length >> 14);
    content.push(...code.subarray(reader.at, reader.at + length));
    reader.at += length;
  }
  const out = [...bytes.subarray(0, 8)];
  for (const [id, section] of sections(bytes)) {
    const body = id === 10 ? content : [...section];
    out.push(id);
    for (let rest = body.length; ; rest >>>= 7) {
      out.push(rest > 127 ? (rest & 127) | 128 : rest);
      if (rest <= 127) break;
    }
    for (const byte of body) out.push(byte);
  }
  return Uint8Array.from(out);
}

/**
 * Three int32, where the indices begin, how many bytes come before the first function, and where the functions end; then the
 * padded module without lengths and indices; then the indices.
 */
export function arranged(bytes) {
  const code = sections(bytes).get(10);
  const begin = code === undefined ? bytes.length : code.byteOffset - bytes.byteOffset;
  const end = code === undefined ? begin : begin + code.length;
  const reader = new Reader(bytes, begin);
  if (code !== undefined) reader.number();
  const first = reader.at;
  const [main, indices] = [[...bytes.subarray(0, first)], []];
  const take = (from, list) => list.push(...bytes.subarray(from, reader.at));
  while (reader.at < end) {
    const length = reader.number();
    const start = reader.at;
    const stop = start + length;
    for (let groups = reader.number(); groups > 0; groups--) {
      reader.number();
      reader.byte();
    }
    take(start, main);
    while (reader.at < stop) {
      const at = reader.at;
      const op = reader.byte();
      if (!isLocal(op)) skipOperands(reader, op);
      take(at, main);
      if (!isLocal(op)) continue;
      const index = reader.at;
      reader.number();
      take(index, indices);
    }
  }
  main.push(...bytes.subarray(end));
  const head = new Uint8Array(Int32Array.of(12 + main.length, first, end).buffer);
  return Uint8Array.from([head, main, indices].flatMap(part => [...part]));
}
