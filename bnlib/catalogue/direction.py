"""Chapter 12: one step of weights in front of a batch norm, and of its gamma, with weight decay."""

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step

_STEP: dict[str, Step] = {
    "square": lambda v: (v.w**2).sum(0),
    "rate": lambda v: v.lr / v.square,
    "shrink": lambda v: v.lr * v.decay,  # the share that decay takes
    "dw_used": lambda v: v.dw,
    "w_new": lambda v: v.w - v.lr * v.dw_used - v.shrink * v.w,
    "of_gamma": lambda v: 0.0,
    "gamma_new": lambda v: v.gamma - v.lr * v.dgamma - v.of_gamma * v.gamma,
}

_RATE = "The effective rate is lr / (w**2).sum(0), one number for each unit."
_DECAY = "Decay takes lr * decay * w from the weights, beside the step."
_STEP_MISTAKES = (
    Mistake(
        "The rate is divided by the length. One length stands in the angle, another one in the gradient.",
        f"Divide by the squared length. {_RATE}",
        rate=lambda v: v.lr / v.square**0.5,
    ),
    Mistake(
        "The rate is divided by the fourth power of the length.",
        f"The sum of squares is the squared length already. {_RATE}",
        rate=lambda v: v.lr / v.square**2,
    ),
    Mistake(
        "The rate is multiplied by the squared length, but longer weights turn less.",
        _RATE,
        rate=lambda v: v.lr * v.square,
    ),
    Mistake("The learning rate is missing in the effective rate.", _RATE, rate=lambda v: 1 / v.square),
    Mistake(
        "The squares are averaged, not summed.",
        f"The squared length is their sum. {_RATE}",
        square=lambda v: (v.w**2).mean(0),
    ),
    Mistake(
        "The effective rate is that of the next step: it is made of the new weights.",
        "Take the weights that the gradient was computed with.",
        rate=lambda v: v.lr / ((v.w - v.lr * v.dw - v.lr * v.decay * v.w) ** 2).sum(0),
    ),
    Mistake(
        "gamma decays. Behind the norm that is a penalty on the function, and no rate.",
        "Let the weights in front of the norm decay, and gamma take its step alone.",
        of_gamma=lambda v: v.shrink,
    ),
    Mistake("The weights do not decay.", _DECAY, shrink=lambda v: 0.0),
    Mistake("Decay is not multiplied by the learning rate.", _DECAY, shrink=lambda v: v.decay),
    Mistake("Decay makes the weights longer: its sign is turned round.", _DECAY, shrink=lambda v: -v.lr * v.decay),
    Mistake(
        "Decay shrinks the step, too: the weights were stepped first and then multiplied.",
        "Multiply the old weights by 1 - lr * decay, then take the step.",
        dw_used=lambda v: (1 - v.lr * v.decay) * v.dw,
    ),
)


def _steps(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(12)
    return tuple(
        {
            "w": rng.normal(size=shape),
            "gamma": rng.normal(1, 1.5, shape[1]),
            "dw": rng.normal(size=shape),
            "dgamma": rng.normal(size=shape[1]),
            "lr": lr,
            "decay": decay,
        }
        for shape, lr, decay in zip(shapes, (0.3, 0.7), (0.2, 0.5), strict=True)
    )


EXERCISES = {
    "12-step": Exercise(
        "w, dw and w_new of shape (inputs, C), rate of shape (C,)",
        _steps((5, 4), (3, 6)),
        ("w_new", "gamma_new", "rate"),
        _STEP,
        _STEP_MISTAKES,
    ),
}
