"""Writes torch-conv.json: values and gradients of PyTorch's convolution, pooling, normalisation and attention layers.

    /usr/bin/python3 test/golden/torch-conv.py      (Debian: apt-get install python3-torch)

All in float64. A case is as in torch-nn.py. Where weights are many, they are `wave(i)` instead: element j of the i-th
tensor of the state dict is 0.4 sin(0.7 j + i), here and in test/nn-conv.test.ts, and of a gradient only the inner product
with such a wave is stored. Names are those of the test, which knows what each case computes.
"""

import json
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.stateless import functional_call

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
    return {
        "inputs": {k: stored(x) for k, x in inputs.items()},
        "y": stored(y.detach()),
        "gy": stored(gy),
        "gradients": {k: stored(x.grad) for k, x in leaves.items() if x.requires_grad},
    }


cases = {}

# --- convolution, patches, pooling ---
for name, x, w, o in [
    ("3×3", (2, 3, 5, 6), (4, 3, 3, 3), {}),
    ("1×1", (2, 3, 2, 3), (2, 3, 1, 1), {}),
    ("stride 2, padding 1", (2, 2, 6, 5), (3, 2, 3, 3), {"stride": 2, "padding": 1}),
    ("dilation 2", (1, 2, 6, 7), (2, 2, 3, 2), {"dilation": 2}),
    ("pairs", (2, 2, 5, 6), (3, 2, 2, 3), {"stride": (1, 3), "padding": (2, 1), "dilation": (2, 1)}),
    ("2 groups", (2, 4, 4, 4), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
    ("depthwise", (2, 3, 4, 4), (6, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 3}),
    ("a kernel as large as the padded plane", (1, 2, 2, 2), (2, 2, 4, 4), {"padding": 1}),
]:
    cases[f"conv2d, {name}"] = case(lambda x, w, bias: F.conv2d(x, w, bias, **o), x=decimals(*x), w=decimals(*w),
                                    bias=decimals(w[0]))
cases["unfold"] = case(
    lambda x: F.unfold(x, (2, 3), stride=(1, 2), padding=(0, 1), dilation=(2, 1)).transpose(1, 2), x=decimals(2, 3, 4, 5))
cases["fold"] = case(lambda x: F.fold(x.transpose(1, 2), (4, 5), (3, 2), stride=2, padding=1), x=decimals(2, 6, 18))
ties = torch.randint(0, 3, (2, 2, 6, 7)).double()
cases["maxPool2d"] = case(lambda x: F.max_pool2d(x, 2), x=decimals(2, 3, 4, 6))
cases["maxPool2d of equal values, overlapping"] = case(lambda x: F.max_pool2d(x, 3, 2, 1), x=ties)
cases["maxPool2d, pairs"] = case(lambda x: F.max_pool2d(x, (3, 2), (1, 2), (1, 0)), x=ties)
for pad in (True, False):
    cases[f"avgPool2d, padding {'counts' if pad else 'does not count'}"] = case(
        lambda x: F.avg_pool2d(x, (3, 2), (2, 1), 1, count_include_pad=pad), x=decimals(2, 2, 5, 4))
cases["globalAvgPool2d"] = case(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), x=decimals(2, 3, 4, 5))

# --- normalisation ---
cases["batchNorm"] = case(lambda x, w, bias: F.batch_norm(x, None, None, w, bias, training=True),
                          x=decimals(3, 2, 2, 3), w=decimals(2), bias=decimals(2))
cases["groupNorm"] = case(lambda x, w, bias: F.group_norm(x, 2, w, bias, 0.01),
                          x=decimals(2, 4, 2, 3), w=decimals(4), bias=decimals(4))

bn = nn.BatchNorm2d(2, momentum=0.3)
with torch.no_grad():
    bn.weight.copy_(decimals(2))
    bn.bias.copy_(decimals(2))
batchNorm = {"weight": stored(bn.weight), "bias": stored(bn.bias), "steps": []}
for step in range(4):
    if step == 3:
        bn.eval()
    x = (decimals(2, 2, 3, 3, scale=2) + step).requires_grad_()
    bn.zero_grad()
    y = bn(x)
    gy = decimals(*y.shape)
    (y * gy).sum().backward()
    batchNorm["steps"].append({
        "x": stored(x.detach()), "gy": stored(gy), "y": stored(y.detach()), "gx": stored(x.grad),
        "gradWeight": stored(bn.weight.grad), "gradBias": stored(bn.bias.grad),
        **{k: stored(v.double()) for k, v in bn.state_dict().items() if k.startswith(("running", "num"))}})

# --- attention ---
D, H, T, B = 6, 2, 4, 2


def attention(x, wq, wk, wv, wo, bq, bk, bv, bo, mask=None):
    return F.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3, D, H, torch.cat([wq, wk, wv]), torch.cat([bq, bk, bv]), None, None, False, 0.0, wo, bo,
        attn_mask=mask, need_weights=False)[0].transpose(0, 1)


def attentionInputs():
    return dict(x=decimals(B, T, D), **{f"w{n}": decimals(D, D) for n in "qkvo"}, **{f"b{n}": decimals(D) for n in "qkvo"})


causal = torch.ones(T, T).tril().bool()
perItem = torch.stack([causal, torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 1]]).bool()])
cases["attention"] = case(attention, **attentionInputs())
# PyTorch's mask is true where attention is forbidden, and has an entry for each head.
for name, mask in [("causal", causal), ("a mask for each item", perItem)]:
    theirs = ~mask if mask.dim() == 2 else ~mask.repeat_interleave(H, 0)
    cases[f"attention, {name}"] = case(lambda **o: attention(**o, mask=theirs), **attentionInputs())
    cases[f"attention, {name}"]["mask"] = mask.tolist()


# --- models whose weights are waves ---
def wave(i, shape, scale):
    size = torch.Size(shape).numel()
    return (torch.sin(0.7 * torch.arange(size) + i) * scale).reshape(shape)


def waves(model, *shape):
    """Loads waves into a model (around 1 into scales and variances) and gives it one: what comes out, and how it flows back."""
    state = model.state_dict()
    for i, (key, value) in enumerate(state.items()):
        if value.is_floating_point():
            around = 1 if "running_var" in key or value.dim() == 1 and key.endswith("weight") else 0
            value.copy_(wave(i, value.shape, 0.4) + around)
    out = {"keys": list(state), "x": list(shape)}
    for mode in ("train", "eval"):
        model.train(mode == "train").zero_grad()
        x = wave(3, shape, 1).requires_grad_()
        y = model(x)
        (y * wave(1, y.shape, 1)).sum().backward()
        products = [(p.grad * wave(2, p.shape, 1)).sum().item() for p in [x, *model.parameters()]]
        out[mode] = {"y": stored(y.detach()), "products": products}
    return out


class Transformer(nn.Module):
    """PyTorch's block under our names, q, k and v apart."""

    def __init__(self, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, H, 4 * D, 0.0, "gelu", batch_first=True, norm_first=norm_first)
        self.theirs = [layer]
        self.attention = nn.ModuleDict({n: nn.Linear(D, D) for n in "qkvo"})
        self.linear1, self.linear2, self.norm1, self.norm2 = layer.linear1, layer.linear2, layer.norm1, layer.norm2

    def forward(self, x):
        a = self.attention
        merged = {
            "self_attn.in_proj_weight": torch.cat([a[n].weight for n in "qkv"]),
            "self_attn.in_proj_bias": torch.cat([a[n].bias for n in "qkv"]),
            "self_attn.out_proj.weight": a["o"].weight,
            "self_attn.out_proj.bias": a["o"].bias,
        }
        return functional_call(self.theirs[0], merged, x)


def conv(i, o, k, stride):
    return nn.Conv2d(i, o, k, stride, (k - 1) // 2, bias=False)


def shortcut(i, o, stride):
    return None if stride == 1 and i == o else nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, i, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, 1), nn.BatchNorm2d(width)
        self.downsample = shortcut(i, width, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, width, 1, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1, 1), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(i, 4 * width, stride)

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """As torchvision's, with a stem for small images."""

    def __init__(self, block, depths, width, classes, stem):
        super().__init__()
        self.stem = stem
        self.conv1 = conv(3, width, 3, 1) if stem == "cifar" else conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        i = width
        for s, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(block(i, width * 2**s, 2 if s > 0 and j == 0 else 1))
                i = width * 2**s * block.expansion
            setattr(self, f"layer{s + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(i, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        for s in range(1, 5):
            x = getattr(self, f"layer{s}")(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


models = {
    "transformer block, norm first": waves(Transformer(True), B, T, D),
    "transformer block, norm last": waves(Transformer(False), B, T, D),
    "resnet of basic blocks, cifar": waves(ResNet(BasicBlock, [1, 2, 1, 1], 2, 3, "cifar"), 2, 3, 8, 8),
    "resnet of bottlenecks, imagenet": waves(ResNet(Bottleneck, [2, 1, 1, 1], 2, 3, "imagenet"), 2, 3, 40, 33),
}

pathlib.Path(__file__).with_suffix(".json").write_text(
    json.dumps({"torch": torch.__version__, "cases": cases, "batchNorm": batchNorm, "models": models}) + "\n")
