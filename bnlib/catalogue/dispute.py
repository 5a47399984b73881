"""Chapter 11: internal covariate shift of a linear network of two layers, as its critics define it."""

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step


def _length(a: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((a * a).sum()))


_SHIFT: dict[str, Step] = {
    "divisor": lambda v: len(v.x),
    "errors": lambda v: (v.x @ v.W1 @ v.W2 - v.t) / v.divisor,
    "lower": lambda v: v.x.T @ v.errors @ v.W2.T,
    "before": lambda v: (v.x @ v.W1).T @ v.errors,
    "sign": lambda v: -1,
    "moved": lambda v: v.W1 + v.sign * v.lr * v.lower,
    "upper": lambda v: v.W2,
    "inputs": lambda v: v.x @ v.moved,
    "then": lambda v: (v.x @ v.moved @ v.upper - v.t) / v.divisor,
    "after": lambda v: v.inputs.T @ v.then,
    "distance": lambda v: _length(v.after - v.before),
    "unit": lambda v: _length(v.before),
    "change": lambda v: v.distance / v.unit,
}


_MISTAKES = (
    Mistake(
        "W2 takes its update, too. Only the layer below is to move.",
        "Compute the second gradient with the old W2.",
        upper=lambda v: v.W2 + v.sign * v.lr * v.before,
    ),
    Mistake(
        "The change is relative to the gradient after the update, not before it.",
        "Divide by the length of the gradient that W2 had at first.",
        unit=lambda v: _length(v.after),
    ),
    Mistake(
        "The change is not divided by the length of the gradient.",
        "Divide by the length of the gradient that W2 had at first.",
        unit=lambda v: 1.0,
    ),
    Mistake(
        "The change is that of the lengths. A gradient of the same length may point elsewhere.",
        "Subtract the gradients first, and take the length of the difference.",
        distance=lambda v: abs(_length(v.after) - _length(v.before)),
    ),
    Mistake("The step goes up the gradient.", "W1 - lr * its gradient.", sign=lambda v: 1),
    Mistake(
        "The errors are those of before the update.",
        "With the new W1 the output is another one, and so is the error.",
        then=lambda v: v.errors,
    ),
    Mistake(
        "The inputs of W2 are those of before the update.",
        "With the new W1 the second layer is given x @ W1_new.",
        inputs=lambda v: v.x @ v.W1,
    ),
    Mistake(
        "The loss is a sum over the examples, so that the step is N times too long.",
        "Divide by N: the loss is half the mean of the squared errors.",
        divisor=lambda v: 1,
    ),
    Mistake(
        "The step of W1 is twice too long: the loss has a factor 1/2.",
        lower=lambda v: 2 * v.x.T @ v.errors @ v.W2.T,
    ),
    Mistake("The learning rate is missing.", "W1 moves by lr times its gradient.", moved=lambda v: v.W1 - v.lower),
)


def _draws() -> tuple[Arguments, ...]:
    rng = np.random.default_rng(11)
    return tuple(
        {
            "x": rng.normal(size=(n, d)),
            "t": rng.normal(size=(n, outputs)),
            "W1": rng.normal(size=(d, units)),
            "W2": rng.normal(size=(units, outputs)),
            "lr": lr,
        }
        for n, d, units, outputs, lr in ((6, 3, 4, 2, 0.3), (5, 4, 3, 1, 0.1))
    )


EXERCISES = {
    "11-ics": Exercise(
        "x (N, D), t (N, K), W1 (D, H), W2 (H, K), change a number",
        _draws(),
        ("change",),
        _SHIFT,
        _MISTAKES,
    )
}
