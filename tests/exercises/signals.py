"""Chapter 2: ways through sigmoid layers, as readers and libraries write them."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right, wrong


@reference("02-backward")
def layers_by_autograd(x, weights, dy):
    x, weights = (torch.tensor(a, requires_grad=True) for a in (x, weights))
    h = x
    for w in weights:
        h = torch.sigmoid(h @ w)
    return torch.autograd.grad((torch.tensor(dy) * h).sum(), (x, weights))


@right("02-backward")
def layers_on_the_page(x, weights, dy):
    L = len(weights)
    z, h = [], [x]
    for W in weights:
        z.append(h[-1] @ W)
        h.append(1 / (1 + np.exp(-z[-1])))
    dweights = np.zeros_like(weights)
    dh = dy
    for i in reversed(range(L)):
        dz = dh * h[i + 1] * (1 - h[i + 1])
        dweights[i] = h[i].T @ dz
        dh = dz @ weights[i].T
    return dh, dweights


edits(
    "02-backward",
    layers_on_the_page,
    ("h[i + 1] * (1 - h[i + 1]) -> z[i] * (1 - z[i])", "The slope is z * (1 - z)"),
    ("h[i + 1] * (1 - h[i + 1]) -> (1 - h[i + 1]**2)", "that of tanh"),
    (
        "1 / (1 + np.exp(-z[-1])) -> np.tanh(z[-1]) ;; h[i + 1] * (1 - h[i + 1]) -> (1 - h[i + 1]**2)",
        "The layers are tanh",
    ),
    ("h[i + 1] * (1 - h[i + 1]) -> h[i] * (1 - h[i])", "at each layer's input"),
    (" * h[i + 1] * (1 - h[i + 1]) -> ", "forgotten in every layer"),
    (
        "dh * h[i + 1] * (1 - h[i + 1]) -> dh if i == L - 1 else dh * h[i + 1] * (1 - h[i + 1])",
        "The slope of the last layer is forgotten",
    ),
    (  # the network's output without a sigmoid
        "h.append(1 / (1 + np.exp(-z[-1]))) -> "
        "h.append(1 / (1 + np.exp(-z[-1])) if len(z) < L else z[-1]) ;; "
        "dh * h[i + 1] * (1 - h[i + 1]) -> dh if i == L - 1 else dh * h[i + 1] * (1 - h[i + 1])",
        "The slope of the last layer is forgotten",
    ),
    ("dh * h[i + 1] * (1 - h[i + 1]) -> dh if i < L - 1 else dh * h[i + 1] * (1 - h[i + 1])", "Only the last layer"),
    (
        "dh * h[i + 1] * (1 - h[i + 1]) -> dh ;; @ weights[i].T -> @ weights[i].T * h[i + 1] * (1 - h[i + 1])",
        "one layer late",
    ),
    (
        "dh = dy -> dz = dy * h[L] * (1 - h[L]) ;; dz = dh * h[i + 1] * (1 - h[i + 1]) -> pass ;; "
        "dh = dz @ weights[i].T -> dz = dz @ weights[i].T * h[i] * (1 - h[i]) ;; return dh -> return dz",
        "a slope x * (1 - x)",
    ),
    ("dh = dz @ weights[i].T -> dh = dh @ weights[i].T", "forgotten on the way down"),
    ("h[i].T @ dz -> h[i].T @ dh", "taken from dh"),
    ("weights[i].T -> weights[i]", "The transpose is forgotten"),
    ("weights[i].T -> weights[i - 1].T", "weights of the layer below"),
    ("weights[i].T -> weights[L - 1 - i].T", "order of the way up"),
    ("return dh -> return dz", "the gradient of z_1"),
    ("= dz @ weights[i].T -> = dz @ weights[i].T if i else dh", "stops at h_1"),
    ("h[i].T @ dz -> h[i + 1].T @ dz", "with the layer's output"),
    ("h[i].T @ dz -> (z[i - 1] if i else x).T @ dz", "z of the layer below"),
    ("h[i].T @ dz -> dz.T @ h[i]", "transposed"),
    ("dweights[i] = -> dweights[L - 1 - i] =", "reversed order"),
    ("h[i].T @ dz -> h[i].T @ dz / len(x)", "is averaged"),
    (
        "dh * h[i + 1] * (1 - h[i + 1]) -> dh * (lambda s: s * (1 - s))(1 / (1 + np.exp(-h[i + 1])))",
        "applied twice",
    ),
    ("dh = dy -> dh = dy / len(x)", "All gradients are divided by N"),
    ("dh = dy -> dh = -dy", "wrong sign"),
)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


@right("02-backward")
def layers_with_a_cache(x, weights, dy):
    cache = []
    a = x
    for W in weights:
        out = sigmoid(np.dot(a, W))
        cache.append((a, W, out))
        a = out
    grads = []
    d = dy
    for a, W, out in reversed(cache):
        d = d * out * (1 - out)
        grads.insert(0, np.dot(a.T, d))
        d = np.dot(d, W.T)
    return d, grads


@right("02-backward")
def layers_in_torch(x, weights, dy):
    x, weights, dy = torch.from_numpy(x), torch.from_numpy(weights), torch.from_numpy(dy)
    x.requires_grad_()
    weights.requires_grad_()
    h = x
    for W in weights:
        h = torch.sigmoid(h @ W)
    h.backward(dy)
    return x.grad, weights.grad


@right("02-backward")
def layers_into_zeros(x, weights, dy):
    grads = np.zeros(weights.shape)
    hs = [x]
    for W in weights:
        hs.append(sigmoid(hs[-1] @ W))
    for i in range(len(weights) - 1, -1, -1):
        dy = dy * hs[i + 1] * (1 - hs[i + 1])
        grads[i] = np.einsum("ni,nj->ij", hs[i], dy)
        dy = dy @ weights[i].T
    return dy, grads


@wrong("02-backward", "The weights' gradient is averaged over the batch")
def layers_averaged(x, weights, dy):
    hs = [x]
    for W in weights:
        hs.append(sigmoid(hs[-1] @ W))
    grads = []
    for W, below, h in zip(weights[::-1], hs[-2::-1], hs[:0:-1], strict=True):
        dz = dy * h * (1 - h)
        grads.append(below.T @ dz / x.shape[0])
        dy = dz @ W.T
    return dy, np.array(grads[::-1])


@wrong("02-backward", "of the sum in front of the sigmoid")
def layers_slope_of_z(x, weights, dy):
    zs, hs = [], [x]
    for W in weights:
        zs.append(hs[-1] @ W)
        hs.append(sigmoid(zs[-1]))
    grads = []
    for i in reversed(range(len(weights))):
        dz = dy * zs[i] * (1 - zs[i])
        grads.append(hs[i].T @ dz)
        dy = dz @ weights[i].T
    return dy, np.array(grads[::-1])
