/** What the terminal may be sent: ANSI codes only where somebody looks at them and has not asked to be spared. */

import type { WriteStream } from 'node:tty';

/** False in a pipe or a file, with NO_COLOR set (https://no-color.org), and on a terminal that calls itself dumb. */
export function isLive(stream: WriteStream, env: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

export type Style = { bold: (text: string) => string; dim: (text: string) => string; green: (text: string) => string };

const wrap = (on: number, off: number) => (text: string) => `\x1b[${on}m${text}\x1b[${off}m`;
const plain = (text: string) => text;

export function styles(live: boolean): Style {
  if (!live) return { bold: plain, dim: plain, green: plain };
  return { bold: wrap(1, 22), dim: wrap(2, 22), green: wrap(32, 39) };
}
