/**
 * An actor learns to balance a pole on a cart, and a critic tells it how much better than expected an action was (Sutton & Barto 2018,
 * section 13.5). Ends on how long the last 50 episodes were, and on exit code 1 if they fell short.
 *
 *   npm run example actor-critic               npm run example actor-critic -- --help
 */

import { Generator, multinomial, noGrad, scope, std, type Tensor, tensor } from '@otimes/core';
import { Linear, Module, smoothL1Loss } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { command, say } from '../shared/command.ts';
import { hasFallen, LONGEST, push, type State, start } from './cart-pole.ts';

const DISCOUNT = 0.99;
const [RECENT, HIDDEN] = [50, 128];

/** Two heads on one hidden layer: states [T, 4] → logits of the actions [T, 2], and values [T]. */
class Policy extends Module<[states: Tensor], { logits: Tensor; values: Tensor }> {
  readonly hidden: Linear;
  readonly actor: Linear;
  readonly critic: Linear;

  constructor(rng: Generator) {
    super();
    this.hidden = new Linear(4, HIDDEN, { rng });
    this.actor = new Linear(HIDDEN, 2, { rng });
    this.critic = new Linear(HIDDEN, 1, { rng });
  }

  override forward(states: Tensor): { logits: Tensor; values: Tensor } {
    const h = this.hidden.call(states).relu();
    return { logits: this.actor.call(h), values: this.critic.call(h).squeeze(1) };
  }
}

type Episode = { readonly states: State[]; readonly actions: number[] };

/** One episode; a reward of 1 for every step until the pole falls. */
function play(policy: Policy, rng: Generator): Episode {
  const episode: Episode = { states: [], actions: [] };
  for (let state = start(rng); !hasFallen(state) && episode.states.length < LONGEST; ) {
    const here = state;
    const action = scope(() =>
      noGrad(() => multinomial(policy.call(tensor([here])).logits.softmax(1), 1, { rng }).item()),
    );
    episode.states.push(state);
    episode.actions.push(action);
    state = push(state, action);
  }
  return episode;
}

/** The sum of what was still to come at each step, discounted, standardised over the episode. */
function returns(steps: number): Tensor {
  const sums = Array.from({ length: steps }, (_, t) => (1 - DISCOUNT ** (steps - t)) / (1 - DISCOUNT));
  const all = tensor(sums);
  return all.sub(all.mean()).div(std(all).add(1e-6));
}

function loss(policy: Policy, { states, actions }: Episode): Tensor {
  const { logits, values } = policy.call(tensor(states));
  const gains = returns(states.length);
  const logProbs = logits
    .logSoftmax(1)
    .gather(1, tensor(actions, { dtype: 'int32' }).unsqueeze(1))
    .squeeze(1);
  const advantages = gains.sub(values.detach());
  return logProbs
    .mul(advantages)
    .sum()
    .neg()
    .add(smoothL1Loss(values, gains, { reduction: 'sum' }));
}

await command(
  {
    name: 'actor-critic',
    about: 'An actor and a critic learn to balance a pole on a cart (CartPole-v1).',
    optimizers: { Adam: 0.01 },
    settings: {
      episodes: { value: 800, about: 'at most', least: RECENT },
      target: { value: 400, about: 'mean length of the last 50 episodes, of 500 at most', least: 1 },
    },
  },
  ({ lr, episodes, target, seed }) => {
    const rng = new Generator(seed);
    const policy = new Policy(rng);
    const optimizer = new Adam(policy.parameters(), { lr });
    const lengths: number[] = [];
    const recent = () => lengths.slice(-RECENT).reduce((sum, n) => sum + n, 0) / Math.min(RECENT, lengths.length);
    while (lengths.length < episodes && (lengths.length < RECENT || recent() < target)) {
      const episode = play(policy, rng);
      lengths.push(episode.states.length);
      optimizer.zeroGrad();
      scope(() => loss(policy, episode).backward());
      optimizer.step();
      if (lengths.length % RECENT === 0)
        say(
          `episode ${String(lengths.length).padStart(4)}   mean length of the last ${RECENT}: ${recent().toFixed(1)}`,
        );
    }
    return {
      reached: `${recent().toFixed(1)} steps, the mean of the last ${RECENT} of ${lengths.length} episodes`,
      ok: recent() >= target,
    };
  },
);
