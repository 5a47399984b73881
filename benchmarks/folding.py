"""Inference with batch norm folded into the layer before it, against layer and batch norm: `make bench`.

Both contenders are PyTorch's own operations at one thread, layer, batch norm with fixed statistics, ReLU; each
repetition runs them after one another, so that whatever slows the machine slows both. Printed are medians of the ratios
within repetitions: above 1, the folded network is faster.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is loaded

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnlib.running import RunningStats, fold

# Name, shape of the weight, shape of the input; convolutions keep their size by padding.
LAYERS = [
    ("linear, one example", (256, 256), (1, 256)),
    ("linear, batch of 64", (256, 256), (64, 256)),
    ("linear, batch of 64, wide", (1024, 1024), (64, 1024)),
    ("convolution 1x1, one image", (64, 64, 1, 1), (1, 64, 28, 28)),
    ("convolution 3x3, one image", (64, 64, 3, 3), (1, 64, 28, 28)),
    ("convolution 3x3, batch of 16", (64, 64, 3, 3), (16, 64, 28, 28)),
]
SECONDS = 1.0  # for each layer, in at least LEAST repetitions
LEAST = 15


def contenders(weight_shape: tuple[int, ...], shape: tuple[int, ...]) -> list[Callable[[], Tensor]]:
    """The layer with its batch norm, and the folded layer."""
    rng = np.random.default_rng(0)
    out = weight_shape[0]
    weight, x = (torch.tensor(rng.normal(size=s).astype(np.float32)) for s in (weight_shape, shape))
    bias, gamma, beta, mean = torch.tensor(rng.normal(size=(4, out)).astype(np.float32))
    var = torch.tensor(rng.uniform(0.5, 2, out).astype(np.float32))
    folded = fold(weight, bias, gamma, beta, RunningStats(mean, var))

    def layer(w: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, w, b) if w.ndim == 2 else F.conv2d(x, w, b, padding="same")

    def unfolded() -> Tensor:
        return F.relu(F.batch_norm(layer(weight, bias), mean, var, gamma, beta))

    return [unfolded, lambda: F.relu(layer(*folded))]


def seconds(run: Callable[[], Tensor]) -> float:
    """Time one call, in seconds."""
    start = perf_counter()
    run()
    return perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Print the table: one line for each layer."""
    torch.set_num_threads(1)
    print("layer, float32                   time unfolded / folded")
    for name, weight_shape, shape in LAYERS:
        unfolded, folded = contenders(weight_shape, shape)
        a, b = unfolded(), folded()
        if (a - b).abs().max() > 1e-4 * a.abs().max():
            raise AssertionError(f"{name}: the folded layer differs by {(a - b).abs().max():.1e}")
        times, end = [], perf_counter() + SECONDS
        while len(times) < LEAST or perf_counter() < end:
            times.append((seconds(unfolded), seconds(folded)))
        before, after = np.array(times).T
        print(f"{name:<32} {np.median(before / after):>10.2f}")


if __name__ == "__main__":
    main()
