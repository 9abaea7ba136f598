"""Writes torch-convs.json: values and gradients of PyTorch's convolutions along one and three axes, transposed convolutions,
and the layers that go with them.

    /usr/bin/python3 test/golden/torch-convs.py      (Debian: apt-get install python3-torch)

All in float64. Inputs are `wave(i)`: element j of tensor i is sin(0.7 j + i) rounded to three decimals, here and in the test, and of
each gradient the inner product with such a wave is stored. Names are those of the test, which knows what each case computes.
"""

import json
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.stateless import functional_call

torch.set_default_dtype(torch.float64)


def wave(i, shape):
    size = torch.Size(shape).numel()
    return torch.sin(0.7 * torch.arange(size) + i).mul(1000).round().div(1000).reshape(shape)


def stored(x):
    return {"shape": list(x.shape), "data": [float(f"{v:.15g}") for v in x.detach().flatten().tolist()]}


def products(leaves):
    return [(x.grad * wave(7, x.shape)).sum().item() for x in leaves]


def case(run, *shapes):
    leaves = [wave(i, s).requires_grad_() for i, s in enumerate(shapes)]
    y = run(*leaves)
    (y * wave(5, y.shape)).sum().backward()
    return {"shapes": [list(s) for s in shapes], "y": stored(y), "products": products(leaves)}


def pad_conv(layer, x, w, b):
    return functional_call(layer, {"weight": w, "bias": b}, x)


functions = {}
for name, run, x, w, b, o in [
    ("conv1d", F.conv1d, (2, 4, 7), (6, 2, 3), 6, dict(stride=2, padding=1, dilation=2, groups=2)),
    ("conv1d, same", F.conv1d, (2, 2, 6), (3, 2, 4), 3, dict(padding="same", dilation=3)),
    ("conv3d", F.conv3d, (2, 2, 4, 3, 4), (4, 1, 2, 3, 2), 4, dict(stride=(2, 1, 3), padding=(1, 2, 0), dilation=(2, 1, 2), groups=2)),
    ("conv3d, same", F.conv3d, (1, 2, 3, 3, 4), (2, 2, 2, 3, 4), 2, dict(padding="same")),
    ("convTranspose1d", F.conv_transpose1d, (2, 4, 3), (4, 2, 3), 4, dict(stride=3, padding=1, output_padding=2, dilation=2, groups=2)),
    ("convTranspose2d", F.conv_transpose2d, (2, 2, 3, 2), (2, 3, 3, 2), 3, dict(stride=(2, 3), padding=(1, 0), output_padding=(1, 2))),
    # More output padding than stride, which dilation allows.
    ("convTranspose2d, dilation", F.conv_transpose2d, (1, 2, 2, 3), (2, 1, 2, 2), 2,
     dict(padding=(0, 1), output_padding=(2, 1), dilation=3, groups=2)),
]:
    functions[name] = case(lambda x, w, b: run(x, w, b, **o), x, w, (b,))

# --- pooling ---
pools = {
    "maxPool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), (2, 2, 7)),
    "maxPool3d": (lambda x: F.max_pool3d(x, (2, 3, 2), (1, 2, 2), (1, 1, 0)), (2, 2, 3, 4, 5)),
    "avgPool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 2, 7)),
    "avgPool3d": (lambda x: F.avg_pool3d(x, (2, 3, 2), (1, 2, 2), (1, 1, 0), count_include_pad=False), (2, 2, 3, 4, 5)),
    "adaptiveAvgPool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), (2, 2, 7)),
    "adaptiveAvgPool2d": (lambda x: F.adaptive_avg_pool2d(x, (3, None)), (2, 2, 7, 2)),
    "adaptiveAvgPool2d, larger": (lambda x: F.adaptive_avg_pool2d(x, (5, 4)), (1, 2, 3, 4)),
    "adaptiveMaxPool1d": (lambda x: F.adaptive_max_pool1d(x, 3), (2, 2, 7)),
    "adaptiveMaxPool2d": (lambda x: F.adaptive_max_pool2d(x, (3, 2)), (2, 2, 7, 5)),
}
for name, (run, shape) in pools.items():
    functions[name] = case(run, shape)
    # Equal values: which of them gets the gradient.
    functions[f"{name} of equal values"] = case(lambda x: run((x * 1.5).round().detach() + (x - x.detach())), shape)

# --- padding, shuffles, patches, resolutions ---
for name, run, shape in [
    *((f"Conv2d, {mode}", lambda x, w, b, mode=mode: pad_conv(nn.Conv2d(2, 3, (3, 2), padding=(2, 1), stride=2, padding_mode=mode), x, w, b),
       [(1, 2, 5, 4), (3, 2, 3, 2), (3,)]) for mode in ("reflect", "replicate", "circular")),
    ("Conv1d, circular, same", lambda x, w, b: pad_conv(nn.Conv1d(2, 2, 4, padding="same", padding_mode="circular"), x, w, b),
     [(1, 2, 6), (2, 2, 4), (2,)]),
    ("Conv3d, replicate", lambda x, w, b: pad_conv(nn.Conv3d(1, 2, (2, 3, 1), padding=(1, 1, 0), padding_mode="replicate"), x, w, b),
     [(1, 1, 3, 2, 2), (2, 1, 2, 3, 1), (2,)]),
    ("ConstantPad1d", lambda x: nn.ConstantPad1d((1, 2), 0.5)(x), [(2, 1, 3)]),
    ("ZeroPad2d", lambda x: nn.ZeroPad2d((1, 0, 2, 1))(x), [(1, 2, 2, 3)]),
    ("ReflectionPad1d", lambda x: nn.ReflectionPad1d((1, 2))(x), [(2, 1, 4)]),
    ("ReflectionPad2d", lambda x: nn.ReflectionPad2d((1, 2, 0, 1))(x), [(1, 2, 2, 3)]),
    ("ReplicationPad1d", lambda x: nn.ReplicationPad1d(2)(x), [(2, 1, 3)]),
    ("ReplicationPad2d", lambda x: nn.ReplicationPad2d((1, 2, 3, 0))(x), [(1, 2, 2, 3)]),
    ("CircularPad2d", lambda x: F.pad(x, (1, 2, 0, 1), mode="circular"), [(1, 2, 2, 3)]),
    ("PixelShuffle", lambda x: nn.PixelShuffle(2)(x), [(1, 8, 2, 3)]),
    ("PixelUnshuffle", lambda x: nn.PixelUnshuffle(2)(x), [(1, 2, 4, 2)]),
    ("Unfold", lambda x: nn.Unfold((2, 3), dilation=(1, 2), padding=(0, 1), stride=(2, 1))(x), [(2, 2, 4, 5)]),
    ("Fold", lambda x: nn.Fold((4, 5), (2, 3), dilation=(1, 2), padding=(0, 1), stride=(2, 1))(x), [(2, 12, 6)]),
    ("Upsample, nearest", lambda x: nn.Upsample(scale_factor=2)(x), [(1, 2, 2, 3)]),
    ("Upsample, bilinear", lambda x: nn.Upsample(size=(5, 4), mode="bilinear")(x), [(1, 2, 2, 3)]),
    ("Upsample, linear with aligned corners", lambda x: nn.Upsample(scale_factor=3, mode="linear", align_corners=True)(x), [(1, 2, 3)]),
]:
    functions[name] = case(run, *shape)

# --- normalisation: three batches in training and one in evaluation, with state ---
norms = {}
for name, layer, shape in [
    ("BatchNorm1d", nn.BatchNorm1d(3), (4, 3)),
    ("BatchNorm1d of sequences, all batches alike", nn.BatchNorm1d(2, momentum=None), (2, 2, 4)),
    ("BatchNorm2d without affine", nn.BatchNorm2d(2, momentum=0.3, affine=False), (2, 2, 2, 3)),
    ("BatchNorm2d without averages", nn.BatchNorm2d(2, track_running_stats=False), (2, 2, 2, 3)),
    ("BatchNorm3d", nn.BatchNorm3d(2, eps=0.01), (2, 2, 2, 3, 2)),
    ("InstanceNorm1d", nn.InstanceNorm1d(2), (2, 2, 5)),
    ("InstanceNorm2d", nn.InstanceNorm2d(2, affine=True, track_running_stats=True, momentum=0.3), (3, 2, 2, 3)),
    ("InstanceNorm3d", nn.InstanceNorm3d(2, affine=True, eps=0.01), (2, 2, 2, 3, 2)),
]:
    for i, p in enumerate(layer.parameters()):
        p.data = wave(i, p.shape) + 1
    steps = []
    for step in range(4):
        layer.train(step < 3).zero_grad()
        x = (wave(step, shape) * (step + 1) + step).requires_grad_()
        y = layer(x)
        (y * wave(5, y.shape)).sum().backward()
        steps.append({"y": stored(y), "products": products([x, *layer.parameters()]),
                      "state": {k: stored(v.double()) for k, v in layer.state_dict().items()}})
    norms[name] = {"shape": list(shape), "steps": steps}

path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"functions": functions, "norms": norms}) + "\n")
