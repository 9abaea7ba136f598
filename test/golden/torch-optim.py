"""Writes torch-optim.json: what PyTorch's optimizers and schedulers do in float64.

    /usr/bin/python3 test/golden/torch-optim.py      (Debian: apt-get install python3-torch)

Two parameters, w [2, 2] and b [2], get the same 12 gradients in every run. A run records both after steps 1, 2 and 12.
A schedule records the rate at steps 0 to 19, from a rate of 0.1.
L-BFGS minimises a function of Rosenbrock's kind of x [4] and y [1, 2].
"""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default dtype
torch.manual_seed(0)

STEPS = 12
RECORDED = [1, 2, 12]


def decimals(*shape):
    return [round(x, 3) for x in torch.randn(*shape).flatten().tolist()]


init = {"w": decimals(2, 2), "b": decimals(2)}
gradients = [{"w": decimals(2, 2), "b": decimals(2)} for _ in range(STEPS)]
gradients[0]["w"][1] = gradients[3]["b"][0] = 0.0
for g in gradients:
    g["b"][1] = round(g["b"][1] * 1e-6, 12)  # of another scale, so that eps shows
    g["w"][3] = 0.0  # never moves by its gradient

OPTIMIZERS = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ],
    "Adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3},
    ],
    "RMSprop": [
        {},
        {"lr": 0.05, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "centered": True},
        {"lr": 0.05, "alpha": 0.8, "centered": True, "momentum": 0.5, "weight_decay": 0.01},
    ],
    "Adam": [
        {},
        {"lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-4},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "betas": [0.5, 0.6], "amsgrad": True},
    ],
    "AdamW": [
        {},
        {"lr": 0.1, "betas": [0.8, 0.9], "weight_decay": 0.3},
        {"lr": 0.1, "betas": [0.5, 0.6], "amsgrad": True},
    ],
    "NAdam": [
        {},
        {"lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-4},
        {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1},
    ],
    "Adadelta": [
        {},
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1},
    ],
    "Adamax": [
        {},
        {"lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.1},
    ],
    "RAdam": [
        {},
        {"lr": 0.1, "betas": [0.5, 0.7], "eps": 1e-4, "weight_decay": 0.1},
    ],
}

S = torch.optim.lr_scheduler
SCHEDULES = {
    "stepLr": lambda o: S.StepLR(o, step_size=3, gamma=0.5),
    "cosineLr": lambda o: S.CosineAnnealingLR(o, T_max=7),
    "cosineLr etaMin": lambda o: S.CosineAnnealingLR(o, T_max=16, eta_min=0.01),
    "warmupLr": lambda o: S.LinearLR(o),
    "warmupLr then cosineLr": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, start_factor=0.1, total_iters=4), S.CosineAnnealingLR(o, T_max=15)], milestones=[4]
    ),
    "exponentialLr": lambda o: S.ExponentialLR(o, gamma=0.9),
    "multiStepLr": lambda o: S.MultiStepLR(o, milestones=[2, 5, 5, 11], gamma=0.5),
    "polynomialLr": lambda o: S.PolynomialLR(o),
    "polynomialLr power": lambda o: S.PolynomialLR(o, total_iters=15, power=2),
    "cosineRestartsLr": lambda o: S.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=0.01),
    "cosineRestartsLr equal": lambda o: S.CosineAnnealingWarmRestarts(o, T_0=4),
    "oneCycleLr": lambda o: S.OneCycleLR(o, max_lr=0.5, total_steps=20, cycle_momentum=False),
    "oneCycleLr linear": lambda o: S.OneCycleLR(
        o, max_lr=0.5, total_steps=21, pct_start=0.4, anneal_strategy="linear", div_factor=5, final_div_factor=100,
        three_phase=True, cycle_momentum=False,
    ),
}

# A measure at each call, and the rates that it leads to.
MEASURES = [5, 4, 4.0001, 4.5, 3.9, 3.8999, 3.8, 4, 4, 4, 4, 4, 4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]
PLATEAUS = {
    "defaults": {"patience": 2},
    "abs": {"patience": 1, "factor": 0.5, "threshold": 0.5, "threshold_mode": "abs", "cooldown": 2, "min_lr": 0.02},
    "max": {"patience": 1, "factor": 0.5, "mode": "max", "cooldown": 1, "eps": 0.01},
}


def run(name, options):
    parameters = {key: torch.nn.Parameter(torch.tensor(init[key])) for key in ("w", "b")}
    # NAdam's loop counts one momentum twice before torch 2.0 (pytorch/pytorch#92699); its foreach form never did.
    foreach = {"foreach": True} if name == "NAdam" else {}
    optimizer = getattr(torch.optim, name)(parameters.values(), **options, **foreach)
    recorded = {}
    for t, g in enumerate(gradients, 1):
        for key, p in parameters.items():
            p.grad = torch.tensor(g[key])
        optimizer.step()
        if t in RECORDED:
            recorded[t] = {key: p.detach().flatten().tolist() for key, p in parameters.items()}
    return {"optimizer": name, "options": options, "after": recorded}


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    seen = []
    for _ in range(20):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def plateau(options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = S.ReduceLROnPlateau(optimizer, **options)
    seen = []
    for measure in MEASURES:
        scheduler.step(measure)
        seen.append(optimizer.param_groups[0]["lr"])
    return {"options": options, "rates": seen}


def rosenbrock(x, y):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() + (y ** 2).sum() * (1 + x[0] ** 2)


LBFGS = [
    {"lr": 1, "max_iter": 4, "line_search_fn": "strong_wolfe"},
    {"lr": 0.5, "max_iter": 6, "max_eval": 9, "history_size": 3, "line_search_fn": "strong_wolfe"},
    {"lr": 0.001, "max_iter": 3},
    {"line_search_fn": "strong_wolfe"},
]


def lbfgs(options):
    """After each of 6 steps: the parameters, the loss that the step returned, and how often the closure ran."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.5, -0.5]))
    y = torch.nn.Parameter(torch.tensor([[0.3, -0.4]]))
    optimizer = torch.optim.LBFGS([x, y], **options)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = rosenbrock(x, y)
        loss.backward()
        return loss

    steps = []
    for _ in range(6):
        loss = optimizer.step(closure).item()
        steps.append({"loss": loss, "x": x.tolist(), "y": y.flatten().tolist(), "calls": calls})
    return {"options": options, "steps": steps}


fixture = {
    "torch": torch.__version__,
    "init": init,
    "gradients": gradients,
    "runs": [run(name, options) for name, sets in OPTIMIZERS.items() for options in sets],
    "lbfgs": [lbfgs(options) for options in LBFGS],
    "measures": MEASURES,
    "plateaus": {name: plateau(options) for name, options in PLATEAUS.items()},
    "schedules": {name: rates(make) for name, make in SCHEDULES.items()},
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(fixture) + "\n")
