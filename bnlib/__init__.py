"""The package of the book *Batch Normalization, Measured*: small enough to read in an evening."""

from bnlib.norms import (
    Cache,
    Grads,
    Layout,
    Moments,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    normalize_backward,
    rms_norm,
)

__version__ = "0.1.0"
__all__ = [
    "Cache",
    "Grads",
    "Layout",
    "Moments",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize",
    "normalize_backward",
    "rms_norm",
]
