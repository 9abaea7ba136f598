"""Writes torch-nn.json: values and gradients of PyTorch's layers and losses in float64.

    /usr/bin/python3 test/golden/torch-nn.py      (Debian: apt-get install python3-torch)

A case has inputs by name, the output y, and the gradients of sum(gy * y) by every floating input. Inputs are decimals of
three places. Names are those of test/nn-layers.test.ts, which knows what each case computes.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def decimals(*shape, scale=1.0):
    return (torch.randn(shape) * scale).mul(1000).round().div(1000)


def stored(x):
    return {"shape": list(x.shape), "data": x.flatten().tolist()}


def case(run, **inputs):
    leaves = {k: x.clone().requires_grad_(x.is_floating_point()) for k, x in inputs.items()}
    y = run(**leaves)
    gy = decimals(*y.shape)
    (y * gy).sum().backward()
    gradients = {k: stored(x.grad) for k, x in leaves.items() if x.requires_grad}
    integers = [k for k, x in inputs.items() if not x.is_floating_point()]
    return {
        "inputs": {k: stored(x) for k, x in inputs.items()},
        "integers": integers,
        "y": stored(y.detach()),
        "gy": stored(gy),
        "gradients": gradients,
    }


cases = {
    "linear": case(lambda x, weight, bias: F.linear(x, weight, bias),
                   x=decimals(2, 3, 4), weight=decimals(5, 4), bias=decimals(5)),
    "linear without bias": case(lambda x, weight: F.linear(x, weight), x=decimals(3, 4), weight=decimals(2, 4)),
    "linear of a vector": case(lambda x, weight, bias: F.linear(x, weight, bias),
                               x=decimals(4), weight=decimals(3, 4), bias=decimals(3)),
    "layerNorm": case(lambda x, weight, bias: F.layer_norm(x, (5,), weight, bias),
                      x=decimals(2, 3, 5), weight=decimals(5), bias=decimals(5)),
    "layerNorm over two axes, eps 0.1": case(lambda x, weight: F.layer_norm(x, (3, 4), weight, None, 0.1),
                                             x=decimals(2, 3, 4), weight=decimals(3, 4)),
    "embedding": case(lambda weight, indices: F.embedding(indices, weight),
                      weight=decimals(4, 3), indices=torch.tensor([[2, 0, 2], [3, 3, 2]])),
}

activations = {"relu": F.relu, "gelu": F.gelu, "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
               "tanh": torch.tanh, "sigmoid": torch.sigmoid}
points = torch.tensor([-30.0, -5.5, -1.2, -0.3, -0.001, 0.0, 0.004, 0.7, 2.5, 6.0, 30.0])
for name, f in activations.items():
    cases[name] = case(lambda x: f(x), x=points)

labels = torch.tensor([1, 0, 3, 1, 2])
pixels = torch.tensor([[[0, 2], [1, 1], [2, 0]], [[1, 0], [2, 2], [0, 1]]])
for reduction in ("mean", "sum"):
    o = {"reduction": reduction}
    soft = decimals(5, 4).abs() + 0.01
    soft = soft / soft.sum(1, keepdim=True)
    deep = decimals(2, 3, 3, 2).abs()
    for smoothing in (0.0, 0.1):
        s = {**o, "label_smoothing": smoothing}
        suffix = f"{reduction}, smoothing {smoothing}"
        cases[f"crossEntropy of labels, {suffix}"] = case(
            lambda logits, targets: F.cross_entropy(logits, targets, **s), logits=decimals(5, 4, scale=2), targets=labels)
        cases[f"crossEntropy of probabilities, {suffix}"] = case(
            lambda logits, targets: F.cross_entropy(logits, targets, **s), logits=decimals(5, 4, scale=2), targets=soft)
        cases[f"crossEntropy of labels on further axes, {suffix}"] = case(
            lambda logits, targets: F.cross_entropy(logits, targets, **s), logits=decimals(2, 3, 3, 2), targets=pixels)
        cases[f"crossEntropy of probabilities on further axes, {suffix}"] = case(
            lambda logits, targets: F.cross_entropy(logits, targets, **s), logits=decimals(2, 3, 3, 2), targets=deep)
    cases[f"crossEntropy of huge logits, {reduction}"] = case(
        lambda logits, targets: F.cross_entropy(logits, targets, **o),
        logits=torch.tensor([[1000.0, -1000.0, 0.0], [-5000.0, -5001.0, -5000.5]]), targets=torch.tensor([2, 1]))
    cases[f"mseLoss, {reduction}"] = case(
        lambda prediction, target: F.mse_loss(prediction, target, **o), prediction=decimals(3, 4), target=decimals(3, 4))
    cases[f"bceWithLogits, {reduction}"] = case(
        lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, **o),
        logits=torch.tensor([[-800.0, -20.0, -1.5, 0.0], [0.0, 0.3, 25.0, 800.0]]),
        target=torch.tensor([[0.0, 1.0, 0.25, 1.0], [0.0, 0.5, 0.0, 0.125]]))

pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"torch": torch.__version__, "cases": cases}) + "\n")
