"""The search of chapter 17, on cases that can be written out."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch

from bnlib.lab import nets
from bnlib.lab.experiments import choosing
from bnlib.lab.experiments.choosing import (
    TASKS,
    best_of,
    configurations,
    networks,
    search,
    search_on,
    searched,
    skip_init,
)
from bnlib.lab.layers import Residual, walk
from bnlib.lab.train import Run, train

HOW: dict[str, Any] = {"lrs": [0.001, 0.1], "gains": [0.5, 2.0], "steps": 4, "every": 2, "batch": 10,
                       "optimizer": "adam", "dtype": "float64"}  # fmt: skip


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_best_of_k_is_a_mean_over_all_searches_of_k(k: int):
    rng = np.random.default_rng(0)
    val, test = rng.integers(0, 4, (3, 5)) / 4, rng.random((3, 5))
    for own_val, own_test, got in zip(val, test, best_of(val, test, k), strict=True):
        found = []
        for chosen in combinations(range(5), k):
            best = max(own_val[i] for i in chosen)
            found.append(np.mean([own_test[i] for i in chosen if own_val[i] == best]))
        assert got == pytest.approx(np.mean(found))


def test_a_search_of_none_or_of_too_many_is_a_clear_error():
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k is {k}: give a number from 1 to the 5"):
            best_of(np.zeros((2, 5)), np.zeros((2, 5)), k)


def test_a_seed_draws_its_own_configurations_within_the_bounds():
    drawn = configurations(3, 500, [1e-4, 0.1], [0.5, 2.0])
    assert drawn[:4] == configurations(3, 4, [1e-4, 0.1], [0.5, 2.0])
    assert drawn[0] != configurations(4, 1, [1e-4, 0.1], [0.5, 2.0])[0]
    lrs, gains = np.log10(drawn).T
    assert -4 < lrs.min() < -3.9 < -1.1 < lrs.max() < -1
    assert lrs.mean() == pytest.approx(-2.5, abs=0.15)
    assert -0.302 < gains.min() < gains.max() < 0.302
    assert abs(np.corrcoef(lrs, gains)[0, 1]) < 0.15


def test_with_skip_init_each_block_is_the_identity_at_the_start():
    for task, name in (("residual", "none"), ("transformer", "none")):
        net, skipped = networks()[task][name][0], networks()[task]["SkipInit"][0]
        blocks = [layer for _, layer in walk(net.body) if isinstance(layer, Residual)]
        scaled = [layer for _, layer in walk(skipped.body) if isinstance(layer, Residual)]
        assert len(blocks) == len(scaled) == {"residual": 2, "transformer": 4}[task]
        assert {layer.scale for layer in scaled} == {0.0}
        assert [layer.body for layer in blocks] == [layer.body for layer in scaled]
        assert skip_init(skipped.body) == skipped.body
        params, _ = nets.start(skipped, [0], dtype=torch.float64)
        x = torch.randn(1, 3, *skipped.inputs, dtype=torch.float64)
        found: dict[str, torch.Tensor] = {}
        nets.forward(skipped, params, x, tap=found.__setitem__)
        if task == "transformer":
            assert torch.equal(found["3"], found["positions"])


@pytest.mark.parametrize(("task", "method"), [("table", "weight norm, data start"), ("residual", "SkipInit")])
def test_a_search_trains_each_seeds_configurations(task: str, method: str):
    net, gain = networks()[task][method]
    init = "data start" in method
    values = searched(spec=nets.described(net), gain=gain, init=init, seeds=[2, 5], draws=3, **TASKS[task], **HOW)
    how = {"steps": 4, "batch": 10, "optimizer": "adam", **TASKS[task]}
    hooks = [choosing.DataInit] if init else []
    for i, seed in enumerate((2, 5)):
        for j, (lr, factor) in enumerate(configurations(seed, 3, HOW["lrs"], HOW["gains"])):
            run = Run(net=net, seed=seed, lr=lr, gain=gain * factor, **how)
            (own,) = train([run], every=2, dtype=torch.float64, hooks=hooks)
            assert values["val"][i][j] == pytest.approx(own.val_accuracy.tolist(), abs=1e-5)
            assert values["test"][i][j][-1] == pytest.approx(own.test_accuracy, abs=1e-5)


def test_every_method_gets_the_same_search():
    cases = list(search.cases(**search.settings))
    labels = [case[0] for case in cases]
    assert {label["task"] for label in labels} == set(TASKS)
    for task, arms in networks().items():
        own = [case for case in cases if case[0]["task"] == task]
        assert {label["method"] for label, _ in own} == set(arms)
        for method in arms:
            seeds = [seed for label, arguments in own if label["method"] == method for seed in arguments["seeds"]]
            assert seeds == list(range(16))
        differ = {"spec", "gain", "init", "seeds"}
        same = [{k: v for k, v in arguments.items() if k not in differ} for _, arguments in own]
        assert all(arguments == same[0] for arguments in same)


def test_what_was_open_goes_on_with_the_seeds_behind():
    known = {(label["task"], label["method"]): arguments for label, arguments in search.cases(**search.settings)}
    seeds: dict[tuple[str, str], list[int]] = {}
    for label, arguments in search_on.cases(**search_on.settings):
        arm = label["task"], label["method"]
        seeds.setdefault(arm, []).extend(arguments["seeds"])
        assert {**arguments, "seeds": None} == {**known[arm], "seeds": None}
    assert set(seeds) == {*product(["images"], ["none", "batch", "SELU"]), *product(["signals"], ["none", "batch"])}
    assert all(own == list(range(16, 64)) for own in seeds.values())
