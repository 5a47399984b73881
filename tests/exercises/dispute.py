"""Chapter 11: internal covariate shift, as readers and libraries write it."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right, wrong


@reference("11-ics")
def shift_by_autograd(x, t, W1, W2, lr):
    x, t, lower, upper = map(torch.tensor, (x, t, W1, W2))

    def gradients(lower):
        own = [w.clone().requires_grad_() for w in (lower, upper)]
        loss = ((x @ own[0] @ own[1] - t) ** 2).sum(1).mean() / 2
        return torch.autograd.grad(loss, own)

    g1, before = gradients(lower)
    _, after = gradients(lower - lr * g1)
    return (after - before).norm() / before.norm()


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
    ("W1 - lr * g1 -> W1 + lr * g1", "up the gradient"),
    ("(x @ new @ top - t) / N -> e", "those of before the update"),
    ("h = x @ new -> h = x @ W1", "inputs of W2 are those of before"),
    ("N = len(x) -> N = 1", "sum over the examples"),
    ("W1 - lr * g1 -> W1 - 2 * lr * g1", "twice too long"),
    ("W1 - lr * g1 -> W1 - g1", "learning rate is missing"),
)  # fmt: skip


@right("11-ics")
def shift_by_sums(x, t, W1, W2, lr):
    def second(lower):
        return sum(np.outer(row @ lower, row @ lower @ W2 - aim) for row, aim in zip(x, t, strict=True)) / len(x)

    first = sum(np.outer(row, (row @ W1 @ W2 - aim) @ W2.T) for row, aim in zip(x, t, strict=True)) / len(x)
    old, new = np.asarray(second(W1)), np.asarray(second(W1 - lr * first))
    return np.sqrt(((new - old) ** 2).sum() / (old**2).sum())


@wrong("11-ics", "W2 takes its update, too", "relative to the gradient after")
def shift_of_a_whole_step(x, t, W1, W2, lr):
    def gradients(a, b):
        e = (x @ a @ b - t) / len(x)
        return x.T @ e @ b.T, (x @ a).T @ e

    g1, g2 = gradients(W1, W2)
    _, new = gradients(W1 - lr * g1, W2 - lr * g2)
    return np.linalg.norm(new - g2) / np.linalg.norm(new)
