"""Chapter 10: poolings, as readers and libraries write them."""

import numpy as np

from bnlib.norms import Moments
from bnlib.running import pooled
from tests.exercises.cases import edits, reference, right, wrong


@reference("10-pool")
def pool_by_bnlib(counts, means, vars):
    moments = pooled(*(Moments(m, v, int(n)) for n, m, v in zip(counts, means, vars, strict=True)))
    return moments.mean, moments.var


@right("10-pool")
def pool_on_the_page(counts, means, vars):
    n = counts[:, None]
    mean = (n * means).sum(0) / n.sum()
    m2 = (n * vars).sum(0) + (n * (means - mean) ** 2).sum(0)
    return mean, m2 / n.sum()


edits(
    "10-pool",
    pool_on_the_page,
    (" + (n * (means - mean) ** 2).sum(0) -> ", "The parts' means lie apart"),
    ("n = counts[:, None] -> n = np.ones_like(means[:, :1])", "All parts have the same weight"),
    ("(n * means).sum(0) / n.sum() -> means.mean(0)", "that of the parts' means, unweighted"),
    ("(n * vars).sum(0) -> n.sum() * vars.mean(0)", "variances are averaged unweighted"),
    ("(n * (means - mean) ** 2).sum(0) -> n.sum() * ((means - mean) ** 2).mean(0)", "means - mean are averaged"),
    ("(means - mean) ** 2 -> means**2", "squared as they are"),
    ("+ (n * (means -> - (n * (means", "is subtracted"),
    ("(means - mean) ** 2 -> abs(means - mean)", "not squared"),
    ("(n * vars).sum(0) -> vars.sum(0)", "a variance is a mean already"),
    ("(n * vars).sum(0) -> n.sum() * vars.sum(0)", "variances are added up"),
    ("(n * means).sum(0) / n.sum() -> means.sum(0)", "means are added up"),
    ("counts[:, None] -> counts[:, None]**2", "squared counts"),
    ("return mean, m2 / n.sum() -> return mean, m2 / (n.sum() - 1)", "The variance is unbiased"),
    ("return mean, m2 / n.sum() -> return mean, m2", "var is M2"),
    ("return mean, m2 / n.sum() -> return mean, np.sqrt(m2 / n.sum())", "the standard deviation"),
)


@right("10-pool")
def pool_two_by_two(counts, means, vars):
    n, mean, m2 = 0, 0, 0
    for k, m, v in zip(counts, means, vars, strict=True):
        delta = m - mean
        m2 = m2 + v * k + delta**2 * n * k / (n + k)
        mean = mean + delta * k / (n + k)
        n += k
    return mean, m2 / n


@right("10-pool")
def pool_by_average(counts, means, vars):
    mean = np.average(means, axis=0, weights=counts)
    return mean, np.average(vars + (means - mean) ** 2, axis=0, weights=counts)


@wrong("10-pool", "near 10,000 in float32")
def pool_by_mean_squares(counts, means, vars):
    w = (counts / counts.sum())[:, None]
    mean = (w * means).sum(0)
    return mean, (w * (vars + means**2)).sum(0) - mean**2


@wrong("10-pool", "standard deviations are averaged, and squared then")
def pool_of_stds(counts, means, vars):
    w = (counts / counts.sum())[:, None]
    mean = (w * means).sum(0)
    std = (w * np.sqrt(vars)).sum(0)
    return mean, std**2 + (w * (means - mean) ** 2).sum(0)


@wrong("10-pool", "The parts' means lie apart", "standard deviations are averaged, and squared then")
def pool_of_stds_alone(counts, means, vars):
    return (
        np.average(means, axis=0, weights=counts),
        np.average(np.sqrt(vars), axis=0, weights=counts) ** 2,
    )


@wrong("10-pool", "The spread of the means is taken unweighted, and about their own mean")
def pool_with_np_var(counts, means, vars):
    shares = counts / counts.sum()
    return shares @ means, shares @ vars + means.var(0)


@wrong("10-pool", "The parts' means lie apart", "weighted with n - 1 and divided by N - k")
def pool_as_for_a_t_test(counts, means, vars):
    return counts @ means / counts.sum(), (counts - 1) @ vars / (counts.sum() - len(counts))


@wrong("10-pool", "weighted with n - 1, as unbiased ones")
def pool_of_unbiased(counts, means, vars):
    N = counts.sum()
    mean = counts @ means / N
    return mean, ((counts - 1) @ vars + counts @ (means - mean) ** 2) / N


@wrong("10-pool", "Chan's formula with a delta taken after")
def pool_with_a_late_delta(counts, means, vars):
    n, mean, m2 = counts[0], means[0], vars[0] * counts[0]
    for count, new, var in zip(counts[1:], means[1:], vars[1:], strict=True):
        mean = mean + (new - mean) * count / (n + count)
        m2 = m2 + var * count + (new - mean) ** 2 * n * count / (n + count)
        n = n + count
    return mean, m2 / n
