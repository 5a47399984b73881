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

HOW: dict[str, Any] = {
    "activation": "tanh", "gain": 1.5, "batch": 60, "data": "digits", "inputs": "raw", "dtype": "float64",
}  # fmt: skip
RUNS = [{"seed": seed, "lr": 0.3} for seed in range(2)]


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
    own = [Run(net=mlp(activation="tanh"), gain=1.5, seed=seed, lr=0.3, steps=30) for seed in range(2)]
    histories = train(own, dtype=torch.float64)
    way = {"learn": ["weight", "bias"]}
    values = fixes.taken(way=way, runs=RUNS, steps=30, **HOW)
    assert values["test"] == [h.test_accuracy for h in histories]
    assert values["val"] == [h.val_accuracy[-1] for h in histories]
    values = fixes.taken(way=way, runs=RUNS, steps=30, every=list(range(1, 31)), until=0.5, **HOW)
    assert values["steps_to"] == [h.steps_to(0.5) for h in histories]
    assert max(values["steps_to"]) < 30


def test_batch_norm_is_judged_by_the_whole_training_set():
    runs = [{**run, "lr": 0.0} for run in RUNS]
    values = fixes.taken(way=fixes.WHOLE, runs=runs, steps=1, **HOW)
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


def test_averages_of_momentum_1_are_batch_norm_with_both_paths_cut():
    ways = {"normalize": "averages", "momentum": 1.0}, {"normalize": "batch", "cut": ["mean", "variance"]}
    ones, cut = (fixes.taken(way=way, runs=RUNS, steps=12, **HOW) for way in ways)
    np.testing.assert_allclose(ones["remains"], cut["remains"], rtol=1e-9)
    assert ones["test"] == cut["test"]


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
    found = fixes.histories(way={"repair": "always"}, runs=RUNS, steps=3, **HOW)
    assert all(h.noted["against"].shape == (3, 3, fixes.LAYERS) for h in found)  # of each step
    values = fixes.taken(way={"repair": "always"}, runs=RUNS, steps=3, **HOW)
    assert values == fixes.taken(way={"repair": "always"}, runs=RUNS, steps=3, **HOW)
    dot, step, _ = found[1].noted["against"].sum(0)
    assert [values[f"undone {i + 1}"][1] for i in range(fixes.LAYERS)] == pytest.approx(list(-dot / step))
    assert max(values["remains"]) < 1e-9


def test_a_repair_at_the_start_and_learned_gamma_and_beta_are_crossed():
    ways = {
        (labels["learned"], labels["repaired"]): case["way"]
        for labels, case in fixes.at_start.cases(**fixes.at_start.settings)
    }
    assert len(ways) == 4
    for (learned, repaired), way in ways.items():
        assert way.get("repair") == ("start" if repaired else None)
        assert ("learn" not in way) == learned  # what is not named is learned: all


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("repaired", [False, True])
def test_each_start_is_trained_by_plain_steps(learned, repaired):
    way: dict[str, Any] = ({} if learned else {"learn": ["weight", "bias"]}) | ({"repair": "start"} if repaired else {})
    digits, net = load("digits", 0), fixes.network({}, "tanh")
    x, y = torch.tensor(digits.x_train)[None], torch.tensor(digits.y_train)
    params = start(net, [0], [1.5], dtype=torch.float64).params
    if repaired:
        fixes.repair(net, params, x)
    moved = [name for name in params if learned or name.endswith(("weight", "bias"))]
    for _, rows in zip(range(4), batches(x.shape[1], 60, 0), strict=False):
        leaves = {name: p.detach().requires_grad_(name in moved) for name, p in params.items()}
        logits = by_hand({name: p[0] for name, p in by_layer(leaves).items()}, x[0, rows])
        grads = torch.autograd.grad(cross_entropy(logits, y[rows]), [leaves[name] for name in moved])
        params = params | {name: params[name] - 0.3 * g for name, g in zip(moved, grads, strict=True)}
    biases = torch.cat([params[f"{path}.bias"].flatten() for path in net.affine[:-1]])
    ended = fixes.histories(way=way, runs=RUNS[:1], steps=4, **HOW)
    assert ended[0].noted["bias end"][0] == pytest.approx(biases.square().mean().sqrt().item(), rel=1e-9)


def by_hand(p: dict[str, torch.Tensor], h: torch.Tensor) -> torch.Tensor:
    for i in range(fixes.LAYERS):
        h = torch.tanh(p[f"gamma{i}"] * (h @ p[f"weight{i}"].T + p[f"bias{i}"]) + p[f"beta{i}"])
    return h @ p["weight3"].T + p["bias3"]


def test_a_network_that_breaks_counts_as_wrong():
    values = fixes.taken(way={"penalty": 1e6}, runs=[{**run, "lr": 10.0} for run in RUNS], steps=5, **HOW)
    assert values["test"] == values["val"] == [0.0, 0.0]


@pytest.mark.parametrize("cut", [None, "mean", "variance"])
def test_how_biases_grow_is_told_where_the_mean_is_cut(cut):
    way = {**fixes.WHOLE, "cut": [] if cut is None else [cut]}
    values = fixes.taken(way=way, runs=RUNS, steps=4, **HOW)
    assert ("growth" in values) == (cut == "mean")
    if cut == "mean":
        half, end = (
            [h.noted["bias end"][0] for h in fixes.histories(way=way, runs=RUNS, steps=steps, **HOW)]
            for steps in (2, 4)
        )
        np.testing.assert_allclose(values["growth"], np.divide(end, half))


def test_other_data_and_centred_inputs_are_taken():
    runs = [{"seed": 3, "lr": 0.1, "gain": 2.0}]
    how = {**HOW, "data": "mnist 14x14", "inputs": "centred"}
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
    ended = fixes.taken(way={"penalty": 0.1}, runs=RUNS, steps=8, **HOW)
    rest: list[float] = []
    for aim, least in (("accuracy", 0.0), ("small rest", max(ended["val"]))):
        found = fixes.pulled(aim=aim, least=least, runs=runs, steps=8, **HOW)
        assert found["remains"] == ended["remains"]
        rest = [1 / (1 + r) if v >= least else 0.0 for v, r in zip(ended["val"], ended["remains"], strict=True)]
        assert found["scored"] == (ended["val"] if aim == "accuracy" else rest)
    assert min(rest) == 0.0 < max(rest)
    runs = [{**run, "penalty": size} for run in RUNS for size in (0.1, 1.0)]
    mixed = fixes.pulled(aim="accuracy", least=0.0, runs=runs, steps=8, **HOW)
    for i, size in enumerate((0.1, 1.0)):
        alone = fixes.taken(way={"penalty": size}, runs=RUNS, steps=8, **HOW)
        np.testing.assert_allclose(mixed["remains"][i::2], alone["remains"], rtol=1e-9)


def test_beside_the_best_rate_the_pick_is_that_of_the_whole_gradient():
    cut, how = {"normalize": "batch", "cut": ["mean"]}, {"steps": 8, **HOW, "activation": "relu"}
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
