/**
 * How many of Adam's steps does a step of KFAC, EKFAC and STEVE cost between refreshes of the eigenbases? Factors are
 * updated every 10 steps. No peers: none has these optimizers.
 */

const ARGS = { sizes: [784, 512, 256, 10], batch: 128 };

export async function* rows({ interleave }) {
  const contender = optimizer => ({ peer: 'otimes', task: 'kronecker', args: { ...ARGS, optimizer } });
  const names = { KFAC: 'kfac', EKFAC: 'ekfac', STEVE: 'steve' };
  const all = Object.entries({ Adam: 'adam', ...names }).map(([name, optimizer]) => [name, contender(optimizer)]);
  // A sample is at least ten steps, one of which updates the factors.
  const ms = await interleave(Object.fromEntries(all), { sample: 1 });
  for (const name of Object.keys(names))
    yield {
      question: `step of ${name} between refreshes, MLP as above`,
      unit: 'ms',
      values: { otimes: ms[name] },
      note: `${(ms[name] / ms.Adam).toFixed(1)} × Adam's`,
    };
}
