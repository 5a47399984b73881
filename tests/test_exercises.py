"""Each mistake of the catalogue is named, alone and in pairs, and nothing that is right is called wrong."""

import dataclasses
import functools
import itertools
import math
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from bnlib import Grads, batch_norm, group_norm, layer_norm, normalize_backward
from bnlib.catalogue import EXERCISES, Exercise, Mistake
from bnlib.deep_linear import update_expansion
from bnlib.catalogue.explain import DOUBLE
from bnlib.exercises import FAR, Diagnosis, check
from bnlib.lab.experiments.fixes import penalized
from bnlib.normprop import relu_moments
from bnlib.norms import Moments
from bnlib.running import RunningStats, fold, pooled
from bnlib.selu import alpha_dropout
from bnlib.shift import effective_sample_size

EVERY = sorted(EXERCISES)
FORWARD, BACKWARD = ("06-batch-norm", "06-channels"), ("07-backward", "07-channels")
NORMS = FORWARD + BACKWARD


def right_forward(x, gamma, beta, eps):
    return batch_norm(x, gamma, beta, eps)[0]


def right_backward(dy, x, gamma, eps):
    return normalize_backward(dy, batch_norm(x, gamma, np.zeros_like(gamma), eps)[1])


def line_by_polyfit(x, y, w):
    return np.polyfit(x, y, 1, w=np.sqrt(w))[::-1].astype(x.dtype), w.dtype.type(effective_sample_size(w))


def layers_by_autograd(x, weights, dy):
    x, weights = (torch.tensor(a, requires_grad=True) for a in (x, weights))
    h = x
    for w in weights:
        h = torch.sigmoid(h @ w)
    return torch.autograd.grad((torch.tensor(dy) * h).sum(), (x, weights))


def penalty_by_autograd(z, lam):
    z = torch.tensor(z, requires_grad=True)
    return torch.autograd.grad(lam * penalized(z), z)[0]


def step_by_torch(h, W, gamma, beta, dy, lr, eps):
    parameters = [torch.nn.Parameter(torch.tensor(a)) for a in (W, gamma, beta)]
    z = torch.tensor(h) @ parameters[0]
    y = torch.nn.functional.batch_norm(z, None, None, *parameters[1:], training=True, eps=eps)
    y.backward(torch.tensor(dy))
    torch.optim.SGD(parameters, lr).step()
    return tuple(parameters)


def adam_by_torch(gamma, grads, lr, beta1, beta2, eps):
    gamma = torch.nn.Parameter(torch.tensor(gamma))
    adam = torch.optim.Adam([gamma], lr, (beta1, beta2), eps)
    for grad in torch.tensor(grads):
        gamma.grad = grad
        adam.step()
    return gamma, adam.state[gamma]["exp_avg"], adam.state[gamma]["exp_avg_sq"]


def whiten_by_svd(x, eps):
    rows, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[::2]
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    return rows * (s / np.sqrt(s**2 / len(x) + eps)) @ axes


def running_by_torch(means, vars, n, momentum):
    norm = torch.nn.BatchNorm1d(means.shape[1], momentum=momentum, dtype=torch.tensor(means).dtype)
    pattern = np.arange(n) ** 2.0
    pattern = (pattern - pattern.mean()) / pattern.std()
    for mean, var in zip(means, vars, strict=True):  # a batch with just these statistics
        norm(torch.tensor((mean + np.sqrt(var) * pattern[:, None]).astype(means.dtype)))
    return norm.running_mean, norm.running_var


def folded_by_bnlib(W, b, gamma, beta, mean, var, eps):
    weight, bias = fold(W.T, b, gamma, beta, RunningStats(mean, var), eps)
    return weight.T, bias


def pool_by_bnlib(counts, means, vars):
    moments = pooled(*(Moments(m, v, int(n)) for n, m, v in zip(counts, means, vars, strict=True)))
    return moments.mean, moments.var


def grouped_by_bnlib(x, gamma, beta, groups, eps):
    return group_norm(x, gamma, beta, groups, eps)[0]


def scaled_by_bnlib(y, gamma, beta, a):
    z = a * (3 * (y - beta) / gamma + 5)  # a layer's sums with just this output, all multiplied by a
    return layer_norm(z, gamma, beta, eps=0)[0]


def moments_by_bnlib(mean, var):
    return tuple(a.astype(mean.dtype) for a in relu_moments(mean, var))


def weights_by_torch(dw, v, g):
    layer: Any = torch.nn.Linear(v.shape[1], v.shape[0], bias=False, dtype=torch.tensor(v).dtype)
    torch.nn.utils.parametrizations.weight_norm(layer)
    inside = layer.parametrizations.weight
    lengths, direction = inside.original0, inside.original1
    with torch.no_grad():
        lengths.copy_(torch.tensor(g)[:, None])
        direction.copy_(torch.tensor(v))
    dg, dv = torch.autograd.grad(layer.weight, (lengths, direction), torch.tensor(dw))
    return dv, dg[:, 0]


def weights_of_length_one(normals):
    """As PyTorch's LeCun normal draws them: its gain for SELU is 3/4, so that its "linear" one is wanted."""
    gain = normals.dtype.type(torch.nn.init.calculate_gain("linear"))
    return gain * normals / np.sqrt(normals.shape[1], dtype=normals.dtype)


RIGHT = {
    "01-weights": line_by_polyfit,
    "02-backward": layers_by_autograd,
    "03-whiten": whiten_by_svd,
    "04-orders": update_expansion,
    "05-penalty": penalty_by_autograd,
    **dict.fromkeys(FORWARD, right_forward),
    **dict.fromkeys(BACKWARD, right_backward),
    "08-step": step_by_torch,
    "08-adam": adam_by_torch,
    "09-running": running_by_torch,
    "09-fold": folded_by_bnlib,
    "10-pool": pool_by_bnlib,
    "12-axes": grouped_by_bnlib,
    "12-scale": scaled_by_bnlib,
    "13-weightnorm": weights_by_torch,
    "13-moments": moments_by_bnlib,
    "14-start": weights_of_length_one,
    "14-dropout": alpha_dropout,
}


def with_mistakes(exercise: Exercise, *mistakes: Mistake):
    """A function that makes these mistakes, by the catalogue's own steps."""

    def function(*arguments):
        draw = dict(zip(exercise.draws[0], arguments, strict=True))
        (outputs,) = dataclasses.replace(exercise, draws=(draw,)).run(*mistakes)
        return tuple(outputs.values())

    return function


def sentences(*mistakes: Mistake) -> list[str]:
    return [mistake.seen for mistake in mistakes]


# The reference and the arguments


@pytest.mark.parametrize("name", EVERY)
def test_the_reference_is_that_of_bnlib_or_pytorch(name):
    exercise = EXERCISES[name]
    for arguments, outputs in zip(exercise.draws, exercise.run(), strict=True):
        expected = RIGHT[name](*arguments.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        for (output, got), want in zip(outputs.items(), expected, strict=True):
            want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * abs(np.asarray(want)).max(), err_msg=output)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_right_is_called_right(name):
    assert check(name, RIGHT[name]).right
    assert check(name, with_mistakes(EXERCISES[name])).right


@pytest.mark.parametrize("name", NORMS)
def test_the_arguments_hide_no_mistake(name):
    for arguments in EXERCISES[name].draws:
        shape = arguments["x"].shape
        assert len(set(shape)) == len(shape)
        assert min(shape) > 1, "the outputs' axes of length 1 count as superfluous"
        assert shape[0] > 2
        var = arguments["x"].var((0, *range(2, len(shape))))
        assert 0.05 * var.max() < arguments["eps"] < var.max()
        assert abs(arguments["x"].mean()) > 100 * var.max() ** 0.5
        parameters = np.concatenate([arguments[k] for k in ("gamma", "beta") if k in arguments])
        assert min(abs(parameters).min(), abs(parameters - 1).min()) > 0.4


WITH_EPS = [name for name in EVERY if "eps" in EXERCISES[name].draws[0]]


@pytest.mark.parametrize("name", [*NORMS, "08-step", "09-fold"])
def test_eps_lies_below_the_variances_once_and_among_them_once(name):
    """The first shows a mistake without a NaN, the second shows that eps is added, and no lower bound."""
    first, second = EXERCISES[name].draws[:2]

    def variances(draw):
        if "var" in draw:
            return draw["var"]
        x = draw["x"] if "x" in draw else draw["h"] @ draw["W"]
        return x.var((0, *range(2, x.ndim)))

    assert first["eps"] < variances(first).min()
    assert variances(second).min() < second["eps"] < variances(second).max()


POSITIVE = {"w": ["01-weights"], "vars": EVERY, "var": EVERY, "kept": EVERY, "counts": EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_the_arguments_have_both_signs_and_several_sizes(name):
    """Else abs, or np.clip, of an argument passes."""
    for argument, value in EXERCISES[name].draws[0].items():
        values = np.concatenate([np.ravel(draw[argument]) for draw in EXERCISES[name].draws])
        if isinstance(value, np.ndarray):
            assert values.max() > 0
            assert values.min() < 0 or name in POSITIVE.get(argument, [])
            assert abs(values).max() > 1.2 * abs(values).min() or argument == "kept"
        assert len(set(values)) > 1
    if name == "12-scale":
        assert {(bool(d["a"] > 0), bool(abs(d["a"]) > 1)) for d in EXERCISES[name].draws} == {
            *itertools.product((False, True), repeat=2)
        }


def test_the_layers_arguments_hide_no_mistake():
    for arguments in EXERCISES["02-backward"].draws:
        layers, rows, columns = arguments["weights"].shape
        assert arguments["x"].shape == arguments["dy"].shape == (len(arguments["x"]), columns)
        assert rows == columns
        assert len({layers, columns, len(arguments["x"])}) == 3
        assert layers >= 2
        assert len(arguments["x"]) > 2


def test_the_steps_arguments_hide_no_mistake():
    for arguments in EXERCISES["08-step"].draws:
        n, c = arguments["dy"].shape
        assert arguments["h"].shape == (n, c)
        assert arguments["W"].shape == (c, c)
        assert n != c
        assert n > 2
        parameters = np.concatenate([arguments["gamma"], arguments["beta"]])
        assert min(abs(parameters).min(), abs(parameters - 1).min()) > 0.4
        var = (arguments["h"] @ arguments["W"]).var(0)
        assert 0.005 * var.max() < arguments["eps"] < var.max()
        assert len({1, arguments["lr"], arguments["lr"] ** 2, arguments["lr"] / n}) == 4


def test_adams_arguments_hide_no_mistake():
    for arguments in EXERCISES["08-adam"].draws:
        steps, units = arguments["grads"].shape
        assert arguments["gamma"].shape == (units,)
        assert steps != units
        assert min(steps, units) > 2
        assert (arguments["grads"].min() > 0) == (arguments is EXERCISES["08-adam"].draws[0])
        assert 0.05 * arguments["grads"].max() < arguments["eps"] < arguments["grads"].max()
        betas = arguments["beta1"], arguments["beta2"]
        assert len({*betas, *(1 - b for b in betas)}) == 4


# The catalogue


ENTRIES = [
    pytest.param(name, mistake, id=f"{name}-{i}")
    for name in EVERY
    for i, mistake in enumerate(EXERCISES[name].mistakes)
]


@pytest.mark.parametrize(("name", "mistake"), ENTRIES)
def test_each_mistake_is_named(name: str, mistake: Mistake):
    diagnosis = check(name, with_mistakes(EXERCISES[name], mistake))
    assert not diagnosis.right
    if mistake.seen in ("dgamma and dbeta have changed places.", "gamma and beta come back in the wrong order."):
        assert "right, but in another order" in diagnosis.sentences[0]  # as it is alone
    else:
        assert list(diagnosis.sentences[1:]) == sentences(mistake)


@pytest.mark.parametrize(("name", "mistake"), ENTRIES)
def test_each_entry_replaces_steps_that_exist_and_says_so_briefly(name: str, mistake: Mistake):
    assert mistake.steps
    assert mistake.steps.keys() <= EXERCISES[name].steps.keys() | EXERCISES[name].draws[0].keys()
    for text in filter(None, (mistake.seen, mistake.remedy)):
        assert text.endswith((".", ")"))
        assert len([word for word in text.split() if word[0].isalpha()]) <= 30


@pytest.mark.parametrize("name", EVERY)
def test_no_sentence_stands_twice(name: str):
    every = sentences(*EXERCISES[name].mistakes)
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", EVERY)
def test_pairs_of_mistakes_are_named(name: str):
    exercise = EXERCISES[name]
    pairs = [made for made, _ in exercise.candidates if len(made) == 2]
    exact = 0
    chosen = random.Random(0).sample(pairs, min(len(pairs), 150))
    for pair in chosen:
        diagnosis = check(name, with_mistakes(exercise, *pair))
        named = [m for m in exercise.mistakes if m.seen in diagnosis.sentences]
        assert list(diagnosis.sentences[1:]) == sentences(*named)
        exact += named == list(pair)
        # One mistake may hide the other, or two may be one: what is named then gives the same outputs, no less simply.
        for made, given in zip(exercise.run(*named), exercise.run(*pair), strict=True):
            for output, a in given.items():
                largest = abs(a[np.isfinite(a)]).max(initial=0)
                np.testing.assert_allclose(made[output], a, rtol=0, atol=DOUBLE * largest)
        assert len(named) <= 2
    assert exact > 0.9 * len(chosen)


# Mistakes as a reader would make them


def unbiased(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + eps) + beta


def eps_outside(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / (x.std(0) + eps) + beta


def eps_forgotten(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / x.std(0) + beta


def eps_fixed(x, gamma, beta, eps=1e-5):
    return right_forward(x, gamma, beta, 1e-5)


def variance_for_deviation(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / (x.var(0) + eps) + beta


def mean_stays(x, gamma, beta, eps):
    return gamma * x / np.sqrt(x.var(0) + eps) + beta


def brackets(x, gamma, beta, eps):
    return gamma * (x - x.mean(0) / np.sqrt(x.var(0) + eps)) + beta


def eps_added_last(x, gamma, beta, eps):
    return gamma * ((x - x.mean(0)) / np.sqrt(x.var(0)) + eps) + beta


def no_gamma(x, gamma, beta, eps):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta


def no_beta(x, gamma, beta, eps):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps) * gamma


def swapped(x, gamma, beta, eps):
    return right_forward(x, beta, gamma, eps)


def beta_first(x, gamma, beta, eps):
    return gamma * ((x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta)


def over_features(x, gamma, beta, eps):
    return gamma * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps) + beta


def over_everything(x, gamma, beta, eps):
    return gamma * (x - x.mean()) / np.sqrt(x.var() + eps) + beta


def images_over(axis):
    def function(x, gamma, beta, eps):
        mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
        return gamma.reshape(1, -1, 1, 1) * (x - mean) / np.sqrt(var + eps) + beta.reshape(1, -1, 1, 1)

    return function


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("06-batch-norm", unbiased, "unbiased"),
        ("06-batch-norm", eps_outside, "outside the root"),
        ("06-batch-norm", eps_forgotten, "eps is forgotten"),
        ("06-batch-norm", eps_fixed, "eps is fixed at 1e-5"),
        ("06-batch-norm", variance_for_deviation, "divided by var + eps"),
        ("06-batch-norm", mean_stays, "mean is not subtracted"),
        ("06-batch-norm", brackets, "Brackets"),
        ("06-batch-norm", eps_added_last, "added to the quotient"),
        ("06-batch-norm", no_gamma, "gamma is forgotten"),
        ("06-batch-norm", no_beta, "beta is forgotten"),
        ("06-batch-norm", swapped, "changed places"),
        ("06-batch-norm", beta_first, "before gamma"),
        ("06-batch-norm", over_features, "units of each example"),
        ("06-batch-norm", over_everything, "all values at once"),
        ("06-channels", images_over(0), "examples only"),
        ("06-channels", images_over((2, 3)), "instance norm"),
        ("06-channels", images_over((1, 2, 3)), "layer norm"),
        ("06-channels", images_over(1), "the channels"),
        ("06-channels", images_over(None), "all values at once"),
    ],
)
def test_a_readers_wrong_forward_pass_is_named(name, function, says):
    _, sentence = check(name, function).sentences
    assert says in sentence


def by_autograd(statistics, normalized=lambda x, mean, var, eps: (x - mean) / torch.sqrt(var + eps)):
    """The backward pass that PyTorch derives from a forward pass with these statistics: (x) -> mean, var."""

    def function(dy, x, gamma, eps):
        x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
        beta = torch.zeros_like(gamma, requires_grad=True)
        shape = (1, -1, *[1] * (x.ndim - 2))
        y = gamma.reshape(shape) * normalized(x, *statistics(x), eps) + beta.reshape(shape)
        return torch.autograd.grad(y, (x, gamma, beta), torch.tensor(dy))

    return function


def torch_statistics(axes, correction=0):
    return lambda x: (x.mean(axes, keepdim=True), x.var(axes, correction=correction, keepdim=True))


def detached(mean: bool, var: bool):
    def statistics(x):
        m, v = torch_statistics(0)(x)
        return m.detach() if mean else m, v.detach() if var else v

    return by_autograd(statistics)


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("07-backward", detached(mean=False, var=True), "lacks the path through the variance"),
        ("07-backward", detached(mean=True, var=False), "lacks the path through the mean"),
        ("07-backward", detached(mean=True, var=True), "as constants"),
        ("07-backward", by_autograd(torch_statistics(0, 1)), "and dx follows it"),
        ("07-backward", by_autograd(torch_statistics(1)), "and the two means in dx, run over the units"),
        ("07-backward", by_autograd(torch_statistics((0, 1))), "all values at once"),
        (
            "07-backward",
            by_autograd(torch_statistics(0), lambda x, m, v, eps: (x - m) / (v.sqrt() + eps)),
            "dx is the gradient of that",
        ),
        ("07-backward", by_autograd(torch_statistics(0), lambda x, m, v, eps: (x - m) / v.sqrt()), "eps is forgotten"),
        ("07-channels", by_autograd(torch_statistics((0, 2, 3), 1)), "and dx follows it"),
        ("07-channels", by_autograd(torch_statistics((2, 3))), "instance norm"),
        ("07-channels", by_autograd(torch_statistics((1, 2, 3))), "layer norm"),
        ("07-channels", by_autograd(torch_statistics(0)), "and the two means in dx, run over the examples only"),
    ],
)
def test_the_gradient_of_a_wrong_forward_pass_is_named(name, function, says):
    _, sentence = check(name, function).sentences
    assert says in sentence


def edited(lines: str, change: str) -> str:
    """A reader's lines with some places changed, "old -> new ;; old -> new"."""
    for old, new in [pair.split(" -> ") for pair in change.split(" ;; ") if pair]:
        assert lines.count(old) == 1, old
        lines = lines.replace(old, new)
    return lines


def backward(change: str):
    """The page's backward pass in a reader's lines, with one place changed."""
    lines = """
mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
rstd = 1 / np.sqrt(var + eps)
xhat = (x - mean) * rstd
dxhat = dy * gamma.reshape(shape)
s1, s2 = dxhat.sum(axis, keepdims=True), (dxhat * xhat).sum(axis, keepdims=True)
dx = rstd / m * (m * dxhat - s1 - xhat * s2)
dgamma = (dy * xhat).sum(axis)
dbeta = dy.sum(axis)
"""
    code = compile(edited(lines, change), "reader", "exec")

    def function(dy, x, gamma, eps):
        axis = (0, 2, 3) if x.ndim == 4 else 0
        names = {"np": np, "dy": dy, "x": x, "gamma": gamma, "eps": eps, "axis": axis, "m": x.size // x.shape[1]}
        names["shape"] = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        exec(code, names)
        return names["dx"], names["dgamma"], names["dbeta"]

    return function


@pytest.mark.parametrize("name", BACKWARD)
def test_the_readers_backward_pass_is_right_without_a_change(name):
    assert check(name, backward("")).right


@pytest.mark.parametrize("name", BACKWARD)
@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        (" - xhat * s2 -> ", "dgamma and dbeta are right, dx is not.", "path through the variance"),
        (" - s1 -> ", "dgamma and dbeta are right, dx is not.", "path through the mean"),
        (" - xhat * s2 ->  - s2", "dgamma and dbeta are right, dx is not.", "lacks its factor xhat"),
        ("x.var(axis, keepdims=True) -> x.var(axis, ddof=1, keepdims=True)", "dbeta is right, dx and", "unbiased"),
        ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "dbeta is right, dx and dgamma are not.", "outside the root"),
        ("var + eps -> var", "dbeta is right, dx and dgamma are not.", "eps is forgotten"),
        ("np.sqrt(var + eps) -> (var + eps)", "dbeta is right, dx and dgamma are not.", "divided by var + eps"),
        ("dy * gamma.reshape(shape) -> dy", "dgamma and dbeta are right, dx is not.", "dx lacks gamma"),
        ("dxhat.sum -> dy.sum ;; (dxhat * xhat) -> (dy * xhat)", "dgamma and dbeta are right", "without gamma"),
        ("rstd / m -> gamma.reshape(shape) * rstd / m", "dgamma and dbeta are right", "gamma stands in dx twice"),
        ("rstd / m -> 1 / m", "dgamma and dbeta are right, dx is not.", "factor rstd"),
        ("rstd / m -> 1 / m / np.sqrt(var)", "dgamma and dbeta are right, dx is not.", "in the factor in front"),
        ("rstd / m -> rstd**2 / m", "dgamma and dbeta are right, dx is not.", "dx is divided by var + eps"),
        ("rstd / m -> rstd", "dgamma and dbeta are right, dx is not.", "times too large"),
        ("rstd / m -> -rstd / m", "dgamma and dbeta are right, dx is not.", "wrong sign"),
        ("- s1 -> + s1", "dgamma and dbeta are right, dx is not.", "path through the mean has the wrong sign"),
        ("- xhat -> + xhat", "dgamma and dbeta are right, dx is not.", "path through the variance has the wrong sign"),
        ("- s1 -> - m * s1", "dgamma and dbeta are right, dx is not.", "sum of dxhat is not divided"),
        ("- xhat * s2 -> - m * xhat * s2", "dgamma and dbeta are right", "sum of dxhat * xhat is not divided"),
        (
            "/ m * (m * dxhat -> * (dxhat",
            "dgamma and dbeta are right, dx is not.",
            "sums of dxhat and of dxhat * xhat are",
        ),
        ("(dy * xhat).sum(axis) -> dy.sum(axis)", "dx and dbeta are right, dgamma is not.", "dgamma lacks xhat"),
        ("(dy * xhat) -> (dy * x)", "dx and dbeta are right, dgamma is not.", "from dy * x,"),
        ("(dy * xhat) -> (dy * (x - mean))", "dx and dbeta are right, dgamma is not.", "from dy * (x - mean)"),
        ("= (dy * xhat) -> = (dxhat * xhat)", "dx and dbeta are right, dgamma is not.", "from dxhat * xhat"),
        ("dbeta = dy -> dbeta = dxhat", "dx and dgamma are right, dbeta is not.", "from dxhat, but beta"),
        ("(dy * xhat).sum -> (dy * xhat).mean", "dx and dbeta are right, dgamma is not.", "dgamma is averaged"),
        ("dbeta = dy.sum -> dbeta = dy.mean", "dx and dgamma are right, dbeta is not.", "dbeta is averaged"),
        ("dbeta = dy.sum(axis) -> dbeta = dy", "dx and dgamma are right, dbeta is not.", "dbeta is not summed"),
    ],
)
def test_a_readers_wrong_backward_pass_is_named(name, change, summary, says):
    first, sentence = check(name, backward(change)).sentences
    assert first.startswith(summary)
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("(dy * xhat).sum(axis) -> (dy * xhat).sum(0)", "dgamma is summed over the examples only"),
        ("dbeta = dy.sum(axis) -> dbeta = dy.sum(0)", "dbeta is summed over the examples only"),
        (
            "(dy * xhat).sum(axis) -> (dy * xhat).sum(0) ;; dy.sum(axis) -> dy.sum(0)",
            "dgamma and dbeta are summed over",
        ),
        ("dbeta = dy.sum(axis) -> dbeta = dy.sum((2, 3))", "dbeta is summed over the positions only"),
        ("m * (m * dxhat - s1 - xhat * s2) -> len(x) * (len(x) * dxhat - s1 - xhat * s2)", "are divided by N only"),
    ],
)
def test_mistakes_that_only_images_allow_are_named(change, says):
    _, sentence = check("07-channels", backward(change)).sentences
    assert says in sentence


READERS = {
    "03-whiten": """
def f(x, eps):
    centred = x - x.mean(0)
    C = centred.T @ centred / len(x)
    values, V = np.linalg.eigh(C)
    return centred @ V @ np.diag(1 / np.sqrt(values + eps)) @ V.T
""",
    "02-backward": """
def f(x, weights, dy):
    L = len(weights)
    z, h = [], [x]
    for W in weights:
        z.append(h[-1] @ W)
        h.append(1 / (1 + np.exp(-z[-1])))
    dweights = np.zeros_like(weights)
    dh = dy
    for l in reversed(range(L)):
        dz = dh * h[l + 1] * (1 - h[l + 1])
        dweights[l] = h[l].T @ dz
        dh = dz @ weights[l].T
    return dh, dweights
""",
    "04-orders": """
def f(w, g, lr):
    layers, terms = range(len(w)), []
    for k in range(len(w) + 1):
        total = 0.0
        for chosen in itertools.combinations(layers, k):
            total += np.prod([g[i] if i in chosen else w[i] for i in layers])
        terms.append((-lr) ** k * total)
    return np.array(terms)
""",
    "05-penalty": """
def f(z, lam):
    N, C = z.shape
    mean, var = z.mean(0), z.var(0)
    through_mean = 2 * mean / N
    through_var = 2 * (var - 1) * 2 * (z - mean) / N
    return lam * (through_mean + through_var) / C
""",
    "08-step": """
def f(h, W, gamma, beta, dy, lr, eps):
    z = h @ W
    mean, var = z.mean(0), z.var(0)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (z - mean) * rstd
    y = gamma * xhat + beta
    dgamma = (dy * xhat).sum(0)
    dbeta = dy.sum(0)
    dxhat = dy * gamma
    dz = rstd * (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0))
    dW = h.T @ dz
    return W - lr * dW, gamma - lr * dgamma, beta - lr * dbeta
""",
    "08-adam": """
def f(gamma, grads, lr, beta1, beta2, eps):
    m, v = np.zeros_like(gamma), np.zeros_like(gamma)
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        mhat = m / (1 - beta1**t)
        vhat = v / (1 - beta2**t)
        gamma = gamma - lr * mhat / (np.sqrt(vhat) + eps)
    return gamma, m, v
""",
    "01-weights": """
def f(x, y, w):
    share = w / w.sum()
    x_mean, y_mean = share @ x, share @ y
    c = x - x_mean
    slope = (share @ (c * (y - y_mean))) / (share @ c**2)
    return np.array([y_mean - slope * x_mean, slope]), 1 / (share @ share)
""",
    "09-running": """
def f(means, vars, n, momentum):
    m = momentum
    mean, var = np.zeros_like(means[0]), np.ones_like(vars[0])
    for t in range(len(means)):
        mean = (1 - m) * mean + m * means[t]
        var = (1 - m) * var + m * vars[t] * n / (n - 1)
    return mean, var
""",
    "09-fold": """
def f(W, b, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(var + eps)
    return W * scale, beta + (b - mean) * scale
""",
    "10-pool": """
def f(counts, means, vars):
    n = counts[:, None]
    mean = (n * means).sum(0) / n.sum()
    m2 = (n * vars).sum(0) + (n * (means - mean)**2).sum(0)
    return mean, m2 / n.sum()
""",
    "14-start": """
def f(normals):
    units, inputs = normals.shape
    return normals * (1 / inputs) ** 0.5
""",
    "14-dropout": """
def f(h, kept, keep_prob):
    q, bound = keep_prob, -1.0507009873554805 * 1.6732632423543772
    x = np.where(kept == 1, h, bound)
    var = q + q * (1 - q) * bound**2
    a = 1 / var**0.5
    b = -a * (1 - q) * bound
    return a * x + b
""",
    "12-axes": """
def f(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    g = x.reshape(N, groups, C // groups, L)
    mean = g.mean((2, 3), keepdims=True)
    var = ((g - mean) ** 2).mean((2, 3), keepdims=True)
    xhat = ((g - mean) / np.sqrt(var + eps)).reshape(N, C, L)
    return gamma[:, None] * xhat + beta[:, None]
""",
    "12-scale": """
def f(y, gamma, beta, a):
    xhat = (y - beta) / gamma
    return gamma * np.sign(a) * xhat + beta
""",
    "13-weightnorm": """
def f(dw, v, g):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    unit = v / length
    along = (dw * unit).sum(1, keepdims=True)
    dv = g[:, None] / length * (dw - along * unit)
    dg = (dw * unit).sum(1)
    return dv, dg
""",
    "13-moments": """
def f(mean, var):
    s = np.sqrt(var)
    r = mean / s
    Phi, phi = ndtr(r), np.exp(-(r**2) / 2) * (2 * np.pi) ** -0.5
    first = mean * Phi + s * phi
    second = (mean**2 + var) * Phi + mean * s * phi
    return first, second - first**2
""",
}


def reader(name: str, change: str = ""):
    """A reader's function for an exercise, with some places changed."""
    names: dict[str, Any] = {"np": np, "itertools": itertools, "ndtr": ndtr}
    exec(compile(edited(READERS[name], change), "reader", "exec"), names)
    return names["f"]


@pytest.mark.parametrize("name", READERS)
def test_a_readers_function_is_right_without_a_change(name):
    assert check(name, reader(name)).right


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        ("h[l + 1] * (1 - h[l + 1]) -> z[l] * (1 - z[l])", "dx and dweights are not", "The slope is z * (1 - z)"),
        ("h[l + 1] * (1 - h[l + 1]) -> (1 - h[l + 1]**2)", "dx and dweights are not", "that of tanh"),
        (
            "1 / (1 + np.exp(-z[-1])) -> np.tanh(z[-1]) ;; h[l + 1] * (1 - h[l + 1]) -> (1 - h[l + 1]**2)",
            "dx and dweights are not",
            "The layers are tanh",
        ),
        ("h[l + 1] * (1 - h[l + 1]) -> h[l] * (1 - h[l])", "dx and dweights are not", "at each layer's input"),
        (" * h[l + 1] * (1 - h[l + 1]) -> ", "dx and dweights are not", "forgotten in every layer"),
        (
            "dh * h[l + 1] * (1 - h[l + 1]) -> dh if l == L - 1 else dh * h[l + 1] * (1 - h[l + 1])",
            "dx and dweights are not",
            "The slope of the last layer is forgotten",
        ),
        (  # the network's output without a sigmoid
            "h.append(1 / (1 + np.exp(-z[-1]))) -> "
            "h.append(1 / (1 + np.exp(-z[-1])) if len(z) < L else z[-1]) ;; "
            "dh * h[l + 1] * (1 - h[l + 1]) -> dh if l == L - 1 else dh * h[l + 1] * (1 - h[l + 1])",
            "dx and dweights are not",
            "The slope of the last layer is forgotten",
        ),
        (
            "dh * h[l + 1] * (1 - h[l + 1]) -> dh if l < L - 1 else dh * h[l + 1] * (1 - h[l + 1])",
            "dx and dweights are not",
            "Only the last layer",
        ),
        (
            "dh * h[l + 1] * (1 - h[l + 1]) -> dh ;; @ weights[l].T -> @ weights[l].T * h[l + 1] * (1 - h[l + 1])",
            "dx and dweights are not",
            "one layer late",
        ),
        (
            "dh = dy -> dz = dy * h[L] * (1 - h[L]) ;; dz = dh * h[l + 1] * (1 - h[l + 1]) -> pass ;; "
            "dh = dz @ weights[l].T -> dz = dz @ weights[l].T * h[l] * (1 - h[l]) ;; return dh -> return dz",
            "dweights is right, dx is not",
            "a slope x * (1 - x)",
        ),
        (
            "dh = dz @ weights[l].T -> dh = dh @ weights[l].T",
            "dx and dweights are not",
            "forgotten on the way down",
        ),
        ("h[l].T @ dz -> h[l].T @ dh", "dx is right, dweights is not", "taken from dh"),
        ("weights[l].T -> weights[l]", "dx and dweights are not", "The transpose is forgotten"),
        ("weights[l].T -> weights[l - 1].T", "dx and dweights are not", "weights of the layer below"),
        ("weights[l].T -> weights[L - 1 - l].T", "dx and dweights are not", "order of the way up"),
        ("return dh -> return dz", "dweights is right, dx is not", "the gradient of z_1"),
        ("= dz @ weights[l].T -> = dz @ weights[l].T if l else dh", "dweights is right, dx is not", "stops at h_1"),
        ("h[l].T @ dz -> h[l + 1].T @ dz", "dx is right, dweights is not", "with the layer's output"),
        ("h[l].T @ dz -> (z[l - 1] if l else x).T @ dz", "dx is right, dweights is not", "z of the layer below"),
        ("h[l].T @ dz -> dz.T @ h[l]", "dx is right, dweights is not", "transposed"),
        ("dweights[l] = -> dweights[L - 1 - l] =", "dx is right, dweights is not", "reversed order"),
        ("h[l].T @ dz -> h[l].T @ dz / len(x)", "dx is right, dweights is not", "is averaged"),
        ("dh = dy -> dh = dy / len(x)", "dx and dweights are not", "All gradients are divided by N"),
        ("dh = dy -> dh = -dy", "dx and dweights are not", "wrong sign"),
    ],
)
def test_a_readers_wrong_way_through_the_layers_is_named(change, summary, says):
    first, sentence = check("02-backward", reader("02-backward", change)).sentences
    assert first.startswith(summary)
    assert says in sentence


def test_a_slope_function_that_is_given_the_activation_is_named():
    change = "dh * h[l + 1] * (1 - h[l + 1]) -> dh * (lambda s: s * (1 - s))(1 / (1 + np.exp(-h[l + 1])))"
    _, sentence = check("02-backward", reader("02-backward", change)).sentences
    assert "applied twice" in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (" @ V.T -> ", "This is PCA whitening"),
        ("np.sqrt(values + eps) -> (values + eps)", "divided by the eigenvalue"),
        ("1 / np.sqrt(values + eps) -> np.sqrt(values + eps)", "multiplied by the eigenvalue's root"),
        ("/ len(x) -> / (len(x) - 1)", "divisor N - 1"),
        (" / len(x) -> ", "not divided by N"),
        ("x - x.mean(0) -> x", "mean is never removed"),
        ("return centred -> return x", "for the covariance only"),
        ("x.mean(0) -> x.mean(1, keepdims=True)", "over each row"),
        ("x.mean(0) -> x.mean()", "of all entries"),
        ("centred @ V @ -> centred @ V.T @ ;; @ V.T\n -> @ V\n", "eigenvectors are transposed"),
        ("values + eps -> values", "eps is forgotten"),
        ("np.sqrt(values + eps) -> (np.sqrt(values) + eps)", "added to the root"),
        (
            "centred @ V @ np.diag(1 / np.sqrt(values + eps)) @ V.T -> centred / np.sqrt(centred.var(0) + eps)",
            "standardized only",
        ),
    ],
)
def test_a_readers_wrong_whitening_is_named(change, says):
    _, sentence = check("03-whiten", reader("03-whiten", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("(-lr) ** k -> lr ** k", "The signs are missing"),
        ("(-lr) ** k -> (-1) ** k", "The learning rate is missing"),
        ("(-lr) ** k -> (-1) ** k * (lr if k else 1)", "one factor of the learning rate"),
        ("combinations -> permutations", "counted k! times"),
        ("g[i] if i in chosen else w[i] -> w[i] if i in chosen else g[i]", "exchanged"),
        (
            "total += np.prod([g[i] if i in chosen else w[i] for i in layers]) -> total += np.prod(g[list(chosen)])",
            "outside the set are missing",
        ),
        ("(-lr) ** k * total -> (-lr) ** k * total * (k < 2)", "beyond the first are zero"),
    ],
)
def test_a_readers_wrong_orders_are_named(change, says):
    _, sentence = check("04-orders", reader("04-orders", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("through_mean + through_var -> through_mean + 0 * z", "through the variance is missing"),
        ("through_mean + through_var -> through_var", "through the mean is missing"),
        ("2 * mean / N -> mean / N", "square of the mean has lost"),
        ("2 * mean / N -> 2 * mean", "A factor is missing in the mean's path"),
        ("2 * (var - 1) * 2 -> 2 * (var - 1)", "has lost a factor 2"),
        ("* 2 * (z - mean) / N -> * 2 * (z - mean)", "each square is one of N in the variance"),
        ("* 2 * (z - mean) -> * 2 * z", "it contains z, not the deviation"),
        ("(var - 1) -> var", "pulled to 0"),
        ("z.var(0) -> z.std(0)", "a standard deviation here"),
        ("z.var(0) -> z.var(0, ddof=1)", "unbiased"),
        ("z.mean(0), z.var(0) -> z.mean(1, keepdims=True), z.var(1, keepdims=True)", "of each row"),
        ("return lam * -> return ", "lam is missing"),
        ("return lam -> return -lam", "The sign is turned"),
        (" / C -> ", "not their sum"),
        (" / C -> / N", "examples, not of units"),
    ],
)
def test_a_readers_wrong_penalty_is_named(change, says):
    _, sentence = check("05-penalty", reader("05-penalty", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (" + (n * (means - mean)**2).sum(0) -> ", "The parts' means lie apart"),
        ("n = counts[:, None] -> n = np.ones_like(means[:, :1])", "All parts have the same weight"),
        ("(n * means).sum(0) / n.sum() -> means.mean(0)", "that of the parts' means, unweighted"),
        ("(n * vars).sum(0) -> n.sum() * vars.mean(0)", "variances are averaged unweighted"),
        ("(n * (means - mean)**2).sum(0) -> n.sum() * ((means - mean)**2).mean(0)", "means - mean are averaged"),
        ("(means - mean)**2 -> means**2", "squared as they are"),
        ("+ (n * (means -> - (n * (means", "is subtracted"),
        ("(means - mean)**2 -> abs(means - mean)", "not squared"),
        ("(n * vars).sum(0) -> vars.sum(0)", "a variance is a mean already"),
        ("(n * vars).sum(0) -> n.sum() * vars.sum(0)", "variances are added up"),
        ("(n * means).sum(0) / n.sum() -> means.sum(0)", "means are added up"),
        ("counts[:, None] -> counts[:, None]**2", "squared counts"),
        ("return mean, m2 / n.sum() -> return mean, m2 / (n.sum() - 1)", "The variance is unbiased"),
        ("return mean, m2 / n.sum() -> return mean, m2", "var is M2"),
        ("return mean, m2 / n.sum() -> return mean, np.sqrt(m2 / n.sum())", "the standard deviation"),
    ],
)
def test_a_readers_wrong_pooling_is_named(change, says):
    _, sentence = check("10-pool", reader("10-pool", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("14-start", "1 / inputs -> 2 / inputs", "He's initialization, for ReLU"),
        ("14-start", "1 / inputs -> 2 / (inputs + units)", "Glorot's initialization"),
        ("14-start", " * (1 / inputs) ** 0.5 -> ", "a variance as large as their number"),
        ("14-start", "(1 / inputs) ** 0.5 -> (1 / inputs)", "multiplied by 1/inputs"),
        ("14-start", "1 / inputs -> 1 / units", "the root of the number of units"),
        ("14-start", "1 / inputs -> 1 / (3 * inputs)", "PyTorch's linear layers"),
        ("14-start", "(1 / inputs) -> inputs", "upside down"),
        ("14-start", "* (1 / inputs) ** 0.5 -> / np.linalg.norm(normals, axis=1)[:, None]", "exactly the length 1"),
        ("14-start", "* (1 / inputs) ** 0.5 -> / np.linalg.norm(normals, axis=0)", "Each column has the length 1"),
        (
            "14-start",
            "return normals * (1 / inputs) ** 0.5 -> "
            "w = normals - normals.mean(1)[:, None]; return w / np.linalg.norm(w, axis=1)[:, None]",
            "The rows are centred",
        ),
        ("14-start", "* (1 -> * 1.0507009873554805 * (1", "SELU's scale went into the weights"),
        ("14-dropout", "h, bound) -> h / q, 0) ;; return a * x + b -> return x", "That is plain dropout"),
        ("14-dropout", "h, bound) -> h, 0)", "What is dropped becomes 0"),
        ("14-dropout", "return a * x + b -> return x", "mean and variance are not restored"),
        ("14-dropout", "q, bound = keep_prob -> q, bound = 1 - keep_prob", "not the one that is dropped"),
        ("14-dropout", "1 / var**0.5 -> 1 / var", "lacks the root"),
        ("14-dropout", "1 / var**0.5 -> var**0.5", "The slope is the standard deviation"),
        ("14-dropout", "return a * x + b -> return a * x", "The shift is missing"),
        ("14-dropout", "b = -a -> b = a", "The shift has the other sign"),
        ("14-dropout", "b = -a * -> b = -", "not multiplied by the slope"),
        ("14-dropout", "-a * (1 - q) -> -a * q", "The shift counts the kept share"),
        ("14-dropout", "-1.0507009873554805 * -> -", "The scale is missing in the lower bound"),
        ("14-dropout", "-1.0507009873554805 -> 1.0507009873554805", "The bound has the wrong sign"),
        ("14-dropout", "q * (1 - q) * bound**2 -> (1 - q) * bound**2", "keep_prob is missing"),
        ("14-dropout", "q * (1 - q) * bound**2 -> q * bound**2", "1 - keep_prob is missing"),
        ("14-dropout", "var = q + -> var = 1 +", "bring the variance keep_prob"),
        ("14-dropout", "var = q + q * (1 - q) * bound**2 -> var = q", "part of the variance is missing"),
        ("14-dropout", "* bound**2 -> * bound ;; var**0.5 -> abs(var) ** 0.5", "not squared"),
        ("14-dropout", "kept == 1 -> kept == 0", "turned round"),
        ("14-dropout", "return a * x + b -> return (x - x.mean()) / x.std()", "those of the batch at hand"),
    ],
)
def test_a_readers_wrong_selu_is_named(name, change, says):
    _, sentence = check(name, reader(name, change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (" - along * unit -> ", "The projection is forgotten"),
        ("(dw - along * unit) -> (along * unit)", "what must go"),
        ("dw - along -> dw + along", "is added"),
        ("dw - along * unit -> dw - (dw * v).sum(1, keepdims=True) * v", "uses v in place"),
        ("along * unit -> along * v", "one of them is v"),
        (
            "dw - along * unit -> dw - (dw * g[:, None] * unit).sum(1, keepdims=True) * g[:, None] * unit",
            "uses w",
        ),
        ("along = (dw * unit).sum(1, keepdims=True) -> along = (dw * unit).sum()", "runs over all units"),
        ("g[:, None] / length -> 1 / length", "g is missing"),
        ("g[:, None] / length -> g[:, None]", "not divided by |v|"),
        ("g[:, None] / length -> g[:, None] / length**2", "twice"),
        ("g[:, None] / length -> abs(g[:, None]) / length", "|g| stands for g"),
        ("axis=1 -> axis=0", "over the units, axis 0"),
        ("np.linalg.norm(v, axis=1, keepdims=True) -> np.linalg.norm(v)", "for the whole matrix"),
        ("np.linalg.norm(v, axis=1, keepdims=True) -> (v**2).sum(1, keepdims=True)", "its root is missing"),
        ("dg = (dw * unit).sum(1) -> dg = (dw * v).sum(1)", "dg is not divided"),
        ("dg = (dw * unit).sum(1) -> dg = (dw * unit).sum(0)", "summed over the units"),
        ("dg = (dw * unit).sum(1) -> dg = g * (dw * unit).sum(1)", "multiplied by g"),
        ("dg = (dw * unit).sum(1) -> dg = np.linalg.norm(dw, axis=1)", "the length of dw"),
    ],
)
def test_a_readers_wrong_weight_norm_is_named(change, says):
    sentence = check("13-weightnorm", reader("13-weightnorm", change)).sentences[1]
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("second - first**2 -> second", "var_out is the mean square"),
        ("second - first**2 -> second - mean**2", "not that of relu(z)'s"),
        (
            "mean * Phi + s * phi -> s * (2 * np.pi) ** -0.5 ;; (mean**2 + var) * Phi + mean * s * phi -> var / 2",
            "for mean 0, only scaled",
        ),
        ("np.sqrt(var) -> var", "its root, the standard deviation"),
        ("mean / s -> mean", "taken at the mean."),
        ("mean / s -> mean / var", "taken at mean / var"),
        ("ndtr(r) -> ndtr(-r)", "is cut off"),
        (" * (2 * np.pi) ** -0.5 -> ", "lacks its factor 1 / sqrt(2 pi)"),
        ("(r**2) / 2 -> (r**2)", "exponent lacks a factor"),
        ("mean * Phi + s * phi -> mean * Phi", "missing in the mean."),
        ("Phi + s * phi -> Phi + phi", "lacks its factor, the standard deviation"),
        (" + mean * s * phi -> ", "missing in the mean square"),
        ("+ mean * s * phi -> + 2 * mean * s * phi", "has the factor 2"),
        (
            "return first, second - first**2 -> return first / Phi, second / Phi - (first / Phi) ** 2",
            "z that pass, alone",
        ),
        ("second - first**2 -> np.sqrt(second - first**2)", "is a standard deviation"),
    ],
)
def test_a_readers_wrong_moments_are_named(change, says):
    sentence = check("13-moments", reader("13-moments", change)).sentences[1]
    assert says in sentence


OVER = "g.mean((2, 3), -> g.mean({0}, ;; - mean) ** 2).mean((2, 3), -> - mean) ** 2).mean({0},"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (OVER.format("(0, 2, 3)"), "run over the batch as well"),
        (OVER.format("3"), "as in instance norm"),
        (OVER.format("2"), "position by position"),
        (OVER.format("(1, 2, 3)"), "groups is not used"),
        (OVER.format("(0, 3)"), "as in batch norm"),
        (OVER.format("(0, 1, 2, 3)"), "run over everything"),
        ("(N, groups, C // groups, L) -> (N, C // groups, groups, L) ;; " + OVER.format("(1, 3)"), "every groups-th"),
        ("(N, groups, C // groups, L) -> (N, C // groups, groups, L)", "Number and size"),
        ("((g - mean) ** 2).mean((2, 3), keepdims=True) -> g.var((2, 3), ddof=1, keepdims=True)", "is unbiased"),
        ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "outside the root"),
        ("var + eps -> var", "eps is forgotten"),
        ("var + eps -> var + 1e-5", "eps is fixed at 1e-5"),
        ("np.sqrt(var + eps) -> (var + eps)", "its root is missing"),
        ("mean = g.mean((2, 3), keepdims=True) -> mean = 0", "that is RMS norm"),
        ("((g - mean) ** 2) -> (g**2)", "taken about zero"),
        ("((g - mean) / np -> (g / np", "not subtracted in front"),
        (
            "g = x.reshape -> g = (gamma[:, None] * x).reshape ;; gamma[:, None] * xhat -> xhat",
            "gamma multiplies x before",
        ),
        ("gamma[:, None] * xhat -> xhat", "gamma is forgotten"),
        (" + beta[:, None] -> ", "beta is forgotten"),
        ("gamma[:, None] * xhat + beta[:, None] -> beta[:, None] * xhat + gamma[:, None]", "changed places"),
        ("gamma[:, None] * xhat + beta[:, None] -> gamma[:, None] * (xhat + beta[:, None])", "before gamma multiplies"),
    ],
)
def test_a_readers_wrong_group_norm_is_named(change, says):
    _, sentence = check("12-axes", reader("12-axes", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("np.sign(a) * -> ", "not invariant for every a"),
        ("np.sign(a) -> a", "multiplied by a."),
        ("np.sign(a) -> abs(a)", "multiplied by |a|"),
        ("np.sign(a) * xhat -> xhat / a", "divided by a,"),
        ("np.sign(a) * xhat -> xhat / abs(a)", "divided by |a|"),
        ("* np.sign(a) * xhat -> * -xhat", "even where a is positive"),
        ("gamma * np.sign(a) * xhat + beta -> np.sign(a) * y", "does not see a"),
        ("gamma * np.sign(a) * xhat + beta -> gamma * np.sign(a) * xhat", "not added again"),
        ("(y - beta) / gamma -> y - beta", "gamma is multiplied a second time"),
        ("gamma * np.sign(a) -> np.sign(a)", "gamma is lost"),
        (
            "xhat = (y - beta) / gamma -> m = y.mean(1, keepdims=True) ;; "
            "gamma * np.sign(a) * xhat + beta -> np.sign(a) * (y - m) + m",
            "its own mean",
        ),
    ],
)
def test_a_readers_wrong_scale_is_named(change, says):
    _, sentence = check("12-scale", reader("12-scale", change)).sentences
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        ("m = momentum -> m = 1 - momentum", "mean and var are not", "other direction"),
        (" * n / (n - 1) -> ", "mean is right, var is not", "averaged as they are"),
        ("n / (n - 1) -> (n - 1) / n", "mean is right, var is not", "upside down"),
        ("n / (n - 1) -> (n + 1) / n", "mean is right, var is not", "(n + 1)/n"),
        ("np.ones_like(vars[0]) -> np.zeros_like(vars[0])", "mean is right, var is not", "starts at 1, not at 0"),
        ("np.zeros_like(means[0]) -> np.ones_like(means[0])", "var is right, mean is not", "starts at 0, not at 1"),
        (
            "np.zeros_like(means[0]), np.ones_like(vars[0]) -> means[0], vars[0] * n / (n - 1)",
            "mean and var are not",
            "The first batch starts the averages",
        ),
        (
            "return mean, var -> left = 1 - (1 - m) ** len(means); return mean / left, var / left",
            "mean and var are not",
            "Adam's correction",
        ),
        ("    mean = (1 -  ->     m = 1 / (t + 1); mean = (1 - ", "mean and var are not", "weigh the same"),
        ("range(len(means)) -> reversed(range(len(means)))", "mean and var are not", "from the last to the first"),
        ("range(len(means)) -> range(len(means) - 1)", "mean and var are not", "The last batch is missing"),
        ("range(len(means)) -> range(1, len(means))", "mean and var are not", "The first batch is missing"),
        ("m * vars[t] * n / (n - 1) -> m * np.sqrt(vars[t] * n / (n - 1))", "mean is right", "Standard deviations"),
        ("m * means[t] -> m * means[t] * n / (n - 1)", "var is right, mean is not", "on the means, too"),
    ],
)
def test_a_readers_wrong_running_statistics_are_named(change, summary, says):
    first, sentence = check("09-running", reader("09-running", change)).sentences
    assert summary in first
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        ("(b - mean) -> (-mean)", "W_new is right, b_new is not", "own bias b is forgotten"),
        ("(b - mean) -> b", "W_new is right, b_new is not", "running mean is missing"),
        ("(b - mean) -> (b + mean)", "W_new is right, b_new is not", "sign in the bias is turned"),
        ("beta + (b -> (b", "W_new is right, b_new is not", "beta is missing"),
        ("beta + (b - mean) -> (beta + b - mean)", "W_new is right, b_new is not", "beta is multiplied by the scale"),
        ("gamma / -> 1 / ", "W_new and b_new are not", "gamma is missing"),
        ("np.sqrt(var + eps) -> (var + eps)", "W_new and b_new are not", "divides by the variance"),
        ("(var + eps) -> (var)", "W_new and b_new are not", "eps is forgotten"),
        ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "W_new and b_new are not", "outside the root"),
        ("W * scale -> W", "b_new is right, W_new is not", "not scaled"),
        ("beta + (b - mean) * scale -> beta + b - mean * scale", "W_new is right", "added after the scale"),
        ("beta + (b - mean) * scale -> beta - mean + b * scale", "W_new is right", "The mean is not scaled"),
    ],
)
def test_a_readers_wrong_fold_is_named(change, summary, says):
    first, sentence = check("09-fold", reader("09-fold", change)).sentences
    assert summary in first
    assert says in sentence


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        (" - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0) -> ", "gamma_new and beta_new are right", "as constants"),
        (" - xhat * (dxhat * xhat).mean(0) -> ", "gamma_new and beta_new are right", "through the variance"),
        (" - dxhat.mean(0) -> ", "gamma_new and beta_new are right", "through the mean"),
        ("= rstd * (dxhat -> = (dxhat", "gamma_new and beta_new are right", "factor rstd"),
        ("dxhat = dy * gamma -> dxhat = dy", "gamma_new and beta_new are right", "dz lacks gamma"),
        (
            "dxhat = dy -> gamma = gamma - lr * dgamma; dxhat = dy ;; gamma - lr * dgamma, beta -> gamma, beta",
            "gamma_new and beta_new are right",
            "before dz is computed",
        ),
        ("z.var(0) -> z.var(0, ddof=1)", "beta_new is right", "unbiased"),
        ("np.sqrt(var + eps) -> np.sqrt(var)", "beta_new is right", "eps is forgotten"),
        ("np.sqrt(var + eps) -> np.sqrt(var + 1e-5)", "beta_new is right", "eps is fixed at 1e-5"),
        ("np.sqrt(var + eps) -> (var + eps)", "beta_new is right", "z - mean is divided by var + eps"),
        ("h.T @ dz -> h.T @ dy", "gamma_new and beta_new are right", "past batch norm"),
        ("h.T @ dz -> h.T @ dxhat", "gamma_new and beta_new are right", "lies before the normalization"),
        ("h.T @ dz -> z.T @ dz", "gamma_new and beta_new are right", "with the layer's output"),
        ("h.T @ dz -> xhat.T @ dz", "gamma_new and beta_new are right", "with the normalized output"),
        ("h.T @ dz -> dz.T @ h", "gamma_new and beta_new are right", "transposed"),
        ("(dy * xhat).sum(0) -> (dy * y).sum(0)", "W_new and beta_new are right", "from dy * y"),
        ("(dy * xhat).sum(0) -> (dy * z).sum(0)", "W_new and beta_new are right", "from dy * z"),
        ("(dy * xhat).sum(0) -> dy.sum(0)", "W_new and beta_new are right", "dgamma lacks xhat"),
        ("(dy * xhat).sum(0) -> dy * xhat", "W_new and beta_new are right", "dgamma is not summed"),
        ("= dy.sum(0) -> = dy", "W_new and gamma_new are right", "dbeta is not summed"),
        ("gamma - lr * dgamma, beta - lr * dbeta -> gamma - lr * dbeta, beta - lr * dgamma", "W_new", "changed places"),
        ("z = h -> lr = -lr; z = h", "W_new, gamma_new and beta_new are not", "All steps go uphill"),
        ("z = h -> lr = 1; z = h", "W_new, gamma_new and beta_new are not", "forgotten in all steps"),
        ("z = h -> lr = lr * lr; z = h", "W_new, gamma_new and beta_new are not", "applied twice"),
        ("z = h -> dy = dy / len(h); z = h", "W_new, gamma_new and beta_new are not", "All gradients are divided by N"),
        ("gamma - lr * dgamma -> gamma + lr * dgamma", "W_new and beta_new are right", "gamma goes uphill"),
        ("beta - lr * dbeta -> beta", "W_new and gamma_new are right", "beta stays as it was"),
        ("W - lr * dW -> W - dW", "gamma_new and beta_new are right", "forgotten for W"),
        ("(dy * xhat).sum(0) -> (dy * xhat).mean(0)", "W_new and beta_new are right", "dgamma is divided by N"),
        ("beta - lr * dbeta -> dbeta", "W_new and gamma_new are right", "dbeta is returned"),
    ],
)
def test_a_readers_wrong_step_is_named(change, summary, says):
    first, sentence = check("08-step", reader("08-step", change)).sentences
    assert first.startswith(summary)
    assert says in sentence


def test_a_step_uphill_for_two_of_three_names_these_two():
    change = "W - lr -> W + lr ;; gamma - lr -> gamma + lr"
    first, *others = check("08-step", reader("08-step", change)).sentences
    assert first == "beta_new is right, W_new and gamma_new are not."
    assert others == ["W goes uphill.", "gamma goes uphill."]


def test_a_step_in_place_is_named_with_the_argument():
    function = reader("08-step", "return W - lr * dW -> W -= lr * dW; return W")
    diagnosis = check("08-step", function)
    assert not diagnosis.right
    assert diagnosis.sentences == ("The numbers are right, but:", "The function changes its argument W.")
    assert diagnosis.remedies == ("Write W = W - a, not W -= a.",)


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        (" / (1 - beta1**t) ->  ;;  / (1 - beta2**t) -> ", "m and v are right", "The bias correction is forgotten"),
        (" / (1 - beta1**t) -> ", "m and v are right", "The bias correction of m is forgotten"),
        (" / (1 - beta2**t) -> ", "m and v are right", "The bias correction of v is forgotten"),
        ("start=1 -> start=2", "m and v are right", "counted from 2"),
        ("beta1**t -> beta1 ;; beta2**t -> beta2", "m and v are right", "1 - beta1 and 1 - beta2 in every step"),
        ("beta1**t -> beta1 ** len(grads) ;; beta2**t -> beta2 ** len(grads)", "m and v are right", "take the last t"),
        (
            "v / (1 - beta2**t) -> v ;; np.sqrt(vhat) -> np.sqrt(vhat) / (1 - beta2**t)",
            "m and v are right",
            "behind its root",
        ),
        ("mhat = m -> mhat = m = m ;; vhat = v -> vhat = v = v", "gamma_new, m and v are not", "corrected m and v go"),
        ("mhat = m -> mhat = m = m", "v is right", "The corrected m goes"),
        ("vhat = v -> vhat = v = v", "m is right", "The corrected v goes"),
        ("gamma, m, v\n -> gamma, mhat, v\n", "gamma_new and v are right", "The m that is returned"),
        ("gamma, m, v\n -> gamma, m, vhat\n", "gamma_new and m are right", "The v that is returned"),
        ("(np.sqrt(vhat) + eps) -> np.sqrt(vhat + eps)", "m and v are right", "inside the root"),
        ("vhat) + eps -> vhat)", "m and v are right", "eps is forgotten"),
        ("vhat) + eps -> vhat) + 1e-8", "m and v are right", "eps is fixed at 1e-8"),
        (
            "lr * mhat / (np.sqrt(vhat) + eps) -> lr * (1 - beta2**t) ** 0.5 * mhat / (np.sqrt(v) + eps)",
            "m and v are right",
            "shorter form",
        ),
        ("np.sqrt(vhat) -> vhat", "m and v are right", "The root is forgotten"),
        ("g**2 -> g", "m is right", "v averages the gradients"),
        (
            "m, v = np -> beta1, beta2 = beta2, beta1; m, v = np",
            "gamma_new, m and v are not",
            "beta1 and beta2 have changed places",
        ),
        ("beta1 * m + (1 - beta1) * g -> (1 - beta1) * m + beta1 * g", "v is right", "changed places in m."),
        ("beta2 * v + (1 - beta2) * g -> (1 - beta2) * v + beta2 * g", "m is right", "changed places in v."),
        ("(1 - beta1) * g -> g", "v is right", "m lacks the factor"),
        ("(1 - beta2) * g -> g", "m is right", "v lacks the factor"),
        ("lr * mhat -> lr * g", "m and v are right", "along the gradient itself"),
        ("gamma - lr -> gamma + lr", "m and v are right", "The sign is wrong"),
        ("lr * mhat -> mhat", "m and v are right", "The learning rate is forgotten"),
        ("        gamma = -> \n    gamma =", "m and v are right", "only the last step"),
    ],
)
def test_a_readers_wrong_adam_is_named(change, summary, says):
    first, sentence = check("08-adam", reader("08-adam", change)).sentences
    assert first.startswith(summary)
    assert says in sentence


def test_adams_steps_counted_from_zero_are_located_as_a_division():
    with np.errstate(all="ignore"):
        first, sentence = check("08-adam", reader("08-adam", "start=1 -> start=0")).sentences
    assert first == "m and v are right, gamma_new is not."
    assert sentence.startswith("gamma_new[0] is nan")
    assert "look for a division by zero" in sentence


# Several mistakes at once


@pytest.mark.parametrize(
    ("change", "summary", "says"),
    [
        (
            " - xhat * s2 ->  ;; (dy * xhat).sum(axis) -> dy.sum(axis)",
            "dbeta is right, dx and dgamma are not.",
            ["dx lacks the path through the variance", "dgamma lacks xhat"],
        ),
        (
            "x.var(axis, keepdims=True) -> x.var(axis, ddof=1, keepdims=True) ;; - s1 -> ",
            "dbeta is right, dx and dgamma are not.",
            ["path through the mean", "unbiased"],
        ),
        (  # three, each output by itself
            " - s1 ->  ;; (dy * xhat).sum -> (dy * xhat).mean ;; dbeta = dy -> dbeta = dxhat",
            "dx, dgamma and dbeta are not right.",
            ["path through the mean", "dgamma is averaged", "dbeta is summed from dxhat"],
        ),
        (  # three, of which two outputs share one
            "var + eps -> var ;;  - s1 ->  ;; (dy * xhat).sum -> (dy * xhat).mean",
            "dbeta is right, dx and dgamma are not.",
            ["path through the mean", "eps is forgotten", "dgamma is averaged"],
        ),
    ],
)
def test_several_mistakes_are_named_together(change, summary, says):
    first, *others = check("07-backward", backward(change)).sentences
    assert first == summary
    assert len(others) == len(says)
    assert all(part in sentence for part, sentence in zip(says, others, strict=True)), others


def test_a_mistake_that_explains_two_outputs_is_named_once():
    """Unbiased variance in both; dgamma alone could also be explained by the variant in which dx does not follow."""
    exercise = EXERCISES["07-backward"]
    follows, no_path, averaged = (
        next(m for m in exercise.mistakes if part in m.seen)
        for part in ("dx follows it", "path through the mean", "dgamma is averaged")
    )
    diagnosis = check("07-backward", with_mistakes(exercise, no_path, follows, averaged))
    assert set(diagnosis.sentences[1:]) == set(sentences(no_path, follows, averaged))


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
    def function(dy, x, gamma, eps):
        dx, dgamma, dbeta = backward("dbeta = dy.sum -> dbeta = dy.mean")(dy, x, gamma, eps)
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


# Right, in any style


def by_loops(dy, x, gamma, eps):
    n, channels = x.shape
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    for c in range(channels):
        mean = sum(x[:, c]) / n
        rstd = (sum((v - mean) ** 2 for v in x[:, c]) / n + eps) ** -0.5
        for i in range(n):
            dbeta[c] += dy[i, c]
            dgamma[c] += dy[i, c] * (x[i, c] - mean) * rstd
        for i in range(n):
            xhat = (x[i, c] - mean) * rstd
            dx[i, c] = gamma[c] * rstd * (dy[i, c] - dbeta[c] / n - xhat * dgamma[c] / n)
    return dx, dgamma, dbeta


def by_einsum(dy, x, gamma, eps):
    n = len(x)
    centred = x - np.einsum("nc->c", x) / n
    rstd = (np.einsum("nc,nc->c", centred, centred) / n + eps) ** -0.5
    xhat = np.einsum("nc,c->nc", centred, rstd)
    dgamma, dbeta = np.einsum("nc,nc->c", dy, xhat), np.einsum("nc->c", dy)
    return np.einsum("c,c,nc->nc", gamma, rstd, dy - dbeta / n - xhat * dgamma / n), dgamma, dbeta


def as_lists(dy, x, gamma, eps):
    return [a.tolist() for a in right_backward(dy, x, gamma, eps)]


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
    assert "changes its argument x." in sentence
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
        ("14-start", lambda normals: normals / np.sqrt(normals.shape[1]), "np.sqrt of a plain number"),
        ("14-start", lambda normals: normals * np.ones(normals.shape) * normals.shape[1] ** -0.5, "np.ones(...) makes"),
        (
            "01-weights",
            lambda x, y, w: (np.polyfit(x, y, 1, w=w**0.5)[::-1], w.sum() ** 2 / (w**2).sum()),
            "polyfit may compute in float64",
        ),
        ("14-start", lambda normals: normals * np.float64(normals.shape[1] ** -0.5), "Look for an np.float64 scalar"),
        ("14-start", lambda normals: normals * (lambda: np.eye(2)[0, 0])() * normals.shape[1] ** -0.5, "np.eye(...)"),
        ("14-start", functools.partial(lambda normals: normals / np.sqrt(normals.shape[1])), "np.float64 scalar"),
    ],
)
def test_the_remedy_for_a_dtype_is_that_of_its_probable_cause(name, function, cause):
    diagnosis = check(name, function)
    assert diagnosis.right
    assert "float64" in diagnosis.sentences[1]
    (remedy,) = diagnosis.remedies
    assert cause in remedy
    assert ".dtype" in remedy


def test_a_complex_result_without_imaginary_part_is_right():
    diagnosis = check("06-batch-norm", lambda *arguments: right_forward(*arguments) + 0j)
    assert diagnosis.right
    assert not check("06-batch-norm", lambda *arguments: right_forward(*arguments) + 1e-3j).right


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


@pytest.mark.parametrize("name", [name for name in EVERY if len(EXERCISES[name].outputs) > 1])
def test_outputs_in_another_order_are_told(name):
    outputs = EXERCISES[name].outputs
    for order in list(itertools.permutations(range(len(outputs))))[1:]:

        def moved(*arguments, order=order):
            given = RIGHT[name](*arguments)
            return tuple(given[i] for i in order)

        diagnosis = check(name, moved)
        assert not diagnosis.right
        seen = f"The outputs are right, but in another order: return {', '.join(outputs)}."
        assert diagnosis.sentences == (seen,)
        assert repr(diagnosis.hint()) == "What was seen says it all."


def test_numbers_in_other_wrappings_are_read():
    objects = check("06-batch-norm", lambda *a: np.frompyfunc(float, 1, 1)(right_forward(*a)))
    assert objects.sentences == ("Right: y agrees with the reference.",)
    whole = check("06-batch-norm", lambda x, *_: torch.ones(x.shape, dtype=torch.bfloat16))
    assert whole.sentences[1].startswith("y shows none of the mistakes I know: y[0, 0] is 1, should be ")
    assert len(whole.sentences) == 2
    three = check("06-batch-norm", lambda x, *_: np.full(x.shape, None))
    assert three.sentences == ("y is a ndarray that does not hold real numbers: return an array.",)


def test_what_is_masked_is_refused():
    seen = ("y is masked, and what is masked is no number: return an array without.",)
    assert check("06-batch-norm", lambda *a: np.ma.array(right_forward(*a), mask=True)).sentences == seen
    assert check("06-batch-norm", lambda *a: list(np.ma.array(right_forward(*a), mask=True))).sentences == seen
    assert check("06-batch-norm", lambda *a: np.ma.array(right_forward(*a))).right


ONE = [(name, o) for name in EVERY for o in EXERCISES[name].outputs if len(EXERCISES[name].outputs) > 1]


@pytest.mark.parametrize(("name", "output"), ONE)
def test_what_is_right_stays_right_in_what_is_named(name, output):
    """Wrong in one output alone: no mistake that is named contradicts the summary, as it would change another."""
    exercise = EXERCISES[name]
    changing = [m for m in exercise.mistakes if exercise.run(m)[0][output].shape == exercise.run()[0][output].shape]
    for mistake in random.Random(0).sample(changing, min(len(changing), 12)):

        def function(*arguments, mistake=mistake):
            right, wrong = (with_mistakes(exercise, *m)(*arguments) for m in ((), (mistake,)))
            return tuple(w if n == output else r for n, r, w in zip(exercise.outputs, right, wrong, strict=True))

        seen = check(name, function).sentences
        named = exercise.run(*(m for m in exercise.mistakes if m.seen in seen))
        for a, b in zip(named, exercise.run(), strict=True):
            for other in set(exercise.outputs) - {output}:
                np.testing.assert_allclose(a[other], b[other], rtol=1e-5, err_msg=str(seen))


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"no exercise '7'.*06-batch-norm.*07-channels"):
        check("7", right_backward)
    with pytest.raises(ValueError, match="no exercise"):
        check(["06"], right_forward)  # type: ignore[arg-type]


def test_what_is_not_a_function_is_refused():
    with pytest.raises(ValueError, match="a tuple is not a function"):
        check("07-backward", (1, 2, 3))  # type: ignore[arg-type]


# Single precision


def one_pass(x, gamma, beta, eps):
    mean = x.mean(0)
    return gamma * (x - mean) / np.sqrt((x**2).mean(0) - mean**2 + eps) + beta


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
    off = check("13-weightnorm", lambda *a: tuple(b + (b.dtype == torch.float32) for b in weights_by_torch(*a)))
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


@pytest.mark.parametrize("name", [name for name in EVERY if EXERCISES[name].far])
def test_the_call_in_single_precision_is_right_for_the_reference(name):
    """In float32 itself the reference is right far out; what it is compared with is right for just these arguments."""
    far = EXERCISES[name].far
    assert far
    for around in (0.0, FAR):
        draw = {k: np.float32(a) if isinstance(a, np.ndarray) else a for k, a in far.around(around).items()}
        exact = {k: np.float64(a) if isinstance(a, np.ndarray) else a for k, a in draw.items()}
        rounded, expected = EXERCISES[name].run(draws=[draw, exact])
        for output, a in expected.items():
            assert rounded[output].dtype == np.float32
            assert a.dtype == np.float64
            assert abs(rounded[output] - a).max() < far.tolerance / 5 * abs(a).max()


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
    diagnosis = check("07-backward", backward(" - s1 -> "))
    for part in ("arguments", "expected", "given"):
        for values in getattr(diagnosis, part).values():
            if isinstance(values, np.ndarray):
                values += 1
    again = check("07-backward", backward(" - s1 -> "))
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


# eps


@pytest.mark.parametrize("name", WITH_EPS)
def test_a_fixed_eps_is_told_from_a_forgotten_one(name):
    """By functions of bnlib and PyTorch, to which another eps is passed; by the reference, where they refuse 0."""

    def with_eps(value):
        reference = with_mistakes(EXERCISES[name])
        place = list(EXERCISES[name].draws[0]).index("eps")

        def function(*arguments):
            own = [*arguments[:place], value, *arguments[place + 1 :]]
            return RIGHT[name](*own) if value else reference(*own)

        return function

    assert len(WITH_EPS) == 9
    for text in ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12"):
        assert check(name, with_eps(float(text))).sentences[1:] == (f"eps is fixed at {text}, whatever is passed.",)
    assert check(name, with_eps(0.0)).sentences[1:] == ("eps is forgotten: it has no effect on the result.",)


# What it needs


def test_the_checker_works_without_scipy():
    code = """
import sys
sys.modules["scipy"] = None
from bnlib.exercises import check
print(check("13-moments", lambda mean, var: (mean, var)).sentences[0])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "mean_out and var_out are not right.\n"


# Three at once


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("06-batch-norm", ("unbiased", "eps is fixed at 1e-5", "gamma is forgotten")),
        ("12-axes", ("as in layer norm", "unbiased", "eps stands outside")),
        ("03-whiten", ("PCA", "divisor N - 1", "mean is never removed")),
        ("07-backward", ("path through the mean is counted twice", "dx lacks gamma", "eps is missing in the factor")),
        ("09-running", ("momentum has the other direction.", "biased", "starts at 1, not at 0")),
        (  # four, of which three are in dx, among too many to try all threes
            "07-backward",
            (
                "divided by N - 1. The",
                "eps is fixed at 1e-5",
                "dx lacks the path through the mean",
                "dbeta is averaged",
            ),
        ),
        ("08-adam", ("bias correction of m is", "eps stands inside", "sign is wrong")),
    ],
)
def test_three_mistakes_at_once_are_named(name, parts):
    mistakes = [next(m for m in EXERCISES[name].mistakes if part in m.seen) for part in parts]
    diagnosis = check(name, with_mistakes(EXERCISES[name], *mistakes))
    assert set(diagnosis.sentences[1:]) == set(sentences(*mistakes))


def test_a_mistake_that_can_be_made_in_many_ways_is_seen_by_what_it_keeps():
    """Any rotation behind ZCA's, with eps forgotten besides."""

    def function(x, eps):
        return whiten_by_svd(x, 1e-7) @ np.linalg.qr(np.arange(x.shape[1] ** 2).reshape(x.shape[1], -1) ** 0.5)[0]

    rotated, fixed = check("03-whiten", function).sentences[1:3]
    assert "another rotation" in rotated
    assert fixed == "eps is fixed at 1e-7, whatever is passed."


# How it reads


def test_the_repr_is_the_text_in_lines_that_a_page_shows():
    diagnosis = check("07-backward", backward(" - xhat * s2 -> "))
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
    every = [m for name in EVERY for m in EXERCISES[name].mistakes]
    texts = [repr(Diagnosis(False, (m.seen, m.seen), (m.remedy or m.seen, m.seen))) for m in every]
    texts += [repr(Diagnosis(False, (), (m.remedy or m.seen, m.seen)).hint()) for m in every]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 79
    lines = [line for m in every for line in repr(Diagnosis(False, (m.seen, m.seen), (m.remedy or "",))).splitlines()]
    assert sum(line.lstrip().startswith("- ") for line in lines) == len(every), "a minus looks like an item"


def test_several_remedies_are_a_list_and_none_says_so():
    hint = check("09-running", reader("09-running", "m = momentum -> m = 1 - momentum ;; * n / (n - 1) -> ")).hint()
    assert repr(hint).splitlines()[0] == "- As in PyTorch, it is the weight of the new batch: (1 - momentum) * old +"
    assert repr(hint).count("\n- ") == 1
    assert repr(check("06-channels", right_forward).hint()) == "Nothing has to be mended."
    without = check("09-running", reader("09-running", "range(len(means)) -> range(len(means) - 1)"))
    assert repr(without.hint()) == "What was seen says it all."
    assert ".hint()" not in repr(without)


def test_a_right_answer_prints_one_line():
    assert repr(check("06-channels", right_forward)) == "Right: y agrees with the reference."


def test_a_diagnosis_is_a_value_and_comes_out_the_same_each_time():
    first, second = (check("07-channels", backward(" - s1 -> ")) for _ in range(2))
    assert first == second
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.right = True  # type: ignore[misc]
