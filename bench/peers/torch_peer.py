"""The tasks in PyTorch, eager, one thread."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from worker import BATCHES, BLOCK, CHARS, labels, noise

torch.set_num_threads(1)
torch.manual_seed(0)
VERSION = torch.__version__


def of(shape, seed, scale=1.0):
    return torch.from_numpy(noise(shape, seed, scale))


def batches(make):
    return [make(10 + i) for i in range(BATCHES)]


def images(batch, shape, seed):
    return of((batch, *shape), seed, 3), torch.from_numpy(labels(batch, 10, seed + 50))


def training(model, data, loss_of):
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    step = 0

    def run():
        nonlocal step
        x, y = data[step % BATCHES]
        step += 1
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, 1


def layers(sizes, activation):
    parts = []
    for i in range(1, len(sizes)):
        parts.append(nn.Linear(sizes[i - 1], sizes[i]))
        if i < len(sizes) - 1:
            parts.append(activation())
    return nn.Sequential(*parts)


def sgemm(n):
    a, b = of((n, n), 1), of((n, n), 2)

    def run():
        c = a @ b
        return (c[-1, 0] + c[-1, -1]).item()

    return run, 1


def add(n, ops, backward):
    x, y = of((n, n), 1), of((n, n), 2)
    x.requires_grad_(backward)

    def run():
        z = x
        for _ in range(ops):
            z = z + y
        if not backward:
            return z[0, 0].item()
        z.sum().backward()
        value = x.grad[0, 0].item()
        x.grad = None
        return value

    return run, ops


def mlp(sizes, batch):
    return training(layers(sizes, nn.ReLU), batches(lambda s: images(batch, (sizes[0],), s)), F.cross_entropy)


def tiny(sizes, batch):
    data = batches(lambda s: (of((batch, sizes[0]), s), of((batch, sizes[-1]), -s)))
    return training(layers(sizes, nn.Tanh), data, F.mse_loss)


class Block(nn.Module):
    def __init__(self, d, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.linear1, self.linear2 = nn.Linear(d, hidden), nn.Linear(hidden, d)

    def forward(self, x):
        b, t, d = x.shape
        head = d // self.heads
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        gathered = ((q @ k.transpose(-1, -2)) / math.sqrt(head)).softmax(-1) @ v
        x = x + self.o(gathered.transpose(1, 2).reshape(b, t, d))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


def transformer():
    shape = (BLOCK["batch"], BLOCK["positions"], BLOCK["d"])
    data = batches(lambda s: (of(shape, s, 3), of(shape, -s, 3)))
    return training(Block(BLOCK["d"], BLOCK["heads"], BLOCK["hidden"]), data, F.mse_loss)


def cnn(batch):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )
    return training(model, batches(lambda s: images(batch, (1, 28, 28), s)), F.cross_entropy)


def conv(c_in, c_out, kernel, stride):
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """torchvision's, which this machine may lack."""

    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(width, width, 3, 1), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or c_in != width:
            self.downsample = nn.Sequential(conv(c_in, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """For images of 32×32."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(3, 64, 3, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        c_in = 64
        for i in range(4):
            width = 64 * 2**i
            blocks = nn.Sequential(BasicBlock(c_in, width, 2 if i > 0 else 1), BasicBlock(width, width, 1))
            setattr(self, f"layer{i + 1}", blocks)
            c_in = width
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(c_in, 10)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        return self.fc(torch.flatten(self.avgpool(y), 1))


def mnist_cnn():
    """That of PyTorch's examples."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )


class CausalAttention(nn.Module):
    def __init__(self, d, heads, length):
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        mask = torch.full((length, length), -math.inf).triu(1)
        self.register_buffer("mask", mask)

    def forward(self, x):
        b, t, d = x.shape
        head = d // self.heads
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-1, -2)) / math.sqrt(head) + self.mask).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).reshape(b, t, d))


class CausalBlock(nn.Module):
    def __init__(self, d, heads, length):
        super().__init__()
        self.attention = CausalAttention(d, heads, length)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.linear1, self.linear2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class CharTransformer(nn.Module):
    def __init__(self, vocabulary, length, d, heads, depth, **_):
        super().__init__()
        self.tokens, self.position = nn.Embedding(vocabulary, d), nn.Parameter(torch.zeros(length, d))
        self.blocks = nn.Sequential(*[CausalBlock(d, heads, length) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x) + self.position)))


def set_weights(model):
    """Those of setWeights in models.ts; q, k and v are three matrices there."""
    weights = {}
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
        elif p.dim() >= 2:
            thirds = [name.replace("qkv", part) for part in "qkv"] if "qkv" in name else [name]
            weights.update(zip(thirds, p.data.chunk(len(thirds))))
    for i, name in enumerate(sorted(weights)):
        p = weights[name]
        p.copy_(of(p.shape, 200 + i, 2 / math.sqrt(p[0].numel())))


def text(seed):
    shape = (CHARS["batch"], CHARS["length"])
    return torch.from_numpy(labels(shape[0] * shape[1], CHARS["vocabulary"], seed).reshape(shape))


def over_positions(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


LARGE = dict(
    resnet18=lambda: (ResNet18(), lambda s: images(32, (3, 32, 32), s), F.cross_entropy),
    mnist=lambda: (mnist_cnn(), lambda s: images(64, (1, 28, 28), s), F.cross_entropy),
    chars=lambda: (CharTransformer(**CHARS), lambda s: (text(s), text(s + 50)), over_positions),
)


def large(network):
    model, more, loss_of = LARGE[network]()
    set_weights(model)
    run, units = training(model, batches(more), loss_of)

    def check():
        dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        for m in dropouts:
            m.eval()
        run()
        second = run()
        for m in dropouts:
            m.train()
        return second

    return run, units, check


def pinn(sizes, points):
    model = layers(sizes, nn.Tanh).double()
    with torch.no_grad():
        set_weights(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def column(n, seed):
        return of((n, 1), seed).double()

    x, t = column(points, 1).requires_grad_(), column(points, 2).requires_grad_()
    n = points // 8
    edge, values = torch.cat([column(n, 3), column(n, 4)], 1), column(n, 5)

    def run():
        optimizer.zero_grad()
        u = model(torch.cat([x, t], 1))
        ux, ut = torch.autograd.grad(u.sum(), [x, t], create_graph=True)
        (uxx,) = torch.autograd.grad(ux.sum(), [x], create_graph=True)
        rest = ut + u * ux - uxx * (0.01 / math.pi)
        loss = rest.square().mean() + F.mse_loss(model(edge), values)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, 1


TASKS = dict(sgemm=sgemm, add=add, mlp=mlp, tiny=tiny, transformer=transformer, cnn=cnn, large=large, pinn=pinn)
