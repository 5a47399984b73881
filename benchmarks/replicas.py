"""Replicas as one program against plain PyTorch runs one after the other, at one thread: part of `make bench`.

Sixteen networks are trained by :mod:`bnlib.lab.train`, all at once, and by a loop as one would write it with torch.nn
and torch.optim; both see mini-batches of the same size from the same data, and nothing is evaluated. The rounds
alternate, so that whatever slows the machine slows both; what is printed is the median of the ratios within rounds.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before torch is loaded

from time import perf_counter

import numpy as np
import torch
from torch import nn

from bnlib.data import load
from bnlib.lab.layers import Activation, Affine, Convolution, Norm, Pool
from bnlib.lab.nets import Net, convnet, mlp
from bnlib.lab.train import Run, train

REPLICAS = 16
STEPS = 200  # of a round; the start of a program, its data and its only evaluation are in the time
ROUNDS = 5
AIM = 0.45  # with batch norm, 3x100, float32


def plain_network(net: Net) -> nn.Sequential:
    """The network as one writes it in PyTorch."""
    layers: list[nn.Module] = []
    shape = net.inputs
    for layer in net.layers.values():
        images, units = len(shape) == 3, shape[0]
        match layer:
            case Convolution():
                layers.append(nn.Conv2d(units, layer.units, layer.kernel, padding="same", bias=layer.bias))
            case Affine():
                layers.append(nn.Linear(units, layer.units, layer.bias))
            case Norm():
                layers.append(nn.BatchNorm2d(units) if images else nn.BatchNorm1d(units))
            case Activation():
                layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[layer.name]())
            case Pool():
                layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        shape = layer.out(shape)
    return nn.Sequential(*layers)


def plain_training(run: Run, steps: int, dtype: torch.dtype) -> None:
    """One network after the other would be trained like this."""
    split = load(run.data, run.seed)
    x, y = torch.tensor(split.x_train, dtype=dtype).reshape(-1, *run.net.inputs), torch.tensor(split.y_train)
    torch.manual_seed(run.seed)
    net = plain_network(run.net).to(dtype)
    make = torch.optim.Adam if run.optimizer == "adam" else torch.optim.SGD
    optimizer, loss_of = make(net.parameters(), lr=run.lr), nn.CrossEntropyLoss()
    rng, done = np.random.default_rng([run.seed, 1]), 0
    while done < steps:
        rows = torch.as_tensor(rng.permutation(len(x)))
        for start in range(0, len(x) - run.batch + 1, run.batch):
            batch = rows[start : start + run.batch]
            optimizer.zero_grad()
            loss_of(net(x[batch]), y[batch]).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break


def ratio(net: Net, optimizer: str, dtype: torch.dtype) -> tuple[float, float]:
    """The median of time together / time one after the other, and the latter in microseconds for each update."""
    runs = [Run(net=net, seed=seed, lr=0.001, optimizer=optimizer, steps=STEPS) for seed in range(REPLICAS)]
    times = []
    for _ in range(ROUNDS + 1):  # the first warms up
        start = perf_counter()
        train(runs, every=STEPS, dtype=dtype)
        middle = perf_counter()
        for run in runs:
            plain_training(run, STEPS, dtype)
        times.append((middle - start, perf_counter() - middle))
    together, apart = np.array(times[1:]).T
    return float(np.median(together / apart)), float(np.median(apart)) / (REPLICAS * STEPS) * 1e6


def main() -> None:
    """Print the table: one line per network, norm, optimizer and dtype."""
    torch.set_num_threads(1)
    print(f"{REPLICAS} replicas, {STEPS} updates each, mini-batches of 60")
    print("network   norm    optimizer   dtype      together / apart   apart, us for an update")
    aimed, update = [], {}
    for name, optimizer, dtype in (
        ("3x100", "sgd", torch.float32),
        ("3x100", "sgd", torch.float64),
        ("3x100", "adam", torch.float32),
        ("conv", "sgd", torch.float32),
    ):
        for norm in ("none", "batch"):
            net = mlp(norm=norm) if name == "3x100" else convnet(norm=norm, activation="relu")
            found, micro = ratio(net, optimizer, dtype)
            if (name, optimizer, dtype) == ("3x100", "sgd", torch.float32):
                aimed.append(found)
                update[norm] = micro
            kind = str(dtype).removeprefix("torch.")
            print(f"{name:<9} {norm:<7} {optimizer:<11} {kind:<10} {found:>16.2f} {micro:>25.0f}", flush=True)
    print(f"\n3x100 by SGD in float32: largest ratio {max(aimed):.2f} (at most {AIM} is the aim)")
    print(f"There, in plain PyTorch, an update with batch norm / without: {update['batch'] / update['none']:.2f}")


if __name__ == "__main__":
    main()
