# Writes torch-resample.json: pictures in other sizes by torch.nn.functional.interpolate (PyTorch 1.13), in units of bytes.
import json
from pathlib import Path

import torch
from torch.nn.functional import interpolate

torch.manual_seed(0)
cases = []
for size, out in [((7, 5), (3, 4)), ((4, 6), (9, 7)), ((9, 9), (2, 9)), ((5, 8), (5, 3)), ((1, 3), (4, 2)), ((12, 11), (1, 1))]:
    x = torch.randint(0, 256, (1, 2, *size)).float()
    for mode, antialias in [("bilinear", False), ("bilinear", True), ("nearest", False)]:
        options = {} if mode == "nearest" else {"align_corners": False, "antialias": antialias}
        y = interpolate(x, out, mode=mode, **options)
        cases.append(
            {
                "interpolation": mode,
                "antialias": antialias,
                "x": {"shape": [2, *size], "data": x.flatten().int().tolist()},
                "y": {"shape": [2, *out], "data": [round(v, 4) for v in y.flatten().tolist()]},
            }
        )
# Where n/m is rounded, float32 decides which pixel is the nearest.
nearest = []
for n, m in [(3, 1000), (49, 343), (1000, 999), (7, 70), (10, 3)]:
    x = torch.arange(n).float().reshape(1, 1, 1, n)
    nearest.append({"n": n, "m": m, "y": interpolate(x, (1, m), mode="nearest").flatten().int().tolist()})
Path(__file__).with_name("torch-resample.json").write_text(json.dumps({"cases": cases, "nearest": nearest}) + "\n")
