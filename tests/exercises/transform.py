"""Chapters 6 and 7: batch norm forward and backward, as readers and libraries write them."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from bnlib import batch_norm, normalize_backward
from tests.exercises.cases import edits, reference, right, wrong


@reference("06-batch-norm")
@reference("06-channels")
def right_forward(x, gamma, beta, eps):
    return batch_norm(x, gamma, beta, eps)[0]


@reference("07-backward")
@reference("07-channels")
def right_backward(dy, x, gamma, eps):
    return normalize_backward(dy, batch_norm(x, gamma, np.zeros_like(gamma), eps)[1])


@right("06-batch-norm")
def forward_on_the_page(x, gamma, beta, eps):
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    return gamma * xhat + beta


edits(
    "06-batch-norm",
    forward_on_the_page,
    ("x.var(0) -> x.var(0, ddof=1)", "unbiased"),
    ("np.sqrt(x.var(0) + eps) -> (x.std(0) + eps)", "outside the root"),
    (" + eps -> ", "eps is forgotten"),
    ("np.sqrt -> ", "divided by var + eps"),
    ("(x - x.mean(0)) / -> x /", "mean is not subtracted"),
    ("(x - x.mean(0)) / -> x - x.mean(0) /", "Brackets"),
    ("+ eps) -> ) + eps", "added to the quotient"),
    ("gamma * xhat -> xhat", "gamma is forgotten"),
    (" + beta -> ", "beta is forgotten"),
    ("gamma * xhat + beta -> beta * xhat + gamma", "changed places"),
    ("gamma * xhat + beta -> gamma * (xhat + beta)", "before gamma"),
    ("x.mean(0) -> x.mean(1, keepdims=True) ;; x.var(0) -> x.var(1, keepdims=True)", "units of each example"),
    ("x.mean(0) -> x.mean() ;; x.var(0) -> x.var()", "all values at once"),
)


@right("06-channels")
def images_on_the_page(x, gamma, beta, eps):
    axes, shape = (0, 2, 3), (1, -1, 1, 1)
    xhat = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return gamma.reshape(shape) * xhat + beta.reshape(shape)


edits(
    "06-channels",
    images_on_the_page,
    ("(0, 2, 3) -> 0", "examples only"),
    ("(0, 2, 3) -> (2, 3)", "instance norm"),
    ("(0, 2, 3) -> (1, 2, 3)", "layer norm"),
    ("(0, 2, 3) -> 1", "the channels"),
    ("(0, 2, 3) -> None", "all values at once"),
)


@right("07-backward")
@right("07-channels")
def backward_on_the_page(dy, x, gamma, eps):
    axis, shape = ((0, 2, 3), (1, -1, 1, 1)) if x.ndim == 4 else (0, (1, -1))
    m = x.size // x.shape[1]
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    dxhat = dy * gamma.reshape(shape)
    s1, s2 = dxhat.sum(axis, keepdims=True), (dxhat * xhat).sum(axis, keepdims=True)
    dx = rstd / m * (m * dxhat - s1 - xhat * s2)
    dgamma = (dy * xhat).sum(axis)
    dbeta = dy.sum(axis)
    return dx, dgamma, dbeta


for name in ("07-backward", "07-channels"):
    edits(
        name,
        backward_on_the_page,
        (" - xhat * s2 -> ", "path through the variance"),
        (" - s1 -> ", "path through the mean"),
        (" - xhat * s2 ->  - s2", "lacks its factor xhat"),
        ("x.var(axis, keepdims=True) -> x.var(axis, ddof=1, keepdims=True)", "unbiased"),
        ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "outside the root"),
        ("var + eps -> var", "eps is forgotten"),
        ("np.sqrt(var + eps) -> (var + eps)", "divided by var + eps"),
        ("dy * gamma.reshape(shape) -> dy", "dx lacks gamma"),
        ("dxhat.sum -> dy.sum ;; (dxhat * xhat) -> (dy * xhat)", "without gamma"),
        ("rstd / m -> gamma.reshape(shape) * rstd / m", "gamma stands in dx twice"),
        ("rstd / m -> 1 / m", "factor rstd"),
        ("rstd / m -> 1 / m / np.sqrt(var)", "in the factor in front"),
        ("rstd / m -> rstd**2 / m", "dx is divided by var + eps"),
        ("rstd / m -> rstd", "times too large"),
        ("rstd / m -> -rstd / m", "wrong sign"),
        ("- s1 -> + s1", "path through the mean has the wrong sign"),
        ("- xhat -> + xhat", "path through the variance has the wrong sign"),
        ("- s1 -> - m * s1", "sum of dxhat is not divided"),
        ("- xhat * s2 -> - m * xhat * s2", "sum of dxhat * xhat is not divided"),
        ("/ m * (m * dxhat -> * (dxhat", "sums of dxhat and of dxhat * xhat are"),
        ("(dy * xhat).sum(axis) -> dy.sum(axis)", "dgamma lacks xhat"),
        ("(dy * xhat) -> (dy * x)", "from dy * x,"),
        ("(dy * xhat) -> (dy * (x - mean))", "from dy * (x - mean)"),
        ("= (dy * xhat) -> = (dxhat * xhat)", "from dxhat * xhat"),
        ("dbeta = dy -> dbeta = dxhat", "from dxhat, but beta"),
        ("(dy * xhat).sum -> (dy * xhat).mean", "dgamma is averaged"),
        ("dbeta = dy.sum -> dbeta = dy.mean", "dbeta is averaged"),
        ("dbeta = dy.sum(axis) -> dbeta = dy", "dbeta is not summed"),
    )

edits(
    "07-channels",
    backward_on_the_page,
    ("(dy * xhat).sum(axis) -> (dy * xhat).sum(0)", "dgamma is summed over the examples only"),
    ("dbeta = dy.sum(axis) -> dbeta = dy.sum(0)", "dbeta is summed over the examples only"),
    ("(dy * xhat).sum(axis) -> (dy * xhat).sum(0) ;; dy.sum(axis) -> dy.sum(0)", "dgamma and dbeta are summed over"),
    ("dbeta = dy.sum(axis) -> dbeta = dy.sum((2, 3))", "dbeta is summed over the positions only"),
    ("m * (m * dxhat - s1 - xhat * s2) -> len(x) * (len(x) * dxhat - s1 - xhat * s2)", "are divided by N only"),
)

edits(
    "07-backward",
    backward_on_the_page,
    (
        " - xhat * s2 ->  ;; (dy * xhat).sum(axis) -> dy.sum(axis)",
        "dx lacks the path through the variance",
        "dgamma lacks xhat",
    ),
    (
        "x.var(axis, keepdims=True) -> x.var(axis, ddof=1, keepdims=True) ;; - s1 -> ",
        "path through the mean",
        "unbiased",
    ),
    (
        " - s1 ->  ;; (dy * xhat).sum -> (dy * xhat).mean ;; dbeta = dy -> dbeta = dxhat",
        "path through the mean",
        "dgamma is averaged",
        "dbeta is summed from dxhat",
    ),
    (
        "var + eps -> var ;;  - s1 ->  ;; (dy * xhat).sum -> (dy * xhat).mean",
        "path through the mean",
        "eps is forgotten",
        "dgamma is averaged",
    ),
)


def by_autograd(statistics, normalized=lambda x, mean, var, eps: (x - mean) / torch.sqrt(var + eps)):
    """The backward pass that PyTorch derives from a forward pass with these statistics: (x) -> mean, var."""

    def function(dy, x, gamma, eps):
        x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
        beta = torch.zeros_like(gamma, requires_grad=True)
        shape = (1, -1, *[1] * (x.ndim - 2))
        y = gamma.reshape(shape) * normalized(x, *statistics(x), eps) + beta.reshape(shape)
        return torch.autograd.grad(y, (x, gamma, beta), torch.tensor(dy))

    return function


def torch_statistics(axes, correction=0):
    return lambda x: (x.mean(axes, keepdim=True), x.var(axes, correction=correction, keepdim=True))


def detached(mean: bool, var: bool):
    def statistics(x):
        m, v = torch_statistics(0)(x)
        return m.detach() if mean else m, v.detach() if var else v

    return by_autograd(statistics)


wrong("07-backward", "lacks the path through the variance")(detached(mean=False, var=True))

wrong("07-backward", "lacks the path through the mean")(detached(mean=True, var=False))

wrong("07-backward", "as constants")(detached(mean=True, var=True))

wrong("07-backward", "and dx follows it")(by_autograd(torch_statistics(0, 1)))

wrong("07-backward", "and the two means in dx, run over the units")(by_autograd(torch_statistics(1)))

wrong("07-backward", "all values at once")(by_autograd(torch_statistics((0, 1))))

wrong("07-backward", "dx is the gradient of that")(
    by_autograd(torch_statistics(0), lambda x, m, v, eps: (x - m) / (v.sqrt() + eps))
)

wrong("07-backward", "eps is forgotten")(by_autograd(torch_statistics(0), lambda x, m, v, eps: (x - m) / v.sqrt()))

wrong("07-channels", "and dx follows it")(by_autograd(torch_statistics((0, 2, 3), 1)))

wrong("07-channels", "instance norm")(by_autograd(torch_statistics((2, 3))))

wrong("07-channels", "layer norm")(by_autograd(torch_statistics((1, 2, 3))))

wrong("07-channels", "and the two means in dx, run over the examples only")(by_autograd(torch_statistics(0)))


@right("07-backward")
def by_loops(dy, x, gamma, eps):
    n, channels = x.shape
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    for c in range(channels):
        mean = sum(x[:, c]) / n
        rstd = (sum((v - mean) ** 2 for v in x[:, c]) / n + eps) ** -0.5
        for i in range(n):
            dbeta[c] += dy[i, c]
            dgamma[c] += dy[i, c] * (x[i, c] - mean) * rstd
        for i in range(n):
            xhat = (x[i, c] - mean) * rstd
            dx[i, c] = gamma[c] * rstd * (dy[i, c] - dbeta[c] / n - xhat * dgamma[c] / n)
    return dx, dgamma, dbeta


@right("07-backward")
def by_einsum(dy, x, gamma, eps):
    n = len(x)
    centred = x - np.einsum("nc->c", x) / n
    rstd = (np.einsum("nc,nc->c", centred, centred) / n + eps) ** -0.5
    xhat = np.einsum("nc,c->nc", centred, rstd)
    dgamma, dbeta = np.einsum("nc,nc->c", dy, xhat), np.einsum("nc->c", dy)
    return np.einsum("c,c,nc->nc", gamma, rstd, dy - dbeta / n - xhat * dgamma / n), dgamma, dbeta


@right("07-backward")
def as_lists(dy, x, gamma, eps):
    return [a.tolist() for a in right_backward(dy, x, gamma, eps)]


@right("06-batch-norm")
def textbook_forward(x, gamma, beta, eps):
    N = x.shape[0]
    mu = 1.0 / N * np.sum(x, axis=0)
    xmu = x - mu
    var = 1.0 / N * np.sum(xmu**2, axis=0)
    ivar = 1.0 / np.sqrt(var + eps)
    return gamma * (xmu * ivar) + beta


@right("06-batch-norm")
def forward_with_ones(x, gamma, beta, eps):
    N = len(x)
    mean = np.ones((1, N)) @ x / N
    var = np.ones((1, N)) @ (x - mean) ** 2 / N
    return np.ones((N, 1)) @ gamma[None] * (x - mean) / np.sqrt(var + eps) + beta


@right("06-batch-norm")
def forward_in_torch(x, gamma, beta, eps):
    bn = torch.nn.BatchNorm1d(x.shape[1], eps=eps).to(torch.from_numpy(x).dtype)
    bn.weight.data, bn.bias.data = torch.from_numpy(gamma), torch.from_numpy(beta)
    return bn(torch.from_numpy(x))


@right("06-batch-norm")
def forward_in_lists(x, gamma, beta, eps):
    columns = []
    for column, g, b in zip(x.T.tolist(), gamma.tolist(), beta.tolist(), strict=True):
        mean = sum(column) / len(column)
        var = sum((v - mean) ** 2 for v in column) / len(column)
        columns.append([g * (v - mean) / math.sqrt(var + eps) + b for v in column])
    return [list(row) for row in zip(*columns, strict=True)]


@right("06-batch-norm")
def forward_in_float64(x, gamma, beta, eps):
    x = x.astype(np.float64)
    return gamma * (x - x.mean(0)) / np.sqrt((x**2).mean(0) - x.mean(0) ** 2 + eps) + beta


@right("06-batch-norm")
def forward_summed_one_by_one(x, gamma, beta, eps):
    total = np.zeros_like(gamma)
    for row in x:
        total = total + row
    mean = total / len(x)
    squares = np.zeros_like(gamma)
    for row in x:
        squares = squares + (row - mean) ** 2
    return gamma * (x - mean) / np.sqrt(squares / len(x) + eps) + beta


@right("06-batch-norm")
def forward_by_welford(x, gamma, beta, eps):
    mean, m2 = np.zeros_like(gamma), np.zeros_like(gamma)
    for n, row in enumerate(x, 1):
        delta = row - mean
        mean = mean + delta / n
        m2 = m2 + delta * (row - mean)
    return (x - mean) / np.sqrt(m2 / len(x) + eps) * gamma + beta


@right("06-channels")
def forward_summed_in_single(x, gamma, beta, eps):
    rows = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    out = forward_summed_one_by_one(rows, gamma, beta, eps)
    return out.reshape(np.moveaxis(x, 1, -1).shape).transpose(0, 3, 1, 2)


@right("06-channels")
def forward_as_rows(x, gamma, beta, eps):
    N, C, H, W = x.shape
    flat = x.transpose(0, 2, 3, 1).reshape(-1, C)
    out = textbook_forward(flat, gamma, beta, eps)
    return out.reshape(N, H, W, C).transpose(0, 3, 1, 2)


@right("06-channels")
def forward_functional(x, gamma, beta, eps):
    x, gamma, beta = (torch.from_numpy(a) for a in (x, gamma, beta))
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


@right("06-channels")
def forward_by_channel(x, gamma, beta, eps):
    out = np.empty(x.shape)
    for c in range(x.shape[1]):
        v = x[:, c].ravel()
        mean = sum(v) / v.size
        out[:, c] = gamma[c] * (x[:, c] - mean) / (sum((v - mean) ** 2) / v.size + eps) ** 0.5 + beta[c]
    return out


def fixed(value):
    def forward(x, gamma, beta, eps):
        eps = value
        mu, var = np.mean(x, axis=0), np.var(x, axis=0)
        return gamma * (x - mu) / np.sqrt(var + eps) + beta

    return forward


for text in ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12"):
    wrong("06-batch-norm", f"eps is fixed at {text}, whatever is passed")(fixed(float(text)))

wrong("06-batch-norm", "eps is forgotten")(fixed(0.0))


@wrong("06-batch-norm", "near 10,000 in float32")
def one_pass(x, gamma, beta, eps):
    mean = x.mean(axis=0)
    var = (x * x).mean(axis=0) - mean * mean
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


@wrong("06-batch-norm", "near 10,000 in float32")
def one_pass_clipped(x, gamma, beta, eps):
    mean = x.sum(0) / len(x)
    var = np.maximum((x**2).sum(0) / len(x) - mean**2, 0)
    return gamma * (x - mean) * (var + eps) ** -0.5 + beta


@wrong("06-channels", "near 10,000 in float32")
def one_pass_in_torch(x, gamma, beta, eps):
    x, gamma, beta = (torch.from_numpy(a) for a in (x, gamma, beta))
    mean = x.mean((0, 2, 3), keepdim=True)
    var = x.pow(2).mean((0, 2, 3), keepdim=True) - mean**2
    return (x - mean) / torch.sqrt(var + eps) * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)


@wrong("06-batch-norm", "eps is subtracted from the variance")
def minus_eps(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / np.sqrt(x.var(0) - eps) + beta


@wrong("06-batch-norm", "unbiased", "eps stands outside the root")
def by_torch_std(x, gamma, beta, eps):
    t = torch.from_numpy(x)
    out = (t - t.mean(0)) / (t.std(0) + eps)
    return gamma * out.numpy() + beta


@wrong("06-batch-norm", "unbiased", "eps is fixed at 1e-5", "beta is added before gamma")
def three_at_once(x, gamma, beta, eps=1e-5):
    z = (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + 1e-5)
    return gamma * (z + beta)


@wrong("06-channels", "cut into rows of C values as it lies in memory")
def rows_without_transpose(x, gamma, beta, eps):
    N, C, H, W = x.shape
    return textbook_forward(x.reshape(-1, C), gamma, beta, eps).reshape(N, C, H, W)


@wrong("06-channels", "unbiased", "eps is fixed at 1e-3")
def keras_defaults(x, gamma, beta, eps):
    t = torch.from_numpy(x)
    t = (t - t.mean((0, 2, 3), keepdim=True)) / torch.sqrt(t.var((0, 2, 3), keepdim=True) + 1e-3)
    return t.numpy() * gamma[:, None, None] + beta[:, None, None]


@wrong("06-batch-norm", "changes its argument x")
def forward_in_place(x, gamma, beta, eps):
    x -= x.mean(0)
    x /= np.sqrt((x**2).mean(0) + eps)
    return gamma * x + beta


@wrong("06-batch-norm", "right to four digits only")
def forward_in_single(x, gamma, beta, eps):
    x = x.astype("float32")
    return gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta


@right("06-batch-norm")
def forward_of_objects(x, gamma, beta, eps):
    return np.frompyfunc(float, 1, 1)(textbook_forward(x, gamma, beta, eps))


@wrong("06-batch-norm", "eps is a lower bound of the variance")
def forward_clipped(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / np.sqrt(np.maximum(x.var(0), eps)) + beta


@wrong("06-batch-norm", "none of the mistakes I know")
def forward_of_absolute_values(x, gamma, beta, eps):
    return textbook_forward(abs(x), gamma, beta, eps)


@wrong("06-channels", "not transposed back")
def rows_not_transposed_back(x, gamma, beta, eps):
    N, C, H, W = x.shape
    return textbook_forward(x.transpose(0, 2, 3, 1).reshape(-1, C), gamma, beta, eps).reshape(N, C, H, W)


@wrong("06-channels", "as if the channels came last")
def channels_last(x, gamma, beta, eps):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return gamma[:, None, None] * (x - mean) / np.sqrt(var + eps) + beta[:, None, None]


@right("07-backward")
def staged_backward(dy, x, gamma, eps):
    N, D = x.shape
    mu = np.mean(x, axis=0)
    xmu = x - mu
    var = np.mean(xmu**2, axis=0)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    dbeta = np.sum(dy, axis=0)
    dgamma = np.sum(dy * xhat, axis=0)
    dxhat = dy * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / sqrtvar**2 * divar
    dvar = 0.5 / np.sqrt(var + eps) * dsqrtvar
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -1 * np.sum(dxmu1 + dxmu2, axis=0)
    dx2 = 1.0 / N * np.ones((N, D)) * dmu
    return dx1 + dx2, dgamma, dbeta


@right("07-backward")
def paper_backward(dy, x, gamma, eps):
    m = x.shape[0]
    mean, var = x.mean(0, keepdims=True), x.var(0, keepdims=True)
    inv = 1.0 / np.sqrt(var + eps)
    dxhat = dy * gamma
    dvar = np.sum(dxhat * (x - mean) * (-0.5) * inv**3, axis=0, keepdims=True)
    dmean = np.sum(dxhat * -inv, axis=0, keepdims=True) + dvar * np.mean(-2.0 * (x - mean), axis=0, keepdims=True)
    dx = dxhat * inv + dvar * 2 * (x - mean) / m + dmean / m
    dgamma = np.sum(dy * (x - mean) * inv, axis=0, keepdims=True)
    return dx, dgamma, np.sum(dy, axis=0, keepdims=True)


@right("07-backward")
def jacobian_backward(dy, x, gamma, eps):
    N, D = x.shape
    dx = np.zeros((N, D))
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    for d in range(D):
        one = np.ones((N, 1))
        column = xhat[:, d : d + 1]
        J = (np.eye(N) - one @ one.T / N - column @ column.T / N) / np.sqrt(x[:, d].var() + eps)
        dx[:, d] = J.T @ (gamma[d] * dy[:, d])
    return dx, np.einsum("nd,nd->d", dy, xhat), np.einsum("nd->d", dy)


@right("07-backward")
def autograd_backward(dy, x, gamma, eps):
    x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    beta = torch.zeros_like(gamma, requires_grad=True)
    F.batch_norm(x, None, None, gamma, beta, True, 0.1, eps).backward(torch.tensor(dy))
    return [x.grad, gamma.grad, beta.grad]


@right("07-backward")
def backward_with_float64_sums(dy, x, gamma, eps):
    N = len(x)
    mean = x.sum(0, dtype=np.float64) / N
    xhat = (x - mean) / np.sqrt(((x - mean) ** 2).sum(0, dtype=np.float64) / N + eps)
    dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0, dtype=np.float64)
    dx = gamma / np.sqrt(x.var(0, dtype=np.float64) + eps) / N * (N * dy - dbeta - xhat * dgamma)
    return dx.astype(x.dtype), dgamma.astype(x.dtype), dbeta.astype(x.dtype)


@right("07-backward")
def backward_one_example_at_a_time(dy, x, gamma, eps):
    N = len(x)
    std = np.sqrt(np.var(x, axis=0) + eps)
    xhat = (x - np.mean(x, axis=0)) / std
    dgamma = sum(d * h for d, h in zip(dy, xhat, strict=True))
    dbeta = sum(dy)
    return (
        np.array([gamma / std * (d - dbeta / N - h * dgamma / N) for d, h in zip(dy, xhat, strict=True)]),
        dgamma,
        dbeta,
    )


@right("07-channels")
def backward_as_rows(dy, x, gamma, eps):
    N, C, H, W = x.shape
    dy, x = (np.moveaxis(a, 1, -1).reshape(-1, C) for a in (dy, x))
    dx, dgamma, dbeta = staged_backward(dy, x, gamma, eps)
    return np.moveaxis(dx.reshape(N, H, W, C), -1, 1), dgamma, dbeta


@right("07-channels")
def backward_keeping_axes(dy, x, gamma, eps):
    axes, m = (0, 2, 3), x.shape[0] * x.shape[2] * x.shape[3]
    inv = 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    xhat = (x - x.mean(axes, keepdims=True)) * inv
    dbeta, dgamma = dy.sum(axes, keepdims=True), (dy * xhat).sum(axes, keepdims=True)
    dx = gamma[None, :, None, None] * inv / m * (m * dy - dbeta - xhat * dgamma)
    return dx, dgamma, dbeta


def backward_of(dx_of):
    """A backward pass whose dgamma and dbeta are right, and dx from a function of what one has at hand."""

    def backward(dy, x, gamma, eps):
        mu, var, m = x.mean(0), x.var(0), len(x)
        r = 1 / np.sqrt(var + eps)
        return dx_of(dy * gamma, x - mu, var, r, eps, m, dy, x), (dy * (x - mu) * r).sum(0), dy.sum(0)

    return backward


def staged(dvar_power=1.5, half=0.5, two=2.0, with_eps=True, means=1):
    def dx_of(d, c, var, r, eps, m, dy, x):
        dvar = -half * (d * c).sum(0) * (var + eps * with_eps) ** -dvar_power
        dmean = -(d * r).sum(0) - dvar * two * c.sum(0) / m
        return d * r + dvar * two * c / m + means * dmean / m

    return backward_of(dx_of)


wrong("07-backward", "eps is lost in the path through the variance: the power -3/2")(staged(with_eps=False))

wrong("07-backward", "path through the variance is twice too large")(staged(half=1.0))

wrong("07-backward", "path through the variance is half as large")(staged(two=1.0))

wrong("07-backward", "The path through the mean is counted twice")(staged(means=2))


@wrong("07-backward", "holds only what each x does to its own xhat, through the mean.")
@backward_of
def own_effect(d, c, var, r, eps, m, dy, x):
    return d * r * (1 - 1 / m)


@wrong("07-backward", "holds only what each x does to its own xhat, through mean and variance")
@backward_of
def diagonal_of_the_jacobian(d, c, var, r, eps, m, dy, x):
    return d * r * (1 - 1 / m - (c * r) ** 2 / m)


@wrong("07-backward", "gamma is missing in the first term of dx only")
@backward_of
def gamma_in_the_means_only(d, c, var, r, eps, m, dy, x):
    return r * (dy - d.mean(0) - c * r * (d * c * r).mean(0))


@wrong("07-backward", "eps is lost in the path through the variance: something there is divided")
@backward_of
def eps_lost(d, c, var, r, eps, m, dy, x):
    return r * (d - d.mean(0) - c * (d * c).mean(0) / var)


@wrong("07-backward", "has x in place of x - mean")
@backward_of
def not_centred(d, c, var, r, eps, m, dy, x):
    return d * r - d.sum(0) * r / m - (d * x).sum(0) * x * r**3 / m


@wrong(
    "07-backward", "path through the mean is counted twice", "eps is lost in the path through the variance: the power"
)
@backward_of
def mean_twice_and_eps_lost(d, c, var, r, eps, m, dy, x):
    return d * r - 0.5 * (d * c).sum(0) * var**-1.5 * 2 * c / m - 2 * (d * r).sum(0) / m


@wrong("07-backward", "dgamma is divided by the variance, not by its root")
def dgamma_by_variance(dy, x, gamma, eps):
    dx, _, dbeta = staged_backward(dy, x, gamma, eps)
    return dx, np.sum(dy * (x - x.mean(0)) / (x.var(0) + eps), axis=0), dbeta


@wrong("07-backward", "dgamma is divided by the variance, without eps")
def dgamma_by_variance_alone(dy, x, gamma, eps):
    dx, _, dbeta = staged_backward(dy, x, gamma, eps)
    return dx, np.sum(dy * (x - x.mean(0)) / x.var(0), axis=0), dbeta


@wrong("07-backward", "eps is forgotten in dgamma, there alone")
def dgamma_by_std(dy, x, gamma, eps):
    dx, _, dbeta = staged_backward(dy, x, gamma, eps)
    return dx, np.sum(dy * (x - x.mean(0)) / x.std(0), axis=0), dbeta


@wrong("07-backward", "eps is fixed at 1e-8")
def backward_with_own_eps(dy, x, gamma, eps):
    return staged_backward(dy, x, gamma, 1e-8)


@wrong("07-channels", "eps is fixed at 1e-5")
def image_backward_with_own_eps(dy, x, gamma, eps=1e-5):
    return backward_as_rows(dy, x, gamma, 1e-5)


@wrong("07-backward", "eps is subtracted from the variance")
def backward_minus_eps(dy, x, gamma, eps):
    return staged_backward(dy, x, gamma, -eps)


@wrong("07-channels", "cut into rows of C values as it lies in memory")
def backward_without_transpose(dy, x, gamma, eps):
    C = x.shape[1]
    dx, dgamma, dbeta = staged_backward(dy.reshape(-1, C), x.reshape(-1, C), gamma, eps)
    return dx.reshape(x.shape), dgamma, dbeta


@wrong("07-backward", "without the root, and dx is the gradient of that")
def gradient_of_a_missing_root(dy, x, gamma, eps):
    x, gamma = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    xhat = (x - x.mean(0)) / (x.var(0, correction=0) + eps)
    (gamma * xhat).backward(torch.tensor(dy))
    return x.grad, gamma.grad, dy.sum(0)


@wrong("07-backward", "path through the mean", "eps is fixed at 1e-5", "dgamma and dbeta are averaged")
def four_at_once(dy, x, gamma, eps):
    r = 1 / np.sqrt(x.var(0) + 1e-5)
    xhat, d = (x - x.mean(0)) * r, dy * gamma
    return r * (d - xhat * (d * xhat).mean(0)), (dy * xhat).mean(0), dy.mean(0)


@wrong("07-channels", "near 10,000 in float32")
def image_backward_one_pass(dy, x, gamma, eps):
    N, C, H, W = x.shape
    dy, x = (a.transpose(0, 2, 3, 1).reshape(-1, C) for a in (dy, x))
    dx, dgamma, dbeta = backward_one_pass(dy, x, gamma, eps)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dgamma, dbeta


@wrong("07-backward", "near 10,000 in float32")
def backward_one_pass(dy, x, gamma, eps):
    mean = x.mean(0)
    r = 1 / np.sqrt((x**2).mean(0) - mean**2 + eps)
    xhat, d = (x - mean) * r, dy * gamma
    return r * (d - d.mean(0) - xhat * (d * xhat).mean(0)), (dy * xhat).sum(0), dy.sum(0)


wrong("07-backward", "place of xhat twice, as if dvar had the power -0.5")(staged(dvar_power=0.5))


@wrong("07-backward", "place of xhat once")
@backward_of
def deviation_for_xhat(d, c, var, r, eps, m, dy, x):
    return r * (d - d.mean(0) - c * (d * c * r).mean(0))


@wrong("07-backward", "the path through the mean lacks gamma")
@backward_of
def gamma_missing_in_the_mean(d, c, var, r, eps, m, dy, x):
    return r * (d - dy.mean(0) - c * r * (d * c * r).mean(0))


@wrong("07-backward", "the path through the variance lacks gamma")
@backward_of
def gamma_missing_in_the_variance(d, c, var, r, eps, m, dy, x):
    return r * (d - d.mean(0) - c * r * (dy * c * r).mean(0))


@wrong("07-backward", "are divided by the number of units")
@backward_of
def units_for_examples(d, c, var, r, eps, m, dy, x):
    D = x.shape[1]
    return r / D * (D * d - d.sum(0) - c * r * (d * c * r).sum(0))


@wrong("07-backward", "eps is fixed at 1e-5 in dgamma, there alone")
def dgamma_with_own_eps(dy, x, gamma, eps):
    dx, _, dbeta = staged_backward(dy, x, gamma, eps)
    return dx, staged_backward(dy, x, gamma, 1e-5)[1], dbeta


@wrong("07-backward", "All three gradients are divided by N")
def backward_averaged(dy, x, gamma, eps):
    return tuple(a / len(x) for a in staged_backward(dy, x, gamma, eps))


@wrong("07-channels", "dy is cut into rows of C values")
def only_dy_without_transpose(dy, x, gamma, eps):
    N, C, H, W = x.shape
    dx, *others = staged_backward(dy.reshape(-1, C), x.transpose(0, 2, 3, 1).reshape(-1, C), gamma, eps)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), *others


@wrong("07-channels", "dx is reshaped from rows")
def dx_not_transposed_back(dy, x, gamma, eps):
    C = x.shape[1]
    dx, *others = staged_backward(*(a.transpose(0, 2, 3, 1).reshape(-1, C) for a in (dy, x)), gamma, eps)
    return dx.reshape(x.shape), *others
