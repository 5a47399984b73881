"""Chapter 8: one step of gradient descent for a layer with batch norm, and Adam for gamma.

In the step, x is z = h @ W, and dx is dz. In Adam, arrays hold all steps.
"""

from collections.abc import Iterator

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Far, Mistake, Step, eps_mistakes
from bnlib.catalogue.transform import (
    AROUND,
    BACKWARD,
    STATISTICS,
    UNITS,
    dgamma_mistakes,
    path_mistakes,
    statistics_mistakes,
    variance_kept,
)

_STEP: dict[str, Step] = {
    "x": lambda v: v.h @ v.W,
    **STATISTICS,
    "rate": lambda v: v.lr,
    # gamma's step stands before dx, which wrongly may use the new gamma
    "dvalues": BACKWARD["dvalues"],
    "dgamma_terms": BACKWARD["dgamma_terms"],
    "dgamma": BACKWARD["dgamma"],
    "gamma_moved": lambda v: v.gamma - v.rate * v.dgamma,
    **BACKWARD,
    "beta_moved": lambda v: v.beta - v.rate * v.dbeta,
    "dW": lambda v: v.h.T @ v.dx,
    "W_moved": lambda v: v.W - v.rate * v.dW,
    "W_new": lambda v: v.W_moved,  # what is returned
    "gamma_new": lambda v: v.gamma_moved,
    "beta_new": lambda v: v.beta_moved,
}


def _step_mistakes() -> tuple[Mistake, ...]:
    return (
        *path_mistakes("dz", "z"),
        Mistake(
            "gamma is updated before dz is computed. All gradients belong to the same, old parameters.",
            "Compute all gradients first, then take the step.",
            dxhat=lambda v: v.dy * v.gamma_moved,
        ),
        *statistics_mistakes("N", "z"),
        Mistake(
            "The gradient of W is h.T @ dy, past batch norm.",
            "Go back through it first: h.T @ dz.",
            dW=lambda v: v.h.T @ v.dy,
        ),
        Mistake(
            "The gradient of W is h.T @ dxhat. z lies before the normalization.",
            "Take h.T @ dz.",
            dW=lambda v: v.h.T @ v.dxhat,
        ),
        Mistake(
            "The gradient of W is z.T @ dz, with the layer's output. W multiplies its input.",
            "Take h.T @ dz.",
            dW=lambda v: v.x.T @ v.dx,
        ),
        Mistake(
            "The gradient of W is xhat.T @ dz, with the normalized output. W multiplies the layer's input.",
            "Take h.T @ dz.",
            dW=lambda v: v.xhat.T @ v.dx,
        ),
        Mistake(
            "The gradient of W is transposed: it must have the inputs as rows, as W has.",
            "Take h.T @ dz, not dz.T @ h.",
            dW=lambda v: v.dx.T @ v.h,
        ),
        *dgamma_mistakes("z"),
        Mistake(
            "dgamma is summed from dy * y, but gamma multiplies xhat.",
            "Sum dy * xhat.",
            dgamma_terms=lambda v: v.dy * (v.gamma * v.xhat + v.beta),
        ),
        Mistake(
            "dgamma is not summed, but gamma has shape (C,).",
            "Sum over axis=0.",
            dgamma=lambda v: v.dgamma_terms,
        ),
        Mistake("dbeta is not summed, but beta has shape (C,).", "Sum over axis=0.", dbeta=lambda v: v.dbeta_terms),
        Mistake(
            "The gradients of gamma and beta have changed places.",
            "dgamma, the sum of dy * xhat, moves gamma; dbeta, the sum of dy, moves beta.",
            dgamma_terms=lambda v: v.dy,
            dbeta_terms=lambda v: v.dy * v.xhat,
        ),
        Mistake(
            "gamma and beta come back in the wrong order.",
            "Return W_new, gamma_new, beta_new.",
            gamma_new=lambda v: v.beta_moved,
            beta_new=lambda v: v.gamma_moved,
        ),
        Mistake(
            "All steps go uphill. The gradient points to where the loss grows.",
            "Subtract lr times the gradient.",
            rate=lambda v: -v.lr,
        ),
        Mistake(
            "The learning rate is forgotten in all steps.",
            "Subtract lr times the gradient.",
            rate=lambda v: 1.0,
        ),
        Mistake(
            "The learning rate is applied twice in all steps.",
            "Subtract lr times the gradient.",
            rate=lambda v: v.lr**2,
        ),
        Mistake(
            "All gradients are divided by N. The 1 / N of a mean loss stands in dy already.",
            "Only sum.",
            rate=lambda v: v.lr / len(v.h),
        ),
        *_update_mistakes("W", "dW"),
        *_update_mistakes("gamma", "dgamma"),
        *_update_mistakes("beta", "dbeta"),
    )


def _update_mistakes(name: str, gradient: str) -> Iterator[Mistake]:
    """One of the parameters does not take its step as the others do."""

    def moved(times: Step) -> dict[str, Step]:
        return {f"{name}_moved": lambda v: getattr(v, name) - times(v) * getattr(v, gradient)}

    right = f"The new {name} is {name} - lr * {gradient}."
    yield Mistake(f"{name} stays as it was.", right, **moved(lambda v: 0))
    yield Mistake(f"{name} goes uphill.", right, **moved(lambda v: -v.lr))
    yield Mistake(f"The learning rate is forgotten for {name}.", right, **moved(lambda v: 1))
    yield Mistake(
        f"{gradient} is divided by N. The 1 / N of a mean loss stands in dy already.",
        "Only sum.",
        **moved(lambda v: v.rate / len(v.h)),
    )
    yield Mistake(
        f"{gradient} is returned in place of the new value.",
        right,
        **{f"{name}_new": lambda v: getattr(v, gradient)},
    )


def _step_arguments(
    rng: np.random.Generator, shape: tuple[int, int], around: float, lr: float, unit: float, eps: float
) -> Arguments:
    n, c = shape
    gamma, beta = rng.choice([-1, 1], (2, c)) * rng.uniform(1.5, 3, (2, c))
    h, w = unit * (around + 3 * rng.normal(size=(n, c))), rng.normal(size=(c, c)) / c
    return {"h": h, "W": w, "gamma": gamma, "beta": beta, "dy": rng.normal(size=(n, c)), "lr": lr, "eps": eps}


def _step_draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    """Arguments for (N, C), under which mistakes show.

    The layer has as many inputs as units, so that the gradient of W has the right shape, too, if it is made of the
    wrong arrays. W is small beside its step, so that a mistake in eps is not lost in it.
    """
    rng = np.random.default_rng(8)
    return tuple(
        _step_arguments(rng, shape, around, lr, unit, eps)
        for shape, around, lr, unit, eps in zip(shapes, AROUND, (0.6, 1.7, 0.8), UNITS, (0.05, 1.5, 4e-12), strict=True)
    )


def _far_step(around: float) -> Arguments:
    """z around this number, by a last input of 1: so the gradient of W is small in all rows."""
    arguments = _step_arguments(np.random.default_rng(6), (8, 5), 0.0, 0.6, 1.0, 1e-3)
    arguments["h"][:, -1] = 1
    arguments["W"][-1] = around
    return arguments


def _averages(a: np.ndarray, old: float, new: float, correction: np.ndarray | float = 1.0) -> np.ndarray:
    """The running averages after each step, from zero; a correction goes on into the next one."""
    average, averages = np.zeros_like(a[0]), []
    for row, c in zip(a, np.broadcast_to(correction, (len(a), 1)).astype(a.dtype), strict=True):
        average = (old * average + new * row) / c
        averages.append(average)
    return np.stack(averages)


_ADAM: dict[str, Step] = {
    "rate": lambda v: v.lr,
    "m_decay": lambda v: v.beta1,
    "v_decay": lambda v: v.beta2,
    "count": lambda v: np.arange(1, len(v.grads) + 1, dtype=v.grads.dtype)[:, None],
    "m_correction": lambda v: 1 - v.m_decay**v.count,
    "v_correction": lambda v: 1 - v.v_decay**v.count,
    "squares": lambda v: v.grads**2,
    "ms": lambda v: _averages(v.grads, v.m_decay, 1 - v.m_decay),
    "vs": lambda v: _averages(v.squares, v.v_decay, 1 - v.v_decay),
    "mhat": lambda v: v.ms / v.m_correction,
    "vhat": lambda v: v.vs / v.v_correction,
    "divisor": lambda v: v.vhat**0.5 + v.eps,
    "moves": lambda v: v.rate * v.mhat / v.divisor,
    "gamma_new": lambda v: v.gamma - v.moves.sum(0),
    "m": lambda v: v.ms[-1],
    "v": lambda v: v.vs[-1],
}


def _adam_mistakes() -> tuple[Mistake, ...]:
    early = "starts at zero and is too small at first"
    step = "Subtract lr * mhat / (np.sqrt(vhat) + eps)."
    m_is, v_is = "m = beta1 * m + (1 - beta1) * g.", "v = beta2 * v + (1 - beta2) * g**2."
    return (
        Mistake(
            "The bias correction is forgotten. m and v start at zero and are too small at first.",
            "Divide by 1 - beta1**t and 1 - beta2**t.",
            mhat=lambda v: v.ms,
            vhat=lambda v: v.vs,
        ),
        Mistake(
            f"The bias correction of m is forgotten. m {early}.", "Divide it by 1 - beta1**t.", mhat=lambda v: v.ms
        ),
        Mistake(
            f"The bias correction of v is forgotten. v {early}.", "Divide it by 1 - beta2**t.", vhat=lambda v: v.vs
        ),
        Mistake(
            "The steps are counted from 2 in the bias corrections.",
            "The first step has t = 1 (with range, from 0, it is t + 1).",
            count=lambda v: _ADAM["count"](v) + 1,
        ),
        Mistake(
            "The bias corrections are 1 - beta1 and 1 - beta2 in every step, but they fade.",
            "They are 1 - beta1**t and 1 - beta2**t.",
            count=lambda v: 1,
        ),
        Mistake(
            "The bias correction of m is 1 - beta1 in every step, but it fades.",
            "It is 1 - beta1**t.",
            m_correction=lambda v: 1 - v.m_decay,
        ),
        Mistake(
            "The bias correction of v is 1 - beta2 in every step, but it fades.",
            "It is 1 - beta2**t.",
            v_correction=lambda v: 1 - v.v_decay,
        ),
        Mistake(
            "The bias corrections of all steps take the last t.",
            "Each step has its own: t = 1, 2, ..., T.",
            count=lambda v: len(v.grads),
        ),
        Mistake(
            "v is corrected behind its root.",
            "Correct first: vhat = v / (1 - beta2**t), then np.sqrt(vhat).",
            vhat=lambda v: v.vs / v.v_correction**2,  # its root is then divided once
        ),
        Mistake(
            "The corrected m and v go into the next step's averages.",
            "Keep m and v as they are, and give the corrected ones names of their own.",
            ms=lambda v: _averages(v.grads, v.m_decay, 1 - v.m_decay, v.m_correction),
            mhat=lambda v: v.ms,
            vs=lambda v: _averages(v.squares, v.v_decay, 1 - v.v_decay, v.v_correction),
            vhat=lambda v: v.vs,
        ),
        Mistake(
            "The corrected m goes into the next step's average.",
            "Keep m as it is: mhat = m / (1 - beta1**t).",
            ms=lambda v: _averages(v.grads, v.m_decay, 1 - v.m_decay, v.m_correction),
            mhat=lambda v: v.ms,
        ),
        Mistake(
            "The corrected v goes into the next step's average.",
            "Keep v as it is: vhat = v / (1 - beta2**t).",
            vs=lambda v: _averages(v.squares, v.v_decay, 1 - v.v_decay, v.v_correction),
            vhat=lambda v: v.vs,
        ),
        Mistake("The m that is returned is corrected.", "Return m itself.", m=lambda v: v.mhat[-1]),
        Mistake("The v that is returned is corrected.", "Return v itself.", v=lambda v: v.vhat[-1]),
        Mistake(
            "eps stands inside the root.",
            "It is added behind it: np.sqrt(vhat) + eps.",
            divisor=lambda v: (v.vhat + v.eps) ** 0.5,
        ),
        *eps_mistakes("Divide by np.sqrt(vhat) + eps."),
        Mistake(
            "eps is added to np.sqrt(v), before the bias correction, as in a shorter form of Adam.",
            "Here it is added behind it: np.sqrt(vhat) + eps.",
            divisor=lambda v: (v.vs**0.5 + v.eps) / v.v_correction**0.5,
        ),
        Mistake(
            "The root is forgotten: vhat is an average of squares.",
            "Divide by np.sqrt(vhat) + eps.",
            divisor=lambda v: v.vhat + v.eps,
        ),
        Mistake("v averages the gradients, but it is the average of their squares.", v_is, squares=lambda v: v.grads),
        Mistake(
            "beta1 and beta2 have changed places.",
            "beta1 belongs to m, beta2 to v.",
            m_decay=lambda v: v.beta2,
            v_decay=lambda v: v.beta1,
        ),
        Mistake(
            "The weights of old and new have changed places in m.",
            m_is,
            ms=lambda v: _averages(v.grads, 1 - v.m_decay, v.m_decay),
        ),
        Mistake(
            "The weights of old and new have changed places in v.",
            v_is,
            vs=lambda v: _averages(v.squares, 1 - v.v_decay, v.v_decay),
        ),
        Mistake(
            "The weights of old and new have changed places in m and v.",
            f"{m_is} {v_is}",
            ms=lambda v: _averages(v.grads, 1 - v.m_decay, v.m_decay),
            vs=lambda v: _averages(v.squares, 1 - v.v_decay, v.v_decay),
        ),
        Mistake(
            "m lacks the factor 1 - beta1 of the new gradient, and is a sum.",
            m_is,
            ms=lambda v: _averages(v.grads, v.m_decay, 1),
        ),
        Mistake(
            "v lacks the factor 1 - beta2 of the new square, and is a sum.",
            v_is,
            vs=lambda v: _averages(v.squares, v.v_decay, 1),
        ),
        Mistake(
            "gamma moves along the gradient itself. Adam moves along its running average.",
            step,
            mhat=lambda v: v.grads,
        ),
        Mistake("The sign is wrong: gamma goes uphill.", step, rate=lambda v: -v.lr),
        Mistake("The learning rate is forgotten.", step, rate=lambda v: 1.0),
        Mistake(
            "gamma takes only the last step. It moves once for each gradient.",
            "The update belongs inside the loop.",
            gamma_new=lambda v: v.gamma - v.moves[-1],
        ),
    )


def _adam_draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    """Arguments for (T, C). The first gradients are positive, so that a v without squares still has a root.

    The second ones are large, and the last in small units, in which the fixed eps lie apart.
    """
    rng = np.random.default_rng(9)
    units, signs = (1, 8, 1e-8), (1, -1, -1)
    rates = zip(shapes, units, signs, (0.5, 1.6, 0.4), (0.7, 0.6, 0.8), (0.85, 0.9, 0.75), (0.2, 2, 2e-9), strict=True)
    return tuple(
        {
            "gamma": rng.choice([-1, 1], c) * rng.uniform(1.5, 3, c),
            "grads": unit * rng.uniform(0.2, 3, (t, c)) * rng.choice([1, sign], (t, c)),
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        for (t, c), unit, sign, lr, beta1, beta2, eps in rates
    )


EXERCISES = {
    "08-step": Exercise(
        "h of shape (N, D), W and W_new (D, C), dy (N, C) the mean loss's gradient with respect to y",
        _step_draws((7, 5), (4, 6), (8, 3)),
        ("W_new", "gamma_new", "beta_new"),
        _STEP,
        _step_mistakes(),
        Far(_far_step, 0.03, variance_kept("z")),
    ),
    "08-adam": Exercise(
        "grads of shape (T, C), a row for each step, m and v (C,), not corrected",
        _adam_draws((4, 5), (6, 3), (3, 4)),
        ("gamma_new", "m", "v"),
        _ADAM,
        _adam_mistakes(),
    ),
}
