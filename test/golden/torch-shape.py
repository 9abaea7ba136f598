"""Writes torch-shape.json beside it: interpolation, padding and distances by PyTorch, with gradients. PyTorch 1.13."""
import json
from pathlib import Path

import torch
import torch.nn.functional as F

torch.manual_seed(1)
double = torch.float64


def rounded(x):
    return [float(f"{v:.13g}") for v in x.detach().flatten().tolist()]


def case(f, *inputs):
    """Inputs, result, and the gradients of Σ gy · y."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = f(*leaves)
    gy = torch.arange(y.numel(), dtype=double).reshape(y.shape).remainder(7) - 3
    grads = torch.autograd.grad(y, leaves, gy)
    return {
        "inputs": [{"shape": list(x.shape), "data": rounded(x)} for x in inputs],
        "shape": list(y.shape),
        "result": rounded(y),
        "gradients": [rounded(g) for g in grads],
    }


def image(*shape):
    return (torch.randint(-32, 33, (1, 2, *shape)) / 16).to(double)


modes = ["linear", "bilinear", "trilinear"]
interpolations = []
for shape, o in [
    ((3,), {"size": [7]}),
    ((7,), {"size": [3]}),
    ((5,), {"scale_factor": [1.7]}),
    ((3,), {"scale_factor": [1.2]}),
    ((3, 2), {"scale_factor": [2.0, 2.0]}),
    ((4, 5), {"size": [6, 3]}),
    ((5, 4), {"scale_factor": [0.6, 1.9]}),
    ((2, 3, 2), {"size": [3, 2, 4]}),
]:
    # By such a factor PyTorch's gradient is not that of its result.
    for mode in [modes[len(shape) - 1]] if o == {"scale_factor": [1.2]} else ["nearest", modes[len(shape) - 1]]:
        for align in [None] if mode == "nearest" else [False, True]:
            one = case(lambda x: F.interpolate(x, mode=mode, align_corners=align, **o), image(*shape))
            interpolations.append({"options": {**o, "mode": mode, "align_corners": bool(align)}, **one})

# Places only, over many lengths: where rounding decides which element is nearest.
nearest = []
for n in range(1, 14):
    for count in range(1, 30):
        y = F.interpolate(torch.arange(n, dtype=torch.float32).reshape(1, 1, n), size=count)
        nearest.append([n, count, [int(v) for v in y.flatten().tolist()]])
factors = []
for n in [3, 5, 10]:
    for factor in [0.3, 0.7, 1.1, 1 / 3, 2.05, 2.3, 2.5, 3.3]:
        if int(n * factor) > 0:
            y = F.interpolate(torch.arange(n, dtype=torch.float32).reshape(1, 1, n), scale_factor=factor)
            factors.append([n, factor, [int(v) for v in y.flatten().tolist()]])

pads = []
for mode in ["reflect", "replicate", "circular"]:
    for shape, p in [((5,), [2, 3]), ((3, 4), [1, 2, 2, 0]), ((3, 2, 3), [1, 2, 0, 1, 2, 1])]:
        pads.append({"mode": mode, "pads": p, **case(lambda x: F.pad(x, p, mode=mode), image(*shape))})

points = torch.randn(4, 3, dtype=double).mul(1000).round().div(1000)
others = torch.randn(5, 3, dtype=double).mul(1000).round().div(1000)
others[2] = points[1]  # coincide
others[3, 0] = points[0, 0]
distances = []
for p in [1.0, 1.5, 2.0, 3.0, float("inf")]:
    distances.append({"p": p if p < 1e9 else "inf", **case(lambda a, b: torch.cdist(a, b, p=p), points, others)})
pairs = []
rows = others[:4].clone()
for p in [1.0, 2.0, 3.0]:
    pairs.append({"p": p, **case(lambda a, b: F.pairwise_distance(a, b, p=p), points, rows)})
small = points.clone()
small[2] = 0
small[3] *= 1e-9
cosines = [{"axis": axis, **case(lambda a, b: F.cosine_similarity(a, b, dim=axis), small, rows)} for axis in [0, 1]]
units = [
    {"p": p if p < 1e9 else "inf", "axis": axis, **case(lambda a: F.normalize(a, p=p, dim=axis), points)}
    for p in [1.0, 2.0, 3.0, float("inf")]
    for axis in [0, 1]
]

Path(__file__).with_suffix(".json").write_text(
    json.dumps(
        {
            "interpolations": interpolations,
            "nearest": nearest,
            "factors": factors,
            "pads": pads,
            "distances": distances,
            "pairs": pairs,
            "cosines": cosines,
            "units": units,
        }
    )
    + "\n"
)
