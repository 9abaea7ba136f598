/** Training with a GradScaler on any device. */

import type { Tensor } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import { GradScaler, type GradScalerOptions, type Optimizer } from '@otimes/optim';
import { deviceTasks } from './device-runs.ts';

const { model, batches } = deviceTasks.mlp;

export class ScaledRun {
  readonly model: Module;
  readonly optimizer: Optimizer;
  readonly scaler: GradScaler;
  readonly #device: string;
  #count = 0;

  constructor(device: string, make: (model: Module) => Optimizer, o: GradScalerOptions) {
    this.#device = device;
    this.model = model().to(device) as Module;
    this.optimizer = make(this.model);
    this.scaler = new GradScaler(o);
  }

  /** `factor` spoils the gradients. */
  backward(factor = 1): void {
    const { x, y } = batches[this.#count++ % batches.length]!;
    this.optimizer.zeroGrad();
    const loss = crossEntropy(this.model.call(x.to(this.#device)) as Tensor, y.to(this.#device));
    this.scaler.scale(loss.mul(factor)).backward();
  }

  async step(factor = 1): Promise<void> {
    this.backward(factor);
    await this.scaler.step(this.optimizer);
    this.scaler.update();
  }

  async parameters(): Promise<number[]> {
    const all = await Promise.all(this.model.parameters().map(p => p.data()));
    return all.flatMap(values => [...values]);
  }

  async gradients(): Promise<number[][]> {
    return Promise.all(this.model.parameters().map(async p => [...(await p.grad!.data())]));
  }

  /** What is trained and remembered, without what the host counts. */
  async tensors(): Promise<Record<string, readonly number[]>> {
    const all = { ...this.model.stateDict(), ...this.optimizer.stateDict() };
    const kept = Object.entries(all).filter(([key]) => !/step/.test(key));
    return Object.fromEntries(await Promise.all(kept.map(async ([key, x]) => [key, [...(await x.data())]] as const)));
  }
}
