/** Looks after parameters that an optimizer does not train: those that were frozen when it was made, or came after it. */

import { borrowGrad } from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import { Parameter } from '@otimes/nn';

/** A field of a module that held a parameter. */
type Field = { readonly path: string; readonly module: AnyModule; readonly name: string; readonly was: Parameter };

export class Watchman {
  readonly #optimizer: string;
  readonly #anew: string;
  readonly #frozen: readonly (readonly [path: string, p: Parameter])[];
  readonly #fields: readonly Field[];

  /**
   * @param optimizer its name, for messages
   * @param before what to do before another optimizer is made, for messages: 'detach() the old one before', say
   */
  constructor(optimizer: string, model: AnyModule, before = '') {
    this.#optimizer = optimizer;
    this.#anew = `make the optimizer anew${before && ` (${before})`}`;
    this.#frozen = [...model.namedParameters()].filter(([, p]) => !p.requiresGrad);
    this.#fields = [...model.namedModules()].flatMap(([above, module]) =>
      [...module.namedParameters({ recurse: false })].flatMap(([name, was]) =>
        Reflect.get(module, name) === was
          ? [{ path: above === '' ? name : `${above}.${name}`, module, name, was }]
          : [],
      ),
    );
  }

  /** What lies in a field now, if it is another parameter than at the start. */
  *#replaced(): Iterable<{ path: string; now: Parameter; was: Parameter }> {
    for (const { path, module, name, was } of this.#fields) {
      const now: unknown = Reflect.get(module, name);
      if (now !== was && now instanceof Parameter) yield { path, now, was };
    }
  }

  /** What lies in each field now. */
  now(): readonly unknown[] {
    return this.#fields.map(({ module, name }) => Reflect.get(module, name));
  }

  /** Throws for a parameter that backward has reached and that would stay as it is. */
  check(): void {
    for (const [path, p] of this.#frozen)
      if (isTrained(p))
        throw new Error(
          `${this.#optimizer}: '${path}' gets a gradient now, but was frozen when the optimizer was made, so it would stay as ` +
            `it is: ${this.#anew}, or freeze it again`,
        );
    for (const { path, now, was } of this.#replaced()) {
      if (!isTrained(now) || this.#fields.some(field => field.was === now)) continue;
      const what =
        now.device === was.device
          ? `'${path}' is another parameter than when the optimizer was made`
          : `the model moved to another device after the optimizer was made: '${path}' was on '${was.device}'`;
      throw new Error(
        `${this.#optimizer}: ${what}, so it would stay as it is: ${this.#anew}` +
          (now.device === was.device ? ', or copy_ new values into the old parameter' : ', after model.to(…)'),
      );
    }
  }

  zeroGrad(): void {
    for (const [, p] of this.#frozen) if (p.requiresGrad) p.grad = null;
    for (const { now } of this.#replaced()) now.grad = null;
  }
}

const isTrained = (p: Parameter): boolean => p.requiresGrad && borrowGrad(p) !== null;
