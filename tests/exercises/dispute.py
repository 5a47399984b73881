"""Chapter 11: internal covariate shift, as readers and libraries write it."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right


@reference("11-ics")
def shift_by_autograd(x, t, W1, W2, lr):
    x, t, lower, upper = map(torch.tensor, (x, t, W1, W2))

    def gradients(lower):
        own = [w.clone().requires_grad_() for w in (lower, upper)]
        loss = ((x @ own[0] @ own[1] - t) ** 2).sum(1).mean() / 2
        return torch.autograd.grad(loss, own)

    g1, before = gradients(lower)
    _, after = gradients(lower - lr * g1)
    return ((after - before).norm() / before.norm()).item()


@right("11-ics")
def shift_on_the_page(x, t, W1, W2, lr):
    N = len(x)
    e = (x @ W1 @ W2 - t) / N
    g1, g2 = x.T @ e @ W2.T, (x @ W1).T @ e
    new = W1 - lr * g1
    top = W2
    h = x @ new
    e2 = (x @ new @ top - t) / N
    moved = h.T @ e2
    return np.linalg.norm(moved - g2) / np.linalg.norm(g2)


edits(
    "11-ics",
    shift_on_the_page,
    ("top = W2 -> top = W2 - lr * g2", "W2 takes its update, too"),
    ("/ np.linalg.norm(g2) -> / np.linalg.norm(moved)", "relative to the gradient after"),
    ("/ np.linalg.norm(g2) -> ", "not divided by the length"),
    (
        "np.linalg.norm(moved - g2) / -> abs(np.linalg.norm(moved) - np.linalg.norm(g2)) /",
        "that of the lengths",
    ),
    ("return np.linalg.norm(moved - g2) / np.linalg.norm(g2) -> return ((moved - g2) ** 2).sum() / (g2**2).sum()",
     "square of the change"),
    ("return np.linalg.norm(moved - g2) / np.linalg.norm(g2) -> "
     "return np.linalg.norm(x.T @ e2 @ W2.T - g1) / np.linalg.norm(g1)", "that of W1"),
    ("W1 - lr * g1 -> W1 + lr * g1", "up the gradient"),
    ("(x @ new @ top - t) / N -> e", "those of before the update"),
    ("h = x @ new -> h = x @ W1", "inputs of W2 are those of before"),
    ("N = len(x) -> N = 1", "sum over the examples"),
    ("W1 - lr * g1 -> W1 - 2 * lr * g1", "twice too long"),
    ("W1 - lr * g1 -> W1 - g1", "learning rate is missing"),
)  # fmt: skip
