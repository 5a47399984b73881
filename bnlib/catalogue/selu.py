"""Chapter 14: how the weights of a SELU layer start, and alpha dropout."""

from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step
from bnlib.selu import ALPHA, LAMBDA

_START: dict[str, Step] = {
    "count": lambda v: v.normals.shape[1],
    "factor": lambda v: 1.0,
    "variance": lambda v: v.factor / v.count,
    "std": lambda v: v.variance**0.5,
    "weights": lambda v: v.std * v.normals,
}
_WHOLE = dict.fromkeys(("count", "factor", "std"), lambda v: 1.0)  # these mistakes leave nothing for another one


def _rows(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=1, keepdims=True)


_START_MISTAKES = (
    Mistake(
        "That is He's initialization, for ReLU: its factor 2 makes good for the half that a ReLU sets to 0. "
        "SELU's constants want the factor 1.",
        factor=lambda v: 2.0,
    ),
    Mistake(
        "That is Glorot's initialization, a compromise between inputs and units. What keeps the signal is the number "
        "of inputs alone.",
        count=lambda v: sum(v.normals.shape) / 2,
    ),
    Mistake(
        "The weights have the variance 1, so a sum over all inputs has a variance as large as their number: divide.",
        **_WHOLE,
    ),
    Mistake(
        "1/inputs is the variance; normal numbers are multiplied by the standard deviation, its root.",
        std=lambda v: v.variance,
    ),
    Mistake(
        "The sum in front of a unit runs over its inputs, the second axis here; you divide by the number of units.",
        count=lambda v: v.normals.shape[0],
    ),
    Mistake(
        "The factor 1/3 is that of PyTorch's linear layers. With it the signal dies out.",
        factor=lambda v: 1 / 3,
    ),
    Mistake("The root stands upside down: divide by the root of the inputs.", std=lambda v: v.variance**-0.5),
    Mistake(
        "Each row has exactly the length 1. That serves the signal as well, but the draw is then no longer normal; "
        "here only the expected square sum is to be 1.",
        **{**_WHOLE, "weights": lambda v: _rows(v.normals)},
    ),
    Mistake(
        "Each column has the length 1, but a unit's weights are a row.",
        **{**_WHOLE, "weights": lambda v: _rows(v.normals.T).T},
    ),
    Mistake(
        "The rows are centred and of length 1, as the theorem's weights. Here the draw is to be normal: only the "
        "expected sum is 0.",
        **{**_WHOLE, "weights": lambda v: _rows(v.normals - v.normals.mean(1, keepdims=True))},
    ),
    Mistake(
        "SELU's scale went into the weights; it is in the nonlinearity already.",
        factor=lambda v: LAMBDA**2,
    ),
)

_DROPOUT: dict[str, Step] = {
    "q": lambda v: v.keep_prob,
    "bound": lambda v: -LAMBDA * ALPHA,
    "put": lambda v: v.bound,  # in place of what is dropped
    "mask": lambda v: v.kept,
    "spread": lambda v: v.q + v.bound**2 * v.q * (1 - v.q),
    "slope": lambda v: abs(v.spread) ** -0.5,
    "shift": lambda v: -v.slope * (1 - v.q) * v.bound,
    "out": lambda v: v.slope * (v.mask * v.h + (1 - v.mask) * v.put) + v.shift,
}

_AS_IS = {name: _DROPOUT[name] for name in ("q", "spread")}  # which the mistake would hide, were they changed

_DROPOUT_MISTAKES = (
    Mistake(
        "That is plain dropout, after which the variance is larger. Drop to -scale * alpha, then restore mean and "
        "variance.",
        put=lambda v: 0.0,
        slope=lambda v: 1 / v.q,
        shift=lambda v: 0.0,
        **_AS_IS,
        bound=_DROPOUT["bound"],
    ),
    Mistake(
        "What is dropped becomes 0, but slope and shift are made for SELU's lower bound, -scale * alpha: "
        "put that there.",
        put=lambda v: 0.0,
    ),
    Mistake(
        "What is dropped goes to the lower bound, as it should, but mean and variance are not restored.",
        slope=lambda v: 1.0,
        shift=lambda v: 0.0,
        **_AS_IS,
    ),
    Mistake("keep_prob is the share that is kept, not the one that is dropped.", q=lambda v: 1 - v.keep_prob),
    Mistake("The slope lacks the root: it divides by the standard deviation.", slope=lambda v: 1 / v.spread),
    Mistake(
        "The slope is the standard deviation; it must divide by it.",
        slope=lambda v: abs(v.spread) ** 0.5,
    ),
    Mistake("The shift is missing: the dropped values pull the mean down.", shift=lambda v: 0.0),
    Mistake(
        "The shift has the other sign: it must lift what the dropped values pull down.",
        shift=lambda v: v.slope * (1 - v.q) * v.bound,
    ),
    Mistake(
        "The shift is not multiplied by the slope, though the mean that it takes away is.",
        shift=lambda v: -(1 - v.q) * v.bound,
    ),
    Mistake(
        "The shift counts the kept share; it is the dropped share, 1 - keep_prob, that lies at the bound.",
        shift=lambda v: -v.slope * v.q * v.bound,
    ),
    Mistake("The lower bound is -scale * alpha; the scale is missing.", bound=lambda v: -ALPHA),
    Mistake("The bound has the wrong sign: it lies below 0, where SELU saturates.", bound=lambda v: LAMBDA * ALPHA),
    Mistake(
        "In the variance, the bound's square counts keep_prob * (1 - keep_prob) times; keep_prob is missing.",
        spread=lambda v: v.q + v.bound**2 * (1 - v.q),
    ),
    Mistake(
        "In the variance, the bound's square counts keep_prob * (1 - keep_prob) times; 1 - keep_prob is missing.",
        spread=lambda v: v.q + v.bound**2 * v.q,
    ),
    Mistake(
        "The kept values bring the variance keep_prob, not 1.",
        spread=lambda v: 1 + v.bound**2 * v.q * (1 - v.q),
    ),
    Mistake(
        "The dropped values' part of the variance is missing.",
        spread=lambda v: v.q,
    ),
    Mistake("The bound is not squared in the variance.", spread=lambda v: v.q + v.bound * v.q * (1 - v.q)),
    Mistake("The mask is turned round: what is kept is dropped.", mask=lambda v: 1 - v.kept),
    Mistake(
        "Mean and variance are those of the batch at hand. Slope and shift are constants, from expectations: with "
        "the batch's own statistics examples would see each other.",
        slope=lambda v: 1 / (v.mask * v.h + (1 - v.mask) * v.put).std(),
        shift=lambda v: -v.slope * (v.mask * v.h + (1 - v.mask) * v.put).mean(),
        **_AS_IS,
    ),
)


def _starts(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(14)
    return tuple({"normals": rng.normal(size=shape)} for shape in shapes)


def _dropouts(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(15)
    return tuple(
        {
            "h": rng.normal(0.2, 1.3, shape),
            "kept": (rng.random(shape) < keep_prob).astype(float),
            "keep_prob": keep_prob,
        }
        for shape, keep_prob in zip(shapes, (0.8, 0.35), strict=True)
    )


EXERCISES = {
    "14-start": Exercise(_starts((5, 7), (9, 4)), ("weights",), _START, _START_MISTAKES),
    "14-dropout": Exercise(_dropouts((7, 4), (6, 5)), ("out",), _DROPOUT, _DROPOUT_MISTAKES),
}
