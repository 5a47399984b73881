"""Chapter 10: a batch's mean and biased variance from the counts, means and variances of its parts."""

from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Far, Mistake, Step

_POOL: dict[str, Step] = {
    "all": lambda v: v.counts.sum(),
    "shares": lambda v: v.counts[:, None] / v.all,
    "mean": lambda v: (v.shares * v.means).sum(0),
    "within": lambda v: (v.shares * v.vars).sum(0),
    "offsets": lambda v: v.means - v.mean,
    "between": lambda v: (v.shares * v.offsets**2).sum(0),
    "pooled": lambda v: v.within + v.between,
    "var": lambda v: v.pooled,
}


def _late_delta(v: SimpleNamespace) -> np.ndarray:
    n, mean, squares = 0 * v.counts[0], 0 * v.means[0], 0 * v.means[0]
    for count, new in zip(v.counts, v.means, strict=True):
        mean = mean + (new - mean) * count / (n + count)
        squares = squares + (new - mean) ** 2 * n * count / (n + count)
        n = n + count
    return squares / n


_WEIGHTS = "Weight with counts / counts.sum() there, too."
_MISTAKES = (
    Mistake(
        "The parts' means lie apart, and that belongs to the variance.",
        "Add the weighted mean of (means - mean)**2.",
        between=lambda v: 0 * v.mean,
    ),
    Mistake(
        "All parts have the same weight, but a part counts as much as it has values.",
        "Weight with counts / counts.sum().",
        shares=lambda v: np.ones_like(v.means[:, :1]) / len(v.counts),
    ),
    Mistake("The mean is that of the parts' means, unweighted.", _WEIGHTS, mean=lambda v: v.means.mean(0)),
    Mistake("The parts' variances are averaged unweighted.", _WEIGHTS, within=lambda v: v.vars.mean(0)),
    Mistake("The squares of means - mean are averaged unweighted.", _WEIGHTS, between=lambda v: (v.offsets**2).mean(0)),
    Mistake("The spread of the means is taken unweighted, and about their own mean.", _WEIGHTS,
            between=lambda v: v.means.var(0)),
    Mistake("The spread is that of Chan's formula with a delta taken after the mean has moved.",
            "Take delta = new - mean first, then move the mean.", between=_late_delta),
    Mistake("The parts' variances are weighted with n - 1, as unbiased ones.", "They are biased: weight with counts.",
            within=lambda v: ((v.counts[:, None] - 1) * v.vars).sum(0) / v.all),
    Mistake("The parts' variances are weighted with n - 1 and divided by N - k, as unbiased ones.",
            "They are biased: weight them with counts / counts.sum().",
            within=lambda v: ((v.counts[:, None] - 1) * v.vars).sum(0) / (v.all - len(v.counts))),
    Mistake(
        "The parts' standard deviations are averaged, and squared then. It is the variances that average.",
        "Take the weighted mean of vars, without a root.",
        within=lambda v: (v.shares * v.vars**0.5).sum(0) ** 2,
    ),
    Mistake(
        "The parts' standard deviations are averaged. It is the variances that average.",
        "Take the weighted mean of vars, without a root.",
        within=lambda v: (v.shares * v.vars**0.5).sum(0),
    ),
    Mistake(
        "The means are squared as they are. What belongs to the variance is their distance from the common mean.",
        "Square means - mean.",
        between=lambda v: (v.shares * v.means**2).sum(0),
    ),
    Mistake(
        "The spread of the means is subtracted, but parts that lie apart make the variance larger.",
        "Add it.",
        between=lambda v: -(v.shares * v.offsets**2).sum(0),
    ),
    Mistake("The distances of the means are not squared.", between=lambda v: (v.shares * np.abs(v.offsets)).sum(0)),
    Mistake(
        "The sum of the parts' variances is divided by the count, but a variance is a mean already.",
        "Multiply each variance by its count first.",
        within=lambda v: v.vars.sum(0) / v.all,
    ),
    Mistake(
        "The parts' variances are added up.",
        "Average them, with the weights counts / counts.sum().",
        within=lambda v: v.vars.sum(0),
    ),
    Mistake(
        "The parts' means are added up.",
        "Average them, with the weights counts / counts.sum().",
        mean=lambda v: v.means.sum(0),
    ),
    Mistake(
        "The weights are those of the squared counts, but each value counts once.",
        "Weight with counts / counts.sum().",
        shares=lambda v: v.counts[:, None] ** 2 / (v.counts**2).sum(),
    ),
    Mistake(
        "The variance is unbiased. The biased ones went in, and the biased one is wanted.",
        "Divide by the count.",
        var=lambda v: v.pooled * v.all / (v.all - 1),
    ),
    Mistake(
        "var is M2, the sum of the squared deviations.", "Divide by the count of all.", var=lambda v: v.pooled * v.all
    ),
    Mistake("var is the standard deviation; the variance is wanted.", var=lambda v: np.sqrt(np.abs(v.pooled))),
)  # fmt: skip


def _draws(*parts: list[int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(10)
    return tuple(
        {
            "counts": np.array(counts, float),
            "means": rng.normal(0.8, 1.5, (len(counts), width)),
            "vars": rng.uniform(0.3, 3, (len(counts), width)),
        }
        for counts, width in zip(parts, (4, 3), strict=True)
    )


def _far(around: float) -> Arguments:
    rng = np.random.default_rng(6)
    means, variances = around + rng.normal(size=(3, 4)), rng.uniform(0.5, 1.5, (3, 4))
    return {"counts": np.array([3.0, 8.0, 5.0]), "means": means, "vars": variances}


EXERCISES = {
    "10-pool": Exercise(
        "counts of shape (S,), means and vars (S, C), mean and var (C,)",
        _draws([2, 7, 4], [9, 3]),
        ("mean", "var"),
        _POOL,
        _MISTAKES,
        Far(_far, 0.03, "Add the weighted mean of (means - mean)**2 to that of vars, without squares of the means."),
    )
}
