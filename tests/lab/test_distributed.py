"""Ranks in real processes have the statistics and gradients of one process with the whole batch."""

import pytest
import ranks
import torch
from ranks import Case, Done, Passed, Trained, Work
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import mse_loss

from bnlib.lab.bridge import normalized
from bnlib.lab.distributed import SyncBatchNorm, convert, shard_step, synchronized
from bnlib.lab.launch import launch
from bnlib.norms import batch_layout

N = 23
SIZES = {2: [16, 7], 4: [9, 1, 8, 5]}
# Of an error, relative to the largest value; half precision is rounded once.
LARGEST = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8}


def work(count: int) -> Work:
    """The same batches, whatever the number of ranks."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def case(*shape: int, scale: float = 2, shift: float = 3) -> Case:
        x = shift * random(shape[1]).reshape(-1, *[1] * (len(shape) - 2)) + scale * random(*shape)
        return Case(x, 1 + random(shape[1]), random(shape[1]), random(*shape), SIZES[count])

    cases = {
        "vectors": case(N, 4),
        "sequences": case(N, 2, 5),
        "images": case(N, 3, 2, 4)._replace(eps=0.1),
        "far from zero": case(N, 3, shift=1e4, scale=1),
        "another axis": Case(
            random(2, N, 3), random(2, 1, 3), random(2, 1, 3), random(2, N, 3), sizes=SIZES[count], axis=1
        ),
    }
    for dtype in (torch.float16, torch.bfloat16):  # the parameters stay float32, as in mixed precision
        x, gamma, beta, dy, sizes, *_ = case(N, 3, 2, 4, shift=100, scale=2)
        cases[f"far from zero, {dtype}"] = Case(x.to(dtype), gamma.float(), beta.float(), dy.to(dtype), sizes)
    drift = random(N, 4)
    cases["parts that differ"] = cases["vectors"]._replace(x=drift + 5 * torch.arange(N)[:, None])
    for name in ("images", "far from zero"):
        *tensors, sizes, axis, eps = cases[name]
        x, gamma, beta, dy = (t.float() for t in tensors)
        cases[f"{name}, float32"] = Case(x, gamma, beta, dy, sizes, axis, eps)
    x, dy, sizes = random(N, 6), random(N, 5), SIZES[count]
    parts = sizes if count == 2 else [8, 5, 7, 3]  # without synchronization each rank needs two examples
    step = (x.split(parts), random(5, 6), random(5), random(5), dy.split(parts))
    images = tuple(k + (1 + k) * random(N, 3, 2, 2) for k in range(3))
    return Work(cases, step, images, random(N, 6), random(N, 2), sizes)


@pytest.fixture(scope="module", params=[2, 4])
def done(request: pytest.FixtureRequest) -> tuple[Work, list[Done]]:
    given = work(request.param)
    return given, launch(ranks.everything, request.param, given, timeout=120)


def assert_equal(got: Tensor, want: Tensor, worse: float = 1.0) -> None:
    assert got.shape == want.shape
    assert (got.double() - want.double()).abs().max() <= worse * LARGEST.get(got.dtype, 0) * want.abs().max()


def whole(case: Case) -> Passed:
    """One process with the whole batch, by torch's own batch norm in float64."""
    x, gamma, beta, dy = (t.double() for t in (case.x, case.gamma, case.beta, case.dy))
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    axes = case.layout(x).axes
    if case.axis == 0:
        y = nn.functional.batch_norm(x, None, None, gamma, beta, True, eps=case.eps)
    else:
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = gamma * (x - mean) / (var + case.eps).sqrt() + beta
    var, mean = torch.var_mean(x.detach(), axes, correction=0)
    return Passed(y.detach(), mean, var, x.numel() // mean.numel(), *torch.autograd.grad(y, leaves, dy))


@pytest.mark.parametrize("name", work(2).cases)
def test_outputs_moments_and_gradients_are_those_of_the_whole_batch(done, name: str):
    given, results = done
    case, parts = given.cases[name], [result.passed[name] for result in results]
    want = whole(case)
    # A mean of 1e4 standard deviations is itself rounded to 1e-12 of one, in torch's reference as well.
    worse = 10.0 if name == "far from zero" else 1.0
    assert_equal(torch.cat([p.y for p in parts], case.axis), want.y, worse)
    assert_equal(torch.cat([p.dx for p in parts], case.axis), want.dx, worse)
    assert_equal(torch.stack([p.dgamma for p in parts]).sum(0), want.dgamma, worse)
    assert_equal(torch.stack([p.dbeta for p in parts]).sum(0), want.dbeta)
    for p in parts:
        assert_equal(p.mean, want.mean)
        assert_equal(p.var, want.var)
        assert p.values == want.values
        assert {t.dtype for t in (p.y, p.dx)} == {case.x.dtype}
        assert {t.dtype for t in (p.mean, p.var, p.dgamma, p.dbeta)} == {case.gamma.dtype}


def test_all_ranks_have_the_same_statistics_to_the_last_bit(done):
    given, results = done
    for name in given.cases:
        first, *others = (result.passed[name] for result in results)
        assert all(torch.equal(o.mean, first.mean) and torch.equal(o.var, first.var) for o in others)


def test_a_step_of_the_shards_is_that_of_the_whole_batch(done):
    given, results = done
    x_parts, weight, gamma, beta, dy_parts = given.step
    leaves = [t.clone().requires_grad_() for t in (torch.cat(x_parts), weight, gamma, beta)]
    x, weight, gamma, beta = leaves
    mean, var = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    y = nn.functional.batch_norm(x @ weight.T, mean, var, gamma, beta, True)
    dx, *grads = torch.autograd.grad(y, leaves, torch.cat(dy_parts))
    assert_equal(torch.cat([result.step.y for result in results]), y.detach())
    assert_equal(torch.cat([result.step.dx for result in results]), dx)
    for result in results:
        for got, want in zip(result.step[1:3] + result.step[4:], (mean, var, *grads), strict=True):
            assert_equal(got, want)


def test_outside_of_any_group_a_step_takes_the_whole_batch(done):
    given, results = done
    x_parts, weight, gamma, beta, dy_parts = given.step
    alone = shard_step(0, [torch.cat(x_parts)], weight, gamma, beta, [torch.cat(dy_parts)], sync=False)
    assert_equal(torch.cat([result.step.dx for result in results]), alone.dx)
    for got, want in zip(results[0].step[1:3] + results[0].step[4:], alone[1:3] + alone[4:], strict=True):
        assert_equal(got, want)


def test_without_synchronization_the_ranks_differ(done):
    _, results = done
    for rank, result in enumerate(results[1:], 1):
        assert (result.alone.running_mean - results[0].alone.running_mean).abs().max() > 1e-3, rank
    together, alone = results[0].step, results[0].alone
    for name in ("y", "running_mean", "running_var", "dx", "dweight", "dgamma"):
        assert (getattr(together, name) - getattr(alone, name)).abs().max() > 1e-3, name
    assert_equal(alone.dbeta, together.dbeta)  # the sum of dy, whatever the statistics
    assert torch.equal(alone.dweight, results[1].alone.dweight)  # added up over the ranks


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_those_of_torch_on_the_whole_batch(done, momentum: float | None):
    given, results = done
    norm = nn.BatchNorm2d(3, momentum=momentum).double()
    for x in given.images:
        norm(x)
    for result in results:
        assert_same_state(result.layers[momentum], norm, given.images[0])


def test_a_network_under_ddp_takes_the_steps_of_one_process(done):
    given, results = done
    if len(results) == 4:
        assert [result.network for result in results] == [None] * 4
        return
    model = ranks.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = mse_loss(model(given.inputs), given.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    assert torch.tensor([r.network.losses for r in results]).mean(0).tolist() == pytest.approx(losses, rel=1e-6)
    for result in results:
        assert_same_state(result.network, model, given.inputs)


def assert_same_state(got: Trained, model: nn.Module, x: Tensor) -> None:
    want = model.state_dict()
    assert got.state.keys() == want.keys()
    for name, tensor in want.items():
        assert_equal(got.state[name], tensor)
    assert_equal(got.judged, model.eval()(x).detach())


def test_data_without_a_gradient_leave_those_of_gamma_and_beta(done):
    given, results = done
    _, *_, dgamma, dbeta = whole(given.cases["vectors"])
    for got, want in zip(zip(*(result.constant for result in results), strict=True), (dgamma, dbeta), strict=True):
        assert_equal(torch.stack(got).sum(0), want)


def test_a_group_shares_among_its_own_ranks(done):
    given, results = done
    if len(results) == 2:
        assert [result.pairs for result in results] == [None, None]
        return
    want = whole(given.cases["vectors"])
    for a, b in (results[:2], results[2:]):
        assert_equal(torch.cat([a.pairs.y, b.pairs.y]), want.y)
        assert_equal(torch.cat([a.pairs.dx, b.pairs.dx]), want.dx)
        assert a.pairs.values == want.values


def test_bad_input_is_named_in_the_rank(done):
    _, results = done
    for said in (result.errors for result in results):
        assert "x has shape (5, 4), but this layer has 3 channels" in said["channels"]
        assert "x has shape (3,), but this layer has 3 channels" in said["axes"]
        assert said["last"].endswith("pass x.movedim(-1, 1), and move the result back by y.movedim(1, -1)")
        assert "x is a ndarray: pass a tensor" in said["array"]
        assert "holds torch.int64" in said["integers"]
        assert "gamma has shape (4,)" in said["gamma"]
        assert "eps is -1.0" in said["eps"]
        assert said["empty"] == "ValueError: rank 1 holds no values: give every rank at least one example"
        for name in ("twice", "linear twice"):
            assert said[name].startswith("RuntimeError: synchronized statistics cannot be differentiated twice"), name


def test_a_rank_computes_with_one_thread(done):
    assert [result.threads for result in done[1]] == [1] * len(done[1])


def test_without_a_group_the_error_names_the_remedy():
    x, one = torch.randn(5, 3), torch.ones(3)
    for attempt in (
        lambda: synchronized(x, one, one, batch_layout((5, 3))),
        lambda: SyncBatchNorm(3)(x),
    ):
        with pytest.raises(RuntimeError, match=r"launch\.launch, or call torch\.distributed\.init_process_group"):
            attempt()


def test_a_converted_network_keeps_what_it_has_learned():
    model = ranks.network()
    x = torch.randn(9, 6, dtype=torch.float64)
    model(x)
    before, names, parameters = model.eval()(x), list(model.state_dict()), list(model.parameters())
    assert convert(model) is model
    assert [type(m) for m in model if not isinstance(m, nn.Linear | nn.Tanh)] == [SyncBatchNorm] * 2
    assert_equal(model(x).detach(), before.detach())
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert not model[1].training


def test_what_convert_takes_and_leaves():
    images, volumes = nn.BatchNorm2d(3, eps=0.5, momentum=None), nn.BatchNorm3d(3)
    new = convert(images)
    assert isinstance(new, SyncBatchNorm)
    assert (new.eps, new.momentum, new.training) == (0.5, None, True)
    assert convert(volumes) is volumes
    for bad in (nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3, track_running_stats=False)):
        with pytest.raises(ValueError, match="no weights or no running statistics"):
            convert(nn.Sequential(bad))


@pytest.mark.parametrize("shape", [(5, 3), (15,)])
def test_y_may_be_changed_in_place(tmp_path, shape: tuple[int, ...]):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)  # pyright: ignore
    try:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        one, layout = torch.ones(3), batch_layout((5, 3))
        y, want = (norm(x, one, 0 * one, layout)[0] for norm in (synchronized, normalized))
        y, want = torch.nn.functional.relu(y, inplace=True), want.relu()
        torch.testing.assert_close(y, want)
        torch.testing.assert_close(*(torch.autograd.grad(a.square().sum(), x)[0] for a in (y, want)))
    finally:
        dist.destroy_process_group()
