/** The cart-pole of Barto, Sutton & Anderson (1983), with the numbers of OpenAI Gym's CartPole-v1. */

import type { Generator } from '@otimes/core';

const GRAVITY = 9.8; // m/s²
const [CART, POLE] = [1, 0.1]; // kg
const HALF = 0.5; // half of the pole's length, m
const FORCE = 10; // N
const DT = 0.02; // s
const [TRACK, TILT] = [2.4, (12 * Math.PI) / 180]; // m and radians, at which an episode ends
/** Steps after which an episode ends in any case. */
export const LONGEST = 500;

/** Position (m), velocity (m/s), angle (radians) and angular velocity of the pole. */
export type State = readonly [x: number, v: number, angle: number, spin: number];

export function start(rng: Generator): State {
  const near = () => 0.1 * rng.uniform() - 0.05;
  return [near(), near(), near(), near()];
}

/** The state after DT seconds of pushing to the left (0) or to the right (1), by Euler's method. */
export function push([x, v, angle, spin]: State, action: number): State {
  const force = action === 1 ? FORCE : -FORCE;
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  const pull = (force + POLE * HALF * spin * spin * sin) / (CART + POLE);
  const turn = (GRAVITY * sin - cos * pull) / (HALF * (4 / 3 - (POLE * cos * cos) / (CART + POLE)));
  const speed = pull - (POLE * HALF * turn * cos) / (CART + POLE);
  return [x + DT * v, v + DT * speed, angle + DT * spin, spin + DT * turn];
}

export function hasFallen([x, , angle]: State): boolean {
  return Math.abs(x) > TRACK || Math.abs(angle) > TILT;
}
