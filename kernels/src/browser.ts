/** The host where there is nothing to add: a browser, or another runtime without V8's flags. */

import type { Host } from './host.ts';

export const host: Host = {
  enableRelaxedSimd() {},
  makeCollector: () => null,
};
