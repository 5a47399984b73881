"""The ways of chapter 5 against closed forms, bnlib's own gradient, and bnlib's training."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab.bridge import normalized
from bnlib.lab.experiments import by_layer, fixes
from bnlib.lab.layers import ACTIVATIONS, Draw, Flow, Norm, Signal, State
from bnlib.lab.nets import mlp, seen, start
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


@pytest.mark.parametrize("cut", [("mean",), ("variance",), ("mean", "variance")])
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


def passed(norm: Norm, z: torch.Tensor, running=None):
    """Through a norm of one replica with gamma 2 and beta 3: y (N, units), and the moments."""
    params = {"norm.gamma": torch.full((1, 4), 2.0).double(), "norm.beta": torch.full((1, 4), 3.0).double()}
    flow = Flow(params, 1, running={} if running is None else {"norm": running})
    y = norm(Signal(z.T[None], (4,)), "norm", flow).values[0].T
    return y, flow.moments["norm"]


@pytest.mark.parametrize("cut", [(), ("mean",), ("variance",), ("mean", "variance")])
def test_a_cut_layer_is_the_cut_function_with_gamma_and_beta(z, dy, cut):
    y, moments = passed(fixes.Cut("batch", cut=cut), z)
    torch.testing.assert_close(y, 2 * fixes.standardized(z, cut) + 3)
    torch.testing.assert_close(
        torch.autograd.grad(y, z, dy), torch.autograd.grad(2 * fixes.standardized(z, cut) + 3, z, dy)
    )
    torch.testing.assert_close(moments.mean, z.mean(0).detach())
    torch.testing.assert_close(moments.var, z.var(0, correction=0).detach())


def test_averages_start_with_the_first_batch_and_move_by_their_weight(z, dy):
    norm = fixes.Averaged("batch", weight=0.3)
    draw = Draw([torch.Generator()], [1.0], [None])
    running = norm.start((4,), draw).stats[""]
    y, moments = passed(norm, z, running)
    torch.testing.assert_close(y, 2 * fixes.standardized(z) + 3)
    running, other = running.update(moments), z.detach() * 2 - 1
    torch.testing.assert_close(running.mean, z.mean(0).detach())
    mean = 0.7 * z.mean(0) + 0.3 * other.mean(0)
    var = 0.7 * z.var(0, correction=0) + 0.3 * other.var(0, correction=0)
    other.requires_grad_()
    y, moments = passed(norm, other, running)
    torch.testing.assert_close(y, 2 * (other - mean) / (var + fixes.EPS).sqrt() + 3)
    torch.testing.assert_close(running.update(moments).var, var.detach())
    (dz,) = torch.autograd.grad(y, other, dy)
    torch.testing.assert_close(dz, (2 * dy / (var + fixes.EPS).sqrt()).detach())


def test_the_penalty_by_hand():
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 2.0], [6.0, 2.0]], dtype=torch.float64)
    assert fixes.penalized(z).item() == pytest.approx((9 + 2.5**2 + 1) / 2)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_repair_standardizes_every_layer(activation):
    net, x = fixes.network({}, activation), torch.rand(3, 50, 64, dtype=torch.float64)
    state = start(net, range(3), [2.0] * 3, dtype=torch.float64)
    params = {n: p + torch.rand_like(p) if n.endswith(("gamma", "beta")) else p for n, p in state.params.items()}
    before = {name: p.clone() for name, p in params.items()}
    fixes.repair(net, params, x)
    found = seen(net, State(params, {}), x)
    for path in net.affine[:-1]:
        torch.testing.assert_close(found[path].mean(2), torch.zeros(3, 100, dtype=torch.float64))
        torch.testing.assert_close(found[path].var(2, correction=0), torch.ones(3, 100, dtype=torch.float64))
        # What a unit responds to stays: its weights keep their direction.
        turned = torch.cosine_similarity(params[f"{path}.weight"], before[f"{path}.weight"], -1)
        torch.testing.assert_close(turned, torch.ones_like(turned))


def test_the_plain_way_is_bnlibs_training():
    histories = train(
        [Run(net=mlp(activation="tanh"), gain=1.5, seed=seed, lr=0.3, steps=12) for seed in range(2)],
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
    torch.testing.assert_close(ACTIVATIONS["sigmoid - 1/2"](z), torch.sigmoid(z) - 0.5)
    torch.testing.assert_close(ACTIVATIONS["tanh + 1"](z), torch.tanh(z) + 1)


def test_what_is_undone_by_hand():
    before = [torch.tensor([[0.0, 0.0], [1.0, 1.0]])]
    stepped = [torch.tensor([[3.0, 4.0], [1.0, 2.0]])]
    repaired = [torch.tensor([[0.0, 4.0], [1.0, 1.0]])]
    dot, step, correction = fixes.against(before, stepped, repaired).unbind(1)
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
    digits, net = load("digits", 0), fixes.network({}, "tanh")
    x, y = torch.tensor(digits.x_train)[None], torch.tensor(digits.y_train)
    params = start(net, [0], [1.5], dtype=torch.float64).params
    if "repair" in way:
        fixes.repair(net, params, x)
    learned = [name for name in params if "learn" not in way or name.endswith(("weight", "bias"))]
    for _, rows in zip(range(4), batches(x.shape[1], 60, 0), strict=False):
        leaves = {name: p.detach().requires_grad_(name in learned) for name, p in params.items()}
        logits = by_hand({name: p[0] for name, p in by_layer(leaves).items()}, x[0, rows])
        grads = torch.autograd.grad(cross_entropy(logits, y[rows]), [leaves[name] for name in learned])
        params = params | {name: params[name] - 0.3 * g for name, g in zip(learned, grads, strict=True)}
    biases = torch.cat([params[f"{path}.bias"].flatten() for path in net.affine[:-1]])
    ended = fixes.ended(way=way, lr=0.3, steps=4, **HOW)
    assert ended["bias end"][0] == pytest.approx(biases.square().mean().sqrt().item(), rel=1e-9)


def by_hand(p: dict[str, torch.Tensor], h: torch.Tensor) -> torch.Tensor:
    for i in range(fixes.LAYERS):
        h = torch.tanh(p[f"gamma{i}"] * (h @ p[f"weight{i}"].T + p[f"bias{i}"]) + p[f"beta{i}"])
    return h @ p["weight3"].T + p["bias3"]


def test_a_network_that_breaks_counts_as_wrong():
    values = fixes.ended(way={"penalty": 1e6}, lr=10.0, steps=5, **HOW)
    assert values["test"] == values["val"] == [0.0, 0.0]


# What the comparisons run

RAW: dict[str, Any] = {"activation": "tanh", "gain": 1.5, "batch": 60, "data": "digits", "inputs": "raw"}
TAKEN: dict[str, Any] = {**RAW, "dtype": "float64"}
RUNS = [{"seed": seed, "lr": 0.3} for seed in range(2)]


@pytest.mark.parametrize(
    "way",
    [
        {"learn": ["weight", "bias"]},
        {"repair": "always"},
        {"normalize": "averages", "momentum": 0.1},
        {"normalize": "batch", "cut": ["mean"]},
    ],
    ids=str,
)
def test_what_is_taken_is_what_the_experiments_take(way):
    found, ended = fixes.taken(way=way, runs=RUNS, steps=4, **TAKEN), fixes.ended(way=way, lr=0.3, steps=4, **HOW)
    for name in ("val", "test", "remains"):
        np.testing.assert_allclose(found[name], ended[name], rtol=1e-9, atol=1e-12)
    assert ("growth" in found) == ("cut" in way)
    if "cut" in way:
        np.testing.assert_allclose(found["growth"], np.divide(ended["bias end"], ended["bias half"]), rtol=1e-9)
    if "repair" in way:
        layers = np.stack([found[f"undone {i}"] for i in (1, 2, 3)], 1)
        np.testing.assert_allclose(layers, ended["undone"], rtol=1e-9)


def test_steps_are_counted_until_all_are_there():
    way = {"learn": ["weight", "bias"]}
    ended = fixes.ended(way=way, lr=0.3, steps=30, **HOW)["steps_to"]
    found = fixes.taken(way=way, runs=RUNS, steps=30, every=list(range(1, 31)), until=HOW["target"], **TAKEN)
    assert found["steps_to"] == ended
    assert max(ended) < 30


def test_other_data_and_centred_inputs_are_taken():
    runs = [{"seed": 3, "lr": 0.1, "gain": 2.0}]
    how = {**TAKEN, "data": "mnist 14x14", "inputs": "centred"}
    found = fixes.taken(way={"learn": ["weight", "bias"]}, runs=runs, steps=1, **how)
    net = mlp((196,), (100,) * 3, activation="tanh")
    own = [Run(net=net, seed=3, lr=0.1, gain=2.0, steps=1, data=how["data"], inputs="centred")]
    (history,) = train(own, dtype=torch.float64)
    assert found["test"] == [history.test_accuracy]


def test_the_share_of_all_layers_is_that_of_one_vector():
    #                     step times correction, step times step, correction times correction, of two layers
    first, second = (
        [[[-9.0, -1.0], [10.0, 1.0], [9.0, 1.0]], [[-3.0, 0.0], [2.0, 3.0], [5.0, 1.0]]],
        np.zeros((2, 3, 2)),
    )
    histories: Any = [SimpleNamespace(noted={"against": np.array(first)})]
    assert fixes.undone(histories) == {"undone": [13 / 16], "undone 1": [1.0], "undone 2": [0.25]}
    second[:, 1] = 1.0
    histories.append(SimpleNamespace(noted={"against": second}))
    assert fixes.undone(histories)["undone"] == [13 / 16, 0.0]


def test_a_penalty_is_the_runs_and_is_scored_by_what_is_aimed_at():
    runs = [{**run, "penalty": 0.1} for run in RUNS]
    ended = fixes.ended(way={"penalty": 0.1}, lr=0.3, steps=8, **HOW)
    for aim, least in (("accuracy", 0.0), ("small rest", max(ended["val"]))):
        found = fixes.pulled(aim=aim, least=least, runs=runs, steps=8, **TAKEN)
        np.testing.assert_allclose(found["remains"], ended["remains"], rtol=1e-9)
        rest = [1 / (1 + r) if v >= least else 0.0 for v, r in zip(ended["val"], ended["remains"], strict=True)]
        np.testing.assert_allclose(found["scored"], ended["val"] if aim == "accuracy" else rest, rtol=1e-9)
    assert min(rest) == 0.0 < max(rest)
    runs = [{**run, "penalty": size} for run in RUNS for size in (0.1, 1.0)]
    mixed = fixes.pulled(aim="accuracy", least=0.0, runs=runs, steps=8, **TAKEN)
    for i, size in enumerate((0.1, 1.0)):
        alone = fixes.ended(way={"penalty": size}, lr=0.3, steps=8, **HOW)
        np.testing.assert_allclose(mixed["remains"][i::2], alone["remains"], rtol=1e-9)


def test_beside_the_best_rate_the_pick_is_that_of_the_whole_gradient():
    cut, how = {"normalize": "batch", "cut": ["mean"]}, {"steps": 8, **TAKEN, "activation": "relu"}
    whole = fixes.taken(way=fixes.WHOLE, runs=RUNS, **how)
    moved = fixes.taken(way=cut, runs=[{**run, "lr": 3.0} for run in RUNS], **how)
    found = fixes.beside(way=cut, off=1.0, runs=RUNS, **how)
    assert found["val"] == whole["val"] != moved["val"]
    assert found["test"] == moved["test"] != whole["test"]
    assert fixes.beside(way=fixes.WHOLE, off=0.0, runs=RUNS, **how) == whole


def test_both_cut_stands_once_and_not_as_a_momentum_of_one():
    ways = [how["way"] for _, how in fixes.gradients.cases(**fixes.gradients.settings)]
    assert {"normalize": "batch", "cut": ["mean", "variance"]} in ways
    assert all(0 < way.get("momentum", 0.5) < 1 for way in ways)
