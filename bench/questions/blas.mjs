/** The same with a native BLAS: what is left between otimes and PyTorch where both leave products to such a library? */

export async function* rows({ interleave, peers }) {
  if (!peers.has('otimes + BLAS')) return;
  const row = async (question, task, args, targets) => {
    const contenders = { otimes: 'otimes + BLAS', plain: 'otimes', PyTorch: 'PyTorch' };
    if (targets === undefined) delete contenders.PyTorch;
    const entries = Object.entries(contenders).map(([name, peer]) => [name, { peer, task, args }]);
    const { plain, ...values } = await interleave(Object.fromEntries(entries));
    const note = `${(plain / values.otimes).toFixed(2)}× without`;
    return { question: `${question}, with BLAS`, unit: 'ms', values, note, targets };
  };
  yield row('MLP 784-512-256-10, batch 128', 'mlp', { sizes: [784, 512, 256, 10], batch: 128 }, { PyTorch: 1 });
  yield row('transformer block', 'transformer', {}, { PyTorch: 1 });
  yield row('CNN 16-32, 28×28, batch 64', 'cnn', { batch: 64 }, { PyTorch: 1 });
  yield row('eigh 1024×1024', 'eigh', { n: 1024 });
}
