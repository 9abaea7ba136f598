/** Reads a WebAssembly module: its bytes one by one, and unsigned integers in LEB128. */
export class Reader {
  readonly bytes: Uint8Array;
  /** Where the next byte stands. */
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    return this.bytes[this.at++]!;
  }

  number(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
}
