"""Chapter 14: weight norms, and moments behind a ReLU, as readers and libraries write them."""

import math
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
import torch
from scipy.special import ndtr

from bnlib.normprop import relu_moments
from tests.exercises.cases import edits, reference, right, wrong


@reference("14-weightnorm")
def weights_by_torch(dw, v, g):
    layer: Any = torch.nn.Linear(v.shape[1], v.shape[0], bias=False, dtype=torch.tensor(v).dtype)
    torch.nn.utils.parametrizations.weight_norm(layer)
    inside = layer.parametrizations.weight
    lengths, direction = inside.original0, inside.original1
    with torch.no_grad():
        lengths.copy_(torch.tensor(g)[:, None])
        direction.copy_(torch.tensor(v))
    dg, dv = torch.autograd.grad(layer.weight, (lengths, direction), torch.tensor(dw))
    return dv, dg[:, 0]


@reference("14-moments")
def moments_by_bnlib(mean, var):
    return tuple(a.astype(mean.dtype) for a in relu_moments(mean, var))


@right("14-weightnorm")
def weight_norm_on_the_page(dw, v, g):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    unit = v / length
    along = (dw * unit).sum(1, keepdims=True)
    dv = g[:, None] / length * (dw - along * unit)
    dg = (dw * unit).sum(1)
    return dv, dg


edits(
    "14-weightnorm",
    weight_norm_on_the_page,
    (" - along * unit -> ", "The projection is forgotten"),
    ("(dw - along * unit) -> (along * unit)", "what must go"),
    ("dw - along -> dw + along", "is added"),
    ("dw - along * unit -> dw - (dw * v).sum(1, keepdims=True) * v", "uses v in place"),
    ("along * unit -> along * v", "one of them is v"),
    ("dw - along * unit -> dw - (dw * g[:, None] * unit).sum(1, keepdims=True) * g[:, None] * unit", "uses w"),
    ("along = (dw * unit).sum(1, keepdims=True) -> along = (dw * unit).sum()", "runs over all units"),
    ("g[:, None] / length -> 1 / length", "g is missing"),
    ("g[:, None] / length -> g[:, None]", "not divided by |v|"),
    ("g[:, None] / length -> g[:, None] / length**2", "twice"),
    ("g[:, None] / length -> abs(g[:, None]) / length", "|g| stands for g"),
    ("axis=1 -> axis=0", "over the units, axis 0"),
    ("np.linalg.norm(v, axis=1, keepdims=True) -> np.linalg.norm(v)", "for the whole matrix"),
    ("np.linalg.norm(v, axis=1, keepdims=True) -> (v**2).sum(1, keepdims=True)", "its root is missing"),
    ("dg = (dw * unit).sum(1) -> dg = (dw * v).sum(1)", "dg is not divided"),
    ("dg = (dw * unit).sum(1) -> dg = (dw * unit).sum(0)", "summed over the units"),
    ("dg = (dw * unit).sum(1) -> dg = g * (dw * unit).sum(1)", "multiplied by g"),
    ("dg = (dw * unit).sum(1) -> dg = np.linalg.norm(dw, axis=1)", "the length of dw"),
)


@right("14-moments")
def moments_on_the_page(mean, var):
    s = np.sqrt(var)
    r = mean / s
    Phi, phi = ndtr(r), np.exp(-(r**2) / 2) * (2 * np.pi) ** -0.5
    first = mean * Phi + s * phi
    second = (mean**2 + var) * Phi + mean * s * phi
    return first, second - first**2


edits(
    "14-moments",
    moments_on_the_page,
    ("second - first**2 -> second", "var_out is the mean square"),
    ("second - first**2 -> second - mean**2", "not that of relu(z)'s"),
    (
        "mean * Phi + s * phi -> s * (2 * np.pi) ** -0.5 ;; (mean**2 + var) * Phi + mean * s * phi -> var / 2",
        "for mean 0, only scaled",
    ),
    ("np.sqrt(var) -> var", "its root, the standard deviation"),
    ("mean / s -> mean", "taken at the mean."),
    ("mean / s -> mean / var", "taken at mean / var"),
    ("ndtr(r) -> ndtr(-r)", "is cut off"),
    (" * (2 * np.pi) ** -0.5 -> ", "lacks its factor 1 / sqrt(2 pi)"),
    ("(r**2) / 2 -> (r**2)", "exponent lacks a factor"),
    ("mean * Phi + s * phi -> mean * Phi", "missing in the mean."),
    ("Phi + s * phi -> Phi + phi", "lacks its factor, the standard deviation"),
    (" + mean * s * phi -> ", "missing in the mean square"),
    ("+ mean * s * phi -> + 2 * mean * s * phi", "has the factor 2"),
    ("return first, second - first**2 -> return first / Phi, second / Phi - (first / Phi) ** 2", "z that pass, alone"),
    ("second - first**2 -> np.sqrt(second - first**2)", "is a standard deviation"),
)


@right("14-weightnorm")
def weight_norm_with_norms(dw, v, g):
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    dg = np.sum(dw * v / norm, axis=1, keepdims=True)
    return g[:, None] / norm * dw - g[:, None] * dg / norm**2 * v, dg


@right("14-weightnorm")
def weight_norm_with_projections(dw, v, g):
    dv = np.zeros(v.shape)
    for i in range(len(v)):
        u = v[i] / np.sqrt(v[i] @ v[i])
        dv[i] = g[i] / np.sqrt(v[i] @ v[i]) * (np.eye(len(u)) - np.outer(u, u)) @ dw[i]
    return dv, [float(a @ b / np.sqrt(b @ b)) for a, b in zip(dw, v, strict=True)]


@wrong("14-weightnorm", "The projection is forgotten", "dg is not divided")
def weight_norm_without_projection(dw, v, g):
    return g[:, None] * dw / np.linalg.norm(v, axis=1, keepdims=True), (dw * v).sum(1)


@right("14-moments")
def moments_by_scipy(mean, var):
    s = np.sqrt(var)
    z = scipy.stats.norm
    first = mean * z.cdf(mean / s) + s * z.pdf(mean / s)
    return first, (mean**2 + var) * z.cdf(mean / s) + mean * s * z.pdf(mean / s) - first**2


@right("14-moments")
def moments_with_erf(mean, var):
    means, variances = [], []
    for m, v in zip(mean.tolist(), var.tolist(), strict=True):
        s = math.sqrt(v)
        share, density = 0.5 * (1 + math.erf(m / s / math.sqrt(2))), math.exp(-(m**2) / v / 2) / math.sqrt(2 * math.pi)
        means.append(m * share + s * density)
        variances.append((m**2 + v) * share + m * s * density - means[-1] ** 2)
    return means, variances


@wrong("14-moments", "var_out is the mean square")
def moments_without_square(mean, var):
    s = np.sqrt(var)
    z = scipy.stats.norm
    first = mean * z.cdf(mean / s) + s * z.pdf(mean / s)
    return first, (mean**2 + var) * z.cdf(mean / s) + mean * s * z.pdf(mean / s)


@wrong("14-weightnorm", "g is missing in the term that is subtracted")
def weight_norm_without_second_g(dw, v, g):
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    dg = np.sum(dw * v / norm, axis=1, keepdims=True)
    return g[:, None] / norm * dw - dg / norm**2 * v, dg


@wrong("14-moments", "where r has lost its factor")
def moments_with_bare_erf(mean, var):
    s = np.sqrt(var)
    share, density = (1 + scipy.special.erf(mean / s)) / 2, scipy.stats.norm.pdf(mean / s)
    first = mean * share + s * density
    return first, (mean**2 + var) * share + mean * s * density - first**2
