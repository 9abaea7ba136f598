"""The tasks in NumPy, on whichever BLAS and LAPACK it finds."""

import numpy as np
from worker import definite, gram, noise

VERSION = np.__version__


def sgemm(n):
    a, b = noise((n, n), 1), noise((n, n), 2)

    def run():
        c = a @ b
        return c[-1, 0] + c[-1, -1]

    return run, 1


def eigh(n):
    a = gram(n)
    return lambda: np.linalg.eigh(a)[0][-1], 1


def cholesky(n):
    a = definite(n)
    return lambda: np.linalg.cholesky(a)[-1, -1], 1


def inverse(n):
    a = definite(n)
    return lambda: np.linalg.inv(a)[-1, -1], 1


def qr(n):
    a = definite(n)

    def run():
        q, r = np.linalg.qr(a)
        return abs(q[-1, -1]) + abs(r[-1, -1])

    return run, 1


TASKS = dict(sgemm=sgemm, eigh=eigh, cholesky=cholesky, inverse=inverse, qr=qr)
