"""Writes singd.json: SINGD in float64 numpy, written from the paper (Lin et al. 2024, Figure 4), on a network of two layers.

    /usr/bin/python3 test/golden/singd.py      (Debian: apt-get install python3-numpy)

All matrices are dense here; a structure is the projection of what the paper calls Pi-hat on them: the diagonal of a symmetric matrix.
A run records the loss of each step, and the parameters, K and C after the last.
"""

import json
import pathlib

import numpy as np

STEPS = 9
SIZES = [5, 4, 3]
rng = np.random.default_rng(0)


def numbers(*shape):
    return np.round(rng.standard_normal(shape), 3)


init = [numbers(SIZES[i + 1], SIZES[i] + 1) * 0.5 for i in range(2)]  # [W | b]
batches = [(numbers(6, SIZES[0]), rng.integers(0, SIZES[2], 6)) for _ in range(4)]


def backward(weights, x, y):
    """The mean cross-entropy, and of each layer its inputs with the homogeneous 1 and the gradients of one example's loss at its outputs."""
    count = len(y)
    one = np.ones((count, 1))
    a0 = np.hstack([x, one])
    h = np.tanh(a0 @ weights[0].T)
    a1 = np.hstack([h, one])
    z = a1 @ weights[1].T
    z = z - z.max(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    loss = -np.log(p[np.arange(count), y]).mean()
    g1 = p.copy()
    g1[np.arange(count), y] -= 1
    g0 = (g1 @ weights[1][:, :-1]) * (1 - h**2)
    return loss, [(a0, g0), (a1, g1)]


def project(structure, m):
    return np.diag(np.diag(m)) if structure == "diagonal" else m


def run(o):
    lr, momentum, damping, alpha1 = o["lr"], o["momentum"], o["damping"], o["alpha1"]
    weights = [w.copy() for w in init]
    state = [
        {
            "K": np.eye(w.shape[1]),
            "C": np.eye(w.shape[0]),
            "mK": np.zeros((w.shape[1], w.shape[1])),
            "mC": np.zeros((w.shape[0], w.shape[0])),
            "m": np.zeros_like(w),
        }
        for w in weights
    ]
    losses = []
    for step in range(STEPS):
        x, y = batches[step % len(batches)]
        count = len(y)
        loss, layers = backward(weights, x, y)
        losses.append(loss)
        for i, (a, g) in enumerate(layers):
            s = state[i]
            d_out, d_in = weights[i].shape
            if step % o["refreshEvery"] == 0:
                K, C = s["K"], s["C"]
                H_K = K.T @ (a.T @ a / count) @ K
                H_C = C.T @ (g.T @ g / count) @ C
                c2, k2 = damping * np.trace(C.T @ C), damping * np.trace(K.T @ K)
                if o["adaptive"]:
                    new_K = (np.trace(H_C) * H_K + c2 * K.T @ K - d_out * np.eye(d_in)) / (2 * d_out)
                    new_C = (np.trace(H_K) * H_C + k2 * C.T @ C - d_in * np.eye(d_out)) / (2 * d_in)
                else:
                    new_K = (H_K + damping * K.T @ K - np.eye(d_in)) / 2
                    new_C = (H_C + damping * C.T @ C - np.eye(d_out)) / 2
                rest = 1 - alpha1 if o["normalizeLrCov"] else 1
                s["mK"] = alpha1 * s["mK"] + rest * project(o["structure"]["A"], new_K)
                s["mC"] = alpha1 * s["mC"] + rest * project(o["structure"]["G"], new_C)
                for m, factor in (("mK", "K"), ("mC", "C")):
                    beta1 = o["lrCov"]
                    if o["normalizeLrCov"]:
                        beta1 /= max(1, np.abs(s[m]).max())
                    s[factor] = s[factor] @ (np.eye(len(s[m])) - beta1 * s[m])
            D = g.T @ a / count
            s["m"] = momentum * s["m"] + s["C"] @ s["C"].T @ D @ s["K"] @ s["K"].T
            weights[i] = weights[i] - lr * s["m"]
    return {
        "options": o,
        "losses": losses,
        "weights": [w.tolist() for w in weights],
        "K": [s["K"].tolist() for s in state],
        "C": [s["C"].tolist() for s in state],
    }


BASE = {
    "lr": 0.05,
    "momentum": 0.9,
    "damping": 0.01,
    "alpha1": 0.5,
    "lrCov": 0.05,
    "refreshEvery": 2,
    "adaptive": True,
    "normalizeLrCov": False,
    "structure": {"A": "exact", "G": "exact"},
}
RUNS = [
    BASE,
    {**BASE, "refreshEvery": 1, "alpha1": 0.0, "momentum": 0.0, "damping": 0.0},
    {**BASE, "structure": {"A": "diagonal", "G": "diagonal"}},
    {**BASE, "structure": {"A": "diagonal", "G": "exact"}, "refreshEvery": 1},
    {**BASE, "structure": {"A": "exact", "G": "diagonal"}, "lrCov": 0.1},
    {**BASE, "adaptive": False, "alpha1": 0.0, "refreshEvery": 1},
    {**BASE, "adaptive": False, "refreshEvery": 3},
    {**BASE, "normalizeLrCov": True, "lrCov": 0.5, "refreshEvery": 1},
]

fixture = {
    "sizes": SIZES,
    "init": [w.tolist() for w in init],
    "batches": [{"x": x.tolist(), "y": y.tolist()} for x, y in batches],
    "runs": [run(o) for o in RUNS],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(fixture) + "\n")
