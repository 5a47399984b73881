"""The coded exercises: what is right, and the mistakes that are known, one module for each chapter or two.

A new mistake is one :class:`Mistake`, a new exercise an entry in its module's ``EXERCISES``.
"""

from bnlib.catalogue import (
    axes,
    batches,
    choosing,
    deep_linear,
    direction,
    dispute,
    fixes,
    inputs,
    selu,
    serving,
    shift,
    signals,
    training,
    transform,
    transformers,
    weights,
)
from bnlib.catalogue.exercise import Arguments, Blind, Exercise, Far, Mistake, Outputs, together

EXERCISES: dict[str, Exercise] = (
    shift.EXERCISES
    | signals.EXERCISES
    | inputs.EXERCISES
    | deep_linear.EXERCISES
    | fixes.EXERCISES
    | transform.EXERCISES
    | training.EXERCISES
    | serving.EXERCISES
    | batches.EXERCISES
    | dispute.EXERCISES
    | direction.EXERCISES
    | axes.EXERCISES
    | weights.EXERCISES
    | selu.EXERCISES
    | transformers.EXERCISES
    | choosing.EXERCISES
)

__all__ = ["EXERCISES", "Arguments", "Blind", "Exercise", "Far", "Mistake", "Outputs", "together"]
