"""Writes torch-attention.json: PyTorch's attention and transformer layers, their outputs and gradients.

    /usr/bin/python3 test/golden/torch-attention.py      (Debian: apt-get install python3-torch)

All in float64. Weights, inputs and gradients of outputs are waves: element j of wave i is sin(0.7 j + i) times a scale, here and in
test/attention-torch.test.ts. Tensor i of the state dict is wave i times 0.4, and around 1 for the weight of a norm; input i is wave
100 + i, the gradient of the output wave 200. Of each gradient only the inner product with a wave is stored. Masks are stored as
PyTorch gets them: true where attention is forbidden.
"""

import json
import math
import pathlib

import torch
import torch.nn as nn

torch.set_default_dtype(torch.float64)


def wave(i, shape):
    size = torch.Size(shape).numel()
    return torch.sin(0.7 * torch.arange(size) + i).reshape(shape)


def stored(x):
    return {"shape": list(x.shape), "data": [float(f"{v:.15g}") for v in x.flatten().tolist()]}


def case(kind, args, options, inputs, masks=None, **call):
    """`options` have PyTorch's names, and so have `masks`; `call` is said to forward besides."""
    theirs = {k: v for k, v in options.items() if k not in ("stack", "norm")}
    model = getattr(nn, kind)(*args, **theirs)
    if "stack" in options:
        norm = nn.LayerNorm(args[0]) if options["norm"] else None
        stack = nn.TransformerEncoder if "Encoder" in kind else nn.TransformerDecoder
        model = stack(model, options["stack"], norm)
    state = model.state_dict()
    for i, (key, value) in enumerate(state.items()):
        norm = "norm" in key and key.endswith("weight")
        value.copy_(wave(i, value.shape) * 0.4 + (1 if norm else 0))
    xs = [wave(100 + i, shape).requires_grad_() for i, shape in enumerate(inputs)]
    out = model(*xs, **(masks or {}), **call)
    y, weights = out if isinstance(out, tuple) else (out, None)
    (y * wave(200, y.shape)).sum().backward()
    leaves = [*xs, *model.parameters()]
    products = [float((p.grad * wave(i, p.shape)).sum()) for i, p in enumerate(leaves)]
    return {
        "kind": kind, "args": args, "options": options, "inputs": inputs, "call": call,
        "masks": {k: m.tolist() for k, m in (masks or {}).items()},
        "keys": {k: list(v.shape) for k, v in state.items()},
        "y": stored(y.detach()), "products": products,
        **({"weights": stored(weights.detach())} if weights is not None else {}),
    }


B, T, S, D, H = 2, 3, 4, 6, 2
later = torch.ones(T, T).triu(1).bool()
padding = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]).bool()
short = torch.tensor([[0, 0, 0], [0, 0, 1]]).bool()
some = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]).bool()
perHead = torch.stack([some.roll(i, 0) for i in range(B * H)])
first = {"batch_first": True}
x, q, m = (B, T, D), (B, T, D), (B, S, D)
cases = {
    "attention to itself": case("MultiheadAttention", [D, H], first, [x, x, x]),
    "attention across": case("MultiheadAttention", [D, H], first, [q, m, m]),
    "attention with keys and values of other sizes": case(
        "MultiheadAttention", [D, H], {**first, "kdim": 5, "vdim": 3}, [q, (B, S, 5), (B, S, 3)]),
    "attention without biases": case("MultiheadAttention", [D, H], {**first, "bias": False}, [q, m, m]),
    "attention with padding": case("MultiheadAttention", [D, H], first, [q, m, m], {"key_padding_mask": padding}),
    "attention with a mask and padding": case(
        "MultiheadAttention", [D, H], first, [q, m, m], {"attn_mask": some, "key_padding_mask": padding}),
    "attention with a mask for each head": case("MultiheadAttention", [D, H], first, [q, m, m], {"attn_mask": perHead}),
    "attention with numbers added to the scores": case(
        "MultiheadAttention", [D, H], first, [q, m, m], {"attn_mask": wave(7, (T, S))}),
    "attention, weights of each head": case(
        "MultiheadAttention", [D, H], first, [q, m, m], average_attn_weights=False),
    "encoder layer": case("TransformerEncoderLayer", [D, H, 5, 0.0], {}, [(T, B, D)], {"src_mask": later}),
    "encoder layer, norm first": case(
        "TransformerEncoderLayer", [D, H, 5, 0.0], {**first, "norm_first": True, "activation": "gelu", "layer_norm_eps": 0.01},
        [x], {"src_key_padding_mask": short}),
    "decoder layer": case(
        "TransformerDecoderLayer", [D, H, 5, 0.0], {}, [(T, B, D), (S, B, D)],
        {"tgt_mask": later, "memory_key_padding_mask": padding}),
    "decoder layer, norm first": case(
        "TransformerDecoderLayer", [D, H, 5, 0.0], {**first, "norm_first": True, "activation": "gelu"}, [x, m],
        {"memory_mask": some, "tgt_key_padding_mask": short}),
    "encoder": case("TransformerEncoderLayer", [D, H, 5, 0.0], {**first, "stack": 2, "norm": True}, [x], {"mask": later}),
    "decoder": case(
        "TransformerDecoderLayer", [D, H, 5, 0.0], {"stack": 2, "norm": False}, [(T, B, D), (S, B, D)], {"tgt_mask": later}),
    "transformer": case(
        "Transformer", [D, H, 1, 1, 5, 0.0], {}, [(S, B, D), (T, B, D)],
        {"tgt_mask": later, "src_key_padding_mask": padding, "memory_key_padding_mask": padding}),
}


# --- nanoGPT's model, as far as its numbers go ---
class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.c_attn, self.c_proj, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = [p.view(b, t, self.heads, d // self.heads).transpose(1, 2) for p in self.c_attn(x).split(d, 2)]
        scores = (q @ k.transpose(2, 3)) / math.sqrt(d // self.heads)
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
        return self.c_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        return self.c_proj(nn.functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(d), Attention(d, heads), nn.LayerNorm(d), Mlp(d)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, vocab, block, layers, heads, d):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocab, d), "wpe": nn.Embedding(block, d),
            "h": nn.ModuleList([Block(d, heads) for _ in range(layers)]), "ln_f": nn.LayerNorm(d)})
        self.lm_head = nn.Linear(d, vocab, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx):
        t = self.transformer
        x = t.wte(idx) + t.wpe(torch.arange(idx.shape[1]))
        for block in t.h:
            x = block(x)
        return self.lm_head(t.ln_f(x))


model = Gpt(7, 5, 2, 2, 4)
for i, (key, value) in enumerate(model.state_dict().items()):
    value.copy_(wave(i, value.shape) * 0.4 + (1 if "ln_" in key and key.endswith("weight") else 0))
tokens = torch.tensor([[3, 0, 6, 6], [1, 5, 2, 4]])
y = model(tokens)
nn.functional.cross_entropy(y.reshape(-1, 7), (tokens.reshape(-1) + 1) % 7).backward()
gpt = {
    "keys": {k: list(v.shape) for k, v in model.state_dict().items()}, "tokens": tokens.tolist(), "y": stored(y.detach()),
    "products": {k: float((p.grad * wave(0, p.shape)).sum()) for k, p in model.named_parameters()},
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"layers": cases, "gpt": gpt}, separators=(",", ":")) + "\n")
