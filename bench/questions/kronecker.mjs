/**
 * How many of Adam's steps does a step of KFAC, EKFAC and STEVE cost between refreshes of the eigenbases? Statistics are
 * collected every 10 steps. No peers: none has these optimizers.
 */

const NETWORKS = {
  mlp: { name: 'MLP as above', most: 2.5 },
  cnn: { name: 'CNN as above', most: 1.15 },
  transformer: { name: 'transformer block as above', most: 1.6 },
};
const OPTIMIZERS = { KFAC: 'kfac', EKFAC: 'ekfac', STEVE: 'steve' };

export async function* rows({ interleave }) {
  const contender = (network, optimizer, more = {}) => ({
    peer: 'otimes',
    task: 'kronecker',
    args: { network, optimizer, ...more },
  });
  for (const [network, { name, most }] of Object.entries(NETWORKS)) {
    const all = Object.entries({ Adam: 'adam', ...OPTIMIZERS }).map(([label, optimizer]) => [
      label,
      contender(network, optimizer),
    ]);
    if (network === 'mlp')
      all.push(['STEVE, activations projected', contender(network, 'steve', { route: 'activations' })]);
    // A sample is at least ten steps, one of which collects statistics.
    const ms = await interleave(Object.fromEntries(all), { sample: 1 });
    for (const [label] of all.slice(1)) {
      const ratio = ms[label] / ms.Adam;
      const limit = label.includes('projected') ? 4.5 : most;
      yield {
        question: `step of ${label} between refreshes, ${name}`,
        unit: 'ms',
        values: { otimes: ms[label] },
        note: `${ratio.toFixed(2)} × Adam's${ratio > limit ? ` ✗ ${limit}` : ''}`,
      };
    }
  }
}
