/**
 * A network that solves Burgers' equation, u_t + u u_x = ν u_xx, from nothing but the equation and its values at the edge: a
 * physics-informed network (Raissi, Perdikaris & Karniadakis 2019) in float64, trained by Adam and then L-BFGS, or by STEVE. Ends on
 * the distance to the exact solution, and on exit code 1 if that is too large.
 *
 *   npm run example pinn                       npm run example pinn -- --optimizer STEVE
 */

import { concat, Generator, grad, noGrad, rand, scope, stack, type Tensor, zeros } from '@otimes/core';
import { type MLP, mlp, mseLoss } from '@otimes/nn';
import { Adam, cosineLr, LBFGS, Schedule, STEVE } from '@otimes/optim';
import { command, say } from '../shared/command.ts';

const NU = 0.05;
/** Above 1; the nearer, the steeper the solution at first. */
const A = 1.2;
const F64 = { dtype: 'float64' } as const;
/** Points inside, and points of each of three edges. */
const [INSIDE, EDGE] = [500, 50];
/** Of the values at the edge in the loss, beside the equation inside. */
const EDGE_WEIGHT = 10;

/** A solution for x, t in [0, 1] that is 0 at both ends, by the Cole–Hopf transformation (Wood 2006). points [n, 2] → [n, 1]. */
function exact(points: Tensor): Tensor {
  const [x, t] = [points.narrow(1, 0, 1).mul(Math.PI), points.narrow(1, 1, 1)];
  const fading = t.mul(-NU * Math.PI ** 2).exp();
  const over = fading.mul(x.cos()).add(A);
  return fading
    .mul(x.sin())
    .mul(2 * NU * Math.PI)
    .div(over);
}

/** u_t + u u_x − ν u_xx at points [n, 2], each (x, t); 0 for a solution. */
function residual(model: MLP, points: Tensor): Tensor {
  const inside = { createGraph: true };
  const u = model.call(points);
  const [du] = grad(u.sum(), [points], inside);
  const [ux, ut] = [du!.narrow(1, 0, 1), du!.narrow(1, 1, 1)];
  const [dux] = grad(ux.sum(), [points], inside);
  return ut.add(u.mul(ux)).sub(dux!.narrow(1, 0, 1).mul(NU));
}

await command(
  {
    name: 'pinn',
    about: "Solves Burgers' equation with a network of 3 × 20 units, by Adam and then L-BFGS, or by STEVE.",
    optimizers: { Adam: 0.005, STEVE: 0.02 },
    settings: {
      steps: { value: 1000, about: 'of Adam or STEVE', least: 1 },
      iterations: { value: 500, about: 'of L-BFGS, after Adam' },
      target: { value: 0.01, about: 'relative L2 error', fraction: true },
    },
  },
  async ({ optimizer: name, lr, steps, iterations, seed, target }) => {
    const rng = new Generator(seed);
    const model = mlp([2, 20, 20, 20, 1], { activation: 'tanh', rng, ...F64 });
    const points = rand([INSIDE, 2], { rng, ...F64 });
    points.requiresGrad = true;
    const edge = edges(rng);
    const atEdge = exact(edge);
    const loss = (): Tensor => {
      const wrong = residual(model, points).square().mean();
      return wrong.add(mseLoss(model.call(edge), atEdge).mul(EDGE_WEIGHT));
    };
    /** ‖u − exact‖ / ‖exact‖ on points that it was not trained on. */
    const grid = rand([2000, 2], { rng: new Generator(seed + 1), ...F64 });
    const error = () => noGrad(() => model.call(grid).sub(exact(grid)).norm().div(exact(grid).norm()).item());
    const line = (what: string, n: number, value: number) =>
      say(
        `${what.padEnd(7)}${String(n).padStart(5)}   loss ${value.toExponential(2)}   error ${error().toExponential(2)}`,
      );

    const first = name === 'STEVE' ? new STEVE(model, { lr }) : new Adam(model.parameters(), { lr });
    const schedule = new Schedule(first, cosineLr({ tMax: steps }));
    for (let step = 1; step <= steps; step++) {
      first.zeroGrad();
      const value = scope(() => {
        const value = loss();
        value.backward();
        return value.item();
      });
      first.step();
      schedule.step();
      if (step % Math.ceil(steps / 5) === 0 || step === steps) line(name, step, value);
    }

    if (name === 'Adam') {
      const each = 100;
      const second = new LBFGS(model.parameters(), {
        maxIter: each,
        toleranceChange: 1e-14,
        lineSearch: 'strongWolfe',
      });
      for (let done = each; done <= iterations; done += each) {
        await second.step(() => {
          second.zeroGrad();
          const value = loss();
          value.backward();
          return value;
        });
        line(
          'L-BFGS',
          done,
          scope(() => loss().item()),
        );
      }
    }
    const reached = error();
    return { reached: `relative L2 error ${reached.toExponential(2)}`, ok: reached <= target };
  },
);

/** Points at t = 0 and at both ends, [3 EDGE, 2]. */
function edges(rng: Generator): Tensor {
  const free = () => rand([EDGE], { rng, ...F64 });
  const none = zeros([EDGE], F64);
  const [left, right] = [stack([none, free()], 1), stack([none.add(1), free()], 1)];
  return concat([stack([free(), none], 1), left, right], 0);
}
