/** One living process that answers requests, each a line of JSON, in order. An answer with `error` is thrown. */
export class Peer {
  constructor(name: string, command: readonly string[]);
  ask(request: object): Promise<object>;
  /** Ends its input, which it takes as the end. */
  end(): void;
}
/** A file of bench as a user's build would have it: one module; its path. */
export function bundle(name: string): Promise<string>;
export function median(xs: readonly number[]): number;
