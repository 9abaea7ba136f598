/**
 * What does a training step with Adam cost in networks of usual sizes, beside PyTorch's? The same weights and batches: the loss of
 * the second step must agree. And by the clock on the wall, with two threads of otimes against one of PyTorch.
 */

const NETWORKS = {
  resnet18: 'ResNet-18, 32×32, batch 32',
  mnist: "CNN of PyTorch's MNIST example, batch 64",
  chars: 'transformer over characters, d 128, 4 heads, 4 blocks, 64 positions, batch 16',
};

export async function* rows({ interleave }) {
  for (const [network, name] of Object.entries(NETWORKS))
    for (const threads of [1, 2]) {
      const contenders = {
        otimes: { peer: 'otimes', task: 'large', args: { network, threads } },
        PyTorch: { peer: 'PyTorch', task: 'large', args: { network } },
      };
      const more = threads === 1 ? {} : { clock: 'wall' };
      yield {
        question: threads === 1 ? name : `${name}: two threads, PyTorch's one, by the wall clock`,
        unit: 'ms',
        values: await interleave(contenders, { tolerance: 3e-4, sample: 1, ...more }),
      };
    }
}
