"""Writes kbfgs.json: K-BFGS in float64 numpy, written from the paper (Goldfarb, Ren & Bahamou 2020, Algorithm 4), on a network of two layers.

    /usr/bin/python3 test/golden/kbfgs.py      (Debian: apt-get install python3-numpy)

The inverse of the first A comes from the first batch in the place of a pass over all data. Outputs, inputs and gradients are averaged as they are, without
any use of the bias column. A run records the loss of each first pass, and the parameters and inverses after the last step.
"""

import json
import pathlib

import numpy as np

STEPS = 9
SIZES = [5, 4, 3]
rng = np.random.default_rng(1)


def numbers(*shape):
    return np.round(rng.standard_normal(shape), 3)


init = [numbers(SIZES[i + 1], SIZES[i] + 1) * 0.5 for i in range(2)]  # [W | b]
batches = [(numbers(6, SIZES[0]), rng.integers(0, SIZES[2], 6)) for _ in range(4)]


def passes(weights, x, y):
    """The mean cross-entropy, and of each layer its inputs with the homogeneous 1, its outputs, and the gradients of one example's loss there."""
    count = len(y)
    one = np.ones((count, 1))
    a0 = np.hstack([x, one])
    h0 = a0 @ weights[0].T
    a1 = np.hstack([np.tanh(h0), one])
    h1 = a1 @ weights[1].T
    z = h1 - h1.max(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    loss = -np.log(p[np.arange(count), y]).mean()
    g1 = p.copy()
    g1[np.arange(count), y] -= 1
    g0 = (g1 @ weights[1][:, :-1]) * (1 - np.tanh(h0) ** 2)
    return loss, [(a0, h0, g0), (a1, h1, g1)]


def bfgs(H, s, y):
    rho = 1 / (s @ y)
    left = np.eye(len(s)) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


def run(o):
    beta, damping = o["factorDecay"], np.sqrt(o["damping"])
    weights = [w.copy() for w in init]
    states = [None, None]
    losses, damped = [], 0
    for step in range(STEPS):
        x, y = batches[step % len(batches)]
        loss, first = passes(weights, x, y)
        losses.append(loss)
        for i, (a, h, g) in enumerate(first):
            d_out, d_in = weights[i].shape
            A = a.T @ a / len(y)
            if states[i] is None:
                states[i] = {
                    "A": A,
                    "Ha": np.linalg.inv(A + damping * np.eye(d_in)),
                    "Hg": np.eye(d_out),
                    "s": np.zeros(d_out),
                    "y": np.zeros(d_out),
                    "m": np.zeros((d_out, d_in)),
                }
            else:
                states[i]["A"] = beta * states[i]["A"] + (1 - beta) * A
            t = states[i]
            t["m"] = o["momentum"] * t["m"] + (1 - o["momentum"]) * g.T @ a / len(y)
            weights[i] = weights[i] - o["lr"] * t["Hg"] @ t["m"] @ t["Ha"]
            s_a = t["Ha"] @ a.mean(0)
            t["Ha"] = bfgs(t["Ha"], s_a, t["A"] @ s_a + damping * s_a)
        _, second = passes(weights, x, y)
        for i, ((_, h, g), (_, h_plus, g_plus)) in enumerate(zip(first, second)):
            t = states[i]
            t["s"] = beta * t["s"] + (1 - beta) * (h_plus.mean(0) - h.mean(0))
            t["y"] = beta * t["y"] + (1 - beta) * (g_plus.mean(0) - g.mean(0))
            s_g, y_g = t["s"], t["y"]
            Hy = t["Hg"] @ y_g
            if s_g @ y_g < o["mu1"] * (y_g @ Hy):
                theta = (1 - o["mu1"]) * (y_g @ Hy) / (y_g @ Hy - s_g @ y_g)
                s_g = theta * s_g + (1 - theta) * Hy
                damped += 1
            t["Hg"] = bfgs(t["Hg"], s_g, y_g + damping * s_g)
    return {
        "options": o,
        "damped": damped,
        "losses": losses,
        "weights": [w.tolist() for w in weights],
        "Ha": [t["Ha"].tolist() for t in states],
        "Hg": [t["Hg"].tolist() for t in states],
    }


BASE = {"lr": 0.1, "momentum": 0.9, "damping": 0.3, "mu1": 0.2, "factorDecay": 0.9}
RUNS = [
    BASE,
    {**BASE, "lr": 0.5, "momentum": 0.0, "damping": 1.0},
    {**BASE, "lr": 0.3, "factorDecay": 0.0, "mu1": 0.5},
    {**BASE, "lr": 1.0, "damping": 0.01, "mu1": 0.9},
]

fixture = {
    "sizes": SIZES,
    "init": [w.tolist() for w in init],
    "batches": [{"x": x.tolist(), "y": y.tolist()} for x, y in batches],
    "runs": [run(o) for o in RUNS],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(fixture) + "\n")
print([r["damped"] for r in fixture["runs"]], [r["losses"][-1] for r in fixture["runs"]])
