"""The requests of worker.mjs, answered in Python: worker.py PEER [--once TASK ARGS]"""

import importlib
import json
import sys
import time

import numpy as np

BATCHES = 8
BLOCK = dict(d=128, heads=4, hidden=512, positions=64, batch=16)
CHARS = dict(vocabulary=65, d=128, heads=4, depth=4, length=64, batch=16)


def noise(shape, seed, scale=1.0):
    i = np.arange(np.prod(shape), dtype=np.float64)
    x = np.sin(i + 1 + 1000 * seed) * 43758.5453
    return ((x - np.floor(x) - 0.5) * scale).astype(np.float32).reshape(shape)


def labels(size, classes, seed):
    return np.minimum(classes - 1, np.floor((noise((size,), seed) + 0.5) * classes)).astype(np.int64)


def gram(n):
    x = noise((n, n), 5).astype(np.float64) / (1 + 0.05 * np.arange(n))[:, None]
    return x @ x.T / n


def definite(n):
    return gram(n) + 0.1 * np.eye(n)


def blas():
    """Which library computes the products."""
    with open("/proc/self/maps") as maps:
        names = {line.split("/")[-1].strip() for line in maps if "blas" in line.lower()}
    return ", ".join(sorted(names)) or "unknown"


def repeat(run, units, seconds):
    calls, cpu, wall = 0, time.process_time(), time.perf_counter()
    while True:
        value = run()
        calls += 1
        if time.perf_counter() - wall >= seconds:
            break
    units *= calls * 1e-3
    return value, (time.process_time() - cpu) / units, (time.perf_counter() - wall) / units


def main():
    sys.modules["worker"] = sys.modules["__main__"]
    peer = importlib.import_module(sys.argv[1])
    if sys.argv[2:3] == ["--once"]:
        run, *_ = peer.TASKS[sys.argv[3]](**json.loads(sys.argv[4]))
        run()
        print(json.dumps(dict(cpu=time.process_time() * 1e3)), flush=True)
        return
    if sys.argv[2:3] == ["--version"]:
        run, _ = peer.TASKS["sgemm"](n=8)
        run()
        print(json.dumps(dict(version=peer.VERSION, blas=blas())), flush=True)
        return
    run = units = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                run, units, *check = peer.TASKS[request["prepare"]](**request["args"])
                value = check[0]() if check else repeat(run, units, 0)[0]
                repeat(run, units, request["warm"])
                answer = dict(check=float(value))
            else:
                _, cpu, wall = repeat(run, units, request["sample"])
                answer = dict(cpu=cpu, wall=wall)
        except Exception as error:
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
