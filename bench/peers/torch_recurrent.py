"""Training steps of recurrent networks in PyTorch, for bench/recurrent.ts: it writes numbers of steps, and gets CPU milliseconds of one."""

import sys
import time

import torch
import torch.nn as nn

torch.set_num_threads(1)
which = sys.argv[1]
torch.manual_seed(0)
def lm(V, h=200, L=2, T=35, B=20):
    enc, rnn, dec = nn.Embedding(V, h), nn.LSTM(h, h, L), nn.Linear(h, V)
    ps = [*enc.parameters(), *rnn.parameters(), *dec.parameters()]
    opt = torch.optim.SGD(ps, lr=1.0)
    x, y = torch.randint(V, (T, B)), torch.randint(V, (T * B,))
    state = [torch.zeros(L, B, h), torch.zeros(L, B, h)]
    def step():
        out, s = rnn(enc(x), tuple(state))
        state[0], state[1] = s[0].detach(), s[1].detach()
        loss = nn.functional.cross_entropy(dec(out).view(-1, V), y)
        opt.zero_grad(); loss.backward()
        torch.nn.utils.clip_grad_norm_(ps, 0.25)
        opt.step()
    return step
def cell(h=128, T=35, B=32, n=64):
    c = nn.LSTMCell(n, h); opt = torch.optim.SGD(c.parameters(), lr=0.1)
    x = torch.randn(T, B, n)
    def step():
        s = (torch.zeros(B, h), torch.zeros(B, h))
        for t in range(T): s = c(x[t], s)
        loss = s[0].square().mean(); opt.zero_grad(); loss.backward(); opt.step()
    return step
def char(kind, h=128, T=50, B=32, V=64):
    enc, rnn, dec = nn.Embedding(V, h), getattr(nn, kind)(h, h, batch_first=True), nn.Linear(h, V)
    ps = [*enc.parameters(), *rnn.parameters(), *dec.parameters()]
    opt = torch.optim.Adam(ps, lr=0.001)
    x, y = torch.randint(V, (B, T)), torch.randint(V, (T * B,))
    def step():
        out, s = rnn(enc(x)); loss = nn.functional.cross_entropy(dec(out).reshape(-1, V), y)
        opt.zero_grad(); loss.backward(); opt.step()
    return step
step = {'lm10k': lambda: lm(10000), 'lm1k': lambda: lm(1000), 'cell': cell, 'char-RNN': lambda: char('RNN'), 'char-LSTM': lambda: char('LSTM'), 'char-GRU': lambda: char('GRU'),
  'small-RNN': lambda: char('RNN', 32, 20, 8, 32), 'small-LSTM': lambda: char('LSTM', 32, 20, 8, 32), 'smallcell': lambda: cell(32, 20, 4, 16)}[which]()
print('ready', flush=True)
for line in sys.stdin:
    n = int(line)
    t = time.process_time()
    for _ in range(n): step()
    print((time.process_time() - t) / n * 1e3, flush=True)
