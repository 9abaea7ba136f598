/** The parts of gpu.js 2.24.1 that translate; its own typings lack them. */

declare module 'gpu.js/src/backend/web-gpu/kernel.js' {
  export class WebGPUKernel {
    constructor(
      source: string,
      settings: {
        readonly output: readonly number[];
        readonly dynamicOutput: boolean;
        readonly dynamicArguments: boolean;
        readonly functions: readonly string[];
        readonly argumentTypes: readonly string[];
      },
    );
    _buildAsync(): Promise<void>;
    build(...args: unknown[]): Promise<void>;
    readonly compiledSource: string;
    readonly paramsLayout: { readonly scalarArgs: readonly { readonly offset: number }[] };
    readonly workgroupSize: readonly number[];
  }
}

declare module 'gpu.js/src/input.js' {
  export class Input {
    constructor(value: readonly number[], size: readonly number[]);
  }
}
