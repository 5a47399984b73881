"""The ways of chapter 5 against closed forms, bnlib's own gradient, and bnlib's training."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab.bridge import normalized
from bnlib.lab.experiments import fixes
from bnlib.lab.nets import Spec
from bnlib.lab.train import Run, batches, train
from bnlib.norms import batch_layout

HOW = {"activation": "tanh", "gain": 1.5, "seeds": 2, "batch": 60, "every": 1, "target": 0.5}


@pytest.fixture
def z() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (2 * torch.randn(7, 4, generator=generator, dtype=torch.float64) + 0.7).requires_grad_()


@pytest.fixture
def dy() -> torch.Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_the_whole_gradient_is_that_of_batch_norm(z, dy):
    one, zero = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    y, _ = normalized(z, one, zero, batch_layout((7, 4)), eps=fixes.EPS)
    mine = fixes.standardized(z)
    torch.testing.assert_close(mine, y)
    torch.testing.assert_close(torch.autograd.grad(mine, z, dy), torch.autograd.grad(y, z, dy))


@pytest.mark.parametrize("cut", [["mean"], ["variance"], ["mean", "variance"]])
def test_a_cut_leaves_the_other_paths(z, dy, cut):
    (dz,) = torch.autograd.grad(fixes.standardized(z, cut), z, dy)
    rstd = (z.var(0, correction=0) + fixes.EPS) ** -0.5
    xhat = (z - z.mean(0)) * rstd
    expected = dy
    if "mean" not in cut:
        expected = expected - dy.mean(0)
    if "variance" not in cut:
        expected = expected - xhat * (dy * xhat).mean(0)
    torch.testing.assert_close(dz, (rstd * expected).detach())


def test_averages_start_with_the_first_batch_and_move_by_momentum(z, dy):
    averages = fixes.Averages(0.3)
    torch.testing.assert_close(averages(1, z), fixes.standardized(z))
    other = z.detach() * 2 - 1
    mean = 0.7 * z.mean(0) + 0.3 * other.mean(0)
    var = 0.7 * z.var(0, correction=0) + 0.3 * other.var(0, correction=0)
    other.requires_grad_()
    y = averages(1, other)
    torch.testing.assert_close(y, (other - mean) / (var + fixes.EPS).sqrt())
    (dz,) = torch.autograd.grad(y, other, dy)
    torch.testing.assert_close(dz, (dy / (var + fixes.EPS).sqrt()).detach())


def test_averages_of_layers_are_apart(z):
    averages = fixes.Averages(0.1)
    averages(0, z)
    torch.testing.assert_close(averages(1, 5 * z), fixes.standardized(5 * z))


def test_the_penalty_by_hand():
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 2.0], [6.0, 2.0]], dtype=torch.float64)
    assert fixes.penalized(z).item() == pytest.approx((9 + 2.5**2 + 1) / 2)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_repair_standardizes_every_layer(activation):
    params, x = fixes.begin(3, 2.0), torch.rand(3, 50, 64, dtype=torch.float64)
    for i in range(fixes.LAYERS):  # as after some training
        params[f"gamma{i}"] += torch.rand_like(params[f"gamma{i}"])
        params[f"beta{i}"] += torch.rand_like(params[f"beta{i}"])
    before = {name: p.clone() for name, p in params.items()}
    fixes.repair(params, x, activation)
    _, seen = fixes.forward(params, x, lambda i, z: z, activation)
    for z in seen:
        torch.testing.assert_close(z.mean(-2), torch.zeros(3, 100, dtype=torch.float64))
        torch.testing.assert_close(z.var(-2, correction=0), torch.ones(3, 100, dtype=torch.float64))
    # What a unit responds to stays: its weights keep their direction.
    for i in range(fixes.LAYERS):
        turned = torch.cosine_similarity(params[f"weight{i}"], before[f"weight{i}"], -1)
        torch.testing.assert_close(turned, torch.ones_like(turned))


def test_the_plain_way_is_bnlibs_training():
    histories = train(
        [Run(spec=Spec(activation="tanh", gain=1.5), seed=seed, lr=0.3, steps=12) for seed in range(2)],
        dtype=torch.float64,
    )
    values = fixes.ended(way={"learn": ["weight", "bias"]}, lr=0.3, steps=12, **HOW)
    assert values["test"] == [h.test_accuracy for h in histories]
    assert values["val"] == [h.val_accuracy[-1] for h in histories]
    assert values["steps_to"] == [h.steps_to(0.5) for h in histories]


def test_batch_norm_is_judged_by_the_whole_training_set():
    values = fixes.ended(way={"normalize": "batch"}, lr=0.0, steps=1, **HOW)
    params = fixes.begin(2, 1.5)
    for seed in range(2):
        digits = load("digits", seed)
        h, judged = torch.tensor(digits.x_train), torch.tensor(digits.x_test)
        for i in range(3):
            z, w = h @ params[f"weight{i}"][seed].T, judged @ params[f"weight{i}"][seed].T
            std = (z.var(0, correction=0) + fixes.EPS).sqrt()
            h, judged = torch.tanh((z - z.mean(0)) / std), torch.tanh((w - z.mean(0)) / std)
        right = (judged @ params["weight3"][seed].T).argmax(-1).numpy() == digits.y_test
        assert values["test"][seed] == right.mean()


def test_moving_averages_are_judged_with_both():
    values = fixes.ended(way={"normalize": "averages", "momentum": 1.0}, lr=0.3, steps=12, **HOW)
    cut = fixes.ended(way={"normalize": "batch", "cut": ["mean", "variance"]}, lr=0.3, steps=12, **HOW)
    assert values["test"] == cut["test"]  # with momentum 1 the training is the same
    assert values["test averages"] != values["test"]
    assert "test averages" not in cut


def test_shifted_activations_have_other_means():
    z = torch.tensor([0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(fixes.SHIFTED["sigmoid - 1/2"](z), torch.sigmoid(z) - 0.5)
    torch.testing.assert_close(fixes.SHIFTED["tanh + 1"](z), torch.tanh(z) + 1)


def test_what_is_undone_by_hand():
    before = [torch.tensor([[0.0, 0.0], [1.0, 1.0]])]
    stepped = [torch.tensor([[3.0, 4.0], [1.0, 2.0]])]
    repaired = [torch.tensor([[0.0, 4.0], [1.0, 1.0]])]
    dot, step, correction = fixes._against(before, stepped, repaired)
    assert dot.flatten().tolist() == [-9.0, -1.0]
    assert step.flatten().tolist() == [25.0, 1.0]
    assert correction.flatten().tolist() == [9.0, 1.0]


def test_a_repaired_network_tells_what_was_undone_in_each_layer():
    values = fixes.ended(way={"repair": "always"}, lr=0.1, steps=3, **HOW)
    for name in ("undone", "undone z", "cosine", "cosine z"):
        assert np.shape(values[name]) == (2, fixes.LAYERS)
    assert (np.array(values["cosine z"]) < -0.5).all()  # in z the two pull against each other
    assert max(values["remains"]) < 1e-9


def test_a_repair_at_the_start_and_learned_gamma_and_beta_are_crossed():
    ways = {labels["way"]: case["way"] for labels, case in fixes.starts.cases(**fixes.starts.settings)}
    assert len(ways) == 4
    for name, way in ways.items():
        assert ("repair" in way) == name.startswith("start")
        assert ("learn" not in way) == name.endswith("gamma and beta")  # what is not named is learned: all


@pytest.mark.parametrize("way", [case["way"] for _, case in fixes.starts.cases(**fixes.starts.settings)][:20:5])
def test_each_start_is_trained_by_plain_steps(way):
    digits = load("digits", 0)
    x, y = torch.tensor(digits.x_train), torch.tensor(digits.y_train)
    params = {name: p[:1] for name, p in fixes.begin(2, 1.5).items()}
    if "repair" in way:
        fixes.repair(params, x[None], "tanh")
    learned = [name for name in params if "learn" not in way or name.startswith(("weight", "bias"))]
    for _, rows in zip(range(4), batches(len(x), 60, 0), strict=False):
        leaves = {name: p.detach().requires_grad_(name in learned) for name, p in params.items()}
        logits, _ = fixes.forward(leaves, x[None, rows], lambda i, z: z, "tanh")
        grads = torch.autograd.grad(cross_entropy(logits[0], y[rows]), [leaves[name] for name in learned])
        params = params | {name: params[name] - 0.3 * g for name, g in zip(learned, grads, strict=True)}
    biases = torch.cat([params[f"bias{i}"].flatten() for i in range(fixes.LAYERS)])
    ended = fixes.ended(way=way, lr=0.3, steps=4, **HOW)
    assert ended["bias end"][0] == pytest.approx(biases.square().mean().sqrt().item(), rel=1e-9)


def test_a_network_that_breaks_counts_as_wrong():
    values = fixes.ended(way={"penalty": 1e6}, lr=10.0, steps=5, **HOW)
    assert values["test"] == values["val"] == [0.0, 0.0]
