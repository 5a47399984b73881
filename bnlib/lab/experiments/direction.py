"""What chapter 12 measures of the length and the direction of weights, and of depth.

All criteria were written down before the first run. Published results were known; so were small trials of others: the
angle of an update at 0.990 to 0.993 of its theory, gradients that grow by 1.198 a layer in batches of 64, and margins
whose standard deviation is 0.0125 of their mean with batch norm, 0.131 without.

Inputs are centred. Three things are small enough to be measured on the page itself:

- *decay-is-rate* (exact, 8 seeds): 64-100-100-100-10 sigmoid networks with batch norm, eps = 0, float64, digits,
  batches of 60, 100 updates of SGD at the rate 1. One trains with the decay 0.005 of the hidden weights alone, the
  other without at the rate a ** -(2 t + 1) of these weights in update t = 0, 1, ..., with a = 1 - 0.005. Second part:
  hidden weights times 10 and their rate times 100. Criterion: the largest difference of the losses of the mini-batches
  < 1e-8. With eps = 1e-5, or with all parameters decayed, it is printed and decides nothing.
- *residual-identity* (8 seeds, and more where these do not settle it): residual blocks of width 100 at their start, h +
  W relu(BN(h)), He's gain, 64 digits. At a depth the variance over the examples, mean over the units, of the last
  branch is divided by that of its skip. The slope of the ratio's logarithm over that of the depth, 8, 16, ..., 256,
  lies within -1 ± 0.1; transfer: MNIST 14 x 14. Without batch norm it stands beside that.
- *uniform-margin* (8 seeds, and more where these do not settle it): a linear model of 30 Gaussian examples with 200
  features, half of them in either class at random; logistic loss, 10,000 updates of full-batch gradient descent at the
  rate 0.1. With batch norm it is gamma * (z - mean) / std over the 30, without it is z plus a bias. The standard
  deviation of the margins over their mean, with / without, < 1 / 1.5; transfer: 30 digits, 3 or 8. After 1,000 updates
  it stands beside that.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.claims import Criterion, more
from bnlib.data import load
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import Cases, half_decades, net_of, trained
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import NAMES, NORMS, OVERLAP, SIZES, SLICE
from bnlib.lab.layers import ACTIVATIONS, Activation, Affine, Chain, Norm, Residual
from bnlib.lab.nets import Net, described
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Hook, Program, Run, train

CHAPTER = "12_length_and_direction"

# Any rate


def reaching(
    *,
    spec: Settings,
    runs: Sequence[Settings],
    rates: Sequence[float],
    steps: int,
    target: float,
    dtype: str,
    **how: Any,
) -> Values:
    """How many decades of the hidden weights' rate train, where all else has a rate of its own.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    runs : of each the seed, and the rate of all but the hidden weights
    rates : of the hidden weights, in steps of half a decade
    steps, target : after so many updates the validation accuracy is to be at least that
    dtype, how : as for :func:`bnlib.lab.experiments.trained`

    Returns
    -------
    values : "decades", half of the number of rates that get there, for each run; and "val", the accuracies by rate
    """
    net, scale = net_of(spec)
    val = np.zeros((len(rates), len(runs)))
    for rest in dict.fromkeys(run["lr"] for run in runs):
        who = [i for i, run in enumerate(runs) if run["lr"] == rest]
        replicas = [
            Run(net=net, steps=steps, **{**how, **scale, **runs[i], "lr": rate}) for rate, i in product(rates, who)
        ]
        hooks = [partial(Rest, rate=rest)]
        histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
        val[:, who] = np.array([h.val_accuracy[-1] for h in histories]).reshape(len(rates), len(who))
    return {"decades": (0.5 * (val >= target).sum(0)).tolist(), "val": val.T.tolist()}


class Rest(Hook):
    """All but the hidden weights have one rate, whatever that of the replica, which is then the hidden weights'."""

    def __init__(self, program: Program, rate: float) -> None:
        super().__init__(program)
        self.hidden, self.rate = [f"{path}.weight" for path in program.net.affine[:-1]], rate

    def loss(self) -> float:
        """Before each update."""
        for name, rates in zip(self.program.learned, self.program.rates, strict=True):
            if name not in self.hidden:
                rates.fill_(self.rate)
        return 0.0


def _any_rate(
    places: list[str], gains: dict[str, float], lrs: dict[str, list[float]], rates: list[float], **how: Any
) -> Iterator[Arm]:
    """Networks with and without batch norm, whose hidden weights have any rate, and all else a tuned one."""
    for data, activation, norm in product(places, gains, NORMS):
        spec = {"inputs": SIZES[data], "activation": activation, "norm": norm, "gain": gains[activation]}
        arguments = {"spec": spec, "data": data, "inputs": "centred", "rates": rates, **how}
        yield Arm({"data": data, "activation": activation, "norm": norm}, arguments, {"lr": lrs[activation]}, "decades")


def _any(activation: str, data: str = "digits") -> Pair:
    labels = {"data": data, "activation": activation}
    return labels | {"norm": "batch"}, labels | {"norm": "none"}


# The angle of an update


class Turning(Hook):
    """The angles by which the weights of a layer's units turn in an update, over the second half of the training."""

    def __init__(self, program: Program, layer: str) -> None:
        super().__init__(program)
        self.name, self.steps = f"{layer}.weight", program.runs[0].steps
        self.sum, self.squares = torch.zeros(()), torch.zeros(())
        self.before = program.params[self.name].detach().clone()

    @torch.no_grad()
    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """After the last update "angle" and "square", means (replicas, units), and the weights' "length" at the end."""
        now = self.program.params[self.name].detach()
        if step > self.steps // 2:
            turned = angle(self.before, now)
            self.sum, self.squares = self.sum + turned, self.squares + turned.square()
        self.before = now.clone()
        if step < self.steps:
            return None
        many = self.steps - self.steps // 2
        return {"angle": self.sum / many, "square": self.squares / many, "length": now.norm(dim=-1)}


def angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle between vectors along the last axis, in radians, exact also where it is small."""
    a, b = (v / v.norm(dim=-1, keepdim=True) for v in (a, b))
    return 2 * torch.asin(((a - b).norm(dim=-1) / 2).clamp(max=1.0))


# By how much an optimizer's memory, of factor 0.9, changes the angle, if gradients follow each other at random.
MEMORY = {"sgd": 1.0, "momentum": (1 / 1.9) ** 0.5, "adam": (0.1 / 1.9) ** 0.5}


def turning(
    *,
    spec: Settings,
    layer: int,
    seeds: int,
    lr: float,
    decay: float,
    optimizer: str,
    times: float,
    dtype: str,
    **how: Any,
) -> Values:
    """Train with decay of the hidden weights, until they turn by a steady angle.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    layer : the hidden layer that is looked at, counted from 0
    lr, decay, optimizer : as in :class:`bnlib.lab.train.Run`; with "adam" the decay is decoupled
    times : the number of updates is so many times 1 / (lr * decay)
    seeds, dtype, how : as for :func:`bnlib.lab.experiments.trained`

    Returns
    -------
    values : for each seed "ratio", the mean angle over units and the second half of the updates, divided by the theory
        sqrt(2 lr decay) with the optimizer's memory; "rms", the same of the root mean square over these updates, mean
        over units; "least" and "most", the smallest and largest mean of a unit; and "length" and "val" at the end
    """
    net, scale = net_of(spec)
    decayed, steps = tuple(f"{path}.weight" for path in net.affine[:-1]), round(times / (lr * decay))
    about = {"optimizer": optimizer, "decoupled": optimizer == "adam", "decayed": decayed, "decay": decay}
    runs = [Run(net=net, seed=seed, lr=lr, steps=steps, **about, **scale, **how) for seed in range(seeds)]
    histories = train(
        runs,
        every=steps,
        dtype=getattr(torch, dtype),
        whole=True,
        hooks=[lambda program: Turning(program, net.affine[layer])],
    )
    theory = (2 * lr * decay) ** 0.5 * MEMORY[optimizer]
    angles = np.array([h.noted["angle"][-1] for h in histories]) / theory  # (seeds, units)
    lengths = [float(h.noted["length"][-1].mean()) for h in histories]
    return {
        "ratio": angles.mean(1).tolist(),
        "rms": [float((h.noted["square"][-1] ** 0.5).mean()) / theory for h in histories],
        "least": angles.min(1).tolist(),
        "most": angles.max(1).tolist(),
        "length": lengths,
        "val": [h.val_accuracy[-1] for h in histories],
    }


def _rotation(seeds: int, settings: dict[str, Settings], **how: Any) -> Cases:
    """The angle of an update tends to sqrt(2 lr lambda), with the weights of a hidden layer in front of batch norm.

    64-100-100-100-10 sigmoid networks with batch norm (eps = 0), digits, batches of 60; the hidden weights alone decay.
    The theory holds for gradients that are independent from update to update; Adam's mean of the last gradients makes
    it sqrt(2 lr lambda) * sqrt((1 - 0.9) / (1 + 0.9)), and momentum sqrt(2 lr lambda / (1 + 0.9)).

    Criterion: in the second hidden layer, over the second half of 10 / (lr lambda) updates, the mean angle divided by
    the theory lies within 1 ± 0.05; for SGD at two pairs of lr and lambda and for AdamW at one. Further pairs,
    momentum, the first layer, and eps = 1e-5 stand beside it.

    A second claim asks the same of the root mean square over these updates, for which the derivation is: what balances
    are squares. Its criterion was written down when the mean was known, 0.83, 0.50 and 0.79 of the theory, and before
    the root mean square was computed.
    """
    for name, own in settings.items():
        yield {"setting": name}, {"seeds": seeds, **how, **own}


# Gradients and ranks in deep random networks


def _weights(
    units: int, inputs: int, gain: float, start: str, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """(units, inputs) random weights, whose rows have about the length gain, or for an orthogonal start orthogonal."""
    drawn = torch.randn(units, inputs, generator=generator, dtype=dtype)
    return gain * (orthogonal(drawn) if start == "orthogonal" else drawn / inputs**0.5)


def orthogonal(drawn: Tensor) -> Tensor:
    """(..., units, inputs) of normal draws orthogonal rows of length 1; or columns, if there are more units."""
    units, inputs = drawn.shape[-2:]
    q, r = torch.linalg.qr(drawn.mT if units <= inputs else drawn)
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)  # then all rotations are equally likely
    return q.mT if units <= inputs else q * (units / inputs) ** 0.5


def _normed(z: Tensor) -> Tensor:
    """Batch norm of (N, units), without gamma and beta."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


def growing(
    *,
    data: str,
    batch: int,
    kind: str,
    seeds: int,
    width: int,
    depth: int,
    between: list[int],
    lr: float,
    dtype: str,
) -> Values:
    """By what factor a layer a gradient grows on its way down a random network of ReLUs with batch norm.

    Parameters
    ----------
    data, batch : the first examples of a training set, centred
    kind : "plain", z = W h and h = relu(BN(z)); "orthogonal", the same from orthogonal weights; "one step", the plain
        one after an update at the rate lr of all weights; "without", no batch norm; or "residual", blocks
        z + W relu(BN(z))
    seeds, width, depth : of networks; normal weights with He's gain
    between : two layers, counted from 1: the factor is that between the gradients, in root mean square, of their z
    lr, dtype : of the step, and of all numbers

    Returns
    -------
    values : "factor" for each seed
    """
    low, high, found = *between, []
    for seed in range(seeds):
        generator, own = torch.Generator().manual_seed(seed), getattr(torch, dtype)
        split = load(data, seed, "centred")
        x, y = torch.tensor(split.x_train[:batch]).to(own), torch.tensor(split.y_train[:batch]).long()
        start = "orthogonal" if kind == "orthogonal" else "normal"
        sizes = [x.shape[1], *[width] * depth, 10]
        weights = [
            _weights(b, a, 2**0.5, start if a == b else "normal", generator, own).requires_grad_()
            for a, b in pairwise(sizes)
        ]
        zs, loss = _forward(weights, x, y, kind)
        if kind == "one step":
            grads = torch.autograd.grad(loss, weights)
            weights = [(w - lr * g).detach().requires_grad_() for w, g in zip(weights, grads, strict=True)]
            zs, loss = _forward(weights, x, y, kind)
        below, above = torch.autograd.grad(loss, [zs[low - 1], zs[high - 1]])
        ratio = below.square().mean() / above.square().mean()
        found.append(float(ratio ** (0.5 / (high - low))))
    return {"factor": found}


def _forward(weights: list[Tensor], x: Tensor, y: Tensor, kind: str) -> tuple[list[Tensor], Tensor]:
    """Of each hidden layer z, (N, width), and the cross-entropy."""
    norm = (lambda z: z) if kind == "without" else _normed
    zs = [x @ weights[0].mT]
    for weight in weights[1:-1]:
        z = torch.relu(norm(zs[-1])) @ weight.mT
        zs.append(zs[-1] + z if kind == "residual" else z)
    return zs, cross_entropy(torch.relu(norm(zs[-1])) @ weights[-1].mT, y)


def _explosion(seeds: int, batches: list[int], kinds: list[str], places: list[str], **how: Any) -> Cases:
    """Batch norm makes gradients explode in deep plain networks of ReLUs, by sqrt(pi / (pi - 1)) = 1.21 a layer.

    50 layers of 1,000 units at their start, digits, cross-entropy; the factor is that between layers 45 and 5.

    Criterion: with batches of 64 the factor lies within 1.21 ± 0.02; transfer: MNIST 14 x 14. Batches of 16 and 256,
    and with 64 one update (rate 0.1), residual blocks, orthogonal weights and no batch norm stand beside it.
    """
    first = batches[0]
    conditions = [(data, first, kinds[0]) for data in places]
    conditions += [(places[0], batch, kinds[0]) for batch in batches[1:]]
    conditions += [(places[0], first, kind) for kind in kinds[1:]]
    for data, batch, kind in conditions:
        labels = {"data": data, "batch": batch, "kind": kind}
        yield labels, {**labels, "seeds": seeds, **how}


def apart(
    *,
    data: str,
    activation: str,
    kind: str,
    seeds: int,
    examples: int,
    width: int,
    layers: list[int],
    gains: dict[str, float],
) -> Values:
    """How far apart a deep random network keeps examples.

    Parameters
    ----------
    data, examples : the first of a training set, centred
    activation : "relu", "tanh" or "identity"
    kind : "batch", batch norm in front of the activation; "none"; or "orthogonal", none, from orthogonal weights
    seeds, width, gains : of networks, and of their weights by activation
    layers : those that are described, the last of which is the depth

    Returns
    -------
    values : for each seed, by layer, of the outputs "rank", the participation rank of the examples' inner products, and
        "cosine", the mean over pairs of different examples
    """
    ranks, cosines = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        h = torch.tensor(load(data, seed, "centred").x_train[:examples], dtype=torch.float64)
        own: list[tuple[float, float]] = []
        for layer in range(1, layers[-1] + 1):
            start = "orthogonal" if kind == "orthogonal" else "normal"
            z = h @ _weights(width, h.shape[1], gains[activation], start, generator).mT
            h = ACTIVATIONS[activation](_normed(z) if kind == "batch" else z)
            if layer in layers:
                own.append((participation(h), cosine(h)))
        ranks.append([rank for rank, _ in own])
        cosines.append([mean for _, mean in own])
    return {"rank": ranks, "cosine": cosines}


def participation(h: Tensor) -> float:
    """The participation rank of rows: of their inner products' eigenvalues, the squared sum over the sum of squares."""
    gram = h @ h.mT
    return float(gram.trace() ** 2 / gram.square().sum())


def cosine(h: Tensor) -> float:
    """The mean cosine of two different rows."""
    rows, n = h / h.norm(dim=1, keepdim=True), len(h)
    return float((rows.sum(0).square().sum() - n) / (n * (n - 1)))


def _ranks(seeds: int, activations: list[str], kinds: list[str], places: list[str], **how: Any) -> Cases:
    """Batch norm keeps the representations of different examples apart in deep networks.

    100 layers of 100 units at their start, 64 digits; gain sqrt(2) for ReLU, 1 for tanh and for the linear network.

    Criterion: the participation rank of the last layer's outputs, with / without batch norm, is more than 1.5, for the
    linear network, ReLU and tanh; transfer: MNIST 14 x 14. An orthogonal start without batch norm stands beside that
    of the normal one. The centre that batch norm takes away bounds the rank of the linear network by 63 of 64.
    """
    for data, activation, kind in product(places, activations, kinds):
        labels = {"data": data, "activation": activation, "kind": kind}
        yield labels, {**labels, "seeds": seeds, **how}


# Training from an orthogonal start, and residual blocks with a scalar


class Orthogonal(Hook):
    """The weights of all affine maps start orthogonal, each with its gain."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        gains = torch.tensor([run.gain for run in program.runs], dtype=program.dtype)[:, None, None]
        for path in program.net.affine:
            program.params[f"{path}.weight"] = gains * orthogonal(program.params[f"{path}.weight"].detach())


def started(*, spec: Settings, runs: list[Settings], start: str, steps: int, dtype: str, **how: Any) -> Values:
    """Train from normal or orthogonal weights: "val" and "test" accuracy at the end, for each run."""
    net, scale = net_of(spec)
    replicas = [Run(net=net, steps=steps, **{**how, **scale, **run}) for run in runs]
    hooks = [Orthogonal] if start == "orthogonal" else []
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    return {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}


def _enough(
    places: dict[str, list[int]],
    width: int,
    gains: dict[str, float],
    arms: dict[str, list[str]],
    lrs: list[float],
    **how: Any,
) -> Iterator[Arm]:
    """Deep plain networks: the norm and the start of each arm."""
    for (data, depths), activation, (arm, (norm, start)) in product(places.items(), gains, arms.items()):
        for depth in depths:
            spec = {"inputs": SIZES[data], "widths": [width] * depth, "activation": activation, "norm": norm}
            arguments = {"spec": spec, "start": start, "data": data, "inputs": "centred", **how}
            labels = {"data": data, "depth": depth, "activation": activation, "arm": arm}
            yield Arm(labels, arguments, {"gain": [gains[activation]], "lr": lrs})


def _started(activation: str, depth: int, arm: str = "orthogonal", data: str = "digits") -> Pair:
    labels = {"data": data, "depth": depth, "activation": activation}
    return labels | {"arm": arm}, labels | {"arm": "batch norm"}


def stream(inputs: Sequence[int], width: int, depth: int, arm: str) -> Net:
    """Residual blocks of one layer, h + W relu(h) + b, on a stream that nothing else touches.

    With the arm "batch norm" there is a norm in front of each ReLU; with "SkipInit" each branch is multiplied by a
    learned number that starts at 0; with "none" there is neither.
    """
    norm = (Norm("batch"),) if arm == "batch norm" else ()
    branch = Chain((*norm, Activation("relu"), Affine(width)))
    block = Residual(branch, 0.0 if arm == "SkipInit" else None)
    return Net(tuple(inputs), Chain((Affine(width), *[block] * depth, *norm, Activation("relu"), Affine(10))))


def _skips(
    places: dict[str, list[int]], width: int, arms: list[str], gains: list[float], lrs: list[float], **how: Any
) -> Iterator[Arm]:
    """Residual networks of so many blocks."""
    for (data, depths), arm in product(places.items(), arms):
        for depth in depths:
            spec = described(stream(SIZES[data], width, depth, arm))
            arguments = {"spec": spec, "data": data, "inputs": "centred", **how}
            yield Arm({"data": data, "depth": depth, "arm": arm}, arguments, {"gain": gains, "lr": lrs})


def _skipped(depth: int, arm: str = "SkipInit", data: str = "digits") -> Pair:
    labels = {"data": data, "depth": depth}
    return labels | {"arm": arm}, labels | {"arm": "batch norm"}


_BEHIND = Criterion(">", -0.01)  # not behind by a hundredth; ahead is as good
_ACCURACY: dict[str, Any] = {"chapter": CHAPTER, "learned": LEARNED, "overlap": OVERLAP, "criterion": _BEHIND}
_SIGMOID = {"activation": "sigmoid", "norm": "batch", "eps": 0.0}
_TURNS = {
    "SGD, 0.1 and 0.05": {"lr": 0.1, "decay": 0.05},
    "SGD, 1 and 0.002": {"lr": 1.0, "decay": 0.002},
    "AdamW, 0.01 and 0.2": {"lr": 0.01, "decay": 0.2, "optimizer": "adam"},
    "SGD, 0.1 and 0.02": {"lr": 0.1, "decay": 0.02},
    "AdamW, 0.002 and 1": {"lr": 0.002, "decay": 1.0, "optimizer": "adam"},
    "momentum, 0.05 and 0.04": {"lr": 0.05, "decay": 0.04, "optimizer": "momentum"},
    "SGD, first layer": {"lr": 0.1, "decay": 0.05, "layer": 0},
    "AdamW, first layer": {"lr": 0.01, "decay": 0.2, "optimizer": "adam", "layer": 0},
    "SGD, eps = 1e-5": {"lr": 0.1, "decay": 0.05, "spec": _SIGMOID | {"eps": 1e-5}},
}
_PARTS = (("tanh", 20), ("relu", 20), ("tanh", 30))
EXPERIMENTS = [
    any_rate := Comparison(
        "any-rate", _any_rate, reaching,
        {"seeds": 64, "steps": 300, "target": 0.9, "rates": half_decades(0.0001, 10000), "dtype": "float32",
         "places": ["digits", "mnist 14x14"], "gains": {"sigmoid": 4.0, "tanh": 1.0, "relu": 1.41},
         "lrs": {"sigmoid": half_decades(0.316, 31.6), "tanh": half_decades(0.0316, 3.16),
                 "relu": half_decades(0.0316, 3.16)}},
        SLICE | {"places": ["digits"], "gains": {"relu": 1.41}, "rates": [0.1, 10.0], "target": 0.1},
        [
            Question(
                id="auto-rate", chapter=CHAPTER, of="decades", overlap=OVERLAP, grid=0.5, criterion=more("decades"),
                unit="decades of the hidden weights' rate, with - without",
                statement="With batch normalization, any fixed rate works for the hidden weights: more decades of it, "
                "of eight, bring dense networks of three layers of 100 units to an accuracy of 0.90 (digits, centred "
                "inputs, SGD, 300 updates, all else at its best rate).",
                source="Arora, Li and Lyu (2019)",
                parts={name: _any(a) for a, name in NAMES.items()},
                transfers={"MNIST 14 x 14": {name: _any(a, "mnist 14x14") for a, name in NAMES.items()}},
            ),
        ],
    ),
    rotation := Experiment(
        "rotation", _rotation, turning,
        {"seeds": 8, "spec": _SIGMOID, "layer": 1, "optimizer": "sgd", "times": 10.0, "batch": 60, "data": "digits",
         "inputs": "centred", "dtype": "float32", "settings": _TURNS},
        {"seeds": 2, "dtype": "float64", "times": 0.05,
         "settings": {name: _TURNS[name] for name in ("SGD, 0.1 and 0.05", "SGD, first layer")}},
    ),
    explosion := Experiment(
        "explosion", _explosion, growing,
        {"seeds": 8, "width": 1000, "depth": 50, "between": [5, 45], "batches": [64, 16, 256], "lr": 0.1,
         "kinds": ["plain", "one step", "residual", "orthogonal", "without"], "places": ["digits", "mnist 14x14"],
         "dtype": "float32"},
        {"seeds": 2, "width": 12, "depth": 6, "between": [2, 5], "batches": [16], "places": ["digits"],
         "dtype": "float64"},
    ),
    ranks := Experiment(
        "ranks", _ranks, apart,
        {"seeds": 8, "examples": 64, "width": 100, "layers": [1, 3, 10, 30, 100],
         "activations": ["identity", "relu", "tanh"], "kinds": ["batch", "none", "orthogonal"],
         "gains": {"identity": 1.0, "relu": 2**0.5, "tanh": 1.0}, "places": ["digits", "mnist 14x14"]},
        {"seeds": 2, "examples": 16, "width": 12, "layers": [1, 4], "places": ["digits"]},
    ),
    enough := Comparison(
        "start-enough", _enough, started,
        {"seeds": 64, "steps": 300, "width": 50, "gains": {"tanh": 1.0, "relu": 1.41}, "lrs": half_decades(0.001, 3.16),
         "arms": {"orthogonal": ["none", "orthogonal"], "normal": ["none", "normal"],
                  "batch norm": ["batch", "normal"]},
         "places": {"digits": [20, 30], "mnist 14x14": [20]}, "dtype": "float32"},
        SLICE | {"steps": 5, "width": 10, "lrs": [0.1], "places": {"digits": [3]}},
        [
            Question(
                id="start-enough", **_ACCURACY, unit="test accuracy, orthogonal start - batch norm",
                statement="From orthogonal weights, deep dense networks of 50 units a layer train as well without a "
                "norm as with batch norm (digits, centred inputs, 300 steps of SGD, each at its best rate).",
                source="asked by Daneshmand et al. (2020)",
                parts={f"{NAMES[a]}, {depth} layers": _started(a, depth) for a, depth in _PARTS},
                others={"ReLU, 30 layers": _started("relu", 30)}
                | {f"{NAMES[a]}, {depth} layers, normal start": _started(a, depth, "normal") for a, depth in _PARTS},
                transfers={"MNIST 14 x 14": {f"{NAMES[a]}, 20 layers": _started(a, 20, data="mnist 14x14")
                                             for a in ("tanh", "relu")}},
            ),
        ],
    ),
    skips := Comparison(
        "skip-init", _skips, trained,
        {"seeds": 64, "steps": 300, "width": 50, "arms": ["batch norm", "SkipInit", "none"], "gains": [0.25, 0.5, 1.41],
         "lrs": half_decades(0.00316, 3.16), "places": {"digits": [16, 64], "mnist 14x14": [16]}, "dtype": "float32"},
        SLICE | {"steps": 5, "width": 10, "gains": [1.41], "lrs": [0.1], "places": {"digits": [3]}},
        [
            Question(
                id="skip-init", **_ACCURACY, unit="test accuracy, SkipInit - batch norm",
                statement="One learned number per branch that starts at 0 trains residual networks of 50 ReLUs a block "
                "as well as batch norm does (digits, centred inputs, 300 steps of SGD, each at its best rate, gain).",
                source="De and Smith (2020)",
                parts={f"{depth} blocks": _skipped(depth) for depth in (16, 64)},
                others={f"{depth} blocks, none - batch norm": _skipped(depth, "none") for depth in (16, 64)},
                transfers={"MNIST 14 x 14": {"16 blocks": _skipped(16, data="mnist 14x14")}},
            ),
        ],
    ),
]  # fmt: skip
