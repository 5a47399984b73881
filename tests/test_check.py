import numpy as np
import pytest
import torch

from bnlib.check import check_vjp
from bnlib.norms import batch_norm, normalize_backward


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def matmul(a, b):
    return a @ b, (a, b)


def matmul_backward(dy, cache):
    a, b = cache
    return dy @ b.T, a.T @ dy


def scaled_tanh(x, scale):
    return scale * np.tanh(x), (x, scale)


def scaled_tanh_backward(dy, cache):
    x, scale = cache
    return dy * scale * (1 - np.tanh(x) ** 2), np.sum(dy * np.tanh(x), axis=0)


def log_sum_exp(x):
    return np.log(np.exp(x).sum()), x


def log_sum_exp_backward(dy, x):
    return (dy * np.exp(x) / np.exp(x).sum(),)


@pytest.mark.parametrize(
    ("forward", "backward", "shapes"),
    [
        pytest.param(matmul, matmul_backward, [(4, 3), (3, 5)], id="matrix product"),
        pytest.param(scaled_tanh, scaled_tanh_backward, [(2, 3, 4), (3, 4)], id="elementwise, broadcast"),
        pytest.param(log_sum_exp, log_sum_exp_backward, [(7,)], id="scalar output"),
    ],
)
def test_passes_what_is_right(rng, forward, backward, shapes):
    numeric, analytic, difference = check_vjp(forward, backward, *(rng.normal(size=s) for s in shapes), rng=rng)
    assert numeric == pytest.approx(analytic, rel=1e-6)
    assert numeric != 0
    assert difference < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda dy, c: (1.0001 * dy @ c[1].T, c[0].T @ dy), id="factor"),
        pytest.param(lambda dy, c: (dy @ c[1].T, np.zeros_like(c[1])), id="zeros in place of one gradient"),
        pytest.param(lambda dy, c: (-dy @ c[1].T, c[0].T @ dy), id="sign"),
        pytest.param(lambda dy, c: (dy @ c[1].T, c[0].T @ dy - (c[0].T @ dy).mean(0)), id="a term too many"),
        pytest.param(lambda dy, c: (dy @ c[1].T, np.full_like(c[1], np.nan)), id="NaN"),
    ],
)
def test_catches_a_wrong_backward_pass(rng, wrong):
    with pytest.raises(AssertionError, match=r"finite difference gives -?\d.*backward pass .*relative difference"):
        check_vjp(matmul, wrong, rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng=rng)


def test_catches_a_forgotten_path(rng):
    def centre(x):
        return x - x.mean(0), None

    a = rng.normal(size=(6, 2))
    check_vjp(centre, lambda dy, _: (dy - dy.mean(0),), a, rng=rng)
    with pytest.raises(AssertionError, match="relative difference"):
        check_vjp(centre, lambda dy, _: (dy,), a, rng=rng)


def test_the_message_holds_both_numbers(rng):
    with pytest.raises(AssertionError) as caught:
        check_vjp(lambda x: (x, None), lambda dy, _: (2 * dy,), rng.normal(size=3), rng=rng)
    numbers = [float(word.strip(",:")) for word in str(caught.value).split() if word[-2:-1].isdigit()]
    assert numbers[1] == pytest.approx(2 * numbers[0], rel=1e-6)


def test_tolerance_and_step_are_the_callers(rng):
    nearly = (lambda x: (x**3, x), lambda dy, x: (3.003 * dy * x**2,), np.array([0.5, 2.0]))
    with pytest.raises(AssertionError):
        check_vjp(*nearly, rng=rng)
    check_vjp(*nearly, rng=rng, rtol=1e-2)
    with pytest.raises(AssertionError):  # a step this long measures a secant
        check_vjp(*nearly, rng=rng, rtol=1e-2, step=1.0)


def test_a_function_without_a_gradient_passes(rng):
    check = check_vjp(lambda x: (np.ones(3), None), lambda dy, _: (np.zeros(4),), rng.normal(size=4), rng=rng)
    assert check == (0, 0, 0)


def test_leaves_the_arguments_alone(rng):
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 5))
    before = a.copy(), b.copy()
    check_vjp(matmul, matmul_backward, a, b, rng=rng)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_rejects_arguments_that_are_not_float64(rng):
    a = rng.normal(size=(4, 3))
    with pytest.raises(ValueError, match=r"argument 1 has dtype float32, but a finite difference needs float64"):
        check_vjp(matmul, matmul_backward, a, np.ones((3, 5), np.float32), rng=rng)
    with pytest.raises(ValueError, match=r"argument 0 has dtype int64"):
        check_vjp(matmul, matmul_backward, np.ones((4, 3), np.int64), a.T, rng=rng)


def test_lists_other_byte_orders_and_a_single_gradient_do(rng):
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 5))
    for arrays in ((a.tolist(), b.tolist()), (a.astype(">f8"), b.astype(">f8"))):
        assert check_vjp(matmul, matmul_backward, *arrays, rng=rng).difference < 1e-6
    check_vjp(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, a, rng=rng)
    with pytest.raises(AssertionError):
        check_vjp(lambda x: (x**2, x), lambda dy, x: x * dy, a, rng=rng)


ROWS = np.random.default_rng(1).normal(size=(4, 3))
SQUARE = (lambda x: (x**2, x)), (lambda dy, x: (2 * x * dy,))


@pytest.mark.parametrize(
    ("args", "change", "message"),
    [
        ((np.ma.masked_array(ROWS, ROWS > 1),), {}, r"argument 0 of shape \(4, 3\) is a masked array"),
        ((torch.tensor(ROWS),), {}, r"argument 0 is a tensor: pass a NumPy array .*torch\.autograd\.gradcheck"),
        (([ROWS, ROWS[0]],), {}, r"argument 0 is a list of 2: pass the arrays one by one, as \*args does"),
        ((ROWS[:0],), {}, r"argument 0 of shape \(0, 3\) is empty"),
        ((None,), {}, "argument 0 is None: pass an array"),
        ((), {}, "no argument to differentiate by"),
        ((ROWS,), {"rng": 0}, r"rng is 0: pass numpy\.random\.default_rng\(0\)"),
        ((ROWS,), {"step": 0}, "step is 0 and rtol 1e-06: give a small positive number"),
        ((ROWS,), {"step": np.full(3, 1e-6)}, r"step is an array of shape \(3,\)"),
        ((ROWS,), {"rtol": "1e-6"}, "step is None and rtol '1e-6'"),
        ((ROWS,), {"forward": lambda x: x**2}, r"forward returns an array of shape \(4, 3\): return y and what"),
        (
            (ROWS,),
            {"forward": lambda x: (x**2, x, x)},
            "forward returns a tuple of 3: return y and what backward needs",
        ),
        ((ROWS,), {"forward": lambda x: ((x**2).astype(np.float32), x)}, "y of forward has dtype float32"),
        ((ROWS,), {"forward": lambda x: (np.ma.masked_array(x, x > 1), x)}, "y of forward of shape .* is a masked"),
        ((ROWS,), {"backward": lambda dy, x: (np.ma.masked_array(x, x > 1),)}, "gradient 0 of shape .* is a masked"),
        ((ROWS,), {"backward": lambda dy, x: None}, "gradient 0 is None"),
        ((ROWS,), {"backward": lambda dy, x: (2j * x * dy,)}, "gradient 0 of shape .* holds complex128"),
    ],
)
def test_natural_slips_have_their_sentence(args, change, message):
    given = {"forward": SQUARE[0], "backward": SQUARE[1], "rng": np.random.default_rng(2)}
    check_vjp(given["forward"], given["backward"], ROWS, rng=given["rng"])
    given |= change
    with pytest.raises(ValueError, match=message):
        check_vjp(given.pop("forward"), given.pop("backward"), *args, **given)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda dy, c: (dy @ c[1].T,), id="too few"),
        pytest.param(lambda dy, c: (dy @ c[1].T, c[0].T @ dy, dy), id="too many"),
        pytest.param(lambda dy, c: (dy @ c[1].T, (c[0].T @ dy).sum(0)), id="summed, would broadcast"),
    ],
)
def test_rejects_gradients_of_the_wrong_number_or_shape(rng, wrong):
    with pytest.raises(ValueError, match=r"gradients have shapes .*arguments \[\(4, 3\), \(3, 5\)\]: return one"):
        check_vjp(matmul, wrong, rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng=rng)


def test_functions_are_needed(rng):
    with pytest.raises(ValueError, match="forward is None: pass a function"):
        check_vjp(None, matmul_backward, np.eye(2), np.eye(2), rng=rng)  # pyright: ignore
    with pytest.raises(ValueError, match="backward is None: pass a function"):
        check_vjp(matmul, None, np.eye(2), np.eye(2), rng=rng)  # pyright: ignore


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
def test_a_right_backward_pass_far_from_zero_passes(seed: int, mean: float):
    rng = np.random.default_rng(seed)
    x = mean + rng.normal(size=(6, 3))
    check_vjp(batch_norm, normalize_backward, x, np.ones(3), np.zeros(3), rng=rng)
    with pytest.raises(AssertionError, match=r"with a step of 1\.0e-12: mend .* try a longer step"):
        check_vjp(batch_norm, normalize_backward, 1e6 + x, np.ones(3), np.zeros(3), rng=rng, step=1e-12)
