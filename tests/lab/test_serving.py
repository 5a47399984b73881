"""What chapter 9 measures, against bnlib's training, its running statistics and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import by_layer, serving
from bnlib.lab.nets import mlp
from bnlib.lab.train import Run, train
from bnlib.norms import Moments
from bnlib.running import RunningStats


@pytest.fixture(scope="module")
def trained():
    """Two networks after 12 steps, and the moments of every batch."""
    data = serving._splits(2, torch.float64)[0]
    params, history = serving.begin(2), []
    for now, found in serving.trained(params, data, serving.rows_of(1078, 60, 2), 0.5, 12):
        params = now
        history.append(found)
    return params, history, data


def test_the_training_is_bnlibs(trained):
    params, _, _ = trained
    runs = [Run(net=mlp(norm="batch"), seed=seed, lr=0.5, steps=12) for seed in range(2)]
    for seed, history in enumerate(train(runs, keep=[12], dtype=torch.float64)):
        for name, theirs in by_layer(history.states[12].params).items():
            mine = params[name][seed].mT if name.startswith("weight") else params[name][seed, 0]
            torch.testing.assert_close(mine, theirs[0], rtol=1e-9, atol=1e-12)


def test_running_averages_are_bnlibs_and_those_of_its_training(trained):
    _, history, _ = trained
    ours, theirs = serving.Average(0.1, 60), [RunningStats.start(100) for _ in range(serving.LAYERS)]
    for found in history:
        ours.update(found)
        theirs = [
            s.update(Moments(mean[0, 0].numpy(), var[0, 0].numpy(), 60))
            for s, (mean, var) in zip(theirs, found, strict=True)
        ]
    (kept,) = train([Run(net=mlp(norm="batch"), lr=0.5, steps=12)], keep=[12], dtype=torch.float64)
    for i, (mean, var) in enumerate(ours.known):
        np.testing.assert_allclose(mean[0, 0], theirs[i].mean, rtol=1e-12)
        np.testing.assert_allclose(var[0, 0], theirs[i].var, rtol=1e-12)
        np.testing.assert_allclose(mean[0, 0], kept.states[12].stats[f"{i}.norm"].mean, rtol=1e-7)


def test_the_cumulative_average_weighs_all_batches_alike(trained):
    _, history, _ = trained
    average = serving.Average(None, 60)
    for found in history:
        average.update(found)
    for i, (mean, var) in enumerate(average.known):
        torch.testing.assert_close(mean, torch.stack([found[i][0] for found in history]).mean(0))
        torch.testing.assert_close(var, torch.stack([found[i][1] for found in history]).mean(0) * 60 / 59)


@pytest.mark.parametrize("momentum", [0.02, 0.5, 1.0])
def test_corrected_averages_of_equal_batches_are_those_batches(momentum):
    average = serving.Average(momentum, 4)
    batch = [(torch.tensor([[3.0]]), torch.tensor([[0.75]]))]
    for _ in range(3):
        average.update(batch)
    mean, var = average.corrected()[0]
    assert mean.item() == pytest.approx(3)
    assert var.item() == pytest.approx(1)  # 0.75 * 4 / 3
    assert average.left == pytest.approx((1 - momentum) ** 3)
    assert average.known[0][0].item() == pytest.approx(3 * (1 - (1 - momentum) ** 3))


def test_exact_statistics_are_those_of_the_layers_in_use(trained):
    params, _, data = trained
    known = serving.exact(params, data.x)
    _, seen = serving.forward(params, data.x, serving.fixed(known))
    for (mean, var), z in zip(known, seen, strict=True):
        torch.testing.assert_close(mean[:, 0], z.mean(1))
        torch.testing.assert_close(var[:, 0], z.var(1, correction=0))


def test_training_mode_in_one_batch_is_use(trained):
    params, _, data = trained
    loss, right = serving.in_batches(params, data, 1078, order=3)
    logits, _ = serving.forward(params, data.x, serving.fixed(serving.exact(params, data.x)))
    torch.testing.assert_close(loss, serving.losses(logits, data.y))
    torch.testing.assert_close(right, serving.accuracy(logits, data.y))


def test_training_mode_judges_every_batch_by_itself(trained):
    params, _, data = trained
    loss, right = serving.in_batches(params, data, 100, order=5)  # 78 images are left out
    rows = np.random.default_rng([5, 100]).permutation(1078)
    own = []
    for start in range(0, 1000, 100):
        chosen = torch.as_tensor(rows[start : start + 100])
        logits, _ = serving.forward(params, data.x[:, chosen], serving.of_batch)
        own.append((serving.losses(logits, data.y[:, chosen]), serving.accuracy(logits, data.y[:, chosen])))
    torch.testing.assert_close(loss, torch.stack([a for a, _ in own]).mean(0))
    torch.testing.assert_close(right, torch.stack([b for _, b in own]).mean(0))


def test_what_is_judged_by_running_averages():
    how = {"lr": 0.5, "seeds": 2, "steps": 12, "batch": 60, "dtype": "float64"}
    values = serving.averaged(momenta=[0.1, 1.0], at=[4, 12], **how)
    runs = [Run(net=mlp(norm="batch"), seed=seed, lr=0.5, steps=12) for seed in range(2)]
    histories = train(runs, dtype=torch.float64)
    assert [own[1] for own in values["test m 0.1"]] == [h.test_accuracy for h in histories]
    assert values["test m 1"] == values["test m 1 corrected"]
    assert values["test m 0.1"] != values["test m 0.1 corrected"]
    assert np.shape(values["loss cumulative"]) == np.shape(values["val exact"]) == (2, 2)


def test_both_losses_of_an_untrained_network():
    values = serving.two_losses(
        lr=0.0, batch=60, steps=1, sizes=[4, 359], orders=1, seeds=2, dtype="float64"
    )  # fmt: skip
    params, (train_set, val, test) = serving.begin(2), serving._splits(2, torch.float64)
    known = serving.fixed(serving.exact(params, train_set.x))
    for name, data in (("train", train_set), ("test", test)):
        logits, _ = serving.forward(params, data.x, known)
        assert values[f"{name} use"] == serving.losses(logits, data.y).tolist()
        assert values[f"{name} use accuracy"] == serving.accuracy(logits, data.y).tolist()
    assert values["val"] == serving.accuracy(serving.forward(params, val.x, known)[0], val.y).tolist()
    loss, right = serving.in_batches(params, test, 359, 0)
    assert values["test 359"] == loss.tolist()
    assert values["test 359 accuracy"] == right.tolist()
    assert values["train use"] != values["train 4"]


@pytest.mark.parametrize("split", ["file order", "random"])
def test_a_shifted_network_is_tested_on_the_end_of_the_file(split):
    values = serving.adapted(split=split, lr=0.0, steps=1, batch=60, sizes=[299], seeds=2, dtype="float64")
    x, y = load_digits(return_X_y=True)
    late = np.random.default_rng(1)
    late.permutation(1198)
    rows = late.permutation(599) + 1198
    if split == "random":
        rows = late.permutation(1797)[1198:]
    params = {name: p[1:] for name, p in serving.begin(2).items()}
    known = serving.exact(params, torch.tensor(x[rows[300:]] / 16)[None])
    logits, _ = serving.forward(params, torch.tensor(x[rows[:300]] / 16)[None], serving.fixed(known))
    assert values["new 299"][1] == (logits[0].argmax(-1).numpy() == y[rows[:300]]).mean()


# What the comparisons run

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
