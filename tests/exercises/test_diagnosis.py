"""What check says of a function, whatever the exercise: its words, and what is wrong besides known mistakes."""

import dataclasses
import functools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from bnlib import Grads
from bnlib.catalogue import EXERCISES
from bnlib.exercises import Diagnosis, check
from tests.exercises.cases import edited
from tests.exercises.inputs import whiten_by_svd
from tests.exercises.serving import running_on_the_page
from tests.exercises.transform import (
    as_lists,
    backward_on_the_page,
    by_autograd,
    by_einsum,
    by_loops,
    forward_on_the_page,
    one_pass,
    right_backward,
    right_forward,
    torch_statistics,
)
from tests.exercises.weights import weights_by_torch

unbiased = edited(forward_on_the_page, "x.var(0) -> x.var(0, ddof=1)")
without_mean_path = edited(backward_on_the_page, " - s1 -> ")


# What is not in the catalogue


def test_an_unknown_mistake_shows_the_first_entry_that_differs():
    def function(x, gamma, beta, eps):
        y = right_forward(x, gamma, beta, eps)
        y[2, 1] += 1
        y[3, 0] += 1
        return y

    arguments = EXERCISES["06-batch-norm"].draws[0]
    should = right_forward(*arguments.values())[2, 1]
    assert check("06-batch-norm", function).sentences == (
        "y is not right.",
        "y shows none of the mistakes I know: "
        f"y[2, 1] is {should + 1:.3g}, should be {should:.3g}, with x (7, 5), gamma (5,), beta (5,) and eps = 0.3.",
    )


def test_more_digits_are_shown_where_three_are_the_same():
    def function(x, gamma, beta, eps):
        return right_forward(x, gamma, beta, eps) * 1.0002

    (_, sentence) = check("06-batch-norm", function).sentences
    is_, should = sentence.split(" is ")[1].split(", with")[0].split(", should be ")
    assert is_ != should
    assert float(is_) == pytest.approx(1.0002 * float(should), rel=1e-3)


def test_rounding_noise_is_shown_as_zero():
    sentence = check("06-batch-norm", lambda x, gamma, beta, eps: 1e-13 * x).sentences[1]
    assert "y[0, 0] is 0, should be" in sentence


def test_a_known_mistake_stands_beside_an_unknown_one():
    averaged = edited(backward_on_the_page, "dbeta = dy.sum -> dbeta = dy.mean")

    def function(dy, x, gamma, eps):
        dx, dgamma, dbeta = averaged(dy, x, gamma, eps)
        return dx + dy**2, dgamma, dbeta

    first, known, unknown = check("07-backward", function).sentences
    assert first == "dgamma is right, dx and dbeta are not."
    assert known.startswith("dbeta is averaged")
    assert unknown.startswith("dx shows none of the mistakes I know: dx[0, 0] is ")


def test_a_function_that_suits_one_shape_only_is_not_right():
    def function(x, gamma, beta, eps):
        return right_forward(x, gamma, beta, eps) + (x.shape != (7, 5))

    assert "with x (4, 6)" in check("06-batch-norm", function).sentences[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_located(bad):
    def function(dy, x, gamma, eps):
        dx, dgamma, dbeta = right_backward(dy, x, gamma, eps)
        dgamma[2] = bad
        return dx, dgamma, dbeta

    first, sentence = check("07-backward", function).sentences
    assert first == "dx and dbeta are right, dgamma is not."
    assert sentence.startswith(f"dgamma[2] is {bad}, with dy (7, 5)")
    assert "look for a division by zero" in sentence


def test_a_mistake_that_can_be_made_in_many_ways_is_seen_by_what_it_keeps():
    """Any rotation behind ZCA's, with eps forgotten besides."""

    def function(x, eps):
        return whiten_by_svd(x, 1e-7) @ np.linalg.qr(np.arange(x.shape[1] ** 2).reshape(x.shape[1], -1) ** 0.5)[0]

    rotated, fixed = check("03-whiten", function).sentences[1:3]
    assert "another rotation" in rotated
    assert fixed == "eps is fixed at 1e-7, whatever is passed."


# Right, in any style


@pytest.mark.parametrize(
    "function",
    [right_backward, by_loops, by_einsum, by_autograd(torch_statistics(0)), as_lists],
    ids=lambda f: f.__name__,
)
def test_a_right_backward_pass_in_any_style_is_right(function):
    diagnosis = check("07-backward", function)
    assert diagnosis == Diagnosis(True, ("Right: dx, dgamma and dbeta agree with the reference.",))


def test_named_tuples_and_tensors_that_require_a_gradient_are_read():
    def function(x, gamma, beta, eps):
        x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
        return torch.nn.functional.batch_norm(x, None, None, gamma, beta, True, eps=eps)

    assert check("06-channels", function).right
    assert check("06-batch-norm", lambda *arguments: right_forward(*arguments).tolist()).right
    assert check("07-channels", lambda *arguments: Grads(*right_backward(*arguments))).right
    assert repr(check("06-channels", function)) == "Right: y agrees with the reference."


def test_a_complex_result_without_imaginary_part_is_right():
    diagnosis = check("06-batch-norm", lambda *arguments: right_forward(*arguments) + 0j)
    assert diagnosis.right
    assert not check("06-batch-norm", lambda *arguments: right_forward(*arguments) + 1e-3j).right


def test_numbers_in_other_wrappings_are_read():
    objects = check("06-batch-norm", lambda *a: np.frompyfunc(float, 1, 1)(right_forward(*a)))
    assert objects.sentences == ("Right: y agrees with the reference.",)
    whole = check("06-batch-norm", lambda x, *_: torch.ones(x.shape, dtype=torch.bfloat16))
    assert whole.sentences[1].startswith("y shows none of the mistakes I know: y[0, 0] is 1, should be ")
    assert len(whole.sentences) == 2
    three = check("06-batch-norm", lambda x, *_: np.full(x.shape, None))
    assert three.sentences == ("y is a ndarray that does not hold real numbers: return an array.",)


# What is wrong besides the numbers


def test_a_changed_argument_is_named():
    def function(x, gamma, beta, eps):
        x -= x.mean(0)
        gamma[0] *= 1
        return right_forward(x, gamma, beta, eps)

    diagnosis = check("06-batch-norm", function)
    assert not diagnosis.right
    assert diagnosis.sentences[0] == "The numbers are right, but:"
    (sentence,) = diagnosis.sentences[1:]
    assert sentence == "The function changes its argument x."
    assert diagnosis.remedies == ("Write x = x - a, not x -= a.",)
    for arguments in EXERCISES["06-batch-norm"].draws:  # and the next reader gets the same ones
        assert abs(arguments["x"].mean()) > 50 * arguments["x"].std()


def test_a_changed_argument_is_named_beside_a_mistake():
    def function(x, gamma, beta, eps):
        x -= x.mean(0)
        return unbiased(x, gamma, beta, eps)

    _, mistake, changed = check("06-batch-norm", function).sentences
    assert "unbiased" in mistake
    assert "argument x" in changed


def test_a_dtype_that_widens_is_a_remark_beside_right_numbers():
    def function(dy, x, gamma, eps):
        dx, dgamma, dbeta = right_backward(dy, x, gamma, eps)
        return dx.astype(np.float64), dgamma, dbeta

    diagnosis = check("07-backward", function)
    assert diagnosis.right
    assert diagnosis.sentences == (
        "Right: dx, dgamma and dbeta agree with the reference.",
        "For float32 arguments dx is float64.",
    )
    assert diagnosis.remedies[0].endswith("Or end with .astype(dy.dtype).")


@pytest.mark.parametrize(
    ("name", "function", "cause"),
    [
        ("15-start", lambda normals: normals / np.sqrt(normals.shape[1]), "np.sqrt of a plain number"),
        ("15-start", lambda normals: normals * np.ones(normals.shape) * normals.shape[1] ** -0.5, "np.ones(...) makes"),
        (
            "01-weights",
            lambda x, y, w: (np.polyfit(x, y, 1, w=w**0.5)[::-1], w.sum() ** 2 / (w**2).sum()),
            "polyfit may compute in float64",
        ),
        ("15-start", lambda normals: normals * np.float64(normals.shape[1] ** -0.5), "Look for an np.float64 scalar"),
        ("15-start", lambda normals: normals * (lambda: np.eye(2)[0, 0])() * normals.shape[1] ** -0.5, "np.eye(...)"),
        ("15-start", functools.partial(lambda normals: normals / np.sqrt(normals.shape[1])), "np.float64 scalar"),
    ],
)
def test_the_remedy_for_a_dtype_is_that_of_its_probable_cause(name, function, cause):
    diagnosis = check(name, function)
    assert diagnosis.right
    assert "float64" in diagnosis.sentences[1]
    (remedy,) = diagnosis.remedies
    assert cause in remedy
    assert ".dtype" in remedy


def test_a_narrow_dtype_is_a_remark_if_the_numbers_are_right():
    """Rounding the result costs 6e-8; computing with x in float32 loses digits, and is not right."""
    diagnosis = check("06-batch-norm", lambda *arguments: right_forward(*arguments).astype(np.float32))
    assert diagnosis.right
    assert diagnosis.sentences[1] == "y is float32, with single precision only, but the arguments are float64."
    assert diagnosis.remedies == ("Keep the dtype of x.",)


@pytest.mark.parametrize("back", [np.float32, np.float64])
def test_single_precision_on_the_way_is_not_right(back):
    def function(x, gamma, beta, eps):
        y = right_forward(x.astype(np.float32), gamma, beta, eps)
        return y.astype(back) if x.dtype == np.float64 else y

    diagnosis = check("06-batch-norm", function)
    assert not diagnosis.right
    first, sentence = diagnosis.sentences
    assert first == "y is not right."
    assert sentence.startswith(f"y is right to four digits only (dtype {np.dtype(back)})")


@pytest.mark.parametrize(("name", "axes"), [("07-backward", 0), ("07-channels", (0, 2, 3))])
def test_a_gradient_in_single_precision_is_named(name, axes):
    def function(dy, x, gamma, eps):
        single = np.float32
        grads = by_autograd(torch_statistics(axes))(dy.astype(single), x.astype(single), gamma.astype(single), eps)
        return [grad.numpy().astype(x.dtype) for grad in grads]

    first, sentence = check(name, function).sentences
    assert first == "dbeta is right, dx and dgamma are not."
    assert sentence.startswith("dx and dgamma are right to four digits only (dtype float64)")


def test_a_mistake_in_single_precision_is_named_all_the_same():
    def function(x, gamma, beta, eps):
        x, gamma, beta = (a.astype(np.float32) for a in (x, gamma, beta))
        return unbiased(x, gamma, beta, eps)

    _, mistake, precision = check("06-batch-norm", function).sentences
    assert "unbiased" in mistake
    assert "single precision" in precision


def test_axes_of_length_one_are_a_remark_beside_right_numbers():
    def function(dy, x, gamma, eps):
        dx, dgamma, dbeta = right_backward(dy, x, gamma, eps)
        return dx, dgamma[None], dbeta

    diagnosis = check("07-backward", function)
    assert diagnosis.right
    assert diagnosis.sentences[1:] == ("dgamma has the shape (1, 5) instead of (5,).",)
    (remedy,) = diagnosis.remedies
    assert remedy == "If dgamma was summed with keepdims=True, leave that out; or end with .reshape((5,))."
    with_a_mistake = check("07-backward", lambda *a: (function(*a)[0], 2 * function(*a)[1], function(*a)[2]))
    assert not with_a_mistake.right
    assert with_a_mistake.sentences[-1] == diagnosis.sentences[1]


def test_a_wrong_shape_is_named():
    first, sentence = check("06-batch-norm", lambda *arguments: right_forward(*arguments).T).sentences
    assert first == "y is not right."
    assert sentence == "y has shape (5, 7) instead of (7, 5), with x (7, 5), gamma (5,), beta (5,) and eps = 0.3."


# What cannot be compared, or called


@pytest.mark.parametrize(
    ("name", "function", "sentence"),
    [
        ("07-backward", lambda *_: None, "The function returns nothing; end it with: return dx, dgamma, dbeta."),
        ("06-batch-norm", lambda *_: None, "The function returns nothing; end it with: return y."),
        ("07-backward", lambda dy, *_: dy, "The function returns 1 value; end it with: return dx, dgamma, dbeta."),
        (
            "07-backward",
            lambda dy, *_: (dy, dy),
            "The function returns 2 values; end it with: return dx, dgamma, dbeta.",
        ),
        ("06-batch-norm", lambda x, *_: (x, x), "The function returns 2 values; end it with: return y."),
        ("06-batch-norm", lambda *_: "y", "y is a str that does not hold real numbers: return an array."),
        (
            "06-batch-norm",
            lambda *_: [[1.0], [1.0, 2.0]],
            "y is a list that does not hold real numbers: return an array.",
        ),
        ("06-batch-norm", lambda x, *_: x * 1j, "y is a ndarray that does not hold real numbers: return an array."),
        (
            "07-backward",
            lambda *_: (1.0, None, 1.0),
            "dgamma is a NoneType that does not hold real numbers: return an array.",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(name, function, sentence):
    assert check(name, function) == Diagnosis(False, (sentence,))


def test_what_is_masked_is_refused():
    seen = ("y is masked, and what is masked is no number: return an array without.",)
    assert check("06-batch-norm", lambda *a: np.ma.array(right_forward(*a), mask=True)).sentences == seen
    assert check("06-batch-norm", lambda *a: list(np.ma.array(right_forward(*a), mask=True))).sentences == seen
    assert check("06-batch-norm", lambda *a: np.ma.array(right_forward(*a))).right


def test_a_functions_own_error_comes_back_with_the_shapes():
    class OwnError(Exception):
        pass

    def function(dy, x, gamma, eps):
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine") as caught:
        check("07-channels", function)
    (note,) = caught.value.__notes__
    assert note == "check called the function with dy (4, 3, 5, 6), x (4, 3, 5, 6), gamma (3,) and eps = 0.3."


def test_a_wrong_broadcast_raises_because_all_sizes_differ():
    with pytest.raises(ValueError, match="broadcast") as caught:
        check("06-channels", lambda x, gamma, beta, eps: gamma * x)
    assert "gamma (3,)" in caught.value.__notes__[0]


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"no exercise '7'.*06-batch-norm.*07-channels"):
        check("7", right_backward)
    with pytest.raises(ValueError, match="no exercise"):
        check(["06"], right_forward)  # type: ignore[arg-type]


def test_what_is_not_a_function_is_refused():
    with pytest.raises(ValueError, match="a tuple is not a function"):
        check("07-backward", (1, 2, 3))  # type: ignore[arg-type]


def test_the_checker_works_without_scipy():
    code = """
import sys
sys.modules["scipy"] = None
from bnlib.exercises import check
print(check("14-moments", lambda mean, var: (mean, var)).sentences[0])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "mean_out and var_out are not right.\n"


# Single precision


def test_a_variance_from_mean_squares_is_named_by_its_cancellation():
    diagnosis = check("06-batch-norm", one_pass)
    assert not diagnosis.right
    first, sentence = diagnosis.sentences
    assert first == "y is right in float64, but not in float32."
    assert sentence.startswith("With values near 10,000 in float32, y[0, 0] is ")
    assert sentence.endswith("is there the small difference of two large numbers.")
    assert diagnosis.remedies[0].startswith("Subtract the mean before you square")
    x = diagnosis.arguments["x"]
    assert x.dtype == np.float32
    assert abs(x.mean() - 1e4) < 10
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(one_pass(**diagnosis.arguments), diagnosis.given["y"])


def test_a_root_that_raises_where_the_variance_cancels_is_named_so():
    def function(x, gamma, beta, eps):
        rows = [one_pass_row(column, eps) for column in x.T]
        return gamma * np.array(rows, x.dtype).T + beta

    def one_pass_row(column, eps):
        mean = column.mean()
        root = math.sqrt((column**2).mean() - mean**2 + eps)
        return [(v - mean) / root for v in column]

    diagnosis = check("06-batch-norm", function)
    assert not diagnosis.right
    assert "near 10,000 in float32, the function raises ValueError" in diagnosis.sentences[1]


def test_what_is_wrong_in_float32_for_another_reason_is_told_without_a_cause():
    def function(x, gamma, beta, eps):
        return right_forward(x, gamma, beta, eps) + (x.dtype == np.float32)

    _, sentence = check("06-batch-norm", function).sentences
    assert sentence.startswith("For float32 arguments y[0, 0] is ")
    assert "the mean of the squares" not in sentence
    off = check("14-weightnorm", lambda *a: tuple(b + (b.dtype == torch.float32) for b in weights_by_torch(*a)))
    assert not off.right
    assert off.sentences[1].startswith("For float32 arguments dv[0, 0] is ")


def test_an_error_for_float32_arguments_alone_is_a_remark():
    def function(x, gamma, beta, eps):
        two = torch.tensor(x) @ torch.eye(x.shape[1], dtype=torch.float64)  # raises for float32
        return right_forward(two.numpy(), gamma, beta, eps)

    diagnosis = check("06-batch-norm", function)
    assert diagnosis.right
    assert diagnosis.sentences[1].startswith("For float32 arguments the function raises RuntimeError (")
    assert diagnosis.remedies


# The call that differs


def test_the_arguments_of_the_first_differing_case_can_be_had():
    def function(x, gamma, beta, eps):
        return right_forward(x, gamma, beta, eps) + (x.shape != (7, 5))

    diagnosis = check("06-batch-norm", function)
    arguments, expected, given = diagnosis.arguments, diagnosis.expected, diagnosis.given
    assert list(arguments) == ["x", "gamma", "beta", "eps"]
    assert arguments["x"].shape == (4, 6)
    np.testing.assert_array_equal(function(**arguments), given["y"])
    np.testing.assert_array_equal(function(*arguments.values()), given["y"])
    np.testing.assert_allclose(right_forward(**arguments), expected["y"], rtol=1e-9)
    assert not np.allclose(expected["y"], given["y"])


def test_the_arguments_are_fresh_copies():
    diagnosis = check("07-backward", without_mean_path)
    for part in ("arguments", "expected", "given"):
        for values in getattr(diagnosis, part).values():
            if isinstance(values, np.ndarray):
                values += 1
    again = check("07-backward", without_mean_path)
    for part in ("arguments", "expected", "given"):
        for name, values in getattr(diagnosis, part).items():
            np.testing.assert_array_equal(values, getattr(again, part)[name])
    np.testing.assert_array_equal(diagnosis.arguments["x"], EXERCISES["07-backward"].draws[0]["x"])


def test_the_arguments_are_there_if_nothing_can_be_read_and_if_all_is_right():
    diagnosis = check("07-backward", lambda *_: None)
    assert diagnosis.arguments["dy"].shape == diagnosis.expected["dx"].shape == (7, 5)
    assert diagnosis.given == {}
    right = check("07-backward", right_backward)
    np.testing.assert_allclose(right.given["dx"], right.expected["dx"], rtol=1e-6, atol=1e-9)


# How it reads


def test_the_repr_is_the_text_in_lines_that_a_page_shows():
    diagnosis = check("07-backward", edited(backward_on_the_page, " - xhat * s2 -> "))
    assert (
        repr(diagnosis)
        == str(diagnosis)
        == (
            "dgamma and dbeta are right, dx is not.\n"
            "- dx lacks the path through the variance: every x also changes the batch's\n"
            "  variance, which divides all of them.\n"
            "Add .hint() to see how to mend it."
        )
    )
    assert repr(diagnosis.hint()) == str(diagnosis.hint()) == "Subtract xhat * mean(dxhat * xhat)."


def test_several_remedies_are_a_list_and_none_says_so():
    two = edited(running_on_the_page, "m = momentum -> m = 1 - momentum ;; * n / (n - 1) -> ")
    hint = check("09-running", two).hint()
    assert repr(hint).splitlines()[0] == "- As in PyTorch, it is the weight of the new batch: (1 - momentum) * old +"
    assert repr(hint).count("\n- ") == 1
    assert repr(check("06-channels", right_forward).hint()) == "Nothing has to be mended."
    without = check("09-running", edited(running_on_the_page, "range(len(means)) -> range(len(means) - 1)"))
    assert repr(without.hint()) == "What was seen says it all."
    assert ".hint()" not in repr(without)


def test_a_right_answer_prints_one_line():
    assert repr(check("06-channels", right_forward)) == "Right: y agrees with the reference."


def test_a_diagnosis_is_a_value_and_comes_out_the_same_each_time():
    first, second = (check("07-channels", without_mean_path) for _ in range(2))
    assert first == second
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.right = True  # type: ignore[misc]
