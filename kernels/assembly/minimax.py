"""Prints the polynomials of elementwise-math.ts, -erf.ts, -pow.ts and -trig.ts, lowest power last.

    python3 kernels/assembly/minimax.py      (pip install mpmath; about 20 s)
"""

import struct

import mpmath as mp

mp.mp.dps = 50
LN2_HALF = mp.log(2) / 2 * mp.mpf("1.0005")
LOG_MAX = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.001")
SINE_MAX = (mp.pi / 4) ** 2 * mp.mpf("1.001")
TINY = mp.mpf(10) ** -10


def remez(f, weight, a, b, degree, rounds=40):
    """The polynomial p that minimises max |p − f| · weight on [a, b], by exchange, and that maximum."""
    n = degree + 2
    nodes = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    grid = [a + (b - a) * (1 - mp.cos(mp.pi * i / mp.mpf(1500))) / 2 for i in range(1501)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    before = None
    for _ in range(rounds):
        system, right = mp.matrix(n, n), mp.matrix(n, 1)
        for i, x in enumerate(nodes):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, n - 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        c = list(mp.lu_solve(system, right))[: degree + 1]
        error = [(mp.polyval(c[::-1], x) - y) * w for x, y, w in zip(grid, values, weights)]
        extrema, best = [], 0
        for i in range(1, len(grid)):
            if (error[i] > 0) != (error[best] > 0):
                extrema.append(best)
                best = i
            elif abs(error[i]) > abs(error[best]):
                best = i
        extrema.append(best)
        most = max(map(abs, error))
        if len(extrema) < n or (before is not None and abs(most - before) < most * 1e-6):
            break
        while len(extrema) > n:
            extrema.pop(0 if abs(error[extrema[0]]) < abs(error[extrema[-1]]) else -1)
        nodes, before = [grid[i] for i in extrema], most
    return c, most


def show(name, single, f, weight, a, b, degree):
    c, most = remez(f, weight, mp.mpf(a), mp.mpf(b), degree)
    print(f"{name}, relative error 2^{float(mp.log(most, 2)):.1f}")
    for x in reversed(c):
        print("   ", "%.9g" % struct.unpack("f", struct.pack("f", float(x))) if single else repr(float(x)))


def series(x, exact, near_0):
    return near_0 if abs(x) < TINY else exact(x)


def log_terms(z):
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) / s - 2) / z


def by_root(f):
    """f(x) / x as a function of x²."""
    return lambda z: f(mp.sqrt(max(z, TINY**2))) / mp.sqrt(max(z, TINY**2))


def expm1_terms(r):
    return series(r, lambda x: (mp.exp(x) - 1 - x) / x**2, mp.mpf(1) / 2)


def mills(k):
    """Φ(−z) e^(z²/2) (z + k) as a function of v = (z − k) / (z + k)."""

    def f(v):
        z = k * (1 + v) / (1 - v)
        return mp.erfc(z / mp.sqrt(2)) / 2 * mp.exp(z * z / 2) * (z + k)

    return f


for single, degree in ((True, 4), (False, 9)):
    weight = lambda r: max(r * r, TINY) / max(abs(mp.expm1(r)), TINY)
    show("(eʳ − 1 − r) / r²", single, expm1_terms, weight, -LN2_HALF, LN2_HALF, degree)
for single, degree in ((True, 2), (False, 6)):
    f = lambda z: series(z, log_terms, mp.mpf(2) / 3)
    show("log of (1+s)/(1−s) in s²", single, f, lambda z: max(z, TINY) / 2, 0, LOG_MAX, degree)
f = lambda z: series(z, lambda z: (log_terms(z) * 3 / 2 - 1) / z, mp.mpf(3) / 5)
show("the same of pow", False, f, lambda z: max(z * z, TINY) / 3, 0, LOG_MAX, 6)
f = lambda z: series(z, lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 6)
show("sin", False, f, lambda z: max(z, TINY), 0, SINE_MAX, 5)
f = lambda z: series(z, lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24)
show("cos", False, f, lambda z: max(z * z, TINY), 0, SINE_MAX, 5)
for single, degree in ((True, 4), (False, 8)):
    f = by_root(mp.erf)
    show("erf(x) / x in x²", single, f, lambda z: 1 / f(z), 0, "0.25", degree)
for single, degree, k, end in ((True, 9, 4, "14.5"), (False, 22, 6, "38.7")):
    f, z = mills(mp.mpf(k)), mp.mpf(end)
    show(f"Φ, k = {k}", single, f, lambda v: 1 / f(v), -1, (z - k) / (z + k), degree)
