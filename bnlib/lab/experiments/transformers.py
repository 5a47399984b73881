"""What chapter 16 measures of normalization in transformers.

The criteria were written down before the first run, and without a trial, but where it is said.

- "future": causal transformers (32 units, 2 blocks, 4 heads, the norm at the start of each branch) predict fair coin
  flips, each from those before it. No honest prediction has a smaller expected loss than ln 2, as every mini-batch is
  drawn anew. The excess over ln 2 is that of the mean loss of the last updates in training.
  Batch norm takes its statistics over examples and positions, also those that are still to come. The number of updates
  is fixed, since such a leak is learned; the rate is picked for each norm by the smallest excess on other seeds. (A
  first run had rates from 0.001 on, and all picked that one: 4 sequences of 8 held, -.022, the others did not.)
- "placements": encoders of digits by rows (32 units, 4 heads, Adam, batches of 32, 300 updates) in 2 and 12 blocks, and
  causal transformers on the Markov source (2 blocks, batches of 16, 400 updates): layer norm at three places, with a
  warm-up of a quarter of the updates and without; RMS norm with gamma and beta and without, and batch norm, in place of
  the first. Each arm has its best rate of the same six. The budget is fixed: what is behind may be slow, and need
  not be unstable. Batch norm is judged by its running statistics. (What was known: that the Markov source takes some
  300 updates to be learned, from layer norm at three rates. A first draft had 200 updates, and no record.)
- "longer": the same networks at one rate, 0.001, for 3,000 updates, also on one sequence, since the leak is learned. (A
  trial of one or two seeds had been seen: after 3,000 updates -.14 for 4 sequences of 8, -.025 for 4 of 32, -.015 for
  16 of 8 and 16 of 32, and after 2,000 -.3 for 1 of 32.)
- "steady": how far the statistics of mini-batches with 512 values for each unit lie from the running ones in the last
  updates of 400, and of frozen weights how much the means of mini-batches vary, against means of as many independent
  values: encoders of rows, causal transformers on the Markov source, and a convnet on the digits, all with batch norm.
  (Asked for the third time, with the same criteria. In two runs before the convnet was of sigmoids, with a mean over
  positions in front of its output, and 200 updates: at its best rate, 0.03 and 0.1, it had an accuracy of 0.43, its
  statistics moved most, and the first claim was *opposite*; the second held for rows alone. Of the convnet as it is now
  single runs had been seen: it moves less, and transformers / convnet is 1.2 to 1.6.)
- "logits": the largest logit of attention in the last updates, how many rows of weights have one above 0.99, and the
  accuracy, with a norm of queries and keys and without, at three rates. (A first run did not count the rows; the claims
  are the same, and so are its seeds.)
- "dynamic": DyT in the place of layer norm, with all examples and with 100, each at the update and the rate of the best
  validation accuracy; also in encoders of MNIST-1D's signals, ten pieces of four points.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnlib.claims import Criterion, more, same
from bnlib.lab import nets
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import net_of, trained
from bnlib.lab.experiments.dispute import Fewer
from bnlib.lab.layers import DyT, Layer, Norm
from bnlib.lab.nets import Net, made
from bnlib.lab.records import Settings, Values
from bnlib.lab.train import Hook, Program, Run, each_loss, train

CHAPTER = "16_transformers"


def flips(rngs: Sequence[np.random.Generator], rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Fair coin flips x, (replicas, rows, length), of each generator's own, and y, each row's next flip."""
    tokens = torch.as_tensor(np.stack([rng.integers(0, 2, (rows, length + 1)) for rng in rngs]))
    return tokens[..., :-1], tokens[..., 1:]


def guessed(
    *, norm: str, batch: int, length: int, blocks: int, units: int, runs: Sequence[Settings], steps: int, last: int,
    dtype: str, looks: Sequence[int] = (),
) -> Values:  # fmt: skip
    """Train causal transformers on fair coin flips, with Adam.

    Parameters
    ----------
    norm, length, blocks, units : as :func:`bnlib.lab.nets.transformer` has them
    runs : of each replica its seed and lr
    batch : sequences in a mini-batch; each is drawn anew
    steps, last : updates, and how many of them count
    looks : earlier numbers of updates, up to which as many count as well

    Returns
    -------
    values : in nats per flip less ln 2, a number for each run: "excess", of the mean training loss of the last
        updates; "used", of the mean loss on fresh sequences with the running statistics, where there are any;
        "picked", the excess with the sign changed, so that a rate can be picked by the largest; and "excess after k",
        for each of the looks
    """
    net = nets.transformer(2, length, units, blocks, norm=norm)
    excess, used = np.zeros(len(runs)), np.zeros(len(runs))
    early = {f"excess after {k}": np.zeros(len(runs)) for k in looks}
    for lr in dict.fromkeys(run["lr"] for run in runs):
        who = [i for i, run in enumerate(runs) if run["lr"] == lr]
        seeds = [runs[i]["seed"] for i in who]
        params, stats = nets.start(net, seeds, dtype=getattr(torch, dtype))
        params = {name: value.requires_grad_() for name, value in params.items()}
        optimizer, rngs = torch.optim.Adam(params.values(), lr=lr), [np.random.default_rng([s, 5]) for s in seeds]
        seen = []
        for _ in range(steps):
            x, y = flips(rngs, batch, length)
            logits, moments = nets.forward(net, params, x)
            loss = each_loss(logits, y)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            stats = {path: stats[path].update(own) for path, own in moments.items()}
            seen.append(loss.detach())
        for k, values in zip((*looks, steps), (*early.values(), excess), strict=True):
            values[who] = torch.stack(seen[max(0, k - last) : k]).double().mean(0).numpy() - np.log(2)
        with torch.no_grad():
            fresh = [flips(rngs, batch, length) for _ in range(last)]
            later = [each_loss(nets.forward(net, params, x, stats or None)[0], y) for x, y in fresh]
        used[who] = torch.stack(later).double().mean(0).numpy() - np.log(2)
    values = {"excess": excess, "used": used, "picked": -excess, **early}
    return {name: own.tolist() for name, own in values.items()}


def _future(batches: list[int], lengths: list[int], norms: list[str], lrs: list[float], **how: Any) -> Iterator[Arm]:
    """Every norm with every number of sequences in a mini-batch, and every length of these."""
    for norm, batch, length in product(norms, batches, lengths):
        labels = {"norm": norm, "batch": batch, "length": length}
        yield Arm(labels, {**labels, **how}, {"lr": lrs}, "picked")


def _flips(batch: int, length: int, norm: str = "batch") -> Pair:
    labels = {"batch": batch, "length": length}
    return labels | {"norm": norm}, labels | {"norm": "layer"}


_FEW = {"4 sequences of 8": (4, 8), "16 sequences of 8": (16, 8), "4 sequences of 32": (4, 32)}
future = Comparison(
    "future", _future, guessed,
    {"seeds": 64, "steps": 300, "last": 100, "batches": [4, 16, 64], "lengths": [8, 32], "norms": ["batch", "layer"],
     "lrs": [0.0001, 0.0003, 0.001, 0.003], "blocks": 2, "units": 32, "dtype": "float32"},
    {"seeds": 2, "steps": 4, "last": 2, "batches": [4], "lengths": [8], "lrs": [0.003], "dtype": "float64"},
    [
        Question(
            id="bn-sees-future", chapter=CHAPTER, of="excess", criterion=Criterion("<", 0.0, 0.01),
            parts={name: _flips(*own) for name, own in _FEW.items()},
            others={f"{batch} sequences of {length}": _flips(batch, length)
                    for batch, length in ((16, 32), (64, 8), (64, 32))},
            unit="training loss in nats per flip, with batch norm - with layer norm",
            statement="In training, a causal transformer with batch norm sees the future: its loss on fair coin flips, "
            "drawn anew for each update, falls below that with layer norm, which cannot see it (32 units, 2 blocks, "
            "300 updates with Adam, each at its best rate).",
            source="this book's question",
        ),
    ],
)  # fmt: skip


def _longer(places: list[list[int]], norms: list[str], lr: float, **how: Any) -> Iterator[Arm]:
    """Every norm with each number and length of sequences."""
    for norm, (batch, length) in product(norms, places):
        labels = {"norm": norm, "batch": batch, "length": length}
        yield Arm(labels, {**labels, **how}, {"lr": [lr]}, "picked")


longer = Comparison(
    "longer", _longer, guessed,
    {"seeds": 32, "steps": 3000, "last": 100, "looks": [300, 1000], "norms": ["batch", "layer"], "lr": 0.001,
     "places": [[1, 32], [4, 8], [4, 32], [16, 8], [16, 32]], "blocks": 2, "units": 32, "dtype": "float32"},
    {"seeds": 2, "steps": 4, "last": 2, "looks": [2], "places": [[1, 5], [4, 3]], "dtype": "float64"},
    [
        Question(
            id="bn-future-later", chapter=CHAPTER, of="excess", criterion=Criterion("<", 0.0, 0.01),
            parts={name: _flips(*own) for name, own in _FEW.items()},
            others={"1 sequence of 32": _flips(1, 32), "16 sequences of 32": _flips(16, 32)},
            unit="training loss in nats per flip, with batch norm - with layer norm",
            statement="The longer it is trained, the more of the future a causal transformer with batch norm uses: "
            "after 3,000 updates its training loss on fair coin flips is below that with layer norm, also where it was "
            "not after 300 (32 units, 2 blocks, Adam, rate 0.001).",
            source="this book's question",
        ),
    ],
)  # fmt: skip


# Where the norm stands, and which


PLACES: dict[str, Settings] = {
    "digits": {"data": "digits", "inputs": "standardized", "batch": 32, "steps": 300},
    "markov": {"data": "markov", "batch": 16, "steps": 400},
}
NORMS: dict[str, Layer] = {
    "layer": Norm("layer"),
    "rms": Norm("rms"),
    "rms, plain": Norm("rms", gamma=False, beta=False),
    "batch": Norm("batch"),
}


SIGNALS: Settings = {"data": "mnist-1d", "inputs": "raw", "batch": 32, "steps": 300}


def network(data: str, units: int, blocks: int, **how: Any) -> Net:
    """An encoder of the rows of digits or of pieces of MNIST-1D's signals, or a causal one for the Markov source."""
    if data == "markov":
        return nets.transformer(10, 32, units, blocks, **how)
    return nets.encoder((8, 8) if data == "digits" else (10, 4), units, blocks, **how)


def _placements(
    places: dict[str, Any],
    depths: dict[str, list[int]],
    arms: list[list[Any]],
    units: int,
    lrs: list[float],
    **how: Any,
) -> Iterator[Arm]:
    """``arms``: norm, placement, and the share of the updates that are a warm-up."""
    for (data, own), (norm, placement, share) in product(places.items(), arms):
        for depth in depths[data]:
            net = network(data, units, depth, norm=NORMS[norm], placement=placement)
            labels = {"data": data, "norm": norm, "placement": placement, "warm_up": share > 0, "blocks": depth}
            arguments = {"spec": nets.described(net), "warm_up": round(share * own["steps"]), **own, **how}
            yield Arm(labels, arguments, {"lr": lrs})


def _placed(
    blocks: int, placement: str = "pre", warm_up: bool = False, norm: str = "layer", data: str = "digits"
) -> dict[str, Any]:
    return {"data": data, "norm": norm, "placement": placement, "warm_up": warm_up, "blocks": blocks}


def _both(a: Settings, b: Settings) -> dict[str, Any]:
    """Two arms in 2 and in 12 blocks, and in 2 on the Markov source."""
    return {
        "parts": {f"{blocks} blocks": (_placed(blocks, **a), _placed(blocks, **b)) for blocks in (2, 12)},
        "transfers": {"Markov source": {"2 blocks": tuple(_placed(2, **own, data="markov") for own in (a, b))}},
    }


def _besides(words: str, a: Settings, b: Settings) -> dict[str, Pair]:
    return {f"{blocks} blocks, {words}": (_placed(blocks, **a), _placed(blocks, **b)) for blocks in (2, 12)}


_about: dict[str, Any] = {"chapter": CHAPTER, "overlap": 1 / 3}
_SMALL = "(encoders of digits by rows, 32 units, 300 updates of Adam, each at its best rate)"
_POST, _WARM, _POST_WARM = {"placement": "post"}, {"warm_up": True}, {"placement": "post", "warm_up": True}
placements = Comparison(
    "placements", _placements, trained,
    {"seeds": 64, "places": PLACES, "depths": {"digits": [2, 12], "markov": [2]}, "optimizer": "adam", "units": 32,
     "arms": [["layer", "pre", 0], ["layer", "pre", 0.25], ["layer", "post", 0], ["layer", "post", 0.25],
              ["layer", "peri", 0], ["rms", "pre", 0], ["rms, plain", "pre", 0], ["batch", "pre", 0]],
     "lrs": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03], "dtype": "float32"},
    {"seeds": 2, "places": {"digits": {"data": "digits", "inputs": "standardized", "batch": 4, "steps": 2},
                            "markov": {"data": "markov", "batch": 4, "steps": 2}},
     "arms": [["layer", "post", 0.5], ["layer", "peri", 0], ["rms, plain", "pre", 0], ["batch", "pre", 0]],
     "depths": {"digits": [1], "markov": [1]}, "units": 8, "lrs": [0.003], "dtype": "float64"},
    [
        Question(
            id="pre-post", **_about, criterion=more("accuracy"), **_both({}, _POST),
            others=_besides("with warm-up", _WARM, _POST_WARM) | _besides("peri - pre", {"placement": "peri"}, {}),
            unit="test accuracy, norm at the start of branches - behind the sums",
            statement="Without a warm-up, transformers are more accurate with layer norm at the start of each branch "
            f"than with layer norm behind each sum {_SMALL}.",
            source="Xiong et al. (2020)",
        ),
        Question(
            id="warm-up", **_about, criterion=more("accuracy"), **_both(_POST_WARM, _POST),
            others=_besides("norm at the start", _WARM, {}),
            unit="test accuracy, with a warm-up - without",
            statement="With layer norm behind each sum, a warm-up makes transformers more accurate "
            f"{_SMALL}.",
            source="Xiong et al. (2020)",
        ),
        Question(
            id="rms-transformer", **_about, criterion=same("accuracy"), **_both({"norm": "rms"}, {}),
            others=_besides("without gamma and beta", {"norm": "rms, plain"}, {"norm": "rms"}),
            unit="test accuracy, RMS norm - layer norm",
            statement="Transformers are as accurate with RMS norm as with layer norm, both at the start of each branch "
            f"{_SMALL}.",
            source="Zhang and Sennrich (2019)",
        ),
        Question(
            id="batch-transformer", **_about, criterion=more("accuracy"), **_both({}, {"norm": "batch"}),
            unit="test accuracy, layer norm - batch norm",
            statement="At test time transformers with layer norm are more accurate than those with batch norm over "
            f"examples and positions, both at the start of each branch {_SMALL}.",
            source="Shen et al. (2020)",
        ),
    ],
)  # fmt: skip


# How steady the statistics of sequences are


class Drift(Hook):
    """Notes in the last updates how far the statistics of the mini-batch lie from the running ones, over all norms.

    "mean" is the distance of the means in running standard deviations, "var" the size of the logarithm of the ratio of
    variances; each is a mean over the units of all norms.
    """

    def __init__(self, program: Program, last: int) -> None:
        super().__init__(program)
        self.last, self.before = last, program.stats

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """Against the running statistics before this update."""
        before, self.before = self.before, self.program.stats
        if step <= self.program.runs[0].steps - self.last:
            return None
        means, variances = [], []
        for path, old in before.items():
            new, replicas = self.program.moments[path], len(self.program.runs)
            means.append(((new.mean - old.mean).abs() / old.var.sqrt()).reshape(replicas, -1))
            variances.append((new.var / old.var).log().abs().reshape(replicas, -1))
        return {"mean": torch.cat(means, 1).mean(1), "var": torch.cat(variances, 1).mean(1)}


def varied(program: Program, batch: int, times: int, pool: int) -> dict[str, Tensor]:
    """How much the means of mini-batches vary with frozen weights, against means of independent values.

    Parameters
    ----------
    program : of a network with batch norm that has been trained
    batch, times : examples in a mini-batch, and mini-batches; drawn with replacement
    pool : so many training examples; the statistics are theirs

    Returns
    -------
    values : (replicas,) the variance of the mean of a unit's normalized values, times their number, over the units of
        all norms: "batches", of mini-batches, and of the first and the last norm alone, "first" and "last";
        "shuffled", of as many values of any examples and positions
    """
    x = program.training_set()[0][:, :pool]
    found: dict[str, Tensor] = {}

    def tap(path: str, values: Tensor) -> None:
        if path.endswith(".xhat"):
            found[path] = by_position(values, len(program.runs), len(program.net.inputs) == 3)

    with torch.no_grad():
        nets.forward(program.net, program.params, x, tap=tap)
    rng, ratios = np.random.default_rng(0), {"batches": [], "shuffled": []}
    for values in found.values():
        n, positions = values.shape[2:]
        count = batch * positions
        rows = torch.as_tensor(rng.integers(0, n, (times, batch)))
        places = torch.as_tensor(rng.integers(0, n * positions, (times, count)))
        means = values.mean(3)[:, :, rows].mean(3), torch.stack([values.flatten(2)[:, :, p].mean(2) for p in places], 2)
        for name, own in zip(ratios, means, strict=True):
            ratios[name].append(own.square().mean(2) * count)
    whole = {name: torch.cat(own, 1).mean(1) for name, own in ratios.items()}
    return whole | {name: ratios["batches"][at].mean(1) for name, at in (("first", 0), ("last", -1))}


def by_position(values: Tensor, replicas: int, images: bool) -> Tensor:
    """(replicas, units, N, positions) of values of sequences (replicas, units, length, N) or of images."""
    if not images:
        return values.transpose(2, 3)
    return values.unflatten(1, (replicas, -1)).flatten(3).permute(1, 2, 0, 3)


def steadied(
    *, spec: Settings, runs: Sequence[Settings], last: int, times: int, pool: int, dtype: str, **how: Any
) -> Values:
    """Train networks with batch norm, and see how much their statistics vary.

    Parameters
    ----------
    spec, runs, dtype, how : as in :func:`bnlib.lab.experiments.trained`
    last : updates that count for "mean" and "var" of :class:`Drift`
    times, pool : of :func:`varied`

    Returns
    -------
    values : for each run "val", the accuracy; "mean" and "var", with weights that learn; "batches", "first", "last" and
        "shuffled", with frozen ones
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, **{**how, **scale, **run}) for run in runs]
    hooks = [partial(Drift, last=last), partial(Frozen, times=times, pool=pool)]
    found = train(replicas, every=replicas[0].steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    names = ("mean", "var", "batches", "first", "last", "shuffled")
    noted = {name: [h.noted[name].mean() for h in found] for name in names}
    return {"val": [h.val_accuracy[-1] for h in found], **noted}


class Frozen(Hook):
    """Notes :func:`varied` after the last update."""

    def __init__(self, program: Program, times: int, pool: int) -> None:
        super().__init__(program)
        self.times, self.pool = times, pool

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """With the weights as they are then."""
        run = self.program.runs[0]
        return varied(self.program, run.batch, self.times, self.pool) if step == run.steps else None


SEQUENCES: dict[str, Settings] = {
    "convnet": {
        "spec": nets.described(nets.convnet(norm="batch", activation="relu", flat=True)),
        "data": "digits",
        "batch": 8,
    },
    "rows": {"spec": nets.described(nets.encoder(norm="batch")), "data": "digits", "batch": 64},
    "markov": {"spec": nets.described(nets.transformer(10, 32, norm="batch")), "data": "markov", "batch": 16},
}


def _steady(networks: dict[str, Any], lrs: list[float], same: list[float], **how: Any) -> Iterator[Arm]:
    """Each at the best of the rates, and all at the same ones."""
    for name, own in networks.items():
        inputs = {"inputs": "raw" if own["data"] == "markov" else "standardized"}
        yield Arm({"network": name, "rate": "best"}, {**own, **inputs, **how}, {"lr": lrs})
        for lr in same:
            yield Arm({"network": name, "rate": lr}, {**own, **inputs, **how}, {"lr": [lr]})


def _one(network: str, of: str, rate: Any = "best") -> dict[str, Any]:
    return {"network": network, "rate": rate, "of": of}


def _against(words: str, of: str, rate: Any = "best") -> dict[str, Pair]:
    """Both transformers against the convnet."""
    return {
        f"{name}, {words}": (_one(network, of, rate), _one("convnet", of, rate))
        for network, name in (("rows", "digits by rows"), ("markov", "Markov source"))
    }


steady = Comparison(
    "steady", _steady, steadied,
    {"seeds": 64, "networks": SEQUENCES, "steps": 400, "last": 50, "times": 200, "pool": 960, "optimizer": "adam",
     "lrs": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], "same": [0.003], "dtype": "float32"},
    {"seeds": 2, "networks": {name: {**own, "batch": 4} for name, own in SEQUENCES.items()}, "steps": 3, "last": 2,
     "times": 3, "pool": 20, "lrs": [0.003], "same": [], "dtype": "float64"},
    [
        Question(
            id="sequence-statistics", chapter=CHAPTER, overlap=1 / 3, how="ratio", of="mean", criterion=more("ratio"),
            parts=_against("means", "mean"),
            others={**_against("variances", "var"), **_against("means, all at rate 0.003", "mean", 0.003),
                    **_against("frozen weights", "batches")},
            unit="distance of the mini-batch's statistics from the running ones, sequences / images",
            statement="In training, the statistics of batch norm fluctuate more for sequences than for images: means "
            "in transformers of 2 blocks against those in a convnet on the digits, mini-batches of 512 values for each "
            "unit (Adam, each at its best rate).",
            source="this book's question, after Shen et al. (2020)",
        ),
        Question(
            id="sequence-count", chapter=CHAPTER, overlap=1 / 3, how="mean", of="batches",
            criterion=Criterion(">", 1.5),
            parts={"digits by rows": (_one("rows", "batches"),), "Markov source": (_one("markov", "batches"),)},
            others={"convnet": (_one("convnet", "batches"),), "Markov source, shuffled": (_one("markov", "shuffled"),)},
            unit="variance of a mini-batch's mean x number of values / variance of the values",
            statement="The positions of a sequence count for fewer than as many independent values: with frozen "
            "weights the means of mini-batches vary more (transformers of 2 blocks with batch norm).",
            source="this book's question",
        ),
    ],
)  # fmt: skip


# How large the logits of attention become


class Largest(Hook):
    """Notes in the last updates of attention "logit", the size of the largest, and "sure", how many rows are decided.

    A row are the weights with which one position reads; it is decided if one of them is above 0.99. Rows that see one
    position alone do not count.
    """

    def __init__(self, program: Program, last: int) -> None:
        super().__init__(program)
        self.last, self.found = last, list[tuple[Tensor, Tensor]]()

    def tap(self, path: str, values: Tensor) -> None:
        """Of all heads, examples and positions that are seen."""
        if path.endswith(".logits"):
            logits = values.detach()
            largest = logits.masked_fill(logits == -math.inf, 0.0).abs().flatten(1).amax(1)
            sure = logits.softmax(-1).amax(-1) > 0.99  # (replicas, heads, N, length)
            several = logits.isfinite().sum(-1) > 1
            self.found.append((largest, (sure & several).flatten(1).sum(1) / several.flatten(1).sum(1)))

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """In this update."""
        (largest, sure), self.found = (torch.stack(own) for own in zip(*self.found, strict=True)), []
        if step <= self.program.runs[0].steps - self.last:
            return None
        return {"logit": largest.amax(0), "sure": sure.mean(0)}


def attended(*, spec: Settings, runs: Sequence[Settings], last: int, dtype: str, **how: Any) -> Values:
    """Train transformers; "val" and "test", the accuracy, and means over the last updates of :class:`Largest`."""
    net, scale = net_of(spec)
    replicas = [Run(net=net, **{**how, **scale, **run}) for run in runs]
    hooks = [partial(Largest, last=last)]
    found = train(replicas, every=replicas[0].steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    values = {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]}
    return values | {name: [h.noted[name].mean() for h in found] for name in ("logit", "sure")}


def _logits(places: dict[str, Any], blocks: int, units: int, lrs: list[float], **how: Any) -> Iterator[Arm]:
    for (data, own), qk_norm, lr in product(places.items(), (False, True), lrs):
        spec = nets.described(network(data, units, blocks, qk_norm=qk_norm))
        yield Arm({"data": data, "qk_norm": qk_norm, "rate": lr}, {"spec": spec, **own, **how}, {"lr": [lr]})


def _at(lrs: Sequence[float], first: bool, data: str = "digits") -> dict[str, Pair]:
    return {
        f"rate {lr:g}": tuple({"data": data, "qk_norm": own, "rate": lr} for own in (first, not first)) for lr in lrs
    }  # type: ignore[return-value]


_IN_TWO = "(digits by rows, encoders of 2 blocks with layer norm at the start of each branch, 300 updates of Adam)"
logits = Comparison(
    "logits", _logits, attended,
    {"seeds": 64, "places": PLACES, "blocks": 2, "units": 32, "optimizer": "adam", "lrs": [0.001, 0.01, 0.03],
     "last": 10, "dtype": "float32"},
    {"seeds": 2, "places": placements.live["places"], "blocks": 1, "units": 8, "lrs": [0.01], "last": 1,
     "dtype": "float64"},
    [
        Question(
            id="qk-norm", chapter=CHAPTER, overlap=1 / 3, how="ratio", of="logit", criterion=more("ratio"),
            parts=_at([0.001, 0.01, 0.03], False),
            transfers={"Markov source": _at([0.001, 0.01, 0.03], False, "markov")},
            unit="largest logit of attention, without a norm of queries and keys / with",
            statement=f"A norm of queries and keys keeps the logits of attention small {_IN_TWO}.",
            source="Dehghani et al. (2023)",
        ),
        Question(
            id="qk-rate", chapter=CHAPTER, overlap=1 / 3, criterion=more("accuracy"), parts=_at([0.01, 0.03], True),
            others=_at([0.001], True),
            transfers={"Markov source": _at([0.01, 0.03], True, "markov")},
            unit="test accuracy, with a norm of queries and keys - without",
            statement=f"A norm of queries and keys makes large learning rates better {_IN_TWO}.",
            source="Dehghani et al. (2023)",
        ),
    ],
)  # fmt: skip


# No statistic at all


class Watched(Hook):
    """Notes validation and test accuracy after each so many updates."""

    def __init__(self, program: Program, every: int) -> None:
        super().__init__(program)
        self.every = every

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """Both."""
        if step % self.every:
            return None
        return {name: self.program.evaluate(*getattr(self.program, name))[1] for name in ("val", "test")}


def stopped(
    *, spec: Settings, runs: Sequence[Settings], examples: int | None, every: int, dtype: str, **how: Any
) -> Values:
    """Train on so many examples, None are all, and stop each run where its validation accuracy is best.

    Returns
    -------
    values : for each run "val", "test" and "at": both accuracies and the number of updates there, of those after each
        ``every`` updates; the first of equal ones
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, **{**how, **scale, **run}) for run in runs]
    hooks: list[Any] = [] if examples is None else [partial(Fewer, n=examples)]
    hooks.append(partial(Watched, every=every))
    found = train(replicas, every=replicas[0].steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    best = [int(h.noted["val"].argmax()) for h in found]
    values = {name: [h.noted[name][i] for h, i in zip(found, best, strict=True)] for name in ("val", "test")}
    return values | {"at": [every * (i + 1) for i in best]}


def _dynamic(
    places: dict[str, Any], norms: dict[str, Any], others: list[str], amounts: dict[str, int | None], blocks: int,
    units: int, lrs: list[float], **how: Any,
) -> Iterator[Arm]:  # fmt: skip
    """``others`` are those of the norms that are tried on digits alone."""
    for (data, own), (name, norm), (amount, examples) in product(places.items(), norms.items(), amounts.items()):
        if data == "digits" or name not in others:
            spec = nets.described(network(data, units, blocks, norm=made(norm)))
            labels = {"data": data, "norm": name, "examples": amount}
            yield Arm(labels, {"spec": spec, "examples": examples, **own, **how}, {"lr": lrs})


def _less_layer(amount: str, norm: str = "DyT .5", data: str = "digits") -> Pair:
    return tuple({"data": data, "norm": name, "examples": amount} for name in (norm, "layer"))  # type: ignore[return-value]


def _other_starts(amount: str) -> dict[str, Pair]:
    return {f"{amount}, alpha starts at {alpha}": _less_layer(amount, f"DyT {alpha}") for alpha in (".2", "2")}


dynamic = Comparison(
    "dynamic", _dynamic, stopped,
    {"seeds": 64, "places": {"digits": PLACES["digits"], "mnist-1d": SIGNALS}, "blocks": 2, "units": 32,
     "optimizer": "adam", "every": 20, "dtype": "float32",
     "norms": {"layer": nets.described(Norm("layer"))}
     | {f"DyT {alpha}".replace("0.", "."): nets.described(DyT(alpha)) for alpha in (0.2, 0.5, 2)},
     "others": ["DyT .2", "DyT 2"], "amounts": {"all examples": None, "100 examples": 100},
     "lrs": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]},
    {"seeds": 2, "places": {"digits": placements.live["places"]["digits"]}, "blocks": 1, "units": 8, "every": 1,
     "dtype": "float64", "norms": {"DyT .5": nets.described(DyT())}, "amounts": {"100 examples": 100}, "lrs": [0.003]},
    [
        Question(
            id="dyt", chapter=CHAPTER, overlap=1 / 3, criterion=same("accuracy"),
            parts={"all examples": _less_layer("all examples")}, others=_other_starts("all examples"),
            transfers={"MNIST-1D": {"all examples": _less_layer("all examples", data="mnist-1d")}},
            unit="test accuracy, DyT - layer norm",
            statement=f"DyT in place of layer norm is as accurate {_IN_TWO}.",
            source="Zhu et al. (2025)",
        ),
        Question(
            id="dyt-scarce", chapter=CHAPTER, overlap=1 / 3, criterion=more("accuracy"),
            parts={"100 examples": _less_layer("100 examples")}, others=_other_starts("100 examples"),
            transfers={"MNIST-1D": {"100 examples": _less_layer("100 examples", data="mnist-1d")}},
            unit="test accuracy, DyT - layer norm",
            statement=f"With 100 examples DyT is more accurate than layer norm {_IN_TWO}.",
            source="this book's question",
        ),
    ],
)  # fmt: skip

EXPERIMENTS = [future, longer, placements, steady, logits, dynamic]
