"""Effects over paired seeds, judged look by look, with confidence intervals by SciPy.

Two variants are paired when seed i gave both the same initial weights, the same batches and the same budget. What
the seed contributes is then in both, and the interval of the differences does not contain it.

An effect may be looked at after 8, 16, 32 and 64 seeds, and whoever looks may stop at the first look that settles a
question: the intervals of ``LOOKS`` leave out 1, 1, 1 and 2 %, so that all looks together err in at most 5 % of cases.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bnlib._array import float64, number, said, whole

LOOKS = {8: 0.99, 16: 0.99, 32: 0.99, 64: 0.98}  # seeds, and the confidence of the interval over them
LEAST, MOST = min(LOOKS), max(LOOKS)
TIE = 1e-9  # what differs by a smaller share than this differs by rounding: a ratio of 30 to 20 steps is 1.5
BY_RANKS = 32  # pairs: up to these the interval is that of signed ranks, which assumes no normal distribution; then t's


class Interval(NamedTuple):
    """An estimate between the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Effect:
    """An effect over seeds, with its confidence interval: what the functions of this module return.

    Attributes
    ----------
    value, low, high : the estimate and the bounds; where fewer than eight pairs are left, these are infinite
    n : the number of seeds behind it
    confidence : of the interval, that of the largest of ``LOOKS`` that the seeds allow
    other : the estimate and the bounds by the other method: Student's t where these are by signed ranks, and vice versa
    failed : the seeds of which the first variant alone, and the second alone, failed
    left_out : the number of pairs left out: those with a failure, but where a budget ended only those with two
    at_budget : the pairs in which the first variant alone, and the second, had not got there when its budget ended
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    other: Interval
    failed: tuple[int, int] = (0, 0)
    left_out: int = 0
    at_budget: tuple[int, int] = (0, 0)
    samples: "Samples | None" = field(default=None, repr=False)

    def first(self, n: int) -> "Effect":
        """The same over the first n seeds, at least eight; a ValueError if there are not so many."""
        if n == self.n:
            return self
        if not LEAST <= (whole(n) or 0) <= self.n or self.samples is None:
            raise ValueError(f"n is {said(n)}: this effect has {self.n} seeds, give {LEAST} of them or more")
        return _effect(self.samples.first(n))

    @property
    def looks(self) -> list["Effect"]:
        """The effect at each look that the seeds allow, the first first."""
        return [self.first(n) for n in LOOKS if n <= self.n] if self.samples is not None else [self]

    @property
    def pairs(self) -> int:
        """The number of pairs that are not left out."""
        return self.n - self.left_out

    @property
    def failures(self) -> tuple[int, ...]:
        """The runs of the first variant, and of the second if there are two, that failed, alone or with the other."""
        return self.failed if self.samples is None else tuple(map(int, self.samples.failed.sum(0)))

    @property
    def by_ranks(self) -> bool:
        """Whether the interval is that of signed ranks."""
        return self.pairs <= BY_RANKS or any(self.at_budget)

    @property
    def leaning(self) -> int:
        """Where failures lean, since who fails is slower or less accurate; 1 to a larger effect, -1 to a smaller one.

        0 where they speak for neither: without a budget or a threshold, which of them is worse is not known.
        """
        a, b = self.failed
        if self.samples is None or self.samples.goal is None:
            return 0
        return (a > b) - (a < b) if self.samples.ratio else (b > a) - (b < a)

    @property
    def mcnemar(self) -> float:
        """The probability that the failures are so unequal by chance, by the exact McNemar test, two-sided.

        Of a mean, where no second variant fails, that of so many failures if each run failed as often as not.
        """
        from scipy import stats

        a, b = self.failed
        trials = self.n if len(self.failures) == 1 else a + b
        return float(stats.binomtest(a, trials).pvalue) if trials else 1.0

    def chance(self, bound: float, side: str, overlap: float = 0.0) -> float:
        """The probability of such seeds, or more extreme ones, if the effect were the bound: one-sided, by Student's t.

        It is 1 where a budget ended in pairs that may lie beyond the bound: their mean has no limit there.

        Parameters
        ----------
        bound : in the effect's unit
        side : ">" if the effect is to lie above it, "<" below
        overlap : the ratio of test to training examples where the seeds are splits of one data set, whose means then
            vary less than those of new data would: the variance is 1 / n + overlap in place of 1 / n
            :cite:`nadeau2003inference`

        Raises
        ------
        ValueError
            If the side is unknown, a number is none, or there are no pairs behind the effect.
        """
        from scipy import special

        if side not in ("<", ">"):
            raise ValueError(f"side is {said(side)}: choose '<' or '>'")
        if math.isnan(number(bound)) or not 0 <= number(overlap) < math.inf:
            raise ValueError(f"bound is {said(bound)} and overlap {said(overlap)}: give numbers, the overlap >= 0")
        if self.samples is None:
            raise ValueError("this effect was made by hand, without its pairs: use one that bnlib.effects returned")
        d, at = self.samples.kept(), number(bound)
        if self.samples.ratio:
            at = math.log(at) if at > 0 else -math.inf
        if d.size < LEAST or self.at_budget[0 if side == "<" else 1]:
            return 1.0
        away, noise = float(d.mean()) - at, TIE * (1.0 if self.samples.ratio else float(np.abs(d).max()))
        away = 0.0 if abs(away) <= noise else away if side == ">" else -away
        # As for the interval: of values in steps, that all agree does not say that nothing varies.
        least = self.samples.grid / 2 / _reach(d.size, self.confidence) * math.sqrt(d.size)
        spread = max(float(d.std(ddof=1)), least)
        if spread <= noise:
            return 0.0 if away > 0 else 1.0
        return float(special.stdtr(d.size - 1, -away / (spread * math.sqrt(1 / d.size + overlap))))


@dataclass(frozen=True, eq=False)
class Samples:
    """What an effect is computed of: for each seed a - b, or log a - log b.

    ``low`` and ``high`` differ where a budget ended: then the one holds the budget and the other infinity. Both are nan
    where a pair is left out. ``failed`` is (n, 2), for a and b, and of a mean (n, 1); ``cut`` is (n, 2), where a budget
    ended. ``goal`` is the threshold of having learned, or the budget, if there is one.
    """

    low: np.ndarray
    high: np.ndarray
    failed: np.ndarray
    cut: np.ndarray
    ratio: bool
    grid: float
    goal: float | None

    def first(self, n: int) -> "Samples":
        """Of the first n seeds."""
        return replace(self, **{name: getattr(self, name)[:n] for name in ("low", "high", "failed", "cut")})

    def kept(self) -> np.ndarray:
        """Of the pairs that are not left out, with the budget where it ended."""
        d = np.where(np.isfinite(self.low), self.low, self.high)
        return d[~np.isnan(self.low)]


def mean(a: ArrayLike, *, learned: float | None = None, grid: float = 0.0) -> Effect:
    """The mean over seeds.

    Parameters
    ----------
    a : (n,) one value per seed
    learned, grid : as for :func:`difference`

    Raises
    ------
    ValueError
        If there are fewer than eight seeds, if a value is masked or not real, or if learned or grid is no number.
    """
    (a,) = _per_seed(a=a)
    failed = _failed(a, learned)
    d = np.where(failed, np.nan, a)
    return _effect(Samples(d, d, failed[:, None], np.zeros((a.size, 2), bool), False, _step(grid), learned))


def difference(a: ArrayLike, b: ArrayLike, *, learned: float | None = None, grid: float = 0.0) -> Effect:
    """The mean of a - b, in the units of a and b.

    Up to 32 pairs the estimate is the median of the Walsh averages, the means of all pairs of differences (each with
    itself, too), and the bounds are two of them, by Wilcoxon's signed-rank test: the interval never leaves the range of
    the differences, and a single outlier does not stretch it. It assumes that the differences lie symmetrically about
    their centre. With more pairs it is the mean, with Student's t interval.

    Parameters
    ----------
    a, b : (n,) one value per seed, seed i at index i of both
    learned : a run whose value is below has not learned and failed, as one whose value is not finite; its pair is left
        out of the effect, and counted
    grid : the step of a measure that comes in steps: the interval is at least that wide

    Raises
    ------
    ValueError
        If the shapes differ, and as for :func:`mean`.
    """
    a, b = _per_seed(a=a, b=b)
    failed = np.stack([_failed(a, learned), _failed(b, learned)], 1)
    with np.errstate(invalid="ignore"):
        d = np.where(failed.any(1), np.nan, a - b)
    return _effect(Samples(d, d, failed, np.zeros_like(failed), False, _step(grid), learned))


def ratio(a: ArrayLike, b: ArrayLike, *, budget: float | None = None) -> Effect:
    """The geometric mean of a / b: as :func:`difference` of the logarithms.

    Parameters
    ----------
    a, b : (n,) one positive value per seed, seed i at index i of both
    budget : where a and b are steps to a goal, how many there were. What is not finite did not get there. In the slower
        variant of a pair it counts as at least the budget; a pair in which neither got there is left out. Without a
        budget, what is not finite failed, and its pair is left out

    Raises
    ------
    ValueError
        If a finite value is not positive or beyond the budget, if the budget is no positive number, and as for
        :func:`difference`.
    """
    a, b = _per_seed(a=a, b=b)
    if budget is not None and not 0 < number(budget) < math.inf:
        raise ValueError(f"budget is {said(budget)}: give the number of steps that each run had")
    for name, values in (("a", a), ("b", b)):
        wrong = np.isfinite(values) & ~(values > 0)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"{name} is {values[i]} at seed index {i}, and has no logarithm: use difference instead")
        beyond = np.isfinite(values) & (values > (budget or np.inf))
        if beyond.any():
            i = int(np.argmax(beyond))
            raise ValueError(f"{name} is {values[i]} at seed index {i}, beyond a budget of {budget}")
    failed = ~np.isfinite(np.stack([a, b], 1))
    cut = np.zeros_like(failed)
    if budget is not None:
        cut = failed & ~failed.all(1, keepdims=True)
    out = (failed & ~cut).any(1)
    with np.errstate(invalid="ignore"):
        logs = [np.log(np.where(np.isfinite(v), v, budget or np.nan)) for v in (a, b)]
    d = np.where(out, np.nan, logs[0] - logs[1])
    low, high = np.where(cut[:, 1], -np.inf, d), np.where(cut[:, 0], np.inf, d)
    return _effect(Samples(low, high, failed, cut, True, 0.0, budget))


def _effect(samples: Samples) -> Effect:
    n, out = samples.low.size, np.isnan(samples.low)
    confidence = LOOKS[max(look for look in LOOKS if look <= n)]
    low, high, d = samples.low[~out], samples.high[~out], samples.kept()
    a_cut, b_cut = map(int, samples.cut.sum(0))
    ranks, t = _by_ranks(d, low, high, confidence), _by_t(d, confidence)
    if a_cut or b_cut:  # then the mean has no limit on that side
        t = Interval(t.value, -np.inf if b_cut else t.low, np.inf if a_cut else t.high)
    found, other = (t, ranks) if d.size > BY_RANKS and not a_cut + b_cut else (ranks, t)  # as Effect.by_ranks says
    if half := samples.grid / 2:
        found, other = (Interval(v, min(low, v - half), max(high, v + half)) for v, low, high in (found, other))
    if samples.ratio:
        found, other = (Interval(*(float(np.exp(x)) for x in interval)) for interval in (found, other))
    alone = samples.failed & ~(samples.failed.all(1, keepdims=True) & (samples.failed.shape[1] == 2))
    a, b = (*map(int, alone.sum(0)), 0)[:2]
    return Effect(*found, n, confidence, other, (a, b), int(out.sum()), (a_cut, b_cut), samples)


def _by_ranks(d: np.ndarray, low: np.ndarray, high: np.ndarray, confidence: float) -> Interval:
    """The Hodges-Lehmann estimate, with the interval of Wilcoxon's signed-rank test."""
    n = d.size
    if n < LEAST:
        return Interval(float(np.median(d)) if n else np.nan, -np.inf, np.inf)
    upper = np.triu_indices(n)
    centre, lows, highs = (np.sort(np.add.outer(of, of)[upper] / 2) for of in (d, low, high))
    outside = _outside(n, confidence)
    return Interval(float(np.median(centre)), float(lows[outside - 1]), float(highs[-outside]))


@cache
def _outside(n: int, confidence: float) -> int:
    """How many of the Walsh averages of n pairs to count from either end to the bound of the interval."""
    chance = np.ones(1)  # of each sum of ranks with a positive sign, if every sign is the toss of a coin
    for rank in range(1, n + 1):
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return int(np.searchsorted(np.cumsum(chance), (1 - confidence) / 2, side="right"))  # of eight at 99 % it is 1


def _by_t(d: np.ndarray, confidence: float) -> Interval:
    # Written out, because scipy.stats.ttest_1samp warns where all pairs are alike; a point is the right answer there.
    n = d.size
    if n < LEAST:
        return Interval(float(d.mean()) if n else np.nan, -np.inf, np.inf)
    centre, reach = d.mean(), _reach(n, confidence) * d.std(ddof=1) / np.sqrt(n)
    return Interval(float(centre), float(centre - reach), float(centre + reach))


@cache
def _reach(n: int, confidence: float) -> float:
    """How many standard errors Student's interval reaches to either side."""
    from scipy import special

    return float(special.stdtrit(n - 1, (1 + confidence) / 2))


def _failed(a: np.ndarray, learned: float | None) -> np.ndarray:
    if learned is None:
        return ~np.isfinite(a)
    if not np.isfinite(number(learned)):
        raise ValueError(f"learned is {said(learned)}: give the least value of a run that has learned")
    return ~(np.isfinite(a) & (a >= learned))


def _step(grid: float) -> float:
    if not 0 <= number(grid) < np.inf:
        raise ValueError(f"grid is {said(grid)}: give the step of a measure that comes in steps, or 0")
    return number(grid)


def _per_seed(**samples: ArrayLike) -> list[np.ndarray]:
    """The samples as float64 arrays of one shape (n,), n at least eight."""
    arrays = {name: float64(name, sample) for name, sample in samples.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the shapes differ, {shapes}: give both the same seeds in the same order")
    for name, array in arrays.items():
        if array.ndim != 1 or array.size < LEAST:
            raise ValueError(f"{name} has shape {array.shape}: give one value per seed for at least {LEAST} seeds")
    return list(arrays.values())
