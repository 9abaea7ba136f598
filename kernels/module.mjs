/** What build.mjs reads in a WebAssembly module: its sections, and the types of its exported functions. */

const VALUES = { 127: 'i32', 125: 'f32', 124: 'f64' };

/** Reads the bytes from `at` on: one by one, unsigned integers in LEB128, and lists, which begin with their length. */
export class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  number() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  list(read) {
    return Array.from({ length: this.number() }, read);
  }

  text() {
    return new TextDecoder().decode(Uint8Array.from(this.list(() => this.byte())));
  }
}

/** Identity of a section → its content. */
export function sections(bytes) {
  const reader = new Reader(bytes, 8);
  const found = new Map();
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const length = reader.number();
    found.set(id, bytes.subarray(reader.at, reader.at + length));
    reader.at += length;
  }
  return found;
}

/** Name of an exported function → its type, as 'i32 f64 -> i32'. */
export function exportedTypes(bytes) {
  const found = sections(bytes);
  const of = (id, read) => {
    const reader = new Reader(found.get(id));
    return reader.list(() => read(reader));
  };
  const value = reader => reader.list(() => VALUES[reader.byte()] ?? 'another type');
  const types = of(1, reader => {
    reader.byte();
    return `${value(reader).join(' ')} -> ${value(reader).join(' ')}`.trim();
  });
  const imported = of(2, reader => {
    reader.text();
    reader.text();
    if (reader.byte() === 0) return [reader.number()];
    // A memory: the only other import there is.
    const limited = reader.byte() & 1;
    reader.number();
    if (limited) reader.number();
    return [];
  }).flat();
  const functions = [...imported, ...of(3, reader => reader.number())];
  return new Map(
    of(7, reader => [reader.text(), reader.byte(), reader.number()])
      .filter(([, kind]) => kind === 0)
      .map(([name, , index]) => [name, types[functions[index]]]),
  );
}
