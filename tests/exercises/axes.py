"""Chapter 13: group norms, and a factor on all weights, as readers and libraries write them."""

import numpy as np
import torch
from torch.nn import functional as F

from bnlib import group_norm, layer_norm
from tests.exercises.cases import edits, reference, right, wrong


@reference("13-axes")
def grouped_by_bnlib(x, gamma, beta, groups, eps):
    return group_norm(x, gamma, beta, groups, eps)[0]


@reference("13-scale")
def scaled_by_bnlib(y, gamma, beta, a):
    z = a * (3 * (y - beta) / gamma + 5)  # a layer's sums with just this output, all multiplied by a
    return layer_norm(z, gamma, beta, eps=0)[0]


@right("13-axes")
def group_norm_on_the_page(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    g = x.reshape(N, groups, C // groups, L)
    mean = g.mean((2, 3), keepdims=True)
    var = ((g - mean) ** 2).mean((2, 3), keepdims=True)
    xhat = ((g - mean) / np.sqrt(var + eps)).reshape(N, C, L)
    return gamma[:, None] * xhat + beta[:, None]


OVER = "g.mean((2, 3), -> g.mean({0}, ;; - mean) ** 2).mean((2, 3), -> - mean) ** 2).mean({0},"

edits(
    "13-axes",
    group_norm_on_the_page,
    (OVER.format("(0, 2, 3)"), "run over the batch as well"),
    (OVER.format("3"), "as in instance norm"),
    (OVER.format("2"), "position by position"),
    (OVER.format("(1, 2, 3)"), "groups is not used"),
    (OVER.format("(0, 3)"), "as in batch norm"),
    (OVER.format("(0, 1, 2, 3)"), "run over everything"),
    ("(N, groups, C // groups, L) -> (N, C // groups, groups, L) ;; " + OVER.format("(1, 3)"), "every groups-th"),
    ("(N, groups, C // groups, L) -> (N, C // groups, groups, L)", "Number and size"),
    ("((g - mean) ** 2).mean((2, 3), keepdims=True) -> g.var((2, 3), ddof=1, keepdims=True)", "is unbiased"),
    ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "outside the root"),
    ("var + eps -> var", "eps is forgotten"),
    ("var + eps -> var + 1e-5", "eps is fixed at 1e-5"),
    ("np.sqrt(var + eps) -> (var + eps)", "its root is missing"),
    ("mean = g.mean((2, 3), keepdims=True) -> mean = 0", "that is RMS norm"),
    ("((g - mean) ** 2) -> (g**2)", "taken about zero"),
    ("((g - mean) / np -> (g / np", "not subtracted in front"),
    ("g = x.reshape -> g = (gamma[:, None] * x).reshape ;; gamma[:, None] * xhat -> xhat", "gamma multiplies x before"),
    ("gamma[:, None] * xhat -> xhat", "gamma is forgotten"),
    (" + beta[:, None] -> ", "beta is forgotten"),
    ("gamma[:, None] * xhat + beta[:, None] -> beta[:, None] * xhat + gamma[:, None]", "changed places"),
    ("gamma[:, None] * xhat + beta[:, None] -> gamma[:, None] * (xhat + beta[:, None])", "before gamma multiplies"),
)


@right("13-scale")
def scaled_through_xhat(y, gamma, beta, a):
    xhat = (y - beta) / gamma
    return gamma * np.sign(a) * xhat + beta


edits(
    "13-scale",
    scaled_through_xhat,
    ("np.sign(a) * -> ", "not invariant for every a"),
    ("np.sign(a) -> a", "multiplied by a."),
    ("np.sign(a) -> abs(a)", "multiplied by |a|"),
    ("np.sign(a) * xhat -> xhat / a", "divided by a,"),
    ("np.sign(a) * xhat -> xhat / abs(a)", "divided by |a|"),
    ("* np.sign(a) * xhat -> * -xhat", "even where a is positive"),
    ("gamma * np.sign(a) * xhat + beta -> np.sign(a) * y", "does not see a"),
    ("gamma * np.sign(a) * xhat + beta -> gamma * np.sign(a) * xhat", "not added again"),
    ("(y - beta) / gamma -> y - beta", "gamma is multiplied a second time"),
    ("gamma * np.sign(a) -> np.sign(a)", "gamma is lost"),
    (
        "xhat = (y - beta) / gamma -> m = y.mean(1, keepdims=True) ;; "
        "gamma * np.sign(a) * xhat + beta -> np.sign(a) * (y - m) + m",
        "its own mean",
    ),
)


@right("13-axes")
def group_norm_in_torch(x, gamma, beta, groups, eps):
    x, gamma, beta = (torch.from_numpy(a) for a in (x, gamma, beta))
    return F.group_norm(x, groups, gamma, beta, eps)


@right("13-axes")
def group_norm_by_loops(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    y, size = np.zeros((N, C, L)), C // groups
    for n in range(N):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            y[n, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return y * gamma.reshape(1, C, 1) + beta.reshape(1, C, 1)


@right("13-axes")
def group_norm_channels_last(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.transpose(0, 2, 1).reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return (v.reshape(N, L, C) * gamma + beta).transpose(0, 2, 1)


@wrong("13-axes", "as it lies in memory, not transposed, for gamma and beta, too")
def group_norm_reshaped(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return (v.reshape(N, L, C) * gamma + beta).reshape(N, C, L)


@wrong("13-axes", "as it lies in memory, not transposed. So what is last")
def group_norm_reshaped_inside(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return v.reshape(N, C, L) * gamma[:, None] + beta[:, None]


@wrong("13-axes", "The groups are cut from (N, L, C)")
def group_norm_of_transposed(x, gamma, beta, groups, eps):
    t = x.transpose(0, 2, 1)
    v = t.reshape(len(t), groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    return (v.reshape(t.shape) * gamma + beta).transpose(0, 2, 1)


@wrong("13-axes", "the same gamma and beta, that at the group's number")
def group_norm_one_gamma_per_group(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    return (gamma[:groups, None] * v + beta[:groups, None]).reshape(N, C, L)


@wrong("13-axes", "the same gamma and beta, its first channel's")
def group_norm_first_gamma(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    size = C // groups
    return (gamma[::size, None] * v + beta[::size, None]).reshape(N, C, L)


@wrong("13-axes", "eps is fixed at 1e-6")
def group_norm_with_own_eps(x, gamma, beta, groups, eps):
    return group_norm_in_torch(x, gamma, beta, groups, 1e-6)


@wrong("13-axes", "unbiased", "eps is fixed at 1e-5")
def group_norm_by_torch_var(x, gamma, beta, groups, eps):
    v = torch.from_numpy(x).reshape(len(x), groups, -1)
    v = (v - v.mean(-1, keepdim=True)) / torch.sqrt(v.var(-1, keepdim=True) + 1e-5)
    return v.numpy().reshape(x.shape) * gamma[:, None] + beta[:, None]


@wrong("13-axes", "near 10,000 in float32")
def group_norm_one_pass(x, gamma, beta, groups, eps):
    v = x.reshape(len(x), groups, -1)
    mean = v.mean(-1, keepdims=True)
    v = (v - mean) / np.sqrt((v**2).mean(-1, keepdims=True) - mean**2 + eps)
    return v.reshape(x.shape) * gamma[:, None] + beta[:, None]


@right("13-scale")
def scaled_by_cases(y, gamma, beta, a):
    return y if a > 0 else 2 * beta - y


@right("13-scale")
def scaled_through_z(y, gamma, beta, a):
    z = a * (y - beta) / gamma
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    return gamma * z + beta


@wrong("13-scale", "not invariant for every a")
def scaled_not_at_all(y, gamma, beta, a):
    return y.copy()


@wrong("13-axes", "none of the mistakes I know")
def group_norm_of_absolute_parameters(x, gamma, beta, groups, eps):
    return group_norm_in_torch(x, abs(gamma), -abs(beta), groups, eps)


@wrong("13-axes", "eps is a lower bound of the variance")
def group_norm_clipped(x, gamma, beta, groups, eps):
    v = x.reshape(len(x), groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(np.maximum(v.var(-1, keepdims=True), eps))
    return v.reshape(x.shape) * gamma[:, None] + beta[:, None]


@wrong("13-scale", "beta (7,) and a = 0.04")
def scaled_by_a_clipped_factor(y, gamma, beta, a):
    return np.clip(a, -1, 1) * (y - beta) + beta
