/**
 * The curvature of a layer as a linear operator on matrices X [dOut, dIn] in the layout of its gradient. With vec stacking
 * columns and symmetric factors (Golub & Van Loan, 4th ed., §1.3.6; George et al. 2018, §3)
 *
 *   (A ⊗ G) vec(X) = vec(G X A)
 *   (A ⊗ G + λ1)ᵖ vec(X) = vec(UG [ (sG sAᵀ + λ)ᵖ ∘ (UGᵀ X UA) ] UAᵀ)
 *
 * so that every function of the dOut·dIn × dOut·dIn matrix costs products of its factors. EKFAC's eigenvalues S stand where sG sAᵀ
 * does. Values are read where factors are given and where they are decomposed, and nowhere else.
 */

import { DTypeError, describe, full, randn, ShapeError, scope, type Tensor } from '@otimes/core';
import {
  anInstance,
  aTensor,
  checkArgument,
  checkNone,
  checkOptions,
  checkRange,
  checkTensors,
  inspect,
  readsLater,
} from '@otimes/core/extend';
import { NotPositiveDefiniteError } from '@otimes/linalg';
import { defaultEigensolver, type Eigensolver, Kfe, outer } from './basis.ts';
import { decomposed } from './decompose/here.ts';
import {
  checkEigenvalues,
  checkFactorValues,
  checkOperatorBasis,
  checkSemidefinite,
  hostOf,
  LABEL,
  rounded,
  type Spectrum,
  sizesOf,
  someFactors,
  spectrumOf,
} from './operator-check.ts';
import {
  between,
  copyOf,
  diagonalOf,
  inverseOf,
  lasting,
  type OperatorFactors,
  sidesOf,
  splitOf,
  traceOf,
} from './operator-factors.ts';
import {
  DAMPING,
  type DampingOptions,
  FROM_FACTORS,
  type FromFactorsOptions,
  SAMPLE,
  type SampleOptions,
  SOLVE,
  type SolveOptions,
} from './operator-options.ts';
import { inOwnScope } from './own-scope.ts';
import type { Side } from './side.ts';

const NAME = 'KroneckerOperator';
const KEY = Symbol(NAME);
const FROM_BASIS = { eigenvalues: aTensor };
const aBasis = anInstance(Kfe, 'a Kfe', v =>
  typeof v === 'object' && v !== null && 'UA' in v && 'sA' in v
    ? 'that is one of another copy of @otimes/optim: the program has two'
    : '',
);

/**
 * A ⊗ G of one layer, positive semidefinite. X may have any batch axes before [dOut, dIn] and any dtype, and results have the wider
 * one of X and the operator; X has to be on the operator's device, and gradients pass to it, and to it alone. NaN in X is NaN in
 * the result. Wrong arguments are errors before anything is computed.
 *
 * **Null directions.** An eigenvalue of a factor [n, n] that is no more than the rounding of its dtype could leave of 0, some 30 ε or
 * √n ε of the diagonal in its direction (see `NullSpace`), stands for 0, as negative ones do that rounding in float32 explains.
 * `solve`, `sqrtSolve`, `inverseDiagonal` and `sample` of an operator with such a one need `damping`. Larger negative ones are
 * refused.
 *
 * **Accuracy.** Decompositions are made in float64, products in the operator's dtype, of unit roundoff u: 6e-8 in float32, 1.1e-16 in
 * float64. Let κ be the condition number of A ⊗ G + λ1. Relative to the exact result for these factors, `solve` is off by up to κu for
 * an X in the directions of large eigenvalues, and by some 70u for one without preferred directions (in float64 κu of the worse
 * factor where that is more); `sqrtSolve` by √κ u and as much. `logdet` is off by some 10u for each eigenvalue. So for κ = 1e4, 1e6, 1e8
 * `solve` is off by up to 6e-4, 6e-2 and 6 in float32, which is worthless, and by 1e-12, 1e-10 and 1e-8 in float64: where κ is
 * large, damp or give float64 factors.
 */
export class KroneckerOperator {
  readonly dOut: number;
  readonly dIn: number;
  readonly #factors: OperatorFactors | null;
  readonly #solve: Eigensolver;
  /** In the place of sG sAᵀ. */
  readonly #own: Tensor | null;
  #kfe: Kfe | null;
  /** Of the eigenvalues, once they were looked at. */
  #spectrum: Spectrum | null = null;
  /** (A + π√λ 1)⁻¹ and (G + √λ/π 1)⁻¹ of the last λ. */
  #inverses: (OperatorFactors & { readonly damping: number }) | null = null;

  private constructor(
    key: typeof KEY,
    sizes: readonly [number, number],
    o: { factors?: OperatorFactors; solve?: Eigensolver; kfe?: Kfe; eigenvalues?: Tensor | null },
  ) {
    // What is private to TypeScript is not so to JavaScript.
    if (key !== KEY) throw new TypeError(`${NAME}: make it by ${NAME}.fromFactors(…) or ${NAME}.fromBasis(…)`);
    [this.dOut, this.dIn] = sizes;
    this.#factors = o.factors ?? null;
    this.#solve = o.solve ?? defaultEigensolver;
    this.#kfe = o.kfe ?? null;
    this.#own = o.eigenvalues ?? null;
  }

  /**
   * A ⊗ G of copies of two factors. They are decomposed once, when a method first needs it.
   *
   * @throws if factors are of two dtypes or devices, require a gradient, or are not square; and, as far as they can be read at once
   * (else `decompose` does), if they are not finite, not symmetric up to rounding, or negative on the diagonal. That a factor has
   * negative eigenvalues nevertheless is told by the first method that decomposes it.
   */
  static fromFactors(factors: OperatorFactors, o: FromFactorsOptions = {}): KroneckerOperator {
    const op = `${NAME}.fromFactors`;
    checkArgument(op, 'factors', factors, someFactors);
    checkOptions(op, o, FROM_FACTORS);
    const { A, G } = factors;
    const sizes = sizesOf(op, factors, o.sizes);
    if (!readsLater(A)) checkFactorValues(op, factors);
    return new KroneckerOperator(KEY, sizes, {
      factors: { A: copyOf(A), G: copyOf(G) },
      ...(o.eigensolver && { solve: o.eigensolver }),
    });
  }

  /**
   * UA diag(sA) UAᵀ ⊗ UG diag(sG) UGᵀ of a basis, which is kept and not copied; with `eigenvalues` S [dOut, dIn] ≥ 0, of which a
   * copy is taken, (UA ⊗ UG) diag(vec S) (UA ⊗ UG)ᵀ, as in EKFAC.
   *
   * @throws if tensors are of several dtypes or devices, bases are not orthonormal, or eigenvalues are negative or not finite
   */
  static fromBasis(kfe: Kfe, o: { readonly eigenvalues?: Tensor } = {}): KroneckerOperator {
    const op = `${NAME}.fromBasis`;
    checkArgument(op, 'basis', kfe, aBasis);
    checkOptions(op, o, FROM_BASIS);
    const sizes = checkOperatorBasis(op, kfe);
    const { eigenvalues = null } = o;
    if (eigenvalues !== null) inOwnScope(() => checkEigenvalues(op, eigenvalues, kfe, sizes));
    kfe.keep();
    return new KroneckerOperator(KEY, sizes, { kfe, eigenvalues: eigenvalues && copyOf(eigenvalues) });
  }

  /**
   * Computes the eigenbasis, where there is none yet, and looks at the eigenvalues. Methods do it when they need it; call this
   * before them where the operator is on a device that is read with await. It rejects with what `fromFactors` and `fromBasis` throw
   * elsewhere.
   */
  async decompose(...none: readonly never[]): Promise<this> {
    const op = `${NAME}.decompose`;
    checkNone(op, none, 'an eigensolver is an option of fromFactors');
    const like = this.#like;
    if (this.#kfe === null) {
      const { A, G } = this.#factors!;
      const [a, g] = await Promise.all([A.cpu(), G.cpu()]);
      this.#kfe ??= lasting(() => this.#decomposed(op, { A: a, G: g }).on(like.device));
    }
    if (this.#spectrum === null && readsLater(like)) {
      const kfe = await hostOf(this.#kfe);
      if (kfe !== this.#kfe.host) checkOperatorBasis(op, kfe);
      const own = (await this.#own?.cpu()) ?? null;
      this.#spectrum = spectrumOf(kfe, own);
    }
    return this;
  }

  /** G X A, of X [..., dOut, dIn]. */
  matvec(X: Tensor, ...none: readonly never[]): Tensor {
    checkOptions(`${NAME}.matvec`, none[0], {});
    this.#check('matvec', X);
    const factors = this.#factors;
    return factors === null ? this.#turned('matvec', X, S => S) : scope(() => between(factors, X));
  }

  /** (A ⊗ G + λ1)⁻¹ X, of X [..., dOut, dIn]. */
  solve(X: Tensor, o: SolveOptions = {}): Tensor {
    checkOptions(`${NAME}.solve`, o, SOLVE);
    this.#check('solve', X);
    const damping = this.#damping('solve', o);
    if (o.split === 'pi') return this.#solveSplit(X, damping);
    this.#checkInvertible('solve', damping);
    return this.#turned('solve', X, S => S.add(damping).reciprocal());
  }

  /** (A ⊗ G + λ1)^(−1/2) X with the symmetric root, of X [..., dOut, dIn]. Twice it is `solve`. */
  sqrtSolve(X: Tensor, o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.sqrtSolve`, o, DAMPING);
    this.#check('sqrtSolve', X);
    const damping = this.#damping('sqrtSolve', o);
    this.#checkInvertible('sqrtSolve', damping);
    return this.#turned('sqrtSolve', X, S => S.add(damping).sqrt().reciprocal());
  }

  /** log det(A ⊗ G + λ1), of rank 0; −∞ without damping where a direction is null. */
  logdet(o: DampingOptions = {}): Tensor {
    const op = `${NAME}.logdet`;
    checkOptions(op, o, DAMPING);
    const damping = this.#damping('logdet', o);
    if (this.#own !== null || damping > 0) return scope(() => this.#eigenvalues('logdet').add(damping).log().sum());
    const { dtype, device } = this.#like;
    if (this.#known('logdet').singular !== null) return full([], -Infinity, { dtype, device });
    // Of each side alone, or products of small eigenvalues would be 0.
    const { sA, sG } = this.#basis('logdet');
    return scope(() => sA.log().sum().mul(this.dOut).add(sG.log().sum().mul(this.dIn)));
  }

  /** tr(A ⊗ G) = tr A · tr G, of rank 0. */
  trace(...none: readonly never[]): Tensor {
    checkNone(`${NAME}.trace`, none, 'λ1 adds λ · dOut · dIn');
    const factors = this.#factors;
    if (factors === null) return this.#eigenvalues('trace').sum();
    return scope(() => traceOf(factors.A, this.dIn).mul(traceOf(factors.G, this.dOut)));
  }

  /** The diagonal of A ⊗ G + λ1 in the layout of X, [dOut, dIn]. */
  diagonal(o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.diagonal`, o, DAMPING);
    const damping = this.#damping('diagonal', o);
    const factors = this.#factors;
    if (factors === null)
      return scope(() => this.#basis('diagonal').unprojectSquares(this.#eigenvalues('diagonal').add(damping)));
    return scope(() => outer(diagonalOf(factors.G, this.dOut), diagonalOf(factors.A, this.dIn)).add(damping));
  }

  /** The diagonal of (A ⊗ G + λ1)⁻¹ in the layout of X, [dOut, dIn]: the variances of `sample`. */
  inverseDiagonal(o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.inverseDiagonal`, o, DAMPING);
    const damping = this.#damping('inverseDiagonal', o);
    this.#checkInvertible('inverseDiagonal', damping);
    return scope(() => {
      const S = this.#eigenvalues('inverseDiagonal');
      return this.#basis('inverseDiagonal').unprojectSquares(S.add(damping).reciprocal());
    });
  }

  /** A draw from N(0, (A ⊗ G + λ1)⁻¹), [dOut, dIn]: UG [ Z / √(S + λ) ] UAᵀ of standard normal Z. */
  sample(o: SampleOptions = {}): Tensor {
    checkOptions(`${NAME}.sample`, o, SAMPLE);
    const damping = this.#damping('sample', o);
    this.#checkInvertible('sample', damping);
    return scope(() => {
      const S = this.#eigenvalues('sample').add(damping);
      const Z = randn([this.dOut, this.dIn], { dtype: S.dtype, device: S.device, ...(o.rng && { rng: o.rng }) });
      return this.#basis('sample').unproject(Z.div(S.sqrt()));
    });
  }

  /** Sizes, dtype, and the device if it is not 'cpu'; where the eigenvalues come from if they are not those of factors. */
  toString(): string {
    const { dtype, device } = this.#like;
    const factors = this.#factors;
    const { A, G } = factors === null ? this.#kfe!.sides : sidesOf(factors, [this.dOut, this.dIn]);
    const side = (name: string, { n, isIdentity, turns }: Side) =>
      `${name} [${n}, ${n}]${isIdentity ? ' at the identity' : turns ? '' : ' diagonal'}`;
    const sides = `${side('A', A)} ⊗ ${side('G', G)}`;
    const on = device === 'cpu' ? '' : ` on '${device}'`;
    return `${NAME}(${sides}, ${dtype}${on}${this.#own === null ? '' : ', eigenvalues of its own'})`;
  }

  /** As `toString`: `JSON.stringify` shows what there is and does not save it. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }

  // --- inside -----------------------------------------------------------------------------------------------------------

  /** A tensor of the operator's dtype and device. */
  get #like(): Tensor {
    return this.#factors?.A ?? this.#kfe!.sA;
  }

  #check(method: string, X: Tensor): void {
    const op = `${NAME}.${method}`;
    checkTensors(op, X);
    const [rows, columns] = X.shape.slice(-2);
    if (rows !== this.dOut || columns !== this.dIn)
      throw new ShapeError(`${op}: expected X [..., ${this.dOut}, ${this.dIn}], got [${X.shape}]`);
    const { device } = this.#like;
    if (X.device !== device)
      throw new DTypeError(`${op}: expected X on '${device}', as the operator is, got ${describe(X)} on '${X.device}'`);
  }

  #damping(method: string, { damping = 0 }: DampingOptions): number {
    const { dtype } = this.#like;
    checkRange(`${NAME}.${method}`, 'damping', damping, 0, Infinity);
    if (!Number.isFinite(rounded(damping, dtype)))
      throw new RangeError(`${NAME}.${method}: expected damping that ${dtype} can hold, got ${damping}`);
    return damping;
  }

  /** Throws unless each eigenvalue has an inverse, with the damping, that the dtype can hold. */
  #checkInvertible(method: string, damping: number): void {
    const { dtype } = this.#like;
    const inverts = (x: number) => Number.isFinite(rounded(1 / rounded(x, dtype), dtype));
    // Eigenvalues are ≥ 0, so nobody has to look at them.
    if (damping > 0 && inverts(damping)) return;
    const { least, singular } = this.#known(method);
    if (singular === null && inverts(least + damping)) return;
    const why = singular ?? `its smallest eigenvalue, ${least}, has no inverse in ${dtype}`;
    const call = method.toLowerCase().endsWith('solve') ? `${method}(X, ` : `${method}(`;
    const hint = damping === 0 ? `give a damping: ${call}{ damping: 1e-3 }), say` : `damping ${damping} is too small`;
    throw new RangeError(`${NAME}.${method}: ${LABEL} is singular: ${why}; ${hint}`);
  }

  /** Multiplies the coordinates of X in the basis by a function of the eigenvalues [dOut, dIn]. */
  #turned(method: string, X: Tensor, f: (S: Tensor) => Tensor): Tensor {
    const kfe = this.#basis(method);
    return scope(() => kfe.unproject(kfe.project(X).mul(f(this.#eigenvalues(method)))));
  }

  /** [dOut, dIn] */
  #eigenvalues(method: string): Tensor {
    return this.#own ?? this.#basis(method).eigenvalues();
  }

  #known(method: string): Spectrum {
    if (this.#spectrum === null) {
      const kfe = this.#basis(method).host;
      const own = this.#own;
      if (readsLater(own ?? kfe.sA)) throw this.#decomposeFirst(method, 'a look at the eigenvalues');
      this.#spectrum = spectrumOf(kfe, own);
    }
    return this.#spectrum;
  }

  #basis(method: string): Kfe {
    if (this.#kfe === null) {
      const { A, G } = this.#factors!;
      if (readsLater(A)) throw this.#decomposeFirst(method, 'the eigenbasis of factors');
      this.#kfe = lasting(() => this.#decomposed(`${NAME}.${method}`, { A, G }));
    }
    return this.#kfe;
  }

  #decomposeFirst(method: string, what: string): TypeError {
    return new TypeError(
      `${NAME}.${method}: needs ${what} on '${this.#like.device}', which is read with await: await operator.decompose() first`,
    );
  }

  #decomposed(op: string, factors: OperatorFactors): Kfe {
    if (readsLater(this.#like)) checkFactorValues(op, factors);
    const sizes = [this.dOut, this.dIn] as const;
    const task = { ...factors, sizes, sides: sidesOf(factors, sizes), label: LABEL };
    const check = (found: ReturnType<Eigensolver>, what: string) => checkSemidefinite(op, what, found);
    return scope(() => decomposed(op, task, matrix => this.#solve(matrix), check));
  }

  #solveSplit(X: Tensor, damping: number): Tensor {
    if (this.#own !== null)
      throw new TypeError(`${NAME}.solve: split 'pi' damps two factors, and this operator has eigenvalues of its own`);
    const inverses = damping === 0 ? null : this.#inverted(damping);
    if (inverses !== null) return scope(() => between(inverses, X));
    this.#checkInvertible('solve', damping);
    const { sA, sG } = this.#basis('solve');
    return this.#turned('solve', X, () => {
      const [a, g] = splitOf(sA.mean(), sG.mean(), damping);
      return outer(sG.add(g), sA.add(a)).reciprocal();
    });
  }

  /** The inverses of both factors with their part of the damping; null where there is a basis, or none can do without one. */
  #inverted(damping: number): OperatorFactors | null {
    const factors = this.#factors;
    if (this.#kfe !== null || factors === null || readsLater(factors.A)) return null;
    if (this.#inverses?.damping !== damping)
      try {
        this.#inverses = lasting(() =>
          scope(() => {
            const { A, G } = factors;
            const [a, g] = splitOf(traceOf(A, this.dIn).div(this.dIn), traceOf(G, this.dOut).div(this.dOut), damping);
            return { A: inverseOf(A, a), G: inverseOf(G, g), damping };
          }),
        );
      } catch (error) {
        // Where rounding makes a pivot negative, the eigenvalues tell more: which of them is, and whether it stands for 0.
        if (error instanceof NotPositiveDefiniteError) return null;
        throw error;
      }
    return this.#inverses;
  }
}
