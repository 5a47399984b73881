"""Chapter 16: a causal transformer block with RMS norm at the start of each branch."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step, eps_mistakes
from bnlib.catalogue.transform import EPS, UNITS


def _norm(values: np.ndarray, v: SimpleNamespace, branch: int) -> np.ndarray:
    """What branch 0 or 1 is given, by the steps that say how."""
    mean = v.centre(values)
    squares = ((values - mean) ** 2).mean(v.axes, keepdims=True)
    return v.gain(branch) * (values - mean) * v.rstd(squares)


def _softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _masked(keep: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Step:
    """Keep says for columns t and s whether position t may see position s."""

    def step(v: SimpleNamespace) -> np.ndarray:
        t, s = np.indices(v.logits.shape[1:])
        return np.where(keep(t, s), v.logits, -np.inf)

    return step


def _attended(values: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    """What the first branch makes of values, through all steps that a mistake may replace."""
    own = SimpleNamespace(**vars(v))
    own.q, own.k, own.v_ = v.parts(values @ v.W)
    own.logits = own.q @ own.k.transpose(0, 2, 1) * v.scale(values.shape[-1])
    weights = _softmax(v.mask(own), v.over)
    return weights @ own.v_ @ v.W_out


def _dense(values: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    return np.maximum(values @ v.W1, 0) @ v.W2


_BLOCK: dict[str, Step] = {
    "axes": lambda v: -1,
    "centre": lambda v: lambda values: 0.0,
    "rstd": lambda v: lambda squares: (squares + v.eps) ** -0.5,
    "gain": lambda v: lambda branch: v.gamma[branch],
    "parts": lambda v: lambda qkv: np.split(qkv, 3, axis=-1),
    "scale": lambda v: lambda features: features**-0.5,
    "mask": lambda v: _masked(lambda t, s: s <= t),
    "over": lambda v: -1,
    "attention": lambda v: lambda values: _attended(values, v),
    "dense": lambda v: lambda values: _dense(values, v),
    "skip": lambda v: v.h,
    "middle": lambda v: v.skip + v.attention(_norm(v.h, v, 0)),
    "read": lambda v: v.middle,
    "base": lambda v: v.middle,
    "out": lambda v: v.base + v.dense(_norm(v.read, v, 1)),
}

_PLACE = "Take them over the last axis of h alone, with keepdims=True."
_START = "h + branch(norm(h)), for attention and again for the dense layers."
_MISTAKES = (
    Mistake(
        "Nothing is masked: each position sees those that come after it.",
        "Set the logits of later positions to -inf in front of the softmax: np.triu(np.ones((T, T), bool), 1).",
        mask=lambda v: lambda own: own.logits,
    ),
    Mistake(
        "The mask is turned round: each position sees itself and what comes after it.",
        "Row t is the position that reads, column s the one that is read: keep s <= t.",
        mask=lambda v: _masked(lambda t, s: s >= t),
    ),
    Mistake(
        "The logits of later positions are set to 0, not to -inf: their weight is not 0.",
        "Set them to -inf, or set the weights to 0 and divide by what is left.",
        mask=lambda v: lambda own: np.where(np.isfinite(_masked(lambda t, s: s <= t)(own)), own.logits, 0.0),
    ),
    Mistake(
        "The statistics run over positions as well: each position sees those that come after it.", _PLACE,
        axes=lambda v: (1, 2),
    ),
    Mistake("The statistics of a feature run over the positions, as in instance norm.", _PLACE, axes=lambda v: 1),
    Mistake(
        "The statistics of a feature run over sequences and positions, as in batch norm.", _PLACE,
        axes=lambda v: (0, 1),
    ),
    Mistake("The statistics run over the sequences: an example sees its company.", _PLACE, axes=lambda v: 0),
    Mistake("The statistics run over everything.", _PLACE, axes=lambda v: (0, 1, 2)),
    Mistake(
        "The norm stands behind each sum: that is post-norm.", _START,
        middle=lambda v: _norm(v.skip + v.attention(v.h), v, 0),
        out=lambda v: _norm(v.base + v.dense(v.read), v, 1),
    ),
    Mistake(
        "The norm stands at the end of each branch, not at its start.", _START,
        middle=lambda v: v.skip + _norm(v.attention(v.h), v, 0),
        out=lambda v: v.base + _norm(v.dense(v.read), v, 1),
    ),
    Mistake(
        "What is added to is the normed stream: nothing is left of the stream itself.", _START,
        skip=lambda v: _norm(v.h, v, 0), base=lambda v: _norm(v.middle, v, 1),
    ),
    Mistake(
        "A mean is subtracted: that is layer norm.",
        "RMS norm divides by the root of the mean square, and that is all.",
        centre=lambda v: lambda values: values.mean(v.axes, keepdims=True),
    ),
    Mistake("The dense layers are not normed.", _START, out=lambda v: v.base + v.dense(v.read)),
    Mistake("Attention is not normed.", _START, middle=lambda v: v.skip + v.attention(v.h)),
    Mistake(
        "The dense layers read the block's input: attention has not been added to what they see.",
        "Add attention first, then norm the sum.",
        read=lambda v: v.h,
    ),
    Mistake("h is not added to what attention puts out.", _START, skip=lambda v: 0.0),
    Mistake("The stream is not added to what the dense layers put out.", _START, base=lambda v: 0.0),
    Mistake("The logits are not divided by the root of D.", "Divide them by np.sqrt(D).",
            scale=lambda v: lambda features: 1.0),
    Mistake("The logits are divided by D, not by its root.", "Divide them by np.sqrt(D).",
            scale=lambda v: lambda features: 1 / features),
    Mistake(
        "The softmax runs over the positions that read: the weights of one position do not sum to 1.",
        "Take it over the last axis of q @ k^T.",
        over=lambda v: 1,
    ),
    Mistake("Queries and keys have changed places.", "W makes q, k and v, in this order.",
            parts=lambda v: lambda qkv: [np.split(qkv, 3, axis=-1)[i] for i in (1, 0, 2)]),
    Mistake("Keys and values have changed places.", "W makes q, k and v, in this order.",
            parts=lambda v: lambda qkv: [np.split(qkv, 3, axis=-1)[i] for i in (0, 2, 1)]),
    Mistake("The ReLU is missing.", "np.maximum(... @ W1, 0) @ W2.",
            dense=lambda v: lambda values: values @ v.W1 @ v.W2),
    Mistake("gamma is forgotten.", "norm(h) is gamma * h / rms, with gamma[0] and gamma[1].",
            gain=lambda v: lambda branch: 1.0),
    Mistake("Both branches have the first gamma.", "gamma[0] is attention's, gamma[1] that of the dense layers.",
            gain=lambda v: lambda branch: v.gamma[0]),
    Mistake("The gammas of the branches have changed places.",
            "gamma[0] is attention's, gamma[1] that of the dense layers.",
            gain=lambda v: lambda branch: v.gamma[1 - branch]),
    Mistake("What is divided by is the mean square, not its root.", "Divide by np.sqrt(mean square + eps).",
            rstd=lambda v: lambda squares: 1 / (squares + v.eps)),
    Mistake("What is divided by is the length, not the root of the mean square.", "Take the mean of the squares.",
            rstd=lambda v: lambda squares: (squares * v.h.shape[-1] + v.eps) ** -0.5),
    Mistake("eps stands outside the root.", "Divide by np.sqrt(mean square + eps).",
            rstd=lambda v: lambda squares: 1 / (squares**0.5 + v.eps)),
    *eps_mistakes("Divide by np.sqrt(mean square + eps)."),
)  # fmt: skip


def _draws() -> tuple[Arguments, ...]:
    rng = np.random.default_rng(16)
    return tuple(
        {
            "h": unit * rng.normal(0.5, 1.0, (n, length, d)),
            "W": rng.normal(size=(d, 3 * d)) / d**0.5,
            "W_out": rng.normal(size=(d, d)),
            "W1": rng.normal(size=(d, units)),
            "W2": rng.normal(size=(units, d)),
            "gamma": rng.choice((-1, 1), (2, d)) * rng.uniform(0.5, 2.0, (2, d)),
            "eps": eps,
        }
        for (n, length, d, units), unit, eps in zip(((3, 5, 4, 6), (2, 4, 6, 5), (3, 4, 5, 7)), UNITS, EPS, strict=True)
    )


EXERCISES = {
    "16-block": Exercise(
        "h and out (N, T, D), W (D, 3 * D), W_out (D, D), W1 (D, H), W2 (H, D), gamma (2, D), eps a number",
        _draws(),
        ("out",),
        _BLOCK,
        _MISTAKES,
    )
}
