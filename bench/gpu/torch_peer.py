"""The tasks of parts/tasks.ts in PyTorch, eager, as its users would write them for speed: fused Adam, scaled dot-product
attention, cudnn's own choice of algorithms. Answers lines of JSON; torch_peer.py DEVICE, or --versions DEVICE."""

import contextlib
import json
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    print(error)
    sys.exit(1)


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def randn(*shape):
    return torch.randn(*shape, device=DEVICE)


def adam(parameters):
    parameters = list(parameters)
    try:
        return torch.optim.Adam(parameters, 1e-4, fused=True)
    except (RuntimeError, TypeError):
        return torch.optim.Adam(parameters, 1e-4)


class Attention(nn.Module):
    def __init__(self, dim, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.o = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
            if self.causal:
                scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1), float("-inf"))
            y = scores.softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, dim, heads, causal):
        super().__init__()
        self.attention = Attention(dim, heads, causal)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary, length, dim, depth, heads, **_):
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(vocabulary, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads, True) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        x = F.embedding(tokens, self.tokens) + self.positions
        return F.linear(self.norm(self.blocks(x)), self.tokens)


class Vit(nn.Module):
    def __init__(self, image, patch, dim, depth, heads, **_):
        super().__init__()
        self.embed = nn.Conv2d(image["channels"], dim, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (image["side"] // patch) ** 2, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads, False) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, image["classes"])

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], 1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def conv(c_in, c_out, kernel, stride):
    return nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, bias=False)


class Residual(nn.Module):
    def __init__(self, c_in, width, stride, bottleneck):
        super().__init__()
        c_out = width * (4 if bottleneck else 1)
        if bottleneck:
            sizes = [(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1)]
        else:
            sizes = [(c_in, width, 3, stride), (width, width, 3, 1)]
        layers = []
        for size in sizes:
            layers += [conv(*size), nn.BatchNorm2d(size[1]), nn.ReLU(True)]
        self.branch = nn.Sequential(*layers[:-1])
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))

    def forward(self, x):
        return F.relu(self.branch(x) + (x if self.shortcut is None else self.shortcut(x)), True)


def resnet(depth, stem, width, image, **_):
    bottleneck = depth == 50
    layers = [conv(image["channels"], width, 3, 1)] if stem == "cifar" else [conv(image["channels"], width, 7, 2)]
    layers += [nn.BatchNorm2d(width), nn.ReLU(True)]
    if stem == "imagenet":
        layers.append(nn.MaxPool2d(3, 2, 1))
    c_in = width
    for i, blocks in enumerate([3, 4, 6, 3] if bottleneck else [2, 2, 2, 2]):
        for j in range(blocks):
            layers.append(Residual(c_in, width * 2**i, 2 if i > 0 and j == 0 else 1, bottleneck))
            c_in = width * 2**i * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, image["classes"]))


def cnn(image, channels, **_):
    c1, c2 = channels
    return nn.Sequential(
        nn.Conv2d(image["channels"], c1, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(c1, c2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(c2 * (image["side"] // 4) ** 2, image["classes"]),
    )


def mlp(sizes, **_):
    layers = []
    for c_in, c_out in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(c_in, c_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch_of(kind, batch, image=None, sizes=None, vocabulary=None, length=None, **_):
    if kind == "gpt":
        return [torch.randint(vocabulary, (batch, length), device=DEVICE) for _ in range(2)]
    if kind == "mlp":
        return randn(batch, sizes[0]), torch.randint(sizes[-1], (batch,), device=DEVICE)
    x = randn(batch, image["channels"], image["side"], image["side"])
    return x, torch.randint(image["classes"], (batch,), device=DEVICE)


def training(spec, **_):
    torch.manual_seed(0)
    spec = dict(spec)
    kind = spec.pop("kind")
    model = dict(mlp=mlp, cnn=cnn, resnet=resnet, vit=Vit, gpt=Gpt)[kind](**spec).to(DEVICE)
    optimizer = adam(model.parameters())
    batches = [batch_of(kind, **spec) for _ in range(2)]
    step = 0

    def run():
        nonlocal step
        x, labels = batches[step % 2]
        step += 1
        optimizer.zero_grad(set_to_none=True)
        with MIXED():
            logits = model(x)
            loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten())
        loss.backward()
        optimizer.step()
        return loss

    return run


def product(n, **_):
    a, b = randn(n, n), randn(n, n)

    def run():
        with MIXED():
            return a @ b

    return run


def convolution(backward):
    def make(batch, cIn, cOut, side, kernel, stride, **_):
        x, w = randn(batch, cIn, side, side), randn(cOut, cIn, kernel, kernel)
        gy = randn(batch, cOut, side // stride, side // stride)
        if backward:
            x.requires_grad_()
            w.requires_grad_()

        def run():
            with MIXED():
                y = F.conv2d(x, w, stride=stride, padding=(kernel - 1) // 2)
            return torch.autograd.grad(y, [x, w], gy.to(y.dtype))[1] if backward else y

        return run

    return make


def streaming(name):
    def make(size, **_):
        x, y = randn(size // 1024, 1024), randn(size // 1024, 1024)
        w = torch.ones(1024, device=DEVICE)
        if name == "adamStep":
            x.requires_grad_()
            x.grad = y
            optimizer = adam([x])

            def run():
                optimizer.step()
                return x

            return run
        return {
            "add": lambda: x + y,
            "sum": lambda: x.sum(),
            "softmax": lambda: x.softmax(-1),
            "layerNorm": lambda: F.layer_norm(x, (1024,), w, w),
        }[name]

    return make


TASKS = dict(training=training, product=product, convForward=convolution(False), convTraining=convolution(True))
TASKS.update({name: streaming(name) for name in ["add", "sum", "softmax", "layerNorm", "adamStep"]})

MIXED = contextlib.nullcontext


def set_mode(mode):
    global MIXED
    if DEVICE == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = mode == "TF32"
        torch.backends.cudnn.allow_tf32 = mode == "TF32"
        torch.backends.cudnn.benchmark = True
    MIXED = (lambda: torch.autocast(DEVICE, torch.bfloat16)) if mode == "mixed" else contextlib.nullcontext


def value_of(result):
    return result.detach().flatten()[0].float().item()


def repeat(run, count):
    synchronize()
    begun = time.perf_counter()
    for _ in range(count):
        last = run()
    value = value_of(last)
    synchronize()
    return 1e3 * (time.perf_counter() - begun) / count, value


def main():
    made, counts = {}, {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                given = dict(request["prepare"])
                make = TASKS[given.pop("task")]
                answer = {}
                for mode in request["modes"]:
                    set_mode(mode)
                    made[mode] = make(**given)
                    repeat(made[mode], 1)
                    ms, value = repeat(made[mode], 3)
                    counts[mode] = ms
                    answer["check"] = value
            elif "sample" in request:
                mode = request["sample"]
                set_mode(mode)
                count = max(1, min(2000, round(1e3 * request["seconds"] / counts[mode])))
                ms, value = repeat(made[mode], count)
                counts[mode] = ms
                answer = dict(ms=ms, check=value)
            else:
                made.clear()
                if DEVICE == "cuda":
                    torch.cuda.empty_cache()
                answer = {}
        except Exception as error:
            made.clear()
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


def versions():
    if DEVICE != "cuda":
        return f"torch {torch.__version__} on the CPU"
    if not torch.cuda.is_available():
        return "no CUDA device for torch"
    card = torch.cuda.get_device_properties(0)
    memory = card.total_memory / 2**30
    cudnn = torch.backends.cudnn.version()
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}, {card.name}, {memory:.0f} GiB"


DEVICE = sys.argv[-1]
if sys.argv[1] == "--versions":
    print(versions())
else:
    main()
