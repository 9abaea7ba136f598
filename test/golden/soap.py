# Trajectories of SOAP, one-sided SOAP, Shampoo and KL-Shampoo in float64, into soap.json. numpy alone, written from the authors' published
# algorithms: Vyas et al. 2025 (arXiv 2409.11321), Gupta et al. 2018 (arXiv 1802.09568), Anil et al. 2020 (arXiv 2002.09018), Lin et al.
# 2025 (arXiv 2509.03378).
#
#   python3 test/golden/soap.py
#
# What is trained: x [8, 4] → tanh(x W0ᵀ + b0) [8, 5] → W2 h + b2 [8, 4], the mean over all elements of the squared error. Each side of a
# gradient lacks at most one of its ranks, so that its eigenvectors are unique but for signs.
import json
import os

import numpy as np

STEPS = 24
KEPT = [1, 2, 9, 24]
rng = np.random.RandomState(3)
START = {
    "0.weight": rng.randn(5, 4) * 0.5,
    "0.bias": rng.randn(5) * 0.1,
    "2.weight": rng.randn(4, 5) * 0.5,
    "2.bias": rng.randn(4) * 0.1,
}
BATCHES = [(rng.randn(8, 4), rng.randn(8, 4)) for _ in range(5)]


def loss_and_gradients(p, x, y):
    h = np.tanh(x @ p["0.weight"].T + p["0.bias"])
    error = h @ p["2.weight"].T + p["2.bias"] - y
    dz = 2 * error / error.size
    da = (dz @ p["2.weight"]) * (1 - h**2)
    gradients = {"0.weight": da.T @ x, "0.bias": da.sum(0), "2.weight": dz.T @ h, "2.bias": dz.sum(0)}
    return (error**2).mean(), gradients


class AdamW:
    """As in torch.optim."""

    def __init__(self, lr, betas, eps, weight_decay):
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.t, self.m, self.v = 0, 0.0, 0.0

    def step(self, p, g):
        (b1, b2), self.t = self.betas, self.t + 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        p = p * (1 - self.lr * self.weight_decay)
        denominator = np.sqrt(self.v / (1 - b2**self.t)) + self.eps
        return p - self.lr * (self.m / (1 - b1**self.t)) / denominator


def descending_eigenvectors(factor):
    return np.linalg.eigh(factor)[1][:, ::-1]


class Soap:
    def __init__(self, lr=3e-3, betas=(0.95, 0.95), shampoo_beta=-1, eps=1e-8, weight_decay=0.01, frequency=10, normalize=False,
                 one_sided=False):
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.beta = shampoo_beta if shampoo_beta >= 0 else betas[1]
        self.frequency, self.normalize, self.one_sided = frequency, normalize, one_sided
        self.t, self.factors = 0, None

    def project(self, x, back=False):
        left, right = self.bases
        if left is not None:
            x = left @ x if back else left.T @ x
        if right is not None:
            x = x @ right.T if back else x @ right
        return x

    def take(self, g):
        new = [g @ g.T, g.T @ g]
        self.factors = [None if f is None else self.beta * f + (1 - self.beta) * n for f, n in zip(self.factors, new)]

    def step(self, w, g):
        if self.factors is None:
            rows, columns = g.shape
            active = [rows <= columns, rows > columns] if self.one_sided else [True, True]
            self.factors = [np.zeros((n, n)) if a else None for n, a in zip(g.shape, active)]
            self.take(g)
            self.bases = [None if f is None else descending_eigenvectors(f) for f in self.factors]
            self.m, self.v = np.zeros_like(g), np.zeros_like(g)
            return w
        self.t += 1
        b1, b2 = self.betas
        projected = self.project(g)
        self.m = b1 * self.m + (1 - b1) * projected
        self.v = b2 * self.v + (1 - b2) * projected**2
        step_size = self.lr * np.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        direction = self.project(self.m / (np.sqrt(self.v) + self.eps), back=True)
        if self.normalize:
            direction = direction / (1e-30 + np.sqrt(np.mean(direction**2)))
        w = w - step_size * direction
        w = w - self.lr * self.weight_decay * w
        m = self.project(self.m, back=True)
        self.take(g)
        if self.t % self.frequency == 0:
            for axis, (f, q) in enumerate(zip(self.factors, self.bases)):
                if f is None:
                    continue
                order = np.argsort(-np.diag(q.T @ f @ q), kind="stable")
                self.v = np.take(self.v, order, axis=axis)
                self.bases[axis] = np.linalg.qr(f @ q[:, order])[0]
        self.m = self.project(m)
        return w


def power(a, p):
    values, vectors = np.linalg.eigh(a)
    return vectors @ np.diag(values**p) @ vectors.T


class Shampoo:
    def __init__(self, lr=0.1, momentum=0.9, beta=1, eps=1e-4, exponent=-0.25, frequency=10, grafting="none", graft_betas=(0.9, 0.999),
                 graft_eps=1e-8, weight_decay=0.0):
        self.__dict__.update(lr=lr, momentum=momentum, beta=beta, eps=eps, exponent=exponent, frequency=frequency, grafting=grafting)
        self.__dict__.update(graft_betas=graft_betas, graft_eps=graft_eps, weight_decay=weight_decay)
        self.t, self.left, self.right, self.buffer, self.m, self.v = 0, 0.0, 0.0, 0.0, 0.0, 0.0

    def length(self, g):
        b1, b2 = self.graft_betas
        if self.grafting == "sgd":
            return np.linalg.norm(g)
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        if self.grafting == "rmsprop":
            return np.linalg.norm(g / (np.sqrt(self.v) + self.graft_eps))
        m, v = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        return np.linalg.norm(m / (np.sqrt(v) + self.graft_eps))

    def step(self, w, g):
        self.t += 1
        weight = 1 if self.beta == 1 else 1 - self.beta
        self.left = self.beta * self.left + weight * g @ g.T
        self.right = self.beta * self.right + weight * g.T @ g
        if (self.t - 1) % self.frequency == 0:
            bias = 1 if self.beta == 1 else 1 - self.beta**self.t
            self.roots = [power(f / bias + self.eps * np.eye(len(f)), self.exponent) for f in (self.left, self.right)]
        update = self.roots[0] @ g @ self.roots[1]
        if self.grafting != "none":
            update = update * self.length(g) / np.linalg.norm(update)
        self.buffer = self.momentum * self.buffer + update
        return w * (1 - self.lr * self.weight_decay) - self.lr * self.buffer


class KlShampoo:
    def __init__(self, lr=3e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, frequency=10, normalize=False, init=0.1, clamping=True):
        self.__dict__.update(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, frequency=frequency, normalize=normalize)
        self.init, self.clamping, self.t, self.bases = init, clamping, 0, None

    def step(self, w, g):
        rows, columns = g.shape
        b1, beta = self.betas
        if self.bases is None:
            self.left, self.right = (1 - beta) * g @ g.T / columns, (1 - beta) * g.T @ g / rows
            self.bases = [descending_eigenvectors(self.left), descending_eigenvectors(self.right)]
            self.values = [np.full(rows, self.init), np.full(columns, self.init)]
            self.m = np.zeros_like(g)
            return w
        self.t += 1
        (ql, qr), (sl, sr) = self.bases, self.values
        self.m = b1 * self.m + (1 - b1) * g
        inverse_root = 1 / np.sqrt(np.outer(sl, sr))
        inverse_root = inverse_root / (1 + inverse_root * self.eps)
        direction = ql @ ((ql.T @ self.m @ qr) * inverse_root) @ qr.T
        over_right = g @ qr @ np.diag(1 / sr) @ qr.T @ g.T / columns
        over_left = g.T @ ql @ np.diag(1 / sl) @ ql.T @ g / rows
        self.left = beta * self.left + (1 - beta) * over_right
        self.right = beta * self.right + (1 - beta) * over_left
        self.values = [
            self.clamped(beta * s + (1 - beta) * np.diag(q.T @ new @ q)) for s, q, new in ((sl, ql, over_right), (sr, qr, over_left))
        ]
        if self.t % self.frequency == 0:
            self.bases = [np.linalg.qr(f @ q)[0] for f, q in ((self.left, ql), (self.right, qr))]
        if self.normalize:
            direction = direction / (1e-30 + np.sqrt(np.mean(direction**2)))
        w = w - self.lr * direction
        return w - self.lr * self.weight_decay * w

    def clamped(self, values):
        return np.maximum(values, 1 / max(10, min(len(values), 4000)) ** 2) if self.clamping else values


def run(make_matrix, make_rest):
    p = {key: value.copy() for key, value in START.items()}
    optimizers = {key: make_matrix() if value.ndim == 2 else make_rest() for key, value in p.items()}
    losses, kept = [], {}
    for step in range(1, STEPS + 1):
        loss, gradients = loss_and_gradients(p, *BATCHES[(step - 1) % len(BATCHES)])
        losses.append(loss)
        p = {key: optimizers[key].step(p[key], gradients[key]) for key in p}
        if step in KEPT:
            kept[step] = {key: value.tolist() for key, value in p.items()}
    return {"losses": losses, "kept": kept}


CASES = {
    "SOAP": (lambda: Soap(lr=0.02, frequency=3), lambda: AdamW(0.02, (0.95, 0.95), 1e-8, 0.01)),
    "SOAP, betas apart, normalized": (
        lambda: Soap(lr=0.01, betas=(0.9, 0.99), shampoo_beta=0.8, eps=1e-6, weight_decay=0.1, frequency=1, normalize=True),
        lambda: AdamW(0.01, (0.9, 0.99), 1e-6, 0.1),
    ),
    "SOAP, one-sided": (lambda: Soap(lr=0.02, frequency=2, one_sided=True), lambda: AdamW(0.02, (0.95, 0.95), 1e-8, 0.01)),
    "Shampoo": (lambda: Shampoo(lr=0.05, frequency=2, weight_decay=0.1), lambda: AdamW(1e-3, (0.9, 0.999), 1e-8, 0)),
    "Shampoo, grafted to SGD": (
        lambda: Shampoo(lr=0.1, momentum=0, frequency=1, eps=1e-3, grafting="sgd"),
        lambda: AdamW(1e-3, (0.9, 0.999), 1e-8, 0),
    ),
    "Shampoo, grafted to RMSprop": (
        lambda: Shampoo(lr=0.02, momentum=0.5, beta=0.9, frequency=4, grafting="rmsprop", graft_betas=(0.9, 0.99), graft_eps=1e-6),
        lambda: AdamW(0.02, (0.9, 0.999), 1e-8, 0),
    ),
    "Shampoo, averages, power -1/2, grafted to Adam": (
        lambda: Shampoo(lr=0.01, momentum=0.5, beta=0.95, exponent=-0.5, frequency=3, grafting="adam"),
        lambda: AdamW(0.01, (0.9, 0.999), 1e-8, 0),
    ),
    "KL-Shampoo": (lambda: KlShampoo(lr=0.02, frequency=3), lambda: AdamW(0.02, (0.9, 0.98), 1e-8, 0.01)),
    "KL-Shampoo, at the clamp": (
        lambda: KlShampoo(lr=0.02, betas=(0.9, 0.5), frequency=10),
        lambda: AdamW(0.02, (0.9, 0.5), 1e-8, 0.01),
    ),
    "KL-Shampoo, not clamped, normalized": (
        lambda: KlShampoo(lr=0.02, betas=(0.8, 0.9), frequency=2, normalize=True, clamping=False, init=0.5, eps=1e-6),
        lambda: AdamW(0.02, (0.8, 0.9), 1e-6, 0.01),
    ),
}

if __name__ == "__main__":
    golden = {
        "start": {key: value.tolist() for key, value in START.items()},
        "batches": [{"x": x.tolist(), "y": y.tolist()} for x, y in BATCHES],
        "cases": {name: run(*case) for name, case in CASES.items()},
    }
    with open(os.path.join(os.path.dirname(__file__), "soap.json"), "w") as file:
        json.dump(golden, file)
        file.write("\n")
