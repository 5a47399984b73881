import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnlib.norms import Moments, batch_norm, layer_norm
from bnlib.running import RunningStats, batch_norm_inference, fold, pooled

SHAPES = [(12, 3), (6, 3, 5), (4, 3, 5, 2)]
TORCH_NORMS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments_of(x):
    axes = (0, *range(2, x.ndim))
    return Moments(x.mean(axes), x.var(axes), x.size // x.shape[1])


def some_stats(rng, channels=3, **kw):
    return RunningStats(rng.normal(size=channels), rng.uniform(0.5, 2, size=channels), **kw)


def some_params(rng, channels=3):
    return rng.normal(size=channels), rng.normal(size=channels)


# Closed forms


def test_starts_like_pytorch():
    stats = RunningStats.start(2)
    np.testing.assert_array_equal(stats.mean, [0, 0])
    np.testing.assert_array_equal(stats.var, [1, 1])
    assert (stats.steps, stats.momentum, stats.unbiased) == (0, 0.1, True)


def test_closed_form_after_one_and_two_updates():
    first = Moments(np.array([10.0, -2.0]), np.array([4.0, 9.0]), 5)
    second = Moments(np.array([20.0, 6.0]), np.array([8.0, 1.0]), 3)
    one = RunningStats.start(2, momentum=0.25).update(first)
    np.testing.assert_allclose(one.mean, [2.5, -0.5], rtol=1e-15)
    np.testing.assert_allclose(one.var, [0.75 + 0.25 * 5.0, 0.75 + 0.25 * 11.25], rtol=1e-15)
    two = one.update(second)
    np.testing.assert_allclose(two.mean, [0.75 * 2.5 + 5, 0.75 * -0.5 + 1.5], rtol=1e-15)
    np.testing.assert_allclose(two.var, [0.75 * 2.0 + 0.25 * 12, 0.75 * 3.5625 + 0.25 * 1.5], rtol=1e-15)
    assert (one.steps, two.steps) == (1, 2)


def test_biased_variance_is_averaged_as_it_is():
    one = RunningStats.start(1, momentum=0.5, unbiased=False).update(Moments(np.array([0.0]), np.array([3.0]), 2))
    np.testing.assert_allclose(one.var, [2.0], rtol=1e-15)


def test_cumulative_average_forgets_the_start():
    stats = RunningStats.start(1, momentum=None, unbiased=False)
    for mean, var in [(1.0, 2.0), (4.0, 5.0), (7.0, 11.0)]:
        stats = stats.update(Moments(np.array([mean]), np.array([var]), 4))
    np.testing.assert_allclose(stats.mean, [4.0], rtol=1e-15)
    np.testing.assert_allclose(stats.var, [6.0], rtol=1e-15)


def test_momentum_none_is_the_average_not_zero():
    first = Moments(np.array([3.0]), np.array([4.0]), 8)
    assert RunningStats.start(1, momentum=0.0).update(first).mean == 0
    assert RunningStats.start(1, momentum=None).update(first).mean == 3


# Against PyTorch


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_agrees_with_pytorch(rng, shape, momentum):
    norm = TORCH_NORMS[len(shape)](3, momentum=momentum, dtype=torch.float64)
    gamma, beta = some_params(rng)
    norm.load_state_dict({"weight": torch.tensor(gamma), "bias": torch.tensor(beta)}, strict=False)
    stats = RunningStats.start(3, momentum=momentum)
    for _ in range(4):
        x = rng.normal(3, 2, size=shape)
        norm(torch.tensor(x))
        stats = stats.update(batch_norm(x, gamma, beta)[1].moments)
    np.testing.assert_allclose(stats.mean, norm.running_mean, rtol=1e-12)
    np.testing.assert_allclose(stats.var, norm.running_var, rtol=1e-12)
    assert stats.steps == norm.num_batches_tracked == 4

    norm.eval()
    x = rng.normal(3, 2, size=shape)
    y = batch_norm_inference(x, gamma, beta, stats, eps=norm.eps)
    np.testing.assert_allclose(y, norm(torch.tensor(x)).detach(), rtol=1e-12)


def test_tensors_pass_through_the_same_lines(rng):
    def run(stats, x, batch, weight, gamma, beta):
        moments = batch_norm(batch, gamma, beta)[1].moments
        stats = stats.update(pooled(moments, moments))
        return batch_norm_inference(x, gamma, beta, stats), *fold(weight, None, gamma, beta, stats)

    arrays = rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 6)), *some_params(rng)
    tensors = [torch.tensor(a) for a in arrays]
    got = run(RunningStats(torch.zeros(3).double(), torch.ones(3).double()), *tensors)
    for tensor, array in zip(got, run(RunningStats.start(3), *arrays), strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor, array, rtol=1e-12)


# The conventions: how much the batch of step i weighs after k updates, and which variance is averaged


def keras(old, mean, var, n, keep):
    return keep * old[0] + (1 - keep) * mean, keep * old[1] + (1 - keep) * var


def notes(old, mean, var, n, alpha):
    return alpha * mean + (1 - alpha) * old[0], alpha * var + (1 - alpha) * old[1]


def pytorch(old, mean, var, n, momentum):
    unbiased = var * n / (n - 1)
    return (1 - momentum) * old[0] + momentum * mean, (1 - momentum) * old[1] + momentum * unbiased


@pytest.mark.parametrize(
    ("convention", "theirs", "ours", "unbiased"),
    [
        pytest.param(pytorch, 0.1, 0.1, True, id="PyTorch"),
        pytest.param(keras, 0.99, 0.01, False, id="Keras"),
        pytest.param(keras, 0.9, 0.1, False, id="Keras at PyTorch's default"),
        pytest.param(notes, 0.1, 0.1, False, id="alpha"),
    ],
)
def test_conventions(rng, convention, theirs, ours, unbiased):
    k, n = 7, 6
    batches = [rng.normal(2, 3, size=(n, 2)) for _ in range(k)]
    stats, old = RunningStats.start(2, momentum=ours, unbiased=unbiased), (np.zeros(2), np.ones(2))
    for x in batches:
        stats = stats.update(moments_of(x))
        old = convention(old, x.mean(0), x.var(0), n, theirs)

    weights = ours * (1 - ours) ** np.arange(k - 1, -1, -1)  # geometric: the newest batch weighs most
    left = (1 - ours) ** k  # of the start, mean 0 and variance 1
    mean = weights @ np.array([x.mean(0) for x in batches])
    var = left + weights @ np.array([x.var(0, ddof=int(unbiased)) for x in batches])
    for got in ((stats.mean, stats.var), old):
        np.testing.assert_allclose(got[0], mean, rtol=1e-12)
        np.testing.assert_allclose(got[1], var, rtol=1e-12)


# Shards


@pytest.mark.parametrize("cuts", [[], [5], [1, 4, 9]])
def test_shards_pool_to_the_whole(rng, cuts):
    x = rng.normal(2, 3, size=(12, 4, 2))
    whole, merged = moments_of(x), pooled(*(moments_of(part) for part in np.split(x, cuts)))
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.var, whole.var, rtol=1e-13)
    assert merged.count == whole.count == 24
    assert type(merged.count) is int


def test_pooling_keeps_digits_at_large_means(rng):
    x = rng.normal(size=(64, 3)) + 1e8
    merged = pooled(*(moments_of(part) for part in np.split(x, [10, 30])))
    np.testing.assert_allclose(merged.var, x.var(0), rtol=1e-6)


# Folding


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "weight_shape", "x_shape"),
    [
        pytest.param(F.linear, (3, 5), (7, 5), id="linear"),
        pytest.param(F.conv1d, (3, 2, 3), (4, 2, 6), id="conv1d"),
        pytest.param(F.conv2d, (3, 2, 3, 2), (4, 2, 6, 5), id="conv2d"),
    ],
)
def test_a_folded_layer_is_the_layer_and_its_norm(rng, layer, weight_shape, x_shape, with_bias):
    weight, bias = rng.normal(size=weight_shape), rng.normal(size=3) if with_bias else None
    (gamma, beta), stats = some_params(rng), some_stats(rng)
    x = torch.tensor(rng.normal(size=x_shape))
    z = layer(x, torch.tensor(weight), None if bias is None else torch.tensor(bias))
    running = torch.tensor(stats.mean), torch.tensor(stats.var)
    theirs = F.batch_norm(z, *running, torch.tensor(gamma), torch.tensor(beta), eps=1e-3)
    folded = layer(x, *map(torch.tensor, fold(weight, bias, gamma, beta, stats, eps=1e-3)))
    np.testing.assert_allclose(batch_norm_inference(z.numpy(), gamma, beta, stats, eps=1e-3), theirs, rtol=1e-12)
    np.testing.assert_allclose(folded, theirs, rtol=1e-12, atol=1e-13)


# Values


def test_nothing_mutates(rng):
    (gamma, beta), stats, weight, bias = some_params(rng), some_stats(rng), rng.normal(size=(3, 5)), rng.normal(size=3)
    x, batch = rng.normal(size=(4, 3)), moments_of(rng.normal(size=(4, 3)))
    arrays = [gamma, beta, stats.mean, stats.var, weight, bias, x, batch.mean, batch.var]
    before = [a.copy() for a in arrays]
    stats.update(batch)
    pooled(batch, batch)
    batch_norm_inference(x, gamma, beta, stats)
    fold(weight, bias, gamma, beta, stats)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(AttributeError):
        stats.steps = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("stats_dtype", [np.float32, np.float64])
def test_float32_stays_float32(rng, stats_dtype):
    stats = RunningStats.start(3, dtype=stats_dtype)
    stats = stats.update(moments_of(rng.normal(size=(8, 3)).astype(np.float32)))
    assert stats.mean.dtype == stats.var.dtype == stats_dtype
    x, weight = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    assert batch_norm_inference(x, *some_params(rng), stats).dtype == np.float32
    assert {a.dtype for a in fold(weight, rng.normal(size=3), *some_params(rng), stats)} == {np.dtype(np.float32)}


# Half precision, and other kinds of arrays


def in_half(a, dtype):
    """Values of half precision, as an array or a tensor, and the same in float64."""
    if dtype == "float16":
        half = a.astype(np.float16)
        return half, half.astype(float)
    half = torch.tensor(a).to(getattr(torch, dtype.removeprefix("torch.")))
    return half, half.double().numpy()


@pytest.mark.parametrize("dtype", ["float16", "torch.float16", "torch.bfloat16"])
def test_half_precision_is_computed_in_float32_and_rounded_once(rng, dtype):
    last = 2**-8 if "bfloat" in dtype else 2**-11
    stats, (gamma, beta) = some_stats(rng), some_params(rng)
    stats = RunningStats(100 + stats.mean, stats.var)
    for shape in SHAPES:
        x, exact = in_half(rng.normal(100, 1, size=shape), dtype)
        y = batch_norm_inference(x, gamma, beta, stats)
        assert (type(y), y.dtype) == (type(x), x.dtype)
        want = batch_norm_inference(exact, gamma, beta, stats)
        np.testing.assert_allclose(np.asarray(y if dtype == "float16" else y.double()), want, rtol=last, atol=1e-4)
    weight, exact = in_half(rng.normal(size=(3, 5)), dtype)
    for got, want in zip(fold(weight, None, gamma, beta, stats), fold(exact, None, gamma, beta, stats), strict=True):
        assert got.dtype == weight.dtype
        np.testing.assert_allclose(np.asarray(got if dtype == "float16" else got.double()), want, rtol=last, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "torch.float16", "torch.bfloat16"])
def test_running_statistics_of_half_precision_are_float32(rng, dtype):
    x, exact = in_half(rng.normal(100, 1, size=(64, 3)), dtype)
    (mean, _), (var, _) = in_half(np.zeros(3), dtype), in_half(np.ones(3), dtype)
    stats, want = RunningStats(mean, var, momentum=0.01), RunningStats.start(3, momentum=0.01)
    for _ in range(300):  # in half precision the mean would stop on its way, where a step is less than half a digit
        stats = stats.update(batch_norm(x, np.ones(3), np.zeros(3))[1].moments)
        want = want.update(moments_of(exact))
    assert {str(a.dtype).removeprefix("torch.") for a in (stats.mean, stats.var)} == {"float32"}
    np.testing.assert_allclose(stats.mean, want.mean, rtol=1e-5)
    np.testing.assert_allclose(stats.var, want.var, rtol=1e-4)
    merged = pooled(*[Moments(x[0], 0 * x[0], 1), Moments(x[1], 0 * x[1], 1)])
    assert str(merged.mean.dtype).removeprefix("torch.") == "float32"
    assert RunningStats.start(3, dtype=np.float16).mean.dtype == np.float32


def test_big_endian_arrays_are_ordinary_ones(rng):
    (gamma, beta), stats, x, w = some_params(rng), some_stats(rng), rng.normal(size=(4, 3)), rng.normal(size=(3, 5))
    turned = [a.astype(">f8") for a in (x, gamma, beta, stats.mean, stats.var, w)]
    other = RunningStats(turned[3], turned[4])
    y = batch_norm_inference(turned[0], turned[1], turned[2], other)
    assert y.dtype.isnative
    np.testing.assert_array_equal(y, batch_norm_inference(x, gamma, beta, stats))
    np.testing.assert_array_equal(
        fold(turned[5], None, turned[1], turned[2], other)[0], fold(w, None, gamma, beta, stats)[0]
    )
    batch = Moments(turned[3], turned[4], 8)
    np.testing.assert_array_equal(stats.update(batch).var, stats.update(Moments(stats.mean, stats.var, 8)).var)
    np.testing.assert_array_equal(pooled(batch, batch).mean, pooled(batch).mean)


def test_arrays_and_tensors_beside_each_other_are_converted(rng):
    (gamma, beta), stats, x = some_params(rng), some_stats(rng), rng.normal(size=(4, 3))
    want = batch_norm_inference(x, gamma, beta, stats)
    of_tensors = RunningStats(torch.tensor(stats.mean), torch.tensor(stats.var))
    got = batch_norm_inference(torch.tensor(x), gamma, beta, stats)
    assert isinstance(got, torch.Tensor)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_array_equal(batch_norm_inference(x, gamma, beta, of_tensors), want)
    batch = moments_of(x)
    updated = of_tensors.update(batch)
    assert isinstance(updated.mean, torch.Tensor)
    np.testing.assert_allclose(updated.var, stats.update(batch).var, rtol=1e-12)
    tensors = Moments(torch.tensor(batch.mean), torch.tensor(batch.var), batch.count)
    assert isinstance(stats.update(tensors).mean, np.ndarray)
    assert isinstance(pooled(batch, tensors).mean, np.ndarray)
    with pytest.raises(ValueError, match=r"mean is a tensor that autograd follows.*mean\.detach\(\)"):
        stats.update(Moments(torch.zeros(3, requires_grad=True), torch.ones(3), 8))


def test_lists_and_moments_in_place_of_statistics_do(rng):
    (gamma, beta), x = some_params(rng), rng.normal(size=(9, 3))
    stats = RunningStats([1.0, 2.0, 3.0], [1.0, 1.0, 4.0]).update(Moments([0, 1, 2], [1, 2, 3], 4))
    np.testing.assert_allclose(stats.mean, [0.9, 1.9, 2.9], rtol=1e-15)
    y, cache = batch_norm(x, gamma, beta)
    np.testing.assert_allclose(batch_norm_inference(x, gamma, beta, cache.moments), y, rtol=1e-12)
    weight = rng.normal(size=(3, 2))
    for got, want in zip(*(fold(w, None, gamma, beta, stats) for w in (weight.tolist(), weight)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_numbers_of_numpys_leave_float32_alone(rng):
    x = rng.normal(size=(6, 3)).astype(np.float32)
    moments = batch_norm(x, np.ones(3), np.zeros(3))[1].moments
    counted = Moments(moments.mean, moments.var, np.int64(6))  # pyright: ignore
    stats = RunningStats.start(3, momentum=np.float64(0.1), dtype=np.float32).update(counted)
    assert {stats.mean.dtype, stats.var.dtype, pooled(counted, counted).var.dtype} == {np.dtype(np.float32)}
    y = batch_norm_inference(x, np.ones(3), np.zeros(3), stats, eps=np.float64(1e-5))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(stats.var, RunningStats.start(3, dtype=np.float32).update(moments).var)


# Bad input


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan"), "0.1", True, np.array([0.1, 0.2])])
def test_rejects_a_momentum_that_is_none(momentum):
    said = "an array of shape" if isinstance(momentum, np.ndarray) else repr(momentum)
    with pytest.raises(ValueError, match=rf"momentum is {said}.*weight of the newest batch"):
        RunningStats.start(3, momentum=momentum)  # pyright: ignore


@pytest.mark.parametrize("channels", [-1, 3.0, (3,), True, None])
def test_rejects_channels_that_are_no_number_of_them(channels):
    with pytest.raises(ValueError, match=r"channels is .*: give their number, such as x\.shape\[1\]"):
        RunningStats.start(channels)


MASKED = np.ma.masked_array(np.ones(3), [True, False, False])
GOOD = Moments(np.zeros(3), np.ones(3), 4)
CACHE = batch_norm(np.eye(3), np.ones(3), np.zeros(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pooled([GOOD, GOOD]), r"shard 0 is a list of 2: pass Moments one by one, as pooled\(\*moments\) does"),  # pyright: ignore
        (lambda: pooled(GOOD, CACHE[1]), r"shard 1 is a Cache: pass its moments, cache\.moments"),  # pyright: ignore
        (lambda: pooled(CACHE), r"shard 0 is a tuple of 2: pass the moments of its cache, .*cache\.moments"),  # pyright: ignore
        (lambda: pooled((np.zeros(3), np.ones(3), 4)), r"shard 0 is a tuple of 3: pass .*Moments\(mean, var, count\)"),  # pyright: ignore
        (lambda: pooled(Moments(np.zeros(3), np.ones(3), 4.5)), r"shard 0 has count 4\.5: give the number of values"),  # pyright: ignore
        (lambda: pooled(Moments(MASKED, np.ones(3), 4)), r"mean of shape \(3,\) is a masked array"),
        (lambda: pooled(Moments(np.zeros(3), -np.ones(3), 4)), r"smallest value of var is -1, but a mean of squares"),
        (lambda: RunningStats.start(3).update(CACHE[1]), r"moments is a Cache: pass its moments, cache\.moments"),  # pyright: ignore
        (lambda: RunningStats.start(3).update(CACHE), r"moments is a tuple of 2: pass the moments of its cache"),  # pyright: ignore
        (lambda: RunningStats.start(3).update([GOOD]), r"moments is a list of 1: pass Moments one by one"),  # pyright: ignore
        (lambda: RunningStats.start(3).update(np.eye(3)), r"moments is an array of shape \(3, 3\): pass what a norm"),  # pyright: ignore
        (lambda: RunningStats.start(3).update(None), r"moments is None: pass what a norm cached"),  # pyright: ignore
        (
            lambda: RunningStats.start(3).update(layer_norm(np.eye(4, 3), np.ones(3), np.zeros(3))[1].moments),
            r"mean has shape \(4,\), but the statistics have 3 channels",
        ),
        (lambda: RunningStats.start(3).update(Moments(np.zeros(3), -np.ones(3), 4)), r"smallest value of var is -1"),
        (lambda: RunningStats(MASKED, np.ones(3)), r"mean of shape \(3,\) is a masked array.*\.filled\(value\)"),
        (lambda: RunningStats(np.zeros(3), -0.1 * np.ones(3)), r"smallest value of var is -0\.1"),
        (lambda: RunningStats(np.zeros(3, int), np.ones(3)), r"mean of shape \(3,\) holds int64: convert it to float"),
        (lambda: RunningStats.start(3, dtype=int), r"mean of shape \(3,\) holds int64: convert it to float"),
        (lambda: RunningStats(None, np.ones(3)), "mean is None: pass an array"),
    ],
)
def test_natural_slips_have_their_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rejects_moments_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"mean has shape \(2,\) and var \(3,\)"):
        RunningStats(np.zeros(2), np.ones(3))
    with pytest.raises(ValueError, match=r"mean has shape \(4,\).*3 channels: shape \(3,\)"):
        RunningStats.start(3).update(Moments(np.zeros(4), np.ones(4), 8))
    with pytest.raises(ValueError, match=r"var has shape \(1,\).*3 channels"):
        RunningStats.start(3).update(Moments(np.zeros(3), np.ones(1), 8))


def test_an_unbiased_variance_needs_two_values():
    single = Moments(np.zeros(3), np.zeros(3), 1)
    with pytest.raises(ValueError, match=r"count is 1.*larger batch or unbiased=False"):
        RunningStats.start(3).update(single)
    assert RunningStats.start(3, unbiased=False).update(single).steps == 1


def test_pooled_rejects():
    with pytest.raises(ValueError, match="no moments to pool"):
        pooled()
    with pytest.raises(ValueError, match=r"shard 1 has mean \(2,\).*shard 0 has mean \(3,\)"):
        pooled(Moments(np.zeros(3), np.ones(3), 4), Moments(np.zeros(2), np.ones(2), 4))
    with pytest.raises(ValueError, match=r"shard 0 has mean \(3,\) and var \(1,\)"):
        pooled(Moments(np.zeros(3), np.ones(1), 4))
    with pytest.raises(ValueError, match="shard 1 has count 0: leave empty shards out"):
        pooled(Moments(np.zeros(3), np.ones(3), 4), Moments(np.zeros(3), np.ones(3), 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((4, 2))}, r"x has shape \(4, 2\), 2 channels on axis 1, but the statistics have 3"),
        ({"x": np.zeros(3)}, r"x has shape \(3,\), but \(N, C\)"),
        ({"x": np.zeros((1, 3, 1, 1, 1))}, r"x has shape \(1, 3, 1, 1, 1\), but \(N, C\)"),
        ({"x": np.zeros((4, 3), dtype=int)}, r"x of shape \(4, 3\) holds int64: convert it to float"),
        ({"gamma": np.ones(2)}, r"gamma has shape \(2,\).*3 channels: shape \(3,\)"),
        ({"beta": np.ones((3, 1))}, r"beta has shape \(3, 1\).*3 channels: shape \(3,\)"),
        ({"x": np.ma.masked_array(np.zeros((4, 3)), np.eye(4, 3) > 0)}, r"x of shape \(4, 3\) is a masked array"),
        ({"gamma": MASKED}, r"gamma of shape \(3,\) is a masked array"),
        ({"gamma": None}, r"gamma is None: pass an array \(ones change nothing\)"),
        ({"beta": 1j * np.ones(3)}, r"beta of shape \(3,\) holds complex128"),
        ({"eps": -1e-5}, "eps is -1e-05, but it keeps a root away from zero: pass 0 or a small positive number"),
        ({"eps": None}, "eps is None, but"),
        ({"eps": "1e-5"}, "eps is '1e-5', but"),
        ({"eps": True}, "eps is True, but"),
        ({"eps": np.full(3, 1e-5)}, r"eps is an array of shape \(3,\), but"),
        ({"eps": torch.tensor(1e-5)}, r"eps is a tensor of shape \(\), but"),
        ({"stats": (np.zeros(3), np.ones(3))}, r"stats is a tuple of 2: pass running statistics, RunningStats\(mean"),
        (
            {"x": np.zeros((8, 5, 5, 3))},
            r"5 channels on axis 1.*Channels are axis 1: if yours are the last, pass np\.moveaxis\(x, -1, 1\)",
        ),
        ({"x": torch.zeros((8, 5, 3))}, r"if yours are the last, pass x\.movedim\(-1, 1\).* by y\.movedim\(1, -1\)"),
    ],
)
def test_inference_rejects(change, message):
    good = {"x": np.zeros((4, 3)), "gamma": np.ones(3), "beta": np.zeros(3), "stats": RunningStats.start(3)}
    batch_norm_inference(**good)
    with pytest.raises(ValueError, match=message):
        batch_norm_inference(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((2, 5))}, r"weight has shape \(2, 5\), 2 channels on axis 0, but the statistics have 3"),
        ({"weight": np.zeros(3)}, r"weight has shape \(3,\), but \(out, in\)"),
        ({"weight": np.zeros((3, 5), dtype=int)}, r"weight of shape \(3, 5\) holds int64"),
        ({"bias": np.zeros(5)}, r"bias has shape \(5,\).*3 channels"),
        ({"gamma": np.ones(1)}, r"gamma has shape \(1,\).*3 channels"),
        ({"beta": np.ones(1)}, r"beta has shape \(1,\).*3 channels"),
        ({"weight": np.ma.masked_array(np.ones((3, 2)), np.eye(3, 2) > 0)}, r"weight of shape \(3, 2\) is a masked"),
        ({"bias": MASKED}, r"bias of shape \(3,\) is a masked array"),
        ({"bias": ["a"] * 3}, r"bias of shape \(3,\) holds <U1"),
        ({"eps": -1e-5}, "eps is -1e-05, but it keeps a root away from zero"),
        ({"eps": np.full(3, 1e-5)}, r"eps is an array of shape \(3,\), but"),
        ({"stats": None}, "stats is None: pass running statistics"),
        ({"weight": np.zeros((2, 2, 5, 3))}, r"Channels are axis 0: if yours .* pass np\.moveaxis\(weight, -1, 0\)"),
        ({"weight": np.zeros((5, 3))}, r"if yours are the last, pass np\.moveaxis\(weight, -1, 0\)"),
    ],
)
def test_fold_rejects(change, message):
    good = {"weight": np.zeros((3, 5)), "bias": None, "gamma": np.ones(3), "beta": np.zeros(3)}
    good["stats"] = RunningStats.start(3)
    fold(**good)
    with pytest.raises(ValueError, match=message):
        fold(**(good | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0.5}, r"steps is 0\.5: give the number of batches seen"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": True}, "steps is True"),
        ({"steps": np.zeros(2, int)}, r"steps is an array of shape \(2,\)"),
        ({"unbiased": 1e-5}, "unbiased is 1e-05: give True or False"),
    ],
)
def test_steps_and_flags_are_checked(change, words):
    with pytest.raises(ValueError, match=words):
        RunningStats(np.zeros(3), np.ones(3), **change)
    assert RunningStats(np.zeros(3), np.ones(3), steps=np.int64(2), unbiased=np.bool_(False)).steps == 2  # pyright: ignore


def test_what_could_be_mistaken_for_another_goes_by_its_name():
    with pytest.raises(TypeError, match="positional"):
        RunningStats(np.zeros(3), np.ones(3), 0.01)  # pyright: ignore
    with pytest.raises(TypeError, match="positional"):
        RunningStats.start(3, 0.01)  # pyright: ignore
    x, ones = np.ones((6, 3)), np.ones(3)
    with pytest.raises(TypeError, match="positional"):
        batch_norm_inference(x, ones, ones, RunningStats.start(3), 1e-5, False)  # pyright: ignore
    with pytest.raises(ValueError, match=r"scaled is 0\.1: give True or False"):
        batch_norm_inference(x, ones, ones, RunningStats.start(3), scaled=0.1)  # pyright: ignore


@pytest.mark.parametrize("count", [np.ones(2, int), torch.ones(2), torch.tensor(True), 4.0, "4"])
def test_counts_and_channels_are_whole_numbers(count):
    with pytest.raises(ValueError, match=r"shard 0 has count .*: give the number of values, a whole one"):
        pooled(Moments(np.zeros(3), np.ones(3), count))
    with pytest.raises(ValueError, match=r"channels is .*: give their number"):
        RunningStats.start(count)


def test_a_dtype_of_torch_has_its_sentence():
    with pytest.raises(ValueError, match=r"dtype is torch\.float32 and none of NumPy's: .*RunningStats\(mean, var\)"):
        RunningStats.start(3, dtype=torch.float32)  # pyright: ignore
