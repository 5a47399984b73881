"""Chapter 2: backpropagation through L sigmoid layers.

Arrays hold all layers, the first layer first: h is (L + 1, N, C), h[0] the input; z, the slopes and dz are (L, N, C),
as a layer's gradient is (C, C).
"""

import math
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _sigmoid_slope(a: np.ndarray) -> np.ndarray:
    """The sigmoid's derivative, from its value."""
    return a * (1 - a)


def _up(v: SimpleNamespace) -> np.ndarray:
    h = [v.x]
    for w in v.weights:
        h.append(v.activation(h[-1] @ w))
    return np.stack(h)


def _down(v: SimpleNamespace) -> np.ndarray:
    dh = [v.top]
    for w_t, slope in zip(v.transposed[::-1], v.slopes_down[::-1], strict=True):
        dh.append(dh[-1] * slope @ w_t)
    return np.stack(dh[::-1])


def _transposed(a: np.ndarray) -> np.ndarray:
    """Each layer's matrix transposed."""
    return a.transpose(0, 2, 1)


_LAYERS: dict[str, Step] = {
    "activation": lambda v: _sigmoid,
    "h": _up,
    "z": lambda v: v.h[:-1] @ v.weights,
    "slopes": lambda v: _sigmoid_slope(v.h[1:]),
    "slopes_down": lambda v: v.slopes,  # those between dh and the layer below
    "transposed": lambda v: _transposed(v.weights),  # what dz is multiplied by on the way down
    "top": lambda v: v.dy,  # the gradient of h_L
    "dh": _down,
    "dz": lambda v: v.dh[1:] * v.slopes,
    "dx": lambda v: v.dh[0],
    "inside": lambda v: v.h[:-1],  # the two factors of the weights' gradient
    "outside": lambda v: v.dz,
    "share": lambda v: 1,
    "products": lambda v: _transposed(v.inside) @ v.outside / v.share,
    "dweights": lambda v: v.products,
}


def _layers_mistakes() -> tuple[Mistake, ...]:
    slope = "The slope is h * (1 - h), with the activation h = sigmoid(z)."
    return (
        Mistake("The slope is z * (1 - z), of the sum in front of the sigmoid.", slope,
                slopes=lambda v: _sigmoid_slope(v.z)),
        Mistake("The sigmoid is applied twice in the slope. h is sigmoid(z) already.", slope,
                slopes=lambda v: _sigmoid_slope(_sigmoid(v.h[1:]))),
        Mistake("The slope is taken at each layer's input. It belongs to the layer's output.",
                "Layer l has h_l * (1 - h_l).",
                slopes=lambda v: _sigmoid_slope(v.h[:-1])),
        Mistake("The slope is that of tanh, 1 - h**2.", slope, slopes=lambda v: 1 - v.h[1:] ** 2),
        Mistake(
            "The layers are tanh, and the gradient follows them. This network has sigmoids.",
            "h = 1 / (1 + np.exp(-z)), with slope h * (1 - h).",
            activation=lambda v: np.tanh,
            slopes=lambda v: 1 - v.h[1:] ** 2,
        ),
        Mistake("The sigmoid's slope is forgotten in every layer.", "dz is dh * h * (1 - h).",
                slopes=lambda v: np.ones_like(v.z)),
        Mistake(
            "The slope of the last layer is forgotten: dy is the gradient of h_L, behind the sigmoid.",
            "dz_L is dy * h_L * (1 - h_L).",
            slopes=lambda v: np.concatenate([_sigmoid_slope(v.h[1:-1]), np.ones_like(v.z[-1:])]),
        ),
        Mistake(
            "Only the last layer has its slope. Each layer below has one, too.",
            "dz_l is dh_l * h_l * (1 - h_l) in all of them.",
            slopes=lambda v: np.concatenate([np.ones_like(v.z[:-1]), _sigmoid_slope(v.h[-1:])]),
        ),
        Mistake(
            "The slope comes one layer late, behind the multiplication by W_l.T.",
            "Multiply by it first: dz_l = dh_l * h_l * (1 - h_l), then dz_l @ W_l.T.",
            slopes=lambda v: np.concatenate([_sigmoid_slope(v.h[2:]), np.ones_like(v.z[-1:])]),
            dx=lambda v: v.dh[0] * _sigmoid_slope(v.h[1]),
        ),
        Mistake(
            "dx is multiplied by a slope x * (1 - x). But x is no sigmoid's output.",
            "dx is dz_1 @ W_1.T.",
            dx=lambda v: v.dh[0] * _sigmoid_slope(v.x),
        ),
        Mistake(
            "The slopes are forgotten on the way down.",
            "What is multiplied by W.T is dz = dh * h * (1 - h), not dh.",
            slopes_down=lambda v: np.ones_like(v.z),
        ),
        Mistake(
            "The weights' gradient is taken from dh, without the slope.",
            "Take it from dz: h.T @ dz.",
            outside=lambda v: v.dh[1:],
        ),
        Mistake(
            "The transpose is forgotten on the way down.",
            "z is h @ W, so dh is dz @ W.T.",
            transposed=lambda v: v.weights,
        ),
        Mistake(
            "On the way down, dz_l meets the weights of the layer below. z_l was made by W_l.",
            "Take dz_l @ W_l.T.",
            transposed=lambda v: _transposed(np.roll(v.weights, 1, axis=0)),
        ),
        Mistake(
            "The weights are in the order of the way up.",
            "On the way down the last layer comes first.",
            transposed=lambda v: _transposed(v.weights[::-1]),
        ),
        Mistake(
            "dx is the gradient of z_1. One more step leads to x.",
            "dx is dz_1 @ W_1.T.",
            dx=lambda v: v.dz[0],
        ),
        Mistake(
            "dx stops at h_1. One more layer leads to x.",
            "dx is dz_1 @ W_1.T.",
            dx=lambda v: v.dh[1],
        ),
        Mistake(
            "The weights' gradient is taken with the layer's output. W_l multiplies the layer's input.",
            "Take input.T @ dz_l.",
            inside=lambda v: v.h[1:],
        ),
        Mistake(
            "The weights' gradient is taken with z of the layer below, but W_l multiplies its activation.",
            "Take h.T @ dz, with h = sigmoid(z).",
            inside=lambda v: np.concatenate([v.h[:1], v.z[:-1]]),
        ),
        Mistake(
            "The weights' gradients are transposed: they must have the inputs as rows, as W has.",
            "Take h.T @ dz, not dz.T @ h.",
            products=lambda v: _transposed(v.outside) @ v.inside / v.share,
        ),
        Mistake(
            "The weights' gradients are in reversed order: the way down finds the last one first.",
            "dweights[0] belongs to the first layer.",
            dweights=lambda v: v.products[::-1],
        ),
        Mistake(
            "The weights' gradient is averaged over the batch. The loss is a sum.",
            "h.T @ dz adds the examples up, without dividing by N.",
            share=lambda v: len(v.x),
        ),
        Mistake(
            "All gradients are divided by N. The loss is the sum of dy * h_L.",
            "Start from dy as it is.",
            top=lambda v: v.dy / len(v.x),
        ),
        Mistake(
            "All gradients have the wrong sign. The loss is the sum of dy * h_L.",
            "Start from dy; the minus belongs to the descent.",
            top=lambda v: -v.dy,
        ),
    )  # fmt: skip


def _layers_draws(*shapes: tuple[int, int, int]) -> tuple[Arguments, ...]:
    """Arguments for (N, C, L). The weights are large enough that the first layers' gradients do not vanish."""
    rng = np.random.default_rng(2)
    return tuple(
        {
            "x": rng.normal(size=(n, c)),
            "weights": rng.normal(size=(layers, c, c)) * 3 / math.sqrt(c),
            "dy": rng.normal(size=(n, c)),
        }
        for n, c, layers in shapes
    )


EXERCISES = {
    "02-backward": Exercise(
        "x, dy and dx of shape (N, C), weights and dweights (L, C, C)",
        _layers_draws((7, 5, 3), (4, 6, 2), (6, 3, 4)),
        ("dx", "dweights"),
        _LAYERS,
        _layers_mistakes(),
    ),
}
