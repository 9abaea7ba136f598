"""The tasks in PyTorch, eager, one thread."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from worker import BATCHES, BLOCK, labels, noise

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


TASKS = dict(sgemm=sgemm, add=add, mlp=mlp, tiny=tiny, transformer=transformer, cnn=cnn)
