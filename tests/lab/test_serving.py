"""What chapter 9 measures, against bnlib's training, its running statistics and closed forms."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import serving
from bnlib.lab.nets import mlp
from bnlib.lab.train import Run, train
from bnlib.running import RunningStats

SPEC: dict[str, Any] = {"widths": [12, 8], "activation": "tanh", "norm": "batch", "momentum": 0.3}
RUNS = [{"seed": 2, "lr": 0.5}, {"seed": 3, "lr": 1.0}]
STEPS = 5


def kept(data: str = "digits", inputs: str = "centred") -> list[Any]:
    """The histories of the runs, with the parameters at the end."""
    net = mlp((196 if data != "digits" else 64,), (12, 8), activation="tanh", norm="batch", momentum=0.3)
    runs = [Run(net=net, steps=STEPS, data=data, inputs=inputs, **run) for run in RUNS]
    return train(runs, every=STEPS, keep=[STEPS], dtype=torch.float64)


def logits_of(history: Any, x: np.ndarray, stats: Any) -> torch.Tensor:
    return nets.forward(history.run.net, history.states[STEPS].params, torch.tensor(x)[None], stats)[0][0]


def exactly(history: Any, x: np.ndarray) -> dict[str, RunningStats]:
    found = nets.forward(history.run.net, history.states[STEPS].params, torch.tensor(x)[None])[1]
    return {path: RunningStats(m.mean, m.var) for path, m in found.items()}


def told(logits: torch.Tensor, y: np.ndarray) -> list[float]:
    return [torch.nn.functional.cross_entropy(logits, torch.tensor(y)).item(), (logits.argmax(1).numpy() == y).mean()]


def judge(it: dict[str, Any]) -> dict[str, Any]:
    """The loss and accuracy of the runs as that judge sees them, beside another."""
    judges = {"other": {"by": "running", "momentum": 0.7}, "this": it}
    values = serving.judged(spec=SPEC, runs=RUNS, steps=STEPS, dtype="float64", judges=judges, inputs="centred")
    return {"val": values["val"], "loss": values["loss, this"], "accuracy": values["accuracy, this"]}


def test_parameters_as_the_chapter_writes_them():
    p, x = serving.begin(2), torch.tensor(load("digits", 1, "centred").x_train[:30])
    params = nets.start(mlp(norm="batch"), [1], dtype=torch.float64).params
    h = x
    for i in range(serving.LAYERS):
        z = h @ p[f"weight{i}"][1]
        zhat = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        h = torch.sigmoid(p[f"gamma{i}"][1] * zhat + p[f"beta{i}"][1])
    logits, _ = nets.forward(mlp(norm="batch"), params, x[None])
    torch.testing.assert_close(h @ p["weight3"][1] + p["bias3"][1], logits[0])
    one = serving.as_written({path: value[0] for path, value in params.items()})
    for name, value in p.items():
        assert torch.equal(one[name], value[1])


def test_mini_batches_of_every_seed():
    for rows, theirs in zip(islice(serving.rows_of(100, 60, 3), 4), serving.batches(100, 60, 2), strict=False):
        assert rows.shape == (3, 60)
        assert torch.equal(rows[2], theirs)


@pytest.mark.parametrize("images", ["test", "train"])
@pytest.mark.parametrize("by", ["exact", "running", "batches"])
def test_networks_are_judged_by_the_statistics_that_are_named(by: str, images: str):
    own = {"batches": {"size": 100, "orders": 2}, "running": {"momentum": 0.3}}.get(by, {})
    found = judge({"by": by, "images": images} | own)
    for i, history in enumerate(kept()):
        split = load("digits", RUNS[i]["seed"], "centred")
        x, y = (split.x_train, split.y_train) if images == "train" else (split.x_test, split.y_test)
        if by == "batches":
            own = [np.random.default_rng([order, 100]).permutation(len(y)) for order in range(2)]
            parts = [rows[at : at + 100] for rows in own for at in range(0, len(y) // 100 * 100, 100)]
            expected = np.mean([told(logits_of(history, x[rows], None), y[rows]) for rows in parts], 0)
        else:
            stats = history.states[STEPS].stats if by == "running" else exactly(history, split.x_train)
            expected = told(logits_of(history, x, stats), y)
        np.testing.assert_allclose([found["loss"][i], found["accuracy"][i]], expected, rtol=1e-9)
        stats = exactly(history, split.x_train)
        assert found["val"][i] == told(logits_of(history, split.x_val, stats), split.y_val)[1]


def test_a_batch_may_be_of_one_class():
    found = judge({"by": "batches", "size": 30, "order": "sorted"})
    for i, history in enumerate(kept()):
        split = load("digits", RUNS[i]["seed"], "centred")
        rows = np.argsort(split.y_test, kind="stable")[:330].reshape(11, 30)
        right = [told(logits_of(history, split.x_test[part], None), split.y_test[part])[1] for part in rows]
        assert found["accuracy"][i] == pytest.approx(np.mean(right))


@pytest.mark.parametrize("statistics", ["old", "new"])
@pytest.mark.parametrize("data", ["digits", "mnist 14x14"])
def test_changed_images_are_judged_by_the_statistics_of_either(data: str, statistics: str):
    spec = SPEC | {"inputs": [196 if data != "digits" else 64]}
    how: dict[str, Any] = {"changes": ["negative", "grey paper"], "data": data, "dtype": "float64"}
    found = serving.renewed(spec=spec, runs=RUNS, steps=STEPS, **how)
    for i, history in enumerate(kept(data)):
        raw, centred = (load(data, RUNS[i]["seed"], inputs) for inputs in ("raw", "centred"))
        mean, scale = raw.x_train.mean(0), raw.x_train.var(0).mean() ** 0.5
        test, val = ((0.5 + 0.5 * x - mean) / scale for x in (raw.x_test, raw.x_val))
        stats = exactly(history, val if statistics == "new" else centred.x_train)
        assert found[f"accuracy, grey paper, {statistics}"][i] == told(logits_of(history, test, stats), raw.y_test)[1]
        stats = exactly(history, centred.x_train)
        assert found["val"][i] == told(logits_of(history, centred.x_val, stats), raw.y_val)[1]


def test_in_file_order_the_last_third_is_tested_and_gives_the_new_statistics():
    x, y = load_digits(return_X_y=True)
    split, others = serving.changed("file order", "digits", 4)
    assert [len(part) for part in (*split[::2], others)] == [1078, 120, 359, 240]
    rng = np.random.default_rng(4)
    early, late = rng.permutation(1198), rng.permutation(599) + 1198
    train_set = np.asarray(x)[early[:1078]] / 16
    for rows, images in zip((early[:1078], early[1078:], late[:359], late[359:]), (*split[::2], others), strict=True):
        np.testing.assert_allclose(images, (x[rows] / 16 - train_set.mean(0)) / train_set.var(0).mean() ** 0.5)
    for rows, labels in zip((early[:1078], early[1078:], late[:359]), split[1::2], strict=True):
        assert labels.tolist() == y[rows].tolist()


def test_in_file_order_it_is_trained_on_the_first_two_thirds():
    split, others = serving.changed("file order", "digits", 2)
    net, params = mlp(widths=(12, 8), activation="tanh", norm="batch"), {}
    params = nets.start(net, [2], dtype=torch.float64).params
    rows = serving.batches(1078, 60, 2)
    for _ in range(2):
        chosen = next(rows)
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        logits, _ = nets.forward(net, leaves, torch.tensor(split.x_train[chosen])[None])
        loss = torch.nn.functional.cross_entropy(logits[0], torch.tensor(split.y_train[chosen]))
        grads = torch.autograd.grad(loss, list(leaves.values()))
        params = {name: (p - 0.5 * g).detach() for (name, p), g in zip(leaves.items(), grads, strict=True)}
    for statistics, images in (("old", split.x_train), ("new", others)):
        moments = nets.forward(net, params, torch.tensor(images)[None])[1]
        stats = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
        right = told(nets.forward(net, params, torch.tensor(split.x_test)[None], stats)[0][0], split.y_test)[1]
        how: dict[str, Any] = {"changes": ["file order"], "dtype": "float64"}
        found = serving.renewed(spec=SPEC, runs=[{"seed": 2, "lr": 0.5}], steps=2, **how)
        assert found[f"accuracy, file order, {statistics}"] == [right]


def test_file_order_stands_alone():
    with pytest.raises(ValueError, match="alone"):
        serving.renewed(spec=SPEC, runs=RUNS, steps=1, dtype="float64", changes=["faint", "file order"])


@pytest.mark.parametrize("change", serving.CHANGES)
def test_a_change_leaves_the_images_that_are_learned_from(change: str):
    (split, others), centred = serving.changed(change, "digits", 1), load("digits", 1, "centred")
    for mine, theirs in zip(split[:4], centred[:4], strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert not np.allclose(split.x_test, centred.x_test)
    assert not np.allclose(others, centred.x_val)


def test_who_diverged_has_no_accuracy():
    runs = [{"seed": 2, "lr": 1e300}, {"seed": 2, "lr": 0.1}]
    how: dict[str, Any] = {"spec": {"widths": [5, 5], "activation": "relu"}, "runs": runs, "steps": 3}
    how["dtype"] = "float64"
    for found, name in (
        (serving.judged(judges={"so": {"by": "exact"}}, **how), "accuracy, so"),
        (serving.renewed(changes=["faint"], **how), "accuracy, faint, old"),
    ):
        assert np.isnan(found[name]).tolist() == [True, False]
