/** What is done with a whole tree of modules at once: going through it, freezing, moving. */

import { aDevice, aFunction, checkArgument, checkOptions } from '@otimes/core/extend';
import { ModuleBase } from './members.ts';
import type { AnyModule } from './module.ts';
import { bringToCpu, moveTo } from './move.ts';

/** The methods of `Module` that need only its others. */
export abstract class ModuleTree extends ModuleBase {
  /** What `namedModules` lists, without the paths: this module first. */
  modules(this: AnyModule): AnyModule[] {
    return [...this.namedModules().values()];
  }

  /** What `namedChildren` lists, without the names. */
  children(this: AnyModule): AnyModule[] {
    return [...this.namedChildren().values()];
  }

  /** Calls `visit` with each module of the tree, those below a module before it: for weights of one's own, say. Returns this. */
  apply<M extends AnyModule>(this: M, visit: (module: AnyModule) => void): M {
    checkArgument('apply', 'visit', visit, aFunction);
    for (const child of this.children()) child.apply(visit);
    visit(this);
    return this;
  }

  /**
   * Whether the parameters are trained from now on. False also sets their gradients to null: optimizers leave out what has none, also
   * those that were made before. With true they take it up again, but for KFAC, EKFAC and STEVE, whose `step` throws for a parameter
   * that was frozen when they were made. Returns this.
   */
  requiresGrad_<M extends AnyModule>(this: M, on = true): M {
    for (const p of this.parameters()) {
      p.requiresGrad = on;
      if (!on) p.grad = null;
    }
    return this;
  }

  /** `requiresGrad_(false)`: the parameters stay as they are. */
  freeze<M extends AnyModule>(this: M, ...none: readonly never[]): M {
    checkOptions('freeze', none[0], {});
    return this.requiresGrad_(false);
  }

  /** `requiresGrad_(true)`. */
  unfreeze<M extends AnyModule>(this: M, ...none: readonly never[]): M {
    checkOptions('unfreeze', none[0], {});
    return this.requiresGrad_(true);
  }

  /** Evaluation mode: no dropout, running statistics. */
  eval<M extends AnyModule>(this: M, ...none: readonly never[]): M {
    checkOptions('eval', none[0], {});
    return this.train(false);
  }

  /**
   * Moves parameters and buffers to a device, or into a floating dtype: `to('gpu')`, `to('float64')`. They become new tensors, without
   * gradients, so make optimizers after it. Those that are so already, and integers where a dtype is asked for, are not changed. Tied
   * parameters stay tied. Throws and moves nothing if a field is frozen or read-only, or if a tensor is on a device that is read with
   * await: `await cpu()` moves it from there.
   */
  to<M extends AnyModule>(this: M, where: string): M {
    checkArgument('to', 'where', where, aDevice);
    moveTo(this, where);
    return this;
  }

  /** `to('float32')`. */
  float<M extends AnyModule>(this: M): M {
    return this.to('float32');
  }

  /** `to('float64')`. */
  double<M extends AnyModule>(this: M): M {
    return this.to('float64');
  }

  /**
   * Moves parameters and buffers to 'cpu', as `to('cpu')` does and from every device, as they are at the call. Resolves to this module.
   * Rejects and moves nothing where `to` throws, where the read tells a check that failed, and if the model is changed before the
   * values are there.
   */
  async cpu<M extends AnyModule>(this: M, ...none: readonly never[]): Promise<M> {
    checkOptions('cpu', none[0], {});
    await bringToCpu(this);
    return this;
  }
}
