"""Chapter 15: how the weights of a SELU layer start, and alpha dropout."""

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step
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


_LECUN = "Multiply by inputs ** -0.5, with inputs = normals.shape[1]."
_START_MISTAKES = (
    Mistake(
        "That is He's initialization, for ReLU: its factor 2 makes good for the half that a ReLU sets to 0.",
        "SELU's constants want the factor 1: the variance 1 / inputs.",
        factor=lambda v: 2.0,
    ),
    Mistake(
        "That is Glorot's initialization, a compromise between inputs and units.",
        f"What keeps the signal is the number of inputs alone. {_LECUN}",
        count=lambda v: sum(v.normals.shape) / 2,
    ),
    Mistake(
        "The weights have the variance 1, so a sum over all inputs has a variance as large as their number.",
        _LECUN,
        **_WHOLE,
    ),
    Mistake(
        "The numbers are multiplied by 1/inputs. That is the variance.",
        "Multiply by the standard deviation, its root.",
        std=lambda v: v.variance,
    ),
    Mistake(
        "The numbers are divided by the root of the number of units. The sum in front of a unit runs over its inputs.",
        f"The inputs are the second axis here. {_LECUN}",
        count=lambda v: v.normals.shape[0],
    ),
    Mistake(
        "The factor 1/3 is that of PyTorch's linear layers. With it the signal dies out.",
        "The variance is 1 / inputs.",
        factor=lambda v: 1 / 3,
    ),
    Mistake(
        "The factor 3/4 is PyTorch's gain for SELU, which is not that of self-normalizing networks.",
        'The variance is 1 / inputs, PyTorch\'s gain "linear".',
        factor=lambda v: 9 / 16,
    ),
    Mistake("The root stands upside down.", "Divide by the root of the inputs.", std=lambda v: v.variance**-0.5),
    Mistake(
        "Each row has exactly the length 1. That serves the signal as well, but the draw is then no longer normal.",
        f"Here only the expected square sum is to be 1. {_LECUN}",
        **{**_WHOLE, "weights": lambda v: _rows(v.normals)},
    ),
    Mistake(
        "Each column has the length 1, but a unit's weights are a row, and the draw is to be normal.",
        _LECUN,
        **{**_WHOLE, "weights": lambda v: _rows(v.normals.T).T},
    ),
    Mistake(
        "The rows are centred and of length 1, as the theorem's weights. Here the draw is to be normal.",
        f"Only the expected sum is 0, and only the expected square sum is 1. {_LECUN}",
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

_SPREAD = "The variance is keep_prob + bound**2 * keep_prob * (1 - keep_prob)."
_DROPOUT_MISTAKES = (
    Mistake(
        "That is plain dropout, after which the variance is larger.",
        "Drop to -scale * alpha, then restore mean and variance.",
        put=lambda v: 0.0,
        slope=lambda v: 1 / v.q,
        shift=lambda v: 0.0,
        spread=_DROPOUT["spread"],
        bound=_DROPOUT["bound"],
    ),
    Mistake(
        "What is dropped becomes 0, but slope and shift are made for SELU's lower bound.",
        "Put the bound, -scale * alpha, where something is dropped.",
        put=lambda v: 0.0,
    ),
    Mistake(
        "What is dropped goes to the lower bound, as it should, but mean and variance are not restored.",
        "Multiply by the slope, variance ** -0.5, and add a shift that takes the mean away.",
        slope=lambda v: 1.0,
        shift=lambda v: 0.0,
        **_AS_IS,
    ),
    Mistake("keep_prob is the share that is kept, not the one that is dropped.", q=lambda v: 1 - v.keep_prob),
    Mistake(
        "The slope lacks the root.",
        "It divides by the standard deviation: variance ** -0.5.",
        slope=lambda v: 1 / v.spread,
    ),
    Mistake(
        "The slope is the standard deviation itself.",
        "It must divide by it: variance ** -0.5.",
        slope=lambda v: abs(v.spread) ** 0.5,
    ),
    Mistake(
        "The shift is missing: the dropped values pull the mean down.",
        "Add -slope * (1 - keep_prob) * bound.",
        shift=lambda v: 0.0,
    ),
    Mistake(
        "The shift has the other sign: it must lift what the dropped values pull down.",
        "It is -slope * (1 - keep_prob) * bound, and the bound is negative.",
        shift=lambda v: v.slope * (1 - v.q) * v.bound,
    ),
    Mistake(
        "The shift is not multiplied by the slope, though the mean that it takes away is.",
        "It is -slope * (1 - keep_prob) * bound.",
        shift=lambda v: -(1 - v.q) * v.bound,
    ),
    Mistake(
        "The shift counts the kept share, but it is the dropped share that lies at the bound.",
        "It is -slope * (1 - keep_prob) * bound.",
        shift=lambda v: -v.slope * v.q * v.bound,
    ),
    Mistake("The scale is missing in the lower bound.", "It is -scale * alpha.", bound=lambda v: -ALPHA),
    Mistake(
        "The bound is made of rounded constants, 1.67 and 1.05.",
        "Take all digits, or bnlib.selu's ALPHA and LAMBDA.",
        bound=lambda v: -1.67 * 1.05,
    ),
    Mistake(
        "The bound has the wrong sign: it lies below 0, where SELU saturates.",
        "It is -scale * alpha.",
        bound=lambda v: LAMBDA * ALPHA,
    ),
    Mistake(
        "In the variance, the bound's square counts too often: keep_prob is missing there.",
        _SPREAD,
        spread=lambda v: v.q + v.bound**2 * (1 - v.q),
    ),
    Mistake(
        "In the variance, the bound's square counts too often: 1 - keep_prob is missing there.",
        _SPREAD,
        spread=lambda v: v.q + v.bound**2 * v.q,
    ),
    Mistake(
        "The kept values bring the variance keep_prob, not 1.",
        _SPREAD,
        spread=lambda v: 1 + v.bound**2 * v.q * (1 - v.q),
    ),
    Mistake("The dropped values' part of the variance is missing.", _SPREAD, spread=lambda v: v.q),
    Mistake("The bound is not squared in the variance.", _SPREAD, spread=lambda v: v.q + v.bound * v.q * (1 - v.q)),
    Mistake("The mask is turned round: what is kept is dropped.", mask=lambda v: 1 - v.kept),
    Mistake(
        "Mean and variance are those of the batch at hand. So examples see each other.",
        "Slope and shift are constants, from expectations: they follow from keep_prob and the bound alone.",
        slope=lambda v: 1 / (v.mask * v.h + (1 - v.mask) * v.put).std(),
        shift=lambda v: -v.slope * (v.mask * v.h + (1 - v.mask) * v.put).mean(),
        **_AS_IS,
    ),
)


def _starts(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(14)
    return tuple({"normals": rng.normal(size=shape)} for shape in shapes)


def _dropouts(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
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
    "15-start": Exercise(
        "normals and weights of shape (units, inputs), normals standard normal numbers",
        _starts((5, 7), (9, 4)),
        ("weights",),
        _START,
        _START_MISTAKES,
    ),
    "15-dropout": Exercise(
        "h, kept and out of shape (N, C), kept 1 for what is kept and 0 for what is dropped",
        _dropouts((7, 4), (6, 5)),
        ("out",),
        _DROPOUT,
        _DROPOUT_MISTAKES,
    ),
}
