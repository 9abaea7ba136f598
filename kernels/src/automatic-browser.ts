/** No threads start by themselves in browsers, where they need headers and a Worker: there a program asks for them. See automatic-node.ts. */

import type { Kernels } from './instance.ts';

export function automaticThreads(_: Kernels): void {}
