"""What happens inside a network: signals and gradients, layer by layer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.lab.nets import ACTIVATIONS, Params, Spec, forward, learned

PERCENTILES = (15, 50, 85)
FLAT = 0.05  # of the activation's steepest slope: below it a unit counts as saturated


@dataclass(frozen=True, eq=False)
class Signals:
    """One forward and one backward pass of one network, summed up by layer; all arrays have the layers first.

    Attributes
    ----------
    mean, std : (hidden,) of all the layer's activation inputs, over examples and units
    percentiles : (hidden, 3) the 15th, 50th and 85th of the same values
    saturated : (hidden,) the share of them at which the activation's slope is below 5 % of its steepest
    unit_std : (hidden,) the standard deviation over the examples, averaged over the units: whether the layer still
        tells the examples apart
    signal_grad : (hidden,) the root mean square, over examples and units, of the loss's gradient with respect to the
        output of the affine map, times the number of examples
    weight_grad : (hidden + 1,) the root mean square gradient of the weights
    update_ratio : (hidden + 1,) the norm of the gradient of the weights by the norm of the weights: times the learning
        rate, the relative change of one step of SGD
    """

    mean: np.ndarray
    std: np.ndarray
    percentiles: np.ndarray
    saturated: np.ndarray
    unit_std: np.ndarray
    signal_grad: np.ndarray
    weight_grad: np.ndarray
    update_ratio: np.ndarray


def signals(spec: Spec, params: Params, x: Tensor, y: Tensor) -> Signals:
    """Look into a network during one step on a batch, with the batch's own statistics.

    Parameters
    ----------
    spec, params : the network, with one replica
    x, y : (N, *inputs) of the parameters' dtype, and the classes (N,)

    Raises
    ------
    ValueError
        If there is more than one replica.
    """
    if len(params["weight0"]) != 1:
        raise ValueError(f"there are {len(params['weight0'])} replicas: pass the parameters of one, with a leading 1")
    params = {name: value.detach().clone() for name, value in params.items()}
    for name in learned(spec, params):
        params[name].requires_grad_()
    z: dict[int, Tensor] = {}
    pre: dict[int, Tensor] = {}

    def tap(place: str, layer: int, value: Tensor) -> None:
        if place in ("z", "pre") and layer < len(spec.widths):
            (z if place == "z" else pre)[layer] = value

    logits, _ = forward(spec, params, x[None], tap=tap)
    weights = [params[f"weight{i}"] for i in range(len(spec.widths) + 1)]
    grads = torch.autograd.grad(cross_entropy(logits[0], y), [*z.values(), *weights])
    dz, dw = grads[: len(z)], grads[len(z) :]

    def per_layer(values: object) -> np.ndarray:
        return np.array(list(values))  # type: ignore[call-overload]

    inputs = [value.detach() for value in pre.values()]
    examples = 2 if spec.kernel is None else 0  # the axis of (1, units, N) or (N, channels, height, width)
    q = torch.tensor(PERCENTILES, dtype=x.dtype) / 100
    return Signals(
        mean=per_layer(a.mean().item() for a in inputs),
        std=per_layer(a.std(correction=0).item() for a in inputs),
        percentiles=per_layer(torch.quantile(a.flatten(), q).tolist() for a in inputs),
        saturated=per_layer(_flat(spec.activation, a) for a in inputs),
        unit_std=per_layer(a.std(examples, correction=0).mean().item() for a in inputs),
        signal_grad=per_layer(len(y) * _rms(g) for g in dz),
        weight_grad=per_layer(_rms(g) for g in dw),
        update_ratio=per_layer((g.norm() / w.norm()).item() for g, w in zip(dw, weights, strict=True)),
    )


def _rms(a: Tensor) -> float:
    return a.square().mean().sqrt().item()


def _flat(activation: str, a: Tensor) -> float:
    """The share of inputs at which the activation's slope is below ``FLAT`` times its steepest."""
    f = ACTIVATIONS[activation]
    grid = torch.linspace(-10, 10, 2001, dtype=a.dtype, requires_grad=True)  # holds 0, where sigmoid and tanh are steep
    (steepest,) = torch.autograd.grad(f(grid).sum(), grid)
    at = a.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(at).sum(), at)
    return (slope < FLAT * steepest.max()).to(a.dtype).mean().item()
