"""Writes torch-modules.json: values and gradients of PyTorch's activations and smaller layers in float64.

    /usr/bin/python3 test/golden/torch-modules.py      (Debian: apt-get install python3-torch)

A case has inputs by name, the output y, and the gradients of sum(gy * y) by the floating inputs. Names are those of
test/nn-small-layers.test.ts, which knows what each case computes. PyTorch 1.13 has no RMSNorm: its formula is written out.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def decimals(*shape):
    return torch.randn(shape).mul(1000).round().div(1000)


def stored(x):
    return {"shape": list(x.shape), "data": x.flatten().tolist()}


def case(run, **inputs):
    leaves = {k: x.clone().requires_grad_(x.is_floating_point()) for k, x in inputs.items()}
    y = run(**leaves)
    gy = decimals(*y.shape)
    (y * gy).sum().backward()
    return {
        "inputs": {k: stored(x) for k, x in inputs.items()},
        "integers": [k for k, x in inputs.items() if not x.is_floating_point()],
        "y": stored(y.detach()),
        "gy": stored(gy),
        "gradients": {k: stored(x.grad) for k, x in leaves.items() if x.requires_grad},
    }


points = torch.tensor([-800.0, -30.0, -5.5, -3.0, -1.2, -1.0, -0.3, -0.001, 0.0, 0.004, 0.7, 1.0, 2.5, 3.0, 6.0, 30.0, 800.0, 1.25])
activations = {
    "leakyRelu": F.leaky_relu,
    "leakyRelu 0.2": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "elu 0.5": lambda x: F.elu(x, 0.5),
    "celu 0.5": lambda x: F.celu(x, 0.5),
    "selu": F.selu,
    "silu": F.silu,
    "softplus": F.softplus,
    "softplus, beta 2, threshold 3": lambda x: F.softplus(x, 2, 3),
    "mish": F.mish,
    "hardtanh": F.hardtanh,
    "hardtanh, -3 to 2.5": lambda x: F.hardtanh(x, -3, 2.5),
    "relu6": F.relu6,
    # F.hardsigmoid has 1/6 in float32 in its gradient.
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
    "logSigmoid": F.logsigmoid,
    "glu": F.glu,
    "softmax": lambda x: F.softmax(x, 0),
    "logSoftmax": lambda x: F.log_softmax(x, 0),
}
cases = {name: case(lambda x, run=run: run(x), x=points) for name, run in activations.items()}
cases["prelu"] = case(lambda x, weight: F.prelu(x, weight), x=points, weight=torch.tensor([0.25]))
cases["prelu of channels"] = case(lambda x, weight: F.prelu(x, weight), x=decimals(2, 3, 4), weight=decimals(3))
cases["glu, axis 1"] = case(lambda x: F.glu(x, 1), x=decimals(2, 4, 3))
cases["bilinear"] = case(lambda a, b, weight, bias: F.bilinear(a, b, weight, bias),
                         a=decimals(2, 3, 4), b=decimals(2, 3, 5), weight=decimals(3, 4, 5), bias=decimals(3))
cases["cosineSimilarity"] = case(lambda a, b: F.cosine_similarity(a, b), a=decimals(3, 4), b=decimals(3, 4))
cases["cosineSimilarity, axis 0"] = case(lambda a, b: F.cosine_similarity(a, b, dim=0), a=decimals(3, 4), b=decimals(3, 1))
for p in [1, 2, 3, float("inf")]:
    cases[f"pairwiseDistance {p}"] = case(lambda a, b: F.pairwise_distance(a, b, p=p), a=decimals(3, 4), b=decimals(3, 4))
for name, eps in [("rmsNorm", torch.finfo(torch.float64).eps), ("rmsNorm, eps 0.1", 0.1)]:
    cases[name] = case(lambda x, weight: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight,
                       x=decimals(2, 3, 4), weight=decimals(4))
cases["embedding with padding"] = case(lambda weight, indices: F.embedding(indices, weight, padding_idx=1),
                                       weight=decimals(4, 3), indices=torch.tensor([[2, 1, 2], [1, 3, 2]]))
table, rows, flat = decimals(5, 3), torch.tensor([[1, 0, 4], [2, 2, 1]]), torch.tensor([1, 0, 4, 2, 2, 1, 3])
for mode in ["sum", "mean", "max"]:
    cases[f"embeddingBag {mode}"] = case(lambda weight, indices: F.embedding_bag(indices, weight, mode=mode),
                                         weight=table, indices=torch.tensor([[1, 0, 4], [2, 3, 1]]))
    cases[f"embeddingBag {mode} with offsets"] = case(
        lambda weight, indices: F.embedding_bag(indices, weight, torch.tensor([0, 3, 3, 6]), mode=mode),
        weight=table, indices=torch.tensor([1, 0, 4, 2, 0, 1, 3]))
    cases[f"embeddingBag {mode} with the last offset and padding"] = case(
        lambda weight, indices: F.embedding_bag(indices, weight, torch.tensor([0, 2, 3, 7]), mode=mode,
                                                include_last_offset=True, padding_idx=4),
        weight=table, indices=torch.tensor([1, 0, 4, 2, 0, 4, 3]))
cases["embeddingBag of weighted rows"] = case(
    lambda weight, w, indices: F.embedding_bag(indices, weight, mode="sum", per_sample_weights=w),
    weight=table, w=decimals(2, 3), indices=rows)
cases["embeddingBag of weighted rows with offsets"] = case(
    lambda weight, w, indices: F.embedding_bag(indices, weight, torch.tensor([0, 3]), mode="sum", per_sample_weights=w),
    weight=table, w=decimals(7), indices=flat)

pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"torch": torch.__version__, "cases": cases}) + "\n")
