"""The deep linear network y = x w1 w2 ... wl, and what one step of gradient descent does to it, order by order."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from bnlib._array import like, number, said

Layers = Sequence[ArrayLike] | np.ndarray


def update_expansion(weights: Layers, steps: Layers, lr: float) -> np.ndarray:
    """The product of all layers after ``w - lr * step`` in each of them, split by the power of the learning rate.

    Term k gathers all products in which k of the layers contribute their step and the others their weight. The terms
    add up to the product of the updated layers; term 0 is the product before the update, term 1 what the gradient
    predicts. Computed by multiplying polynomials in the learning rate, in of the order of l ** 2 products, where the
    terms written out are 2 ** l. See :cite:`goodfellow2016deep`, section 8.7.1.

    Parameters
    ----------
    weights : l layers, all scalars, or matrices of shapes (n0, n1), (n1, n2), ...
    steps : the gradient with respect to each layer, or any other direction, in the layer's shape
    lr : the learning rate

    Returns
    -------
    terms : (l + 1,) for scalars, (l + 1, n0, nl) for matrices, in the arrays' floating dtype

    Raises
    ------
    ValueError
        If there is no layer, if the numbers or shapes of weights and steps differ, if the matrices do not fit together,
        if an array is masked or holds no real numbers, if autograd follows a tensor, or if lr is no finite number.
    """
    if not math.isfinite(number(lr)):
        raise ValueError(f"lr is {said(lr)}: give the learning rate, a finite number")
    lr = number(lr)
    layers = [like(np.empty(0), f"layer {i}", a) for i, a in enumerate(weights)]  # of tensors, arrays
    moves = [like(np.empty(0), f"step {i}", a) for i, a in enumerate(steps)]
    shapes, needed = [m.shape for m in moves], [w.shape for w in layers]
    if not layers or shapes != needed:
        raise ValueError(
            f"the steps have shapes {shapes}, the weights {needed}: give one step for each of l >= 1 layers"
        )
    if {w.ndim for w in layers} not in ({0}, {2}) or any(
        a.shape[1] != b.shape[0] for a, b in pairwise(layers) if a.ndim == 2
    ):
        raise ValueError(f"the weights have shapes {needed}: give scalars, or matrices (n0, n1), (n1, n2), ...")
    size = layers[0].shape[:1]
    dtype = np.result_type(np.float32, *layers, *moves)
    terms = np.eye(*size, dtype=dtype)[None] if size else np.ones(1, dtype)  # of the empty product: 1
    for w, s in zip(layers, moves, strict=True):
        kept, moved = (terms @ w, terms @ s) if size else (terms * w, terms * s)
        terms = np.concatenate([kept, np.zeros_like(kept[:1])])
        terms[1:] -= lr * moved
    return terms
