"""Writes special.json: values of functions that Math lacks, correctly rounded to float64, for kernels-elementwise.test.ts.

    python3 test/golden/special.py      (pip install mpmath)
"""

import json
import pathlib
import random

import mpmath as mp

mp.mp.dps = 80
random.seed(0)
HALF = mp.mpf(1) / 2


def phi(x):
    return mp.erfc(-x / mp.sqrt(2)) * HALF


def slope(x):
    return phi(x) + x * mp.exp(-x * x * HALF) / mp.sqrt(2 * mp.pi)


def tanh_form(x):
    return x * HALF * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


def points(low, high, count=120):
    return [random.uniform(low, high) for _ in range(count)] + [10.0**-k for k in range(1, 300, 23)]


def table(f, xs):
    return [[x, float(f(mp.mpf(x)))] for x in xs]


RANGES = {
    "erf": (mp.erf, points(-6, 6)),
    "gelu": (lambda x: x * phi(x), points(-38.5, 9) + points(-3, 3)),
    "geluSlope": (slope, points(-38, 9) + points(-3, 3)),
    "geluTanh": (tanh_form, points(-10, 10)),
    "geluTanhSlope": (lambda x: mp.diff(tanh_form, x), points(-10, 10)),
}
path = pathlib.Path(__file__).with_name("special.json")
path.write_text(json.dumps({name: table(f, xs) for name, (f, xs) in RANGES.items()}, separators=(",", ":")) + "\n")
