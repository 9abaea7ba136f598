"""Writes torch-linalg.json: values and gradients of PyTorch's linear algebra.

    /usr/bin/python3 test/golden/torch-linalg.py      (Debian: apt-get install python3-torch)

All in float64. A case has inputs, the result y, a gradient gy of it, and the gradients of the inputs by Σ gy y. Where vectors have free
signs, the case computes what does not depend on them. Names are those of the test, which knows what each case computes.
"""

import json
import pathlib

import torch
import torch.linalg as L

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def decimals(*shape):
    return torch.randn(shape).mul(100).round().div(100)


def stored(x):
    return {"shape": list(x.shape), "data": x.flatten().tolist()}


def case(run, *inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = run(*leaves)
    out = {"inputs": [stored(x) for x in inputs], "y": stored(y.detach())}
    if y.requires_grad:
        gy = decimals(*y.shape)
        (y * gy).sum().backward()
        out |= {"gy": stored(gy), "gradients": [stored(x.grad) for x in leaves]}
    return out


def definite(a):
    return a @ a.mT + torch.eye(a.shape[-1])


def rayleigh(a):
    values, vectors = L.eigh(definite(a))
    return vectors @ torch.diag_embed(values.log()) @ vectors.mT


def halved(a):
    u, s, vh = L.svd(a, full_matrices=False)
    return u @ torch.diag_embed(s.sqrt()) @ vh


def thin(a, b):
    q, r = L.qr(a)
    return q @ (q.mT @ b)


a, tall, wide = decimals(2, 3, 3), decimals(2, 4, 3), decimals(2, 2, 4)
b, v = decimals(3, 2), decimals(2, 3)
deficient = decimals(4, 2) @ decimals(2, 3)
cases = {
    "cholesky": case(lambda a: L.cholesky(definite(a)), a),
    "cholesky, upper": case(lambda a: L.cholesky(definite(a), upper=True), a),
    "solve": case(L.solve, a, b.expand(2, 3, 2)),
    "solve, vectors": case(L.solve, a, v),
    "solveTriangular, upper": case(lambda a, b: L.solve_triangular(a, b, upper=True), a, b),
    "solveTriangular, right": case(lambda a, b: L.solve_triangular(a, b, upper=False, left=False), a, b.mT),
    "solveTriangular, unit": case(lambda a, b: L.solve_triangular(a, b, upper=False, unitriangular=True), a, b),
    "inv": case(L.inv, a),
    "det": case(L.det, a),
    "slogdet": case(lambda a: torch.stack(L.slogdet(a)), a),
    "logdet": case(torch.logdet, definite(a)),
    "eigvalsh": case(lambda a: L.eigvalsh(definite(a)), a),
    "eigh": case(rayleigh, a),
    "svdvals": case(L.svdvals, tall),
    "svd, tall": case(halved, tall),
    "svd, wide": case(halved, wide),
    "qr, tall": case(thin, tall, tall.flip(0)),
    "pinv, tall": case(L.pinv, tall),
    "pinv, wide": case(L.pinv, wide),
    "pinv, deficient": case(L.pinv, deficient),
    "pinv, rtol": case(lambda a: L.pinv(a, rtol=0.4), tall),
    "matrixPower": case(lambda a: L.matrix_power(a, 5), a),
    "matrixPower, negative": case(lambda a: L.matrix_power(a, -2), a),
    "lstsq": case(lambda a, b: L.lstsq(a, b, driver="gelsd").solution, tall[0], b.repeat(2, 1)[:4]),
    "matrixRank": case(lambda a: L.matrix_rank(a).double(), deficient),
}
for order in ["fro", "nuc", 1, -1, 2, -2, torch.inf, -torch.inf]:
    cases[f"matrixNorm {order}"] = case(lambda a, order=order: L.matrix_norm(a, order), tall)
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"torch": torch.__version__, "cases": cases}))
