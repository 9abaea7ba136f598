"""Writes torch-losses.json: values and gradients of PyTorch's losses in float64.

    /usr/bin/python3 test/golden/torch-losses.py      (Debian: apt-get install python3-torch)

A case has the loss and its options by the names of @otimes/nn, inputs by name in the order of the arguments, the output y, and the
gradients of sum(gy * y) by those inputs that PyTorch differentiates by. Inputs whose names are options are passed as such.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def decimals(*shape, scale=1.0):
    return (torch.randn(shape) * scale).mul(1000).round().div(1000)


def number(x):
    """JSON has no numbers that are not finite."""
    return x if math.isfinite(x) else str(x)


def stored(x):
    return {"shape": list(x.shape), "data": [number(v) for v in x.flatten().tolist()]}


def case(loss, run, options=None, constants=(), tensors=(), **inputs):
    """constants are not differentiated by; tensors are options."""
    leaves = {k: x.clone().requires_grad_(x.is_floating_point() and k not in constants and k not in tensors)
              for k, x in inputs.items()}
    y = run(**leaves)
    gy = decimals(*y.shape)
    (y * gy).sum().backward()
    return {
        "loss": loss,
        "options": options or {},
        "inputs": {k: stored(x) for k, x in inputs.items()},
        "tensors": list(tensors),
        "integers": [k for k, x in inputs.items() if not x.is_floating_point()],
        "y": stored(y.detach()),
        "gy": stored(gy),
        "gradients": {k: stored(x.grad) for k, x in leaves.items() if x.requires_grad},
    }


cases = {}
# That the sum is the sum of what is none is a law of its own.
reductions = ["mean", "none"]


def add(name, loss, run, options=None, **rest):
    """The case for each reduction."""
    for reduction in reductions:
        cases[f"{name}, {reduction}"] = case(loss, lambda **x: run(reduction=reduction, **x),
                                             {**(options or {}), "reduction": reduction}, **rest)


x, t = decimals(3, 4, scale=2), decimals(3, 4, scale=2)
t[0, 0] = x[0, 0]
t[1, 1] = x[1, 1] - 0.5
t[2, 2] = x[2, 2] + 1
add("mse", "mseLoss", lambda x, t, reduction: F.mse_loss(x, t, reduction=reduction), x=x, t=t)
add("l1", "l1Loss", lambda x, t, reduction: F.l1_loss(x, t, reduction=reduction), x=x, t=t)
# With beta 0 its gradient where both are equal is -1; ours is 0, as that of l1.
apart = t + 0.0
apart[0, 0] += 0.25
for beta, t in [(0, apart), (0.5, t), (1, t)]:
    add(f"smoothL1 of beta {beta}", "smoothL1Loss",
        lambda x, t, reduction, beta=beta: F.smooth_l1_loss(x, t, reduction=reduction, beta=beta), {"beta": beta}, x=x, t=t)
for delta in [0.5, 2]:
    add(f"huber of delta {delta}", "huberLoss",
        lambda x, t, reduction, delta=delta: F.huber_loss(x, t, reduction=reduction, delta=delta), {"delta": delta}, x=x, t=t)

logits = decimals(4, 3, scale=2)
far = decimals(2, 3, 2, scale=2)
labels, farLabels = torch.tensor([2, 0, 1, 0]), torch.tensor([[2, 0], [1, 1]])
weight = torch.tensor([0.5, 2.0, 1.25])
soft, farSoft = torch.softmax(decimals(4, 3), 1), torch.softmax(decimals(2, 3, 2), 1)
for name, z, y in [("rows", logits, labels), ("positions", far, farLabels)]:
    for smoothing in [0, 0.1]:
        for skip in [None, 0, -100]:
            for w in [None, weight]:
                labelled = y.clone()
                if skip == -100:
                    labelled.view(-1)[1] = -100
                options = {**({"labelSmoothing": smoothing} if smoothing else {}),
                           **({"ignoreIndex": skip} if skip is not None else {})}
                add(f"crossEntropy of {name}, smoothing {smoothing}, ignoring {skip}, {'un' if w is None else ''}weighted",
                    "crossEntropy",
                    lambda z, y, reduction, weight=None, s=smoothing, i=skip: F.cross_entropy(
                        z, y, reduction=reduction, weight=weight, label_smoothing=s, ignore_index=-100 if i is None else i),
                    options, z=z, y=labelled, **({} if w is None else {"weight": w, "tensors": ["weight"]}))
for name, z, y in [("rows", logits, soft), ("positions", far, farSoft)]:
    for smoothing in [0, 0.1]:
        for w in [None, weight]:
            add(f"crossEntropy of probabilities of {name}, smoothing {smoothing}, {'un' if w is None else ''}weighted", "crossEntropy",
                lambda z, y, reduction, weight=None, s=smoothing: F.cross_entropy(
                    z, y, reduction=reduction, weight=weight, label_smoothing=s),
                {"labelSmoothing": smoothing}, z=z, y=y, constants=("y",), **({} if w is None else {"weight": w, "tensors": ["weight"]}))
add("crossEntropy, all ignored", "crossEntropy",
    lambda z, y, reduction: F.cross_entropy(z, y, reduction=reduction, ignore_index=1), {"ignoreIndex": 1},
    z=decimals(2, 3), y=torch.tensor([1, 1]))
for w in [None, weight]:
    add(f"nll, {'un' if w is None else ''}weighted", "nllLoss",
        lambda p, y, reduction, weight=None: F.nll_loss(p, y, reduction=reduction, weight=weight, ignore_index=0),
        {"ignoreIndex": 0}, p=torch.log_softmax(far, 1), y=farLabels, **({} if w is None else {"weight": w, "tensors": ["weight"]}))

p = torch.tensor([[0.0, 1.0, 0.3], [1.0, 0.0, 0.9]])
target = torch.tensor([[0.0, 1.0, 0.25], [0.5, 1.0, 1.0]])
row = torch.tensor([0.5, 2.0, 3.0])
add("bce", "bceLoss", lambda p, t, reduction: F.binary_cross_entropy(p, t, reduction=reduction),
    p=(p + 0.1) * 0.8, t=target)
# By t it is the infinite one of an unclamped logarithm here; ours is that of the value.
add("bce at 0 and 1", "bceLoss", lambda p, t, reduction: F.binary_cross_entropy(p, t, reduction=reduction), constants=("t",),
    p=p, t=target)
add("bce, weighted", "bceLoss",
    lambda p, t, weight, reduction: F.binary_cross_entropy(p, t, weight=weight, reduction=reduction),
    constants=("t",), tensors=("weight",), p=p, t=target, weight=row)
z = torch.tensor([[-40.0, 30.0, 0.0], [1.5, -2.5, 0.001]])
add("bceWithLogits", "bceWithLogits",
    lambda z, t, reduction: F.binary_cross_entropy_with_logits(z, t, reduction=reduction), constants=("t",), z=z, t=target)
add("bceWithLogits, positives weighted", "bceWithLogits",
    lambda z, t, posWeight, reduction: F.binary_cross_entropy_with_logits(z, t, pos_weight=posWeight, reduction=reduction),
    constants=("t",), tensors=("posWeight",), z=z, t=target, posWeight=row)
add("bceWithLogits, weighted both ways", "bceWithLogits",
    lambda z, t, weight, posWeight, reduction: F.binary_cross_entropy_with_logits(
        z, t, weight=weight, pos_weight=posWeight, reduction=reduction),
    constants=("t",), tensors=("weight", "posWeight"), z=z, t=target, weight=row.view(1, 3) * 0.5, posWeight=row)

logq, q = torch.log_softmax(decimals(3, 4), 1), torch.softmax(decimals(3, 4), 1)
q[0, 1] = 0
reductions.append("batchmean")
add("klDiv", "klDivLoss", lambda x, t, reduction: F.kl_div(x, t, reduction=reduction), constants=("t",), x=logq, t=q)
add("klDiv of logarithms", "klDivLoss", lambda x, t, reduction: F.kl_div(x, t, reduction=reduction, log_target=True),
    {"logTarget": True}, x=logq, t=torch.log_softmax(decimals(3, 4), 1))
reductions.pop()

counts = torch.tensor([[0.0, 1.0, 2.0, 7.0]] * 3)
for full in [False, True]:
    add(f"poissonNll of logarithms, full {full}", "poissonNllLoss",
        lambda x, t, reduction, full=full: F.poisson_nll_loss(x, t, full=full, reduction=reduction), {"full": full},
        constants=("t",), x=decimals(3, 4), t=counts)
    add(f"poissonNll of rates, full {full}", "poissonNllLoss",
        lambda x, t, reduction, full=full: F.poisson_nll_loss(x, t, log_input=False, full=full, reduction=reduction),
        {"logInput": False, "full": full}, constants=("t",), x=decimals(3, 4).abs() + 0.1, t=counts)
    for shape in [(3, 4), (3, 1), (3,)]:
        variance = decimals(*shape).abs()
        variance.view(-1)[0] = 0
        add(f"gaussianNll, a variance {list(shape)}, full {full}", "gaussianNllLoss",
            lambda x, t, v, reduction, full=full: F.gaussian_nll_loss(x, t, v, full=full, eps=0.01, reduction=reduction),
            {"full": full, "eps": 0.01}, x=decimals(3, 4), t=decimals(3, 4), v=variance)

signs = torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
d = torch.tensor([[0.3, 0.5, -2.0, 1.5], [1.0, 3.0, 0.0, 2.5]])
for margin in [1, 1.5]:
    add(f"hingeEmbedding, margin {margin}", "hingeEmbeddingLoss",
        lambda x, y, reduction, m=margin: F.hinge_embedding_loss(x, y, margin=m, reduction=reduction), {"margin": margin},
        constants=("y",), x=d, y=signs)
    add(f"hinge, margin {margin}", "hingeLoss",
        lambda x, y, reduction, m=margin: {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction](
            (m - x * y).clamp(min=0)), {"margin": margin}, constants=("y",), x=d, y=signs)
    add(f"marginRanking, margin {margin}", "marginRankingLoss",
        lambda a, b, y, reduction, m=margin: F.margin_ranking_loss(a, b, y, margin=m, reduction=reduction), {"margin": margin},
        constants=("y",), a=d, b=decimals(2, 4), y=signs)
    for power in [1, 2]:
        add(f"multiMargin, margin {margin}, power {power}", "multiMarginLoss",
            lambda x, y, reduction, weight, m=margin, p=power: F.multi_margin_loss(
                x, y, p=p, margin=m, weight=weight, reduction=reduction), {"margin": margin, "p": power},
            tensors=("weight",), x=logits, y=labels, weight=weight)

a, b, c = decimals(3, 4), decimals(3, 4), decimals(3, 4)
for margin in [0, 0.2]:
    add(f"cosineEmbedding, margin {margin}", "cosineEmbeddingLoss",
        lambda a, b, y, reduction, m=margin: F.cosine_embedding_loss(a, b, y, margin=m, reduction=reduction), {"margin": margin},
        constants=("y",), a=a, b=b, y=torch.tensor([1.0, -1.0, -1.0]))
for power in [1, 2, 3]:
    for swap in [False, True]:
        add(f"tripletMargin, norm {power}, swap {swap}", "tripletMarginLoss",
            lambda a, b, c, reduction, p=power, s=swap: F.triplet_margin_loss(a, b, c, p=p, swap=s, reduction=reduction),
            {"p": power, "swap": swap}, a=a, b=b, c=c)

ctc = {}
scores = decimals(6, 3, 4, scale=2)
padded = torch.tensor([[1, 2, 2], [3, 0, 0], [1, 1, 0]])
for name, targets, inputs, lengths, blank in [
    ("padded", padded, [6, 4, 5], [3, 1, 2], 0),
    ("one after the other", torch.tensor([1, 2, 2, 3, 1, 1]), [6, 4, 5], [3, 1, 2], 0),
    ("with an empty target", padded, [6, 4, 5], [3, 0, 2], 0),
    ("the last class blank", torch.tensor([[1, 2, 2], [0, 0, 0], [1, 1, 0]]), [6, 6, 6], [3, 2, 2], 3),
    ("as short as can be", padded, [4, 1, 3], [3, 1, 2], 0),
]:
    for reduction in reductions:
        one = case("ctcLoss", lambda z, y, r=reduction: F.ctc_loss(
            torch.log_softmax(z, 2), y, torch.tensor(inputs), torch.tensor(lengths), blank=blank, reduction=r),
            {"blank": blank, "reduction": reduction}, z=scores, y=targets)
        ctc[f"{name}, {reduction}"] = {**one, "inputLengths": inputs, "targetLengths": lengths}
for zero in [False, True]:
    for reduction in reductions:
        one = case("ctcLoss", lambda z, y, r=reduction: F.ctc_loss(
            torch.log_softmax(z, 2), y, torch.tensor([6, 1, 2]), torch.tensor([3, 1, 2]), reduction=r, zero_infinity=zero),
            {"zeroInfinity": zero, "reduction": reduction}, z=scores, y=padded)
        ctc[f"a target too long, zeroInfinity {zero}, {reduction}"] = {
            **one, "inputLengths": [6, 1, 2], "targetLengths": [3, 1, 2]}

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"torch": torch.__version__, "cases": cases, "ctc": ctc}) + "\n")
