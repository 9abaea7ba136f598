# PyTorch's side of bench/convs.ts: the named problem, as many calls as each line of the input says; prints CPU milliseconds a call.
import sys, time
import torch
from torch import nn
torch.set_num_threads(1)
which = sys.argv[1]
name, kind = which.rsplit('/', 1)
def layer(make, shape):
    m, x = make(), torch.randn(*shape)
    if kind == 'forward':
        def step():
            with torch.no_grad(): m(x)
        return step
    x.requires_grad_()
    g = torch.randn_like(m(x))
    def step():
        x.grad = None; m.zero_grad()
        m(x).backward(g)
    return step
def separable(i, o, s): return [nn.Conv2d(i, i, 3, s, 1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
def mobile(alpha, side, B):
    w = lambda c: max(8, int(c * alpha))
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    layers, c = [nn.Conv2d(3, w(32), 3, 2, 1, bias=False), nn.BatchNorm2d(w(32)), nn.ReLU()], w(32)
    for o, s in plan: layers += separable(c, w(o), s); c = w(o)
    m = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))
    opt = torch.optim.SGD(m.parameters(), lr=.01)
    x, y = torch.randn(B, 3, side, side), torch.randint(10, (B,))
    def step():
        loss = nn.functional.cross_entropy(m(x), y); opt.zero_grad(); loss.backward(); opt.step()
    return step
problems = {
    'depthwise 512, 8²': lambda: layer(lambda: nn.Conv2d(512, 512, 3, 1, 1, groups=512), (8, 512, 8, 8)),
    'depthwise 128, 32², stride 2': lambda: layer(lambda: nn.Conv2d(128, 128, 3, 2, 1, groups=128), (8, 128, 32, 32)),
    'depthwise 64, 32²': lambda: layer(lambda: nn.Conv2d(64, 64, 3, 1, 1, groups=64), (16, 64, 32, 32)),
    'depthwise 1024, 4²': lambda: layer(lambda: nn.Conv2d(1024, 1024, 3, 1, 1, groups=1024), (8, 1024, 4, 4)),
    'conv1d 32 → 64, k 5': lambda: layer(lambda: nn.Conv1d(32, 64, 5, padding=2), (16, 32, 128)),
    'conv3d 8 → 16, 3³': lambda: layer(lambda: nn.Conv3d(8, 16, 3, padding=1), (4, 8, 8, 24, 24)),
    'mobileNet .25, 32²': lambda: mobile(.25, 32, 8), 'mobileNet 1, 32²': lambda: mobile(1, 32, 8), 'mobileNet .5, 64²': lambda: mobile(.5, 64, 8),
}
step = problems[name]()
print('ready', flush=True)
for line in sys.stdin:
    n = int(line)
    t = time.process_time()
    for _ in range(n): step()
    print((time.process_time() - t) / n * 1e3, flush=True)
