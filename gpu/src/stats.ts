/** What `gpuBackend().stats` counts. Apart, because programs get to see these types, and those of WebGPU they need not have. */

/** Counts since the device was opened. */
export type CommandStats = {
  /** Command buffers that were handed over. */
  submits: number;
  /** What the GPU is told to run, and of how many kernels' launches it was joined. */
  dispatches: number;
  launches: number;
  /** Kernels that were compiled, those that join others among them. */
  kernels: number;
  /** Those that are being compiled now, aside. */
  compiling: number;
  reads: number;
};

export type PoolStats = {
  /** Bytes of all buffers, and of those in use. */
  bytes: number;
  live: number;
  buffers: number;
};
