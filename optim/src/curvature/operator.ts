/**
 * The curvature of a layer as a linear operator on matrices X [dOut, dIn] in the layout of its gradient. With vec stacking
 * columns and symmetric factors (Golub & Van Loan, 4th ed., §1.3.6; George et al. 2018, §3)
 *
 *   (A ⊗ G) vec(X) = vec(G X A)
 *   (A ⊗ G + λ1)ᵖ vec(X) = vec(UG [ (sG sAᵀ + λ)ᵖ ∘ (UGᵀ X UA) ] UAᵀ)
 *
 * so that every function of the dOut·dIn × dOut·dIn matrix costs products of its factors. EKFAC's eigenvalues S stand where sG sAᵀ
 * does. Nothing is read from the device but for a decomposition.
 */

import {
  DTypeError,
  eye,
  Generator,
  noGrad,
  randn,
  ShapeError,
  type Tensor,
  tensor,
  unscoped,
  where,
} from '@otimes/core';
import {
  aCount,
  aFunction,
  aNumber,
  anInstance,
  aTensor,
  checkArgument,
  checkOptions,
  checkTensors,
  type Kind,
  type OptionKinds,
  oneOf,
  readsLater,
} from '@otimes/core/extend';
import { inverse } from '@otimes/linalg';
import { checkRange } from '../check.ts';
import { defaultEigensolver, diagonal, type Eigensolver, Kfe, outer } from './basis.ts';
import { decomposed } from './decompose/here.ts';

/** A [dIn, dIn] and G [dOut, dOut], symmetric; of rank 0 the mean eigenvalue of a side at the identity. */
export type OperatorFactors = { readonly A: Tensor; readonly G: Tensor };

export type FromFactorsOptions = {
  /** [dOut, dIn]; needed where a factor has rank 0. */
  readonly sizes?: readonly [number, number];
  /** Default: `eigh` of @otimes/linalg, float64 inside. */
  readonly eigensolver?: Eigensolver;
};

export type DampingOptions = {
  /** λ ≥ 0, added to each eigenvalue. Default 0, with which inverses need a curvature of full rank. */
  readonly damping?: number;
};

export type SolveOptions = DampingOptions & {
  /**
   * 'eigen' (default) inverts A ⊗ G + λ1. 'pi' inverts (A + π√λ 1) ⊗ (G + √λ/π 1), π² = (tr A / dIn) / (tr G / dOut) (Martens &
   * Grosse 2015, §6.3); an operator without a basis then does with Cholesky. Not with eigenvalues other than sG sAᵀ.
   */
  readonly split?: 'eigen' | 'pi';
};

export type SampleOptions = DampingOptions & {
  /** Default: the generator that `manualSeed` seeds. */
  readonly rng?: Generator;
};

const NAME = 'KroneckerOperator';
const KEY = Symbol(NAME);
const DAMPING: OptionKinds<DampingOptions> = { damping: aNumber };
const SOLVE: OptionKinds<SolveOptions> = { ...DAMPING, split: oneOf('eigen', 'pi') };
const SAMPLE: OptionKinds<SampleOptions> = { ...DAMPING, rng: anInstance(Generator, 'a Generator') };
const FROM_FACTORS: OptionKinds<FromFactorsOptions> = {
  sizes: { expected: 'two counts [dOut, dIn]', is: v => Array.isArray(v) && v.length === 2 && v.every(aCount.is) },
  eigensolver: aFunction,
};
const FROM_BASIS = { eigenvalues: aTensor };
const aBasis = anInstance(Kfe, 'a Kfe');
const someFactors: Kind = {
  expected: 'two floating tensors { A, G } of one dtype',
  is: v =>
    typeof v === 'object' &&
    v !== null &&
    ['A', 'G'].every(side => aTensor.is(Reflect.get(v, side)) && Reflect.get(v, side).dtype.startsWith('float')) &&
    Reflect.get(v, 'A').dtype === Reflect.get(v, 'G').dtype,
};

export class KroneckerOperator {
  readonly dOut: number;
  readonly dIn: number;
  readonly #factors: OperatorFactors | null;
  readonly #solve: Eigensolver;
  /** In the place of sG sAᵀ. */
  readonly #own: Tensor | null;
  #kfe: Kfe | null;
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

  /** A ⊗ G of copies of two factors. They are decomposed once, when a method first needs it. */
  static fromFactors(factors: OperatorFactors, o: FromFactorsOptions = {}): KroneckerOperator {
    const where = `${NAME}.fromFactors`;
    checkArgument(where, 'factors', factors, someFactors);
    checkOptions(where, o, FROM_FACTORS);
    const { A, G } = factors;
    const size = (side: 'A' | 'G', x: Tensor, given: number | undefined): number => {
      const n = x.shape[0] ?? given;
      const fits =
        n !== undefined && n > 0 && (x.rank === 0 || (x.rank === 2 && x.shape[1] === n && n === (given ?? n)));
      if (fits) return n;
      const wanted =
        given === undefined ? 'a square matrix, or the option sizes beside a mean' : `[${given}, ${given}]`;
      const hint = n === 0 ? ', which is empty' : '';
      throw new ShapeError(`${where}: expected factor ${side} to be ${wanted}, got [${x.shape}]${hint}`);
    };
    if (A.device !== G.device)
      throw new DTypeError(`${where}: expected factors on one device, got A on '${A.device}' and G on '${G.device}'`);
    const sizes = [size('G', G, o.sizes?.[0]), size('A', A, o.sizes?.[1])] as const;
    if (!readsLater(A)) checkMeans(where, factors);
    return new KroneckerOperator(KEY, sizes, {
      factors: { A: copyOf(A), G: copyOf(G) },
      ...(o.eigensolver && { solve: o.eigensolver }),
    });
  }

  /**
   * UA diag(sA) UAᵀ ⊗ UG diag(sG) UGᵀ; with `eigenvalues` S [dOut, dIn], of which a copy is taken, (UA ⊗ UG) diag(vec S)
   * (UA ⊗ UG)ᵀ, as in EKFAC.
   */
  static fromBasis(kfe: Kfe, o: { readonly eigenvalues?: Tensor } = {}): KroneckerOperator {
    const where = `${NAME}.fromBasis`;
    checkArgument(where, 'basis', kfe, aBasis);
    checkOptions(where, o, FROM_BASIS);
    const sizes = [kfe.sG.size, kfe.sA.size] as const;
    const { eigenvalues = null } = o;
    if (eigenvalues !== null && String(eigenvalues.shape) !== String(sizes))
      throw new ShapeError(`${where}: expected eigenvalues [${sizes}], got [${eigenvalues.shape}]`);
    return new KroneckerOperator(KEY, sizes, { kfe, eigenvalues: eigenvalues && copyOf(eigenvalues) });
  }

  /**
   * Computes the eigenbasis, where there is none yet. Methods do it when they need it; call this before them where the factors
   * are on a device that is read with await.
   */
  async decompose(): Promise<this> {
    if (this.#kfe !== null) return this;
    const { A, G } = this.#factors!;
    const [a, g] = await Promise.all([A.cpu(), G.cpu()]);
    this.#kfe ??= lasting(() => this.#decomposed('decompose', { A: a, G: g }).on(A.device));
    return this;
  }

  /** G X A, of X [..., dOut, dIn]. */
  matvec(X: Tensor): Tensor {
    this.#check('matvec', X);
    return this.#factors === null ? this.#turned('matvec', X, S => S) : between(this.#factors, X);
  }

  /** (A ⊗ G + λ1)⁻¹ X, of X [..., dOut, dIn]. */
  solve(X: Tensor, o: SolveOptions = {}): Tensor {
    checkOptions(`${NAME}.solve`, o, SOLVE);
    this.#check('solve', X);
    const damping = dampingOf('solve', o);
    if (o.split === 'pi') return this.#solveSplit(X, damping);
    return this.#turned('solve', X, S => S.add(damping).reciprocal());
  }

  /** (A ⊗ G + λ1)^(−1/2) X with the symmetric root, of X [..., dOut, dIn]. Twice it is `solve`. */
  sqrtSolve(X: Tensor, o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.sqrtSolve`, o, DAMPING);
    this.#check('sqrtSolve', X);
    const damping = dampingOf('sqrtSolve', o);
    return this.#turned('sqrtSolve', X, S => S.add(damping).sqrt().reciprocal());
  }

  /** log det(A ⊗ G + λ1), of rank 0. */
  logdet(o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.logdet`, o, DAMPING);
    return this.#spectrum('logdet').add(dampingOf('logdet', o)).log().sum();
  }

  /** tr(A ⊗ G) = tr A · tr G, of rank 0. */
  trace(): Tensor {
    if (this.#factors === null) return this.#spectrum('trace').sum();
    const { A, G } = this.#factors;
    return traceOf(A, this.dIn).mul(traceOf(G, this.dOut));
  }

  /** The diagonal of A ⊗ G + λ1 in the layout of X, [dOut, dIn]. */
  diagonal(o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.diagonal`, o, DAMPING);
    const damping = dampingOf('diagonal', o);
    if (this.#factors === null)
      return this.#basis('diagonal').unprojectSquares(this.#spectrum('diagonal').add(damping));
    const { A, G } = this.#factors;
    return outer(diagonalOf(G, this.dOut), diagonalOf(A, this.dIn)).add(damping);
  }

  /** The diagonal of (A ⊗ G + λ1)⁻¹ in the layout of X, [dOut, dIn]: the variances of `sample`. */
  inverseDiagonal(o: DampingOptions = {}): Tensor {
    checkOptions(`${NAME}.inverseDiagonal`, o, DAMPING);
    const damping = dampingOf('inverseDiagonal', o);
    const S = this.#spectrum('inverseDiagonal');
    return this.#basis('inverseDiagonal').unprojectSquares(S.add(damping).reciprocal());
  }

  /** A draw from N(0, (A ⊗ G + λ1)⁻¹), [dOut, dIn]: UG [ Z / √(S + λ) ] UAᵀ of standard normal Z. */
  sample(o: SampleOptions = {}): Tensor {
    checkOptions(`${NAME}.sample`, o, SAMPLE);
    const S = this.#spectrum('sample').add(dampingOf('sample', o));
    const Z = randn([this.dOut, this.dIn], { dtype: S.dtype, device: S.device, ...(o.rng && { rng: o.rng }) });
    return this.#basis('sample').unproject(Z.div(S.sqrt()));
  }

  // --- inside -----------------------------------------------------------------------------------------------------------

  #check(method: string, X: Tensor): void {
    checkTensors(`${NAME}.${method}`, X);
    const [rows, columns] = X.shape.slice(-2);
    if (rows !== this.dOut || columns !== this.dIn)
      throw new ShapeError(`${NAME}.${method}: expected X [..., ${this.dOut}, ${this.dIn}], got [${X.shape}]`);
  }

  /** Multiplies the coordinates of X in the basis by a function of the eigenvalues [dOut, dIn]. */
  #turned(method: string, X: Tensor, f: (S: Tensor) => Tensor): Tensor {
    const kfe = this.#basis(method);
    return kfe.unproject(kfe.project(X).mul(f(this.#spectrum(method))));
  }

  #spectrum(method: string): Tensor {
    return this.#own ?? this.#basis(method).eigenvalues();
  }

  #basis(method: string): Kfe {
    if (this.#kfe === null) {
      const { A, G } = this.#factors!;
      if (readsLater(A))
        throw new TypeError(
          `${NAME}.${method}: needs the eigenbasis of factors on '${A.device}', which is read with await: await ` +
            'operator.decompose() first',
        );
      this.#kfe = lasting(() => this.#decomposed(method, { A, G }));
    }
    return this.#kfe;
  }

  #decomposed(method: string, factors: OperatorFactors): Kfe {
    const where = `${NAME}.${method}`;
    checkMeans(where, factors);
    const task = { ...factors, sizes: [this.dOut, this.dIn], label: 'A ⊗ G' } as const;
    return decomposed(where, task, matrix => this.#solve(matrix));
  }

  #solveSplit(X: Tensor, damping: number): Tensor {
    if (this.#own !== null)
      throw new TypeError(`${NAME}.solve: split 'pi' damps two factors, and this operator has eigenvalues of its own`);
    const factors = this.#factors;
    if (this.#kfe !== null || factors === null || readsLater(factors.A)) {
      const { sA, sG } = this.#basis('solve');
      const [a, g] = splitOf(sA.mean(), sG.mean(), damping);
      return this.#turned('solve', X, () => outer(sG.add(g), sA.add(a)).reciprocal());
    }
    if (this.#inverses?.damping !== damping)
      this.#inverses = lasting(() => {
        const { A, G } = factors;
        const [a, g] = splitOf(traceOf(A, this.dIn).div(this.dIn), traceOf(G, this.dOut).div(this.dOut), damping);
        return { A: inverseOf(A, a), G: inverseOf(G, g), damping };
      });
    return between(this.#inverses, X);
  }
}

/** Throws for a mean eigenvalue that none can be. */
function checkMeans(where: string, factors: OperatorFactors): void {
  for (const side of ['A', 'G'] as const) {
    const x = factors[side];
    if (x.rank === 0) checkRange(where, `factor ${side}, a mean eigenvalue,`, x.item(), 0, Infinity);
  }
}

function dampingOf(method: string, { damping = 0 }: DampingOptions): number {
  checkRange(`${NAME}.${method}`, 'damping', damping, 0, Infinity);
  return damping;
}

/** π√λ for A and √λ/π for G, of the mean eigenvalues of both; π is 1 where a factor is 0. */
function splitOf(meanA: Tensor, meanG: Tensor, damping: number): [Tensor, Tensor] {
  const ratio = meanA.div(meanG).sqrt();
  const pi = where(ratio.gt(0).logicalAnd(ratio.isFinite()), ratio, 1);
  const root = Math.sqrt(damping);
  return [pi.mul(root), pi.reciprocal().mul(root)];
}

/** (x + shift · 1)⁻¹; of a mean eigenvalue that of the multiple of the identity. */
function inverseOf(x: Tensor, shift: Tensor): Tensor {
  if (x.rank === 0) return x.add(shift).reciprocal();
  const damped = x.add(eye(x.shape[0]!, { dtype: x.dtype, device: x.device }).mul(shift));
  return tensor(inverse(damped.to('cpu').ndarray())).to(x.device);
}

/** G X A, where a factor of rank 0 is a multiple of the identity. */
function between({ A, G }: OperatorFactors, X: Tensor): Tensor {
  const half = G.rank === 0 ? X.mul(G) : G.matmul(X);
  return A.rank === 0 ? half.mul(A) : half.matmul(A);
}

const traceOf = (x: Tensor, n: number): Tensor => (x.rank === 0 ? x.mul(n) : diagonal(x).sum());

/** [n], of a mean eigenvalue too. */
const diagonalOf = (x: Tensor, n: number): Tensor => (x.rank === 0 ? x.expand([n]) : diagonal(x));

/** What is made lives as long as the operator, whatever scope is open. */
const lasting = <T>(make: () => T): T => unscoped(() => noGrad(make));

const copyOf = (x: Tensor): Tensor => lasting(() => x.detach().clone());
