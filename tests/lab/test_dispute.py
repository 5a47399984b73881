"""What chapter 11 measures, against the same written out with PyTorch's own operations for one network."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy

from bnlib.data import load
from bnlib.lab import records
from bnlib.lab.experiments import dispute
from bnlib.lab.experiments.dispute import Altered, Company, Drift, Few, Fewer, Mislabelled, Probe, noisy
from bnlib.lab.layers import Params
from bnlib.lab.nets import mlp
from bnlib.lab.train import History, Program, Run, batches, train


def test_the_picked_settings_are_those_of_the_speed_record():
    picks = records.load("speed")["picks"]
    own = {
        (f"{p['labels']['data']}, {p['labels']['depth']}", p["labels"]["activation"], p["labels"]["norm"]): p
        for p in picks
        if p["labels"]["inputs"] == "centred" and p["labels"]["start"] == "gain"
    }
    told = {(place, a, n): v for place, of in dispute.PICKED.items() for a, by in of.items() for n, v in by.items()}
    assert len(told) == len(own) == 18
    for key, (gain, lr) in told.items():
        assert (own[key]["gain"], own[key]["lr"]) == (gain, lr), key


# An update taken apart

LR, BATCH, WIDTHS = 0.7, 20, (6, 5)


def probe_run(norm: str) -> Run:
    net = mlp((64,), WIDTHS, norm=norm, activation="tanh")
    return Run(net=net, seed=3, gain=1.3, lr=LR, batch=BATCH, steps=3, inputs="centred")


def written_out(params: Params, x: Tensor, norm: str) -> Tensor:
    """The logits (N, classes) of the network of ``probe_run``."""
    h = x
    for i in range(len(WIDTHS)):
        z = h @ params[f"{i}.affine.weight"][0].T
        if norm == "batch":
            z = batch_norm(z, None, None, params[f"{i}.norm.gamma"][0], params[f"{i}.norm.beta"][0], training=True)
        else:
            z = z + params[f"{i}.affine.bias"][0]
        h = torch.tanh(z)
    return h @ params["2.affine.weight"][0].T + params["2.affine.bias"][0]


def gradient(params: Params, x: Tensor, y: Tensor, norm: str) -> tuple[float, Tensor, Params]:
    own = {name: value.clone().requires_grad_() for name, value in params.items()}
    logits = written_out(own, x, norm)
    loss = cross_entropy(logits, y)
    loss.backward()
    return loss.item(), logits.detach(), {name: value.grad for name, value in own.items() if value.grad is not None}


def whole(grads: Params) -> Tensor:
    return torch.cat([grads[name].flatten() for name in sorted(grads)])


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_an_update_is_taken_apart_as_the_definitions_say(norm: str):
    run = probe_run(norm)
    (history,) = train([run], every=3, keep=[1, 2], dtype=torch.float64, hooks=[partial(Probe, times=[2])])
    before, now = history.states[1].params, history.states[2].params
    split = load("digits", run.seed, "centred")
    rows = next(itertools.islice(batches(len(split.x_train), BATCH, run.seed), 1, None)).numpy()
    x, y = torch.as_tensor(split.x_train[rows]), torch.as_tensor(split.y_train[rows])
    loss, logits, grads = gradient(before, x, y, norm)
    centred = logits - logits.mean(1, keepdim=True)
    for i in (1, 2):
        mixed = {name: (now if int(name[0]) < i else before)[name] for name in now}
        _, moved, there = gradient(mixed, x, y, norm)
        a, b = (of[f"{i}.affine.weight"].flatten() for of in (grads, there))
        noted = {name: history.noted[name][0][i - 1] for name in ("shift", "cosine", "carried")}
        assert noted["shift"] == pytest.approx(((b - a).norm() / a.norm()).item())
        assert noted["cosine"] == pytest.approx((a @ b / a.norm() / b.norm()).item())
        gap = moved - moved.mean(1, keepdim=True) - centred
        assert noted["carried"] == pytest.approx((gap.norm() / centred.norm()).item())
    losses, betas, shares = [], [], {}
    for factor in (0.5, 1.0, 2.0, 4.0):
        there = {name: value - factor * LR * grads.get(name, torch.zeros(())) for name, value in before.items()}
        own, _, then = gradient(there, x, y, norm)
        moved = (whole(then) - whole(grads)).norm()
        losses.append(own)
        betas.append((moved / (factor * LR * whole(grads).norm())).item())
        shares[factor] = (moved / whole(grads).norm()).item()
    assert history.noted["own"][0] == pytest.approx(shares[1.0])
    assert history.noted["beta"][0] == pytest.approx(max(betas))
    assert history.noted["range"][0] == pytest.approx(max(losses) - min(losses))
    assert loss == pytest.approx(history.loss[1])
    assert len(history.noted["own"]) == 1


def test_what_was_noted_is_summed_up_by_geometric_means():
    (run,) = [{"seed": 1, "lr": 0.5, "gain": 1.0}]
    how: dict[str, Any] = {"steps": 3, "data": "digits", "inputs": "centred", "dtype": "float64"}
    spec = {"inputs": [64], "widths": [6, 5], "activation": "tanh"}
    values = dispute.probed(spec=spec, runs=[run], times={"both": [1, 3], "late": [3]}, **how)
    net = mlp((64,), (6, 5), activation="tanh")
    (history,) = train(
        [Run(net=net, **run, steps=3, inputs="centred")], dtype=torch.float64, hooks=[partial(Probe, times=[1, 3])]
    )
    assert history.noted["shift"].shape == (2, 2)
    assert values["both shift"] == [pytest.approx(history.noted["shift"].prod() ** 0.25)]
    assert values["late shift"] == [pytest.approx(history.noted["shift"][1].prod() ** 0.5)]
    assert values["both cosine"] == [pytest.approx(history.noted["cosine"].mean())]
    assert values["both beta"] == [pytest.approx(history.noted["beta"].prod() ** 0.5)]


# Noise


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_noise_stands_between_norm_and_activation(norm: str):
    net = noisy("relu", norm, {"shift": 1.0})
    wanted = {"none": ["affine", "noise", "activation"], "batch": ["affine", "norm", "noise", "activation"]}[norm]
    for i in range(3):
        assert [path for path in net.layers if path.startswith(f"{i}.")] == [f"{i}.{name}" for name in wanted]
    assert not any("noise" in path for path in noisy("relu", norm, {}).layers)


def test_drift_is_the_move_of_the_means_in_standard_deviations_before():
    net = noisy("tanh", "none", {})
    run = Run(net=net, seed=2, lr=0.5, batch=30, steps=2, inputs="centred")
    (history,) = train([run], every=2, keep=[0, 1], dtype=torch.float64, hooks=[Drift])
    split = load("digits", 2, "centred")
    seen = []
    for rows, state in zip(batches(len(split.x_train), 30, 2), history.states.values(), strict=False):
        h = z = torch.as_tensor(split.x_train[rows.numpy()])
        for i in range(3):
            z = h @ state.params[f"{i}.affine.weight"][0].T + state.params[f"{i}.affine.bias"][0]
            h = torch.tanh(z)
        seen.append(z)
    (a, b) = seen
    wanted = ((b.mean(0) - a.mean(0)).abs() / a.std(0, correction=0)).mean()
    assert history.noted["drift"][1] == pytest.approx(wanted.item())


def test_noise_is_only_there_in_training():
    how: dict[str, Any] = {"norm": "batch", "until": None, "data": "digits", "inputs": "centred", "dtype": "float64"}
    runs = [{"seed": 0, "lr": 0.0, "gain": 1.0}]
    quiet, loud = (
        dispute.disturbed(activation="tanh", noise=noise, runs=runs, steps=4, **how)
        for noise in ({}, {"shift": 1.0, "scale": 0.25})
    )
    assert loud["drift"][0] > 3 * quiet["drift"][0]


# Few and wrong examples


def program(hook: Any = None, batch: int = 50, seeds: tuple[int, ...] = (4, 5)) -> Program:
    net = mlp((64,), (8,), norm="batch", activation="relu")
    runs = [Run(net=net, seed=s, batch=batch, steps=3, inputs="centred") for s in seeds]
    return Program(runs, dtype=torch.float64, hooks=[] if hook is None else [hook])


def test_fewer_examples_are_the_first_and_batches_come_from_them():
    own, all_of_them = program(partial(Fewer, n=60)), program()
    for few, many in zip(own.examples, all_of_them.examples, strict=True):
        torch.testing.assert_close(few, many[:, :60], rtol=0, atol=0)
    rows = torch.stack([next(own.batches[1]) for _ in range(6)])
    assert rows.max() < 60
    assert len(rows.unique()) > 50


def test_a_share_of_the_labels_is_wrong():
    own, right = program(partial(Mislabelled, share=0.3)), program()
    (x, y), (x_right, y_right) = own.examples, right.examples
    torch.testing.assert_close(x, x_right, rtol=0, atol=0)
    assert ((y != y_right).sum(1) == round(0.3 * y.shape[1])).all()
    assert y.min() >= 0
    assert y.max() <= 9
    assert not torch.equal(y[0] != y_right[0], y[1] != y_right[1])


def trained_with(norm: str, hooks: list[Any], lr: float) -> History:
    net = mlp((64,), (8,), norm=norm, activation="relu")
    run = Run(net=net, seed=1, lr=lr, batch=20, steps=4, inputs="centred")
    return train([run], keep=[4], dtype=torch.float64, hooks=hooks, exact=True)[0]


def test_company_has_no_loss_of_its_own():
    alone = trained_with("none", [], 0.3)
    among = trained_with("none", [partial(Company, more=60)], 0.3 * 4)  # 80 rows in place of 20
    for name, value in alone.states[4].params.items():
        torch.testing.assert_close(value, among.states[4].params[name])
    assert alone.test_accuracy == among.test_accuracy


def test_company_counts_in_the_statistics():
    own = program(partial(Company, more=200))
    own._step(1)
    (moments,) = own.moments.values()
    assert moments.count == 250
    n = own.examples[0].shape[1] // 2
    rows = next(own.batches[0])
    assert (rows[:50] < n).all()
    assert (rows[50:] >= n).all()
    assert len(set((rows % n).tolist())) == 250  # none twice
    alone, among = trained_with("batch", [], 0.3), trained_with("batch", [partial(Company, more=60)], 0.3 * 4)
    assert not torch.allclose(alone.states[4].params["0.affine.weight"], among.states[4].params["0.affine.weight"])


def test_of_company_there_is_no_more_than_there_are_examples():
    n = program().examples[0].shape[1]
    (all_of_them,) = (next(own) for own in program(partial(Company, more=n - 50)).batches[:1])
    assert sorted((all_of_them % n).tolist()) == list(range(n))
    with pytest.raises(ValueError, match=rf"company is {n - 49}: beside mini-batches of 50 of {n} there are 1 to"):
        program(partial(Company, more=n - 49))


def test_company_makes_up_for_its_share_of_the_mean(monkeypatch: pytest.MonkeyPatch):
    rates = []

    def watched(runs: list[Run], **how: Any) -> list[History]:
        rates.append([run.lr for run in runs])
        return train(runs, **how)

    monkeypatch.setattr(dispute, "train", watched)
    for company in (0, 240):
        dispute.generalized(
            activation="relu", norm="batch", runs=[{"seed": 0, "lr": 0.1}], steps=1, data="digits", dtype="float64",
            company=company,
        )  # fmt: skip
    assert rates == [[0.1], [0.5]]


def test_altered_images_lose_ink_or_move():
    net = mlp((64,), (8,), activation="relu")
    run = Run(net=net, seed=6, lr=0.3, steps=30, inputs="centred")
    (history,) = train([run], every=30, keep=[30], dtype=torch.float64, hooks=[Altered])
    raw, params = load("digits", 6), history.states[30].params
    mean, scale = raw.x_train.mean(0), raw.x_train.var(0).mean() ** 0.5
    moved = np.zeros((len(raw.x_test), 8, 8))
    moved[..., 1:] = raw.x_test.reshape(-1, 8, 8)[..., :-1]
    for name, images in (("faint", raw.x_test / 2), ("moved", moved.reshape(-1, 64))):
        x = torch.as_tensor((images - mean) / scale)
        h = torch.relu(x @ params["0.affine.weight"][0].T + params["0.affine.bias"][0])
        found = (h @ params["1.affine.weight"][0].T + params["1.affine.bias"][0]).argmax(1).numpy()
        assert history.noted[name] == pytest.approx((found == raw.y_test).mean())
    assert len(history.noted["faint"]) == 1


# A part of the parameters


@pytest.mark.parametrize("what", list(dispute.FEW))
def test_only_what_is_named_learns(what: str, monkeypatch: pytest.MonkeyPatch):
    found: list[History] = []

    def watched(runs: list[Run], **how: Any) -> list[History]:
        found.extend(train(runs, keep=[0, 6], **how))
        return found

    monkeypatch.setattr(dispute, "train", watched)
    runs = [{"seed": 0, "lr": 1.0, "gain": 1.41}, {"seed": 1, "lr": 1.0, "gain": 1.41}]
    dispute.partly(depth=2, data="digits", runs=runs, steps=6, dtype="float64", **dispute.FEW[what])
    for history in found:
        first, last = (history.states[step].params for step in (0, 6))
        moved = {name: int((last[name] != first[name]).sum()) for name in first if not last[name].equal(first[name])}
        scales = {name for name in first if "norm" in name}
        match what:
            case "gamma and beta":
                assert set(moved) == scales
            case "output layer":
                assert set(moved) == {"2.affine.weight", "2.affine.bias"}
            case _:
                assert all(name.endswith("weight") for name in moved)
                # some of the chosen belong to pixels that are never inked, and have no gradient
                assert 0.8 * 400 < sum(moved.values()) <= 400 == sum(first[name].numel() for name in scales)


def test_the_few_weights_are_drawn_for_each_replica():
    hook = Few(program())
    fixed, _ = hook.fixed["0.affine.weight"]
    assert not torch.equal(fixed[0], fixed[1])
    assert sum(int((~fixed[0]).sum()) for fixed, _ in hook.fixed.values()) == 16
