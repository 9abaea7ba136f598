"""Writes torch-models.json and torch-models-*.safetensors: narrow networks with the names and the computations of torchvision's ResNets,
of timm's vision transformers and of two collections of ResNets for CIFAR, in plain modules of PyTorch.

    /usr/bin/python3 test/golden/torch-models.py      (Debian: apt-get install python3-torch)

A safetensors file has the weights before the first step, in float32 and int64, as such files have them. Everything is computed from them
in float64: two steps of SGD or Adam on two batches, then the logits in evaluation. Images are `wave(i)`: element j of the i-th is
sin(0.7 j + i). Of each entry of the state after the steps, flattened, the inner products with two waves are stored.
"""

import json
import pathlib
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
torch.manual_seed(0)
torch.set_num_threads(1)


def wave(i, *shape):
    n = int(torch.tensor(shape).prod())
    return torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + i).reshape(shape)


# --- torchvision's resnet.py ---


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(c_in, width, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(c_in, 4 * width, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def projection(c_in, c_out, stride):
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """`cifar`: a 3×3 convolution of stride 1 in the place of the 7×7 one of stride 2, and no max pooling."""

    def __init__(self, block, depths, width, classes, cifar, name_of_fc="fc"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False) if cifar else nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        c_in, self.stages = width, len(depths)
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(block(c_in, width * 2**i, 2 if i > 0 and j == 0 else 1))
                c_in = width * 2**i * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.name_of_fc = name_of_fc
        setattr(self, name_of_fc, nn.Linear(c_in, classes))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return getattr(self, self.name_of_fc)(torch.flatten(self.avgpool(x), 1))


# --- akamaster/pytorch_resnet_cifar10: option A, `linear` ---


class Padded(nn.Module):
    def __init__(self, planes):
        super().__init__()
        self.planes = planes

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)


class PaddedBlock(nn.Module):
    expansion = 1

    def __init__(self, c_in, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential() if stride == 1 and c_in == planes else Padded(planes)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


# --- timm's vision_transformer.py ---


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attn = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((attn @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


norm_layer = partial(nn.LayerNorm, eps=1e-6)


class Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio):
        super().__init__()
        self.norm1, self.attn = norm_layer(dim), Attention(dim, heads)
        self.norm2, self.mlp = norm_layer(dim), Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, patch, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    def __init__(self, img_size, patch, dim, depth, heads, classes, global_pool="token", class_token=True, mlp_ratio=4):
        super().__init__()
        self.global_pool = global_pool
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.2) if class_token else None
        tokens = (img_size // patch) ** 2 + int(class_token)
        self.patch_embed = PatchEmbed(patch, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * 0.2)
        self.blocks = nn.Sequential(*[Block(dim, heads, mlp_ratio) for _ in range(depth)])
        use_fc_norm = global_pool == "avg"
        self.norm = nn.Identity() if use_fc_norm else norm_layer(dim)
        self.fc_norm = norm_layer(dim) if use_fc_norm else nn.Identity()
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.pos_embed))
        x = x[:, int(self.cls_token is not None) :].mean(dim=1) if self.global_pool == "avg" else x[:, 0]
        return self.head(self.fc_norm(x))


# --- the cases ---


def safetensors(state):
    """The bytes of a safetensors file: the length of a header in JSON, the header, the numbers."""
    header, data = {}, b""
    for name, x in state.items():
        kind, form = ("F32", "<f4") if x.is_floating_point() else ("I64", "<i8")
        more = x.contiguous().numpy().astype(form).tobytes()
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def case(name, model, side, optimizer, prefix=""):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                module.weight.add_(torch.randn_like(module.weight) * 0.2)
                module.bias.add_(torch.randn_like(module.bias) * 0.2)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(torch.randn_like(module.running_mean) * 0.2)
                module.running_var.mul_(1 + torch.rand_like(module.running_var))
    before = {prefix + key: value.clone() for key, value in model.state_dict().items()}
    (HERE / f"torch-models-{name}.safetensors").write_bytes(safetensors(before))
    model.double().train()
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    }[optimizer](model.parameters())
    steps = []
    for i in range(2):
        logits = model(wave(i, 3, 3, side, side))
        loss = F.cross_entropy(logits, torch.tensor([1, 4, 0]) if i == 0 else torch.tensor([2, 2, 3]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.append({"logits": logits.flatten().tolist(), "loss": loss.item()})
    with torch.no_grad():
        evaluated = model.eval()(wave(2, 3, 3, side, side)).flatten().tolist()
    products = {
        prefix + key: [(value.double().flatten() * wave(i, value.numel())).sum().item() for i in (3, 4)]
        for key, value in model.state_dict().items()
    }
    return {"steps": steps, "evaluated": evaluated, "products": products}


def vit(**o):
    return VisionTransformer(32, 8, 12, 2, 3, 5, **o)


cases = {
    "resnet18-cifar": case("resnet18-cifar", ResNet(BasicBlock, [2, 2, 2, 2], 4, 5, True), 32, "sgd"),
    "resnet18-imagenet": case("resnet18-imagenet", ResNet(BasicBlock, [2, 2, 2, 2], 4, 5, False), 64, "adam"),
    "resnet34-cifar": case("resnet34-cifar", ResNet(BasicBlock, [3, 4, 6, 3], 4, 5, True), 32, "adam"),
    "resnet50-imagenet": case("resnet50-imagenet", ResNet(Bottleneck, [3, 4, 6, 3], 4, 5, False), 64, "sgd"),
    "resnet50-cifar-shallow": case("resnet50-cifar-shallow", ResNet(Bottleneck, [1, 2, 1, 1], 4, 5, True), 32, "adam"),
    "cifar-resnet14-a": case("cifar-resnet14-a", ResNet(PaddedBlock, [2, 2, 2], 6, 5, True, "linear"), 32, "sgd", "module."),
    "cifar-resnet14-b": case("cifar-resnet14-b", ResNet(BasicBlock, [2, 2, 2], 6, 5, True), 32, "adam"),
    "vit-token": case("vit-token", vit(), 32, "adam"),
    "vit-mean": case("vit-mean", vit(global_pool="avg", class_token=False), 32, "sgd"),
    "vit-mean-with-token": case("vit-mean-with-token", vit(global_pool="avg"), 32, "sgd"),
}


def resized(old, new, mode):
    grid = wave(5, 1, *old, 4).permute(0, 3, 1, 2)
    y = F.interpolate(grid, size=new, mode=mode, antialias=True, align_corners=False)
    return {"old": old, "new": new, "mode": mode, "positions": y.permute(0, 2, 3, 1).flatten().tolist()}


positions = [
    resized(old, new, mode)
    for mode in ("bicubic", "bilinear")
    for old, new in (([4, 4], [7, 7]), ([7, 7], [4, 4]), ([3, 5], [5, 3]), ([4, 4], [4, 4]))
]

(HERE / "torch-models.json").write_text(json.dumps({"cases": cases, "positions": positions}) + "\n")
