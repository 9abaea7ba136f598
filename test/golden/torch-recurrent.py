"""Writes torch-recurrent.json: values and gradients of PyTorch's recurrent layers and cells.

    /usr/bin/python3 test/golden/torch-recurrent.py      (Debian: apt-get install python3-torch)

All in float64. Element j of the i-th tensor is 0.5 sin(0.7 j + 1.3 i), here and in test/nn-recurrent.test.ts: first the state dict's, in its
order, then x, the first states, and the gradients that come to the output and the last states. Of results and gradients the elements are
stored, rounded to 12 decimals. A case with `lengths` runs through pack_padded_sequence.
"""

import json
import pathlib

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.set_default_dtype(torch.float64)


class Waves:
    def __init__(self):
        self.i = 0

    def __call__(self, *shape):
        n = torch.Size(shape).numel()
        wave = 0.5 * torch.sin(0.7 * torch.arange(n) + 1.3 * self.i)
        self.i += 1
        return wave.reshape(shape)


def numbers(x):
    return [round(v, 12) for v in x.detach().flatten().tolist()]


def pairs(state):
    return list(state) if isinstance(state, tuple) else [state]


def run(kind, sizes, options, shape, lengths=None, cell=False):
    waves = Waves()
    layer = getattr(nn, kind)(*sizes, **options)
    with torch.no_grad():
        for p in layer.state_dict().values():
            p.copy_(waves(*p.shape))
    x = waves(*shape).requires_grad_()
    first = options.get("batch_first", False)
    if cell:
        states = [shape[:-1] + (sizes[1],)]
    else:
        count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        batch = () if len(shape) == 2 else (shape[0 if first else 1],)
        states = [(count,) + batch + (sizes[1],)]
    if kind.startswith("LSTM"):
        states = states * 2
    h = [waves(*s).requires_grad_() for s in states]
    state = tuple(h) if len(h) == 2 else h[0]
    if lengths is None:
        results = layer(x, state)
        y, last = (None, results) if cell else results
    else:
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
        y, last = layer(packed, state)
        y, _ = pad_packed_sequence(y, batch_first=first, total_length=shape[1 if first else 0])
    ys = ([] if y is None else [y]) + pairs(last)
    sum((one * waves(*one.shape)).sum() for one in ys).backward()
    return {
        "kind": kind, "sizes": sizes, "options": options, "shape": shape, "lengths": lengths,
        "keys": {k: list(v.shape) for k, v in layer.state_dict().items()},
        "results": [{"shape": list(one.shape), "data": numbers(one)} for one in ys],
        "gradients": [numbers(one.grad) for one in [*layer.parameters(), x, *h]],
    }


cases = []
for kind in ["RNN", "LSTM", "GRU"]:
    cases += [
        run(kind, [3, 2], {}, (4, 2, 3)),
        run(kind, [2, 3], {"num_layers": 2, "batch_first": True, "bias": False}, (2, 3, 2)),
        run(kind, [2, 2], {"num_layers": 2, "bidirectional": True}, (3, 3, 2), [2, 3, 1]),
        run(kind, [2, 5], {"batch_first": True, "bidirectional": True}, (3, 4, 2), [4, 1, 3]),
        run(kind, [3, 2], {"bidirectional": True}, (3, 3)),
        run(kind + "Cell", [3, 2], {}, (4, 3), cell=True),
        run(kind + "Cell", [2, 3], {"bias": False}, (2,), cell=True),
    ]
cases += [
    run("RNN", [3, 2], {"nonlinearity": "relu"}, (4, 2, 3)),
    run("RNNCell", [3, 2], {"nonlinearity": "relu"}, (4, 3), cell=True),
]
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")
