"""Intervals one below the other on one axis, as small pictures for the rows of a table: a forest plot."""

import math
from collections.abc import Iterable, Sequence

WIDTH, HEIGHT, EDGE = 200, 20, 8  # of a row, and what is left free at both ends

Interval = tuple[float, float, float]  # estimate, low, high


class Forest:
    """The axis of a forest plot, on which rows are drawn.

    The numbers stand beside the pictures, so these have no words of their own. Colours are the page's: the classes are
    ``bn-forest``, and within it ``bn-same``, ``bn-asked`` and ``bn-interval``.

    Parameters
    ----------
    intervals : all that will be drawn; bounds may be infinite
    asked : what the effects are compared with, lines across all rows
    region : from where to where effects count as none, a band behind all rows
    log : whether the axis is logarithmic; then all numbers must be positive
    """

    def __init__(
        self,
        intervals: Iterable[Interval],
        asked: Iterable[float] = (),
        region: Sequence[float] | None = None,
        *,
        log: bool = False,
    ) -> None:
        self.asked = [bound for bound in asked if math.isfinite(bound)]
        self.region, self.log = region, log
        numbers = [x for interval in intervals for x in interval if math.isfinite(x)] + self.asked + [*(region or ())]
        places = [math.log(x) if log else x for x in numbers]
        self.low, self.high = min(places), max(places)

    def at(self, value: float) -> float:
        """The place of a value, in tenths of a pixel; an infinite one lies at the very edge."""
        if not math.isfinite(value):
            return 0.0 if value < 0 else float(WIDTH)
        share = ((math.log(value) if self.log else value) - self.low) / ((self.high - self.low) or 1)
        return round(EDGE + share * (WIDTH - 2 * EDGE), 1)

    def row(self, interval: Interval | None) -> str:
        """The picture of one interval, or of none: then the band and the lines alone."""
        middle, marks = HEIGHT // 2, []
        if self.region:
            low, high = map(self.at, self.region)
            marks.append(f'<rect x="{low}" width="{round(high - low, 1)}" height="{HEIGHT}" class="bn-same"/>')
        marks += [f'<path d="M{self.at(bound)} 0v{HEIGHT}" class="bn-asked"/>' for bound in self.asked]
        if interval is not None:
            value, low, high = map(self.at, interval)
            marks.append(f'<path d="M{low} {middle}H{high}" class="bn-interval"/>')
            marks.append(f'<circle cx="{value}" cy="{middle}" r="3.5"/>')
        return (
            f'<svg class="bn-forest" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'aria-hidden="true">{"".join(marks)}</svg>'
        )

    @property
    def ends(self) -> tuple[str, str]:
        """The numbers at both ends of the axis."""
        low, high = (f"{math.exp(end) if self.log else end:.2g}" for end in (self.low, self.high))
        return low, high
