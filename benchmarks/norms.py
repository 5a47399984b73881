"""bnlib's norms against PyTorch's native ones, forward and backward together, at one thread: `make bench`.

Each repetition runs bnlib, PyTorch and one copy of the batch after one another, so that whatever slows the machine
slows all three; what is printed are medians of the ratios within repetitions. The copy is the machine's limit: no
implementation reads x and writes y faster than the array can be copied.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is loaded

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

from bnlib import batch_norm, layer_norm, normalize_backward

SHAPES = [
    ("batch", (64, 128)),
    ("batch", (256, 256)),
    ("batch", (1024, 1024)),
    ("batch", (8192, 1024)),
    ("batch", (32, 64, 28, 28)),
    ("layer", (64, 128, 768)),
]
VALUES = 40_000_000  # so many values pass through each contender, in at least LEAST and at most MOST repetitions
LEAST, MOST = 7, 300


def contenders(norm: str, shape: tuple[int, ...], dtype: type) -> list[Callable[[], object]]:
    """BnLib's pass, PyTorch's pass and a copy, over the same arrays."""
    rng = np.random.default_rng(0)
    params = shape[-1] if norm == "layer" else shape[1]
    x, dy, gamma, beta = (rng.normal(size=size).astype(dtype) for size in (shape, shape, params, params))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    cotangent, target = torch.tensor(dy), np.empty_like(x)

    def ours() -> object:
        _, cache = batch_norm(x, gamma, beta) if norm == "batch" else layer_norm(x, gamma, beta)
        return normalize_backward(dy, cache)

    def theirs() -> object:
        tx, tgamma, tbeta = leaves
        if norm == "batch":
            y = F.batch_norm(tx, None, None, tgamma, tbeta, training=True)
        else:
            y = F.layer_norm(tx, (params,), tgamma, tbeta)
        return torch.autograd.grad(y, leaves, cotangent)

    return [ours, theirs, lambda: np.copyto(target, x)]


def seconds(run: Callable[[], object]) -> float:
    """Time one call, in seconds."""
    start = perf_counter()
    run()
    return perf_counter() - start


def main() -> None:
    """Print the table: one line per norm, shape and dtype."""
    torch.set_num_threads(1)
    print("norm   shape              dtype     bnlib / PyTorch   bnlib / copy   PyTorch / copy")
    batch_ratios = []
    for norm, shape in SHAPES:
        for dtype in (np.float32, np.float64):
            runs = contenders(norm, shape, dtype)
            repetitions = min(MOST, max(LEAST, VALUES // int(np.prod(shape))))
            times = np.array([[seconds(run) for run in runs] for _ in range(repetitions + 1)])[1:]
            ours, theirs, copy = times.T
            ratio = float(np.median(ours / theirs))
            if norm == "batch":
                batch_ratios.append(ratio)
            print(
                f"{norm:<6} {shape!s:<18} {dtype.__name__:<8} {ratio:>14.2f} {np.median(ours / copy):>15.1f} "
                f"{np.median(theirs / copy):>15.1f}"
            )
    print(f"\nbatch norm: median ratio {np.median(batch_ratios):.2f} (at most 1.5 is the aim), ", end="")
    print(f"largest {max(batch_ratios):.2f} (at most 3)")


if __name__ == "__main__":
    main()
