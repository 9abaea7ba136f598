/** Where there are no worker threads of Node. */

import type { Host, Readers } from './readers.ts';

const WHY = "there are no threads for it here, only in Node and hosts with Node's modules";

export const host: Host = {
  why: () => WHY,
  open(): Readers {
    throw new Error(`ImageLoader: ${WHY}`);
  },
};
