"""Chapter 5: gradients of the penalty, as readers and libraries write them."""

import numpy as np
import torch

from bnlib.lab.experiments.fixes import penalized
from tests.exercises.cases import edits, reference, right, wrong


@reference("05-penalty")
def penalty_by_autograd(z, lam):
    z = torch.tensor(z, requires_grad=True)
    return torch.autograd.grad(lam * penalized(z), z)[0]


@right("05-penalty")
def penalty_on_the_page(z, lam):
    N, C = z.shape
    mean, var = z.mean(0), z.var(0)
    through_mean = 2 * mean / N
    through_var = 2 * (var - 1) * 2 * (z - mean) / N
    return lam * (through_mean + through_var) / C


edits(
    "05-penalty",
    penalty_on_the_page,
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
)


@right("05-penalty")
def penalty_into_zeros(z, lam):
    N, C = z.shape
    dz = np.zeros((N, C))
    for c in range(C):
        mean, var = np.mean(z[:, c]), np.var(z[:, c])
        for n in range(N):
            dz[n, c] = lam / C * (2 * mean / N + 4 * (var - 1) * (z[n, c] - mean) / N)
    return dz


@right("05-penalty")
def penalty_in_torch(z, lam):
    z = torch.tensor(z, requires_grad=True)
    loss = lam * (z.mean(0) ** 2 + (z.var(0, unbiased=False) - 1) ** 2).mean()
    loss.backward()
    return z.grad


@wrong("05-penalty", "unbiased")
def penalty_by_torch_default(z, lam):
    z = torch.tensor(z, requires_grad=True)
    var = (z - z.mean(0)).pow(2).mean(0)
    grad = 2 * z.mean(0) / len(z) + 2 * (z.var(0).detach() - 1) * torch.autograd.grad(var.sum(), z)[0]
    return (lam * grad / z.shape[1]).detach()


@wrong("05-penalty", "near 10,000 in float32")
def penalty_by_raw_moments(z, lam):
    N, C = z.shape
    mean = z.mean(0)
    var = (z**2).mean(0) - mean**2
    return lam * (2 * mean + 4 * (var - 1) * (z - mean)) / N / C


@wrong("05-penalty", "unbiased, and its derivative follows it")
def penalty_by_torch_var(z, lam):
    z = torch.tensor(z, requires_grad=True)
    (lam * (z.mean(0) ** 2 + (z.var(0) - 1) ** 2).mean()).backward()
    return z.grad


@wrong("05-penalty", "none of the mistakes I know")
def penalty_on_large_variances(z, lam):
    N, C = z.shape
    return lam * (2 * z.mean(0) + 4 * np.maximum(z.var(0) - 1, 0) * (z - z.mean(0))) / N / C
