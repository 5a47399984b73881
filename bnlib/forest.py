"""Intervals on one axis, as small pictures for the rows of a table: a forest plot."""

import math
from collections.abc import Iterable, Sequence

WIDTH, HEIGHT, EDGE = 200, 20, 8  # of a row, and what is left free at both ends

# Colours are attributes, which the site's styles override, so that JupyterLab draws no black boxes.
_PALE = 'fill="currentColor" fill-opacity="0.15"'
_LINE = 'fill="none" stroke="currentColor"'
_DASHED = f'{_LINE} stroke-dasharray="3 2"'


class Axis:
    """The common axis of several rows. The numbers stand beside the pictures, which have no words of their own.

    Parameters
    ----------
    numbers : all that will be drawn: estimates and bounds, which may be infinite
    asked : what the effects are compared with, lines across all rows
    region : from where to where effects count as none, a band behind all rows
    log : whether it is logarithmic; then 0 is as far as infinity
    """

    def __init__(
        self,
        numbers: Iterable[float],
        asked: Iterable[float] = (),
        region: Sequence[float] | None = None,
        *,
        log: bool = False,
    ) -> None:
        self.asked = [bound for bound in asked if math.isfinite(bound)]
        self.region, self.log = region, log
        all_ = (*numbers, *self.asked, *(region or ()))
        places = [math.log(x) if log else x for x in all_ if math.isfinite(x) and (x > 0 or not log)]
        self.low, self.high = min(places), max(places)

    def at(self, value: float) -> float:
        """The place of a value, in tenths of a pixel; what lies outside is at the edge."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return float(WIDTH) if value > 0 else 0.0
        share = ((math.log(value) if self.log else value) - self.low) / ((self.high - self.low) or 1)
        return round(_steady(EDGE + share * (WIDTH - 2 * EDGE)), 1)

    def row(self, interval: tuple[float, float, float] | None) -> str:
        """The picture of an estimate with its bounds; of none the band and the lines alone."""
        middle, marks = HEIGHT // 2, []
        if self.region:
            a, b = map(self.at, self.region)
            marks.append(f'<rect x="{a}" width="{round(b - a, 1)}" height="{HEIGHT}" class="bn-same" {_PALE}/>')
        marks += [f'<path d="M{self.at(bound)} 0v{HEIGHT}" class="bn-asked" {_DASHED}/>' for bound in self.asked]
        if interval is not None:
            value, low, high = map(self.at, interval)
            marks.append(f'<path d="M{low} {middle}H{high}" class="bn-interval" {_LINE}/>')
            marks.append(f'<circle cx="{value}" cy="{middle}" r="3.5" fill="currentColor"/>')
        return (
            f'<svg class="bn-forest" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'aria-hidden="true">{"".join(marks)}</svg>'
        )

    @property
    def ends(self) -> tuple[str, str]:
        """The numbers at both ends."""
        low, high = (f"{_steady(math.exp(end) if self.log else end):.3g}" for end in (self.low, self.high))
        return low, high


def _steady(value: float) -> float:
    """Ten digits: a tie then falls the same way on every processor."""
    return float(f"{value:.10g}")
