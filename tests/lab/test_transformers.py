"""What chapter 16 measures, on small cases that can be written out."""

from functools import partial

import numpy as np
import pytest
import torch

from bnlib.lab import nets
from bnlib.lab.comparisons import Comparison
from bnlib.lab.experiments.transformers import (
    NORMS,
    Drift,
    Largest,
    dynamic,
    flips,
    future,
    guessed,
    logits,
    longer,
    placements,
    steady,
    stopped,
    varied,
)
from bnlib.lab.layers import Attention, Norm
from bnlib.lab.nets import made
from bnlib.lab.train import Hook, Program, Run, batches, each_loss, train

SMALL = {"batch": 5, "length": 6, "blocks": 1, "units": 8, "steps": 3, "last": 2, "dtype": "float64"}


def test_each_flip_is_followed_by_what_is_to_be_guessed():
    rngs = [np.random.default_rng(seed) for seed in (3, 4)]
    x, y = flips(rngs, 500, 7)
    assert x.shape == y.shape == (2, 500, 7)
    assert torch.equal(x[..., 1:], y[..., :-1])
    assert set(x.unique().tolist()) == {0, 1}
    assert y.double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(x[0], x[1])
    again, _ = flips([np.random.default_rng(4)], 500, 7)
    assert torch.equal(again[0], x[1])


def test_a_loss_is_each_replicas_mean_over_examples_and_positions():
    logits, y = torch.randn(2, 3, 4, 2, dtype=torch.float64), torch.randint(2, (2, 3, 4))
    chances = logits.exp() / logits.exp().sum(-1, keepdim=True)
    expected = -chances.gather(-1, y[..., None]).log().mean((1, 2, 3))
    torch.testing.assert_close(each_loss(logits, y), expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_guessing_is_adam_on_fresh_flips(norm: str):
    (run, other) = {"seed": 3, "lr": 0.01}, {"seed": 4, "lr": 0.03}
    values = guessed(norm=norm, runs=[run, other], **SMALL)
    alone = guessed(norm=norm, runs=[run], **SMALL)
    assert values["excess"][0] == pytest.approx(alone["excess"][0], rel=1e-9)
    assert values["used"][0] == pytest.approx(alone["used"][0], rel=1e-9)
    assert values["picked"] == [-v for v in values["excess"]]
    looked = guessed(norm=norm, runs=[run, other], **SMALL, looks=[2])
    assert looked["excess"] == values["excess"]
    short = guessed(norm=norm, runs=[run, other], **{**SMALL, "steps": 2})
    assert looked["excess after 2"] == pytest.approx(short["excess"], rel=1e-9)

    net, rng = nets.transformer(2, 6, 8, 1, norm=norm), np.random.default_rng([3, 5])
    params, stats = nets.start(net, [3], dtype=torch.float64)
    optimizer = torch.optim.Adam([value.requires_grad_() for value in params.values()], lr=0.01)
    seen = []
    for _ in range(3):
        tokens = torch.tensor(rng.integers(0, 2, (5, 7)))
        logits, moments = nets.forward(net, params, tokens[None, :, :-1])
        loss = torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stats = {path: stats[path].update(own) for path, own in moments.items()}
        seen.append(loss.item())
    assert values["excess"][0] == pytest.approx(np.mean(seen[-2:]) - np.log(2), rel=1e-7)
    later = []
    with torch.no_grad():
        for _ in range(2):
            tokens = torch.tensor(rng.integers(0, 2, (5, 7)))
            logits, _ = nets.forward(net, params, tokens[None, :, :-1], stats or None)
            later.append(torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), tokens[:, 1:].flatten()).item())
    assert values["used"][0] == pytest.approx(np.mean(later) - np.log(2), rel=1e-7)


@pytest.mark.parametrize(("norm", "sees"), [("batch", True), ("layer", False), ("rms", False)])
def test_only_a_norm_over_time_lets_a_causal_network_see_the_future(norm: str, sees: bool):
    net = nets.transformer(2, 6, 8, 2, norm=norm)
    params, _ = nets.start(net, [0], dtype=torch.float64)
    x, _ = flips([np.random.default_rng(0)], 4, 6)
    later = x.clone()
    later[0, 0, 5] = 1 - later[0, 0, 5]
    with torch.no_grad():
        before, after = (nets.forward(net, params, tokens)[0][0, 0, :5] for tokens in (x, later))
    assert torch.equal(before, after) is not sees


@pytest.mark.parametrize("comparison", [future, longer, placements, steady, logits, dynamic], ids=lambda c: c.id)
def test_what_is_asked_for_is_an_arm(comparison: Comparison):
    settings = {name: value for name, value in comparison.settings.items() if name != "seeds"}
    arms = [arm.labels for arm in comparison.arms(**settings)]
    pairs = [
        pair
        for q in comparison.questions
        for there in (q.parts, q.others, *q.transfers.values())
        for pair in there.values()
    ]
    asked = [{name: value for name, value in arm.items() if name != "of"} for pair in pairs for arm in pair]
    assert asked
    assert all(arms.count(labels) == 1 for labels in asked)


def test_a_placements_network_has_its_norms_and_its_warm_up():
    settings = {name: value for name, value in placements.settings.items() if name != "seeds"}
    for arm in placements.arms(**settings):
        labels, net = arm.labels, made(arm.arguments["spec"])
        norms = [path for path, layer in net.layers.items() if isinstance(layer, Norm)]
        each = {"pre": 2, "post": 2, "peri": 4}[labels["placement"]]
        assert len(norms) == each * labels["blocks"] + (labels["placement"] != "post")
        assert {net.layers[path] for path in norms} == {NORMS[labels["norm"]]}
        assert net.inputs == {"digits": (8, 8), "markov": (32,)}[labels["data"]]
        assert arm.arguments["data"] == labels["data"]
        assert arm.arguments["warm_up"] == labels["warm_up"] * arm.arguments["steps"] / 4


STATISTICS = {"convnet": nets.convnet((1, 8, 8), (4, 6), norm="batch"), "rows": nets.encoder(units=8, norm="batch")}


@pytest.mark.parametrize("net", STATISTICS.values(), ids=STATISTICS)
def test_the_drift_is_that_of_the_batch_from_the_running_statistics(net: nets.Net):
    runs = [Run(net=net, seed=seed, batch=5, steps=4, lr=lr) for seed, lr in ((0, 0.1), (1, 0.3))]
    kept: dict[int, list] = {}

    class Seen(Hook):
        def after(self, step: int) -> None:
            kept[step] = [dict(self.program.stats), dict(self.program.moments)]

    histories = train(runs, dtype=torch.float64, hooks=[partial(Drift, last=2), Seen])
    for at, step in ((0, 3), (1, 4)):
        old, new = kept[step - 1][0], kept[step][1]
        units = {p: old[p].mean.numel() // 2 for p in old}
        for r in (0, 1):
            own = {p: slice(r * n, (r + 1) * n) for p, n in units.items()}
            means = [(new[p].mean - old[p].mean)[own[p]].abs() / old[p].var[own[p]] ** 0.5 for p in old]
            ratios = [(new[p].var[own[p]] / old[p].var[own[p]]).log().abs() for p in old]
            assert histories[r].noted["mean"][at] == pytest.approx(torch.cat(means).mean().item(), rel=1e-9)
            assert histories[r].noted["var"][at] == pytest.approx(torch.cat(ratios).mean().item(), rel=1e-9)


@pytest.mark.parametrize("net", STATISTICS.values(), ids=STATISTICS)
def test_frozen_statistics_vary_as_those_of_drawn_examples(net: nets.Net):
    program = Program([Run(net=net, seed=seed, batch=4, steps=1) for seed in (0, 1)], dtype=torch.float64)
    found = varied(program, 4, 300, 50)
    assert found["shuffled"].tolist() == pytest.approx([1, 1], abs=0.15)
    x = program.training_set()[0][:, :50]
    shown = nets.seen(net, nets.State(program.params, {}), x)
    ratios, rng = [], np.random.default_rng(1)
    for path, xhat in shown.items():
        if path.endswith(".xhat"):
            one = xhat[:, : xhat.shape[1] // 2].permute(1, 0, 2, 3) if xhat.shape[0] == 50 else xhat[0].movedim(2, 1)
            flat = one.reshape(one.shape[0], 50, -1)  # of the first replica: units, examples, positions
            own = [flat[:, rng.integers(0, 50, 4)].mean((1, 2)) for _ in range(3000)]
            ratios.append(torch.stack(own).square().mean(0) * 4 * flat.shape[2])
    assert found["batches"][0].item() == pytest.approx(torch.cat(ratios).mean().item(), rel=0.15)
    ends = [torch.cat(ratios[:1]).mean().item(), torch.cat(ratios[-1:]).mean().item()]
    assert [found["first"][0].item(), found["last"][0].item()] == pytest.approx(ends, rel=0.25)
    again = varied(Program([Run(net=net, seed=0, batch=4, steps=1)], dtype=torch.float64), 4, 300, 50)
    assert again["batches"].item() == pytest.approx(found["batches"][0].item(), rel=1e-9)


def test_the_largest_logit_is_that_of_what_is_seen():
    net = nets.transformer(10, 32, 8, 2, heads=2)
    runs = [Run(net=net, data="markov", seed=seed, batch=3, steps=3, lr=0.1, gain=3.0) for seed in (0, 1)]
    largest: list[list[float]] = []
    decided: list[list[float]] = []

    class Seen(Hook):
        def tap(self, path: str, values: torch.Tensor) -> None:
            if path.endswith(".logits"):
                own = values.detach()
                largest.append([own[r][own[r].isfinite()].abs().max().item() for r in (0, 1)])
                rows = own.exp()[..., 1:, :]  # position 0 sees itself alone
                most = (rows / rows.sum(-1, keepdim=True)).amax(-1)
                decided.append([(most[r] > 0.99).double().mean().item() for r in (0, 1)])

    histories = train(runs, dtype=torch.float64, hooks=[partial(Largest, last=1), Seen])
    for r in (0, 1):
        assert histories[r].noted["logit"].tolist() == pytest.approx([max(own[r] for own in largest[-2:])])
        assert histories[r].noted["sure"].tolist() == pytest.approx([np.mean([own[r] for own in decided[-2:]])])
    assert 0 < histories[0].noted["sure"][0] < 1


def test_with_a_norm_no_logit_is_larger_than_its_bound():
    net, generator = nets.encoder(units=8, heads=2, qk_norm=True), torch.Generator().manual_seed(0)
    state, found = nets.start(net, [0, 1], dtype=torch.float64), {}
    for value in state.params.values():
        value.normal_(std=3.0, generator=generator)
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64, generator=generator)
    nets.forward(net, state.params, x, tap=found.__setitem__)
    queries = [path for path in state.params if path.endswith("query.gamma")]
    assert len(queries) == 2
    for path in queries:
        own, keys = (state.params[name].abs().amax(1) for name in (path, path.replace("query", "key")))
        bound = 4**0.5 * own * keys
        largest = found[path.replace("query.gamma", "logits")].abs().flatten(1).amax(1)
        assert (largest <= bound).all()
        assert (largest > bound / 10).all()


def test_the_norm_of_queries_and_keys_is_that_of_each_head():
    layer = Attention(heads=2, qk_norm=True)
    gamma = torch.randn(2, 3, dtype=torch.float64)
    part = torch.randn(2, 2, 5, 4, 3, dtype=torch.float64)  # replicas, heads, N, length, features
    expected = part / (part.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gamma[:, None, None, None, :]
    torch.testing.assert_close(layer.normed(part, gamma), expected)
    assert layer.normed(part.transpose(2, 3), gamma).shape == (2, 2, 4, 5, 3)


def test_a_run_stops_where_its_validation_accuracy_is_best():
    net, how = nets.encoder(units=8, blocks=1), {"data": "digits", "inputs": "standardized", "batch": 30}
    spec, runs = nets.described(net), [{"seed": 3, "lr": 0.5}, {"seed": 4, "lr": 0.2}]
    values = stopped(spec=spec, runs=runs, examples=60, every=2, steps=12, dtype="float64", **how)

    class Fewer(Hook):
        def __init__(self, program: Program) -> None:
            super().__init__(program)
            program.examples = program.examples[0][:, :60], program.examples[1][:, :60]
            program.batches = [batches(60, 30, seed) for seed in program.seeds]

    for i, run in enumerate(runs):
        at = int(values["at"][i])
        own = train([Run(net=net, steps=12, **how, **run)], every=2, dtype=torch.float64, hooks=[Fewer])[0]
        assert values["val"][i] == own.val_accuracy.max()
        assert at == own.at[own.val_accuracy.argmax()]
        short = train([Run(net=net, steps=at, **how, **run)], every=at, dtype=torch.float64, hooks=[Fewer])[0]
        assert values["test"][i] == short.test_accuracy
