"""Whole functions, as students and libraries write them: what is right passes, what is wrong is refused and named."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from torch.nn import functional as F

from bnlib.catalogue import EXERCISES
from bnlib.exercises import FAR, check

RIGHT: list[tuple[str, Callable[..., Any]]] = []
WRONG: list[tuple[str, Callable[..., Any], tuple[str, ...]]] = []


def right(name: str):
    """What is right in this exercise, maybe with remarks."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        RIGHT.append((name, function))
        return function

    return enter


def wrong(name: str, *says: str):
    """What is wrong in this exercise, and a part of each sentence that it must get, in the sentences' order."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        WRONG.append((name, function, says))
        return function

    return enter


# 01: a weighted line and the effective sample size


@right("01-weights")
def polyfit_line(x, y, w):
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(w))
    return np.array([intercept, slope]), w.sum() ** 2 / (w**2).sum()


@right("01-weights")
def normal_equations(x, y, w):
    X = np.stack([np.ones(len(x)), x], axis=1)
    W = np.diag(w)
    return np.linalg.inv(X.T @ W @ X) @ X.T @ W @ y, np.sum(w) ** 2 / np.sum(w**2)


@right("01-weights")
def line_by_cov(x, y, w):
    C = np.cov(x, y, aweights=w, ddof=0)
    slope = C[0, 1] / C[0, 0]
    return [np.average(y, weights=w) - slope * np.average(x, weights=w), slope], float(w.sum()) ** 2 / float(w @ w)


@right("01-weights")
def lstsq_column(x, y, w):
    A = np.vstack([np.ones(len(x)), x]).T * np.sqrt(w)[:, None]
    line = np.linalg.lstsq(A, (y * np.sqrt(w))[:, None], rcond=None)[0]
    return line, np.array([w.sum() ** 2 / (w**2).sum()])


@wrong("01-weights", "line's weights are squared")
def polyfit_without_root(x, y, w):
    slope, intercept = np.polyfit(x, y, 1, w=w)
    return np.array([intercept, slope]), w.sum() ** 2 / (w**2).sum()


@wrong("01-weights", "Intercept and slope are exchanged", "weights to be scaled to sum 1")
def polyfit_order(x, y, w):
    return np.polyfit(x, y, 1, w=np.sqrt(w)), 1 / np.sum(w**2)


@wrong("01-weights", "ignores the weights")
def unweighted(x, y, w):
    slope, intercept, *_ = scipy.stats.linregress(x, y)
    return np.array([intercept, slope]), w.sum() ** 2 / (w**2).sum()


# 02: backpropagation through sigmoid layers


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


# 03: whitening


@right("03-whiten")
def zca_by_np_cov(x, eps):
    xc = x - x.mean(axis=0)
    U, S, _ = np.linalg.svd(np.cov(xc, rowvar=False, bias=True))
    return xc @ (U @ np.diag(1.0 / np.sqrt(S + eps)) @ U.T)


@right("03-whiten")
def zca_by_scipy_root(x, eps):
    xc = x - x.mean(axis=0, keepdims=True)
    cov = np.dot(xc.T, xc) / xc.shape[0] + eps * np.eye(xc.shape[1])
    return np.dot(xc, np.linalg.inv(scipy.linalg.sqrtm(cov)))


@right("03-whiten")
def zca_by_fractional_power(x, eps):
    xc = x - x.mean(0)
    return xc @ scipy.linalg.fractional_matrix_power(xc.T @ xc / len(x) + eps * np.identity(x.shape[1]), -0.5)


@right("03-whiten")
def zca_by_torch(x, eps):
    x = torch.tensor(x)
    x = x - x.mean(0, keepdim=True)
    S, U = torch.linalg.eigh(x.T @ x / len(x))
    return x @ U @ torch.diag(1 / (S + eps).sqrt()) @ U.T


@right("03-whiten")
def zca_by_general_eig(x, eps):
    xc = x - x.mean(0)
    values, vectors = np.linalg.eig(sum(np.outer(row, row) for row in xc) / len(xc))
    return xc @ (vectors * (values + eps) ** -0.5) @ np.linalg.inv(vectors)


@wrong("03-whiten", "another rotation than ZCA's")
def pca_by_svd(x, eps):
    x = x - np.mean(x, axis=0)
    U, S, _ = np.linalg.svd(np.dot(x.T, x) / x.shape[0])
    return np.dot(x, U) / np.sqrt(S + eps)


@wrong("03-whiten", "another rotation than ZCA's", "eps is fixed at 1e-5")
def pca_with_own_eps(x, eps):
    x = x - np.mean(x, axis=0)
    U, S, _ = np.linalg.svd(np.dot(x.T, x) / x.shape[0])
    return np.dot(x, U) / np.sqrt(S + 1e-5)


@wrong("03-whiten", "This is PCA whitening")
def pca_by_eigh(x, eps):
    x = x - x.mean(0)
    S, U = np.linalg.eigh(x.T @ x / len(x))
    return x @ U @ np.diag((S + eps) ** -0.5)


@wrong("03-whiten", "This is Cholesky whitening:")
def cholesky(x, eps):
    xc = x - x.mean(0)
    L = np.linalg.cholesky(xc.T @ xc / len(x) + eps * np.eye(x.shape[1]))
    return np.linalg.solve(L, xc.T).T


@wrong("03-whiten", "This is Cholesky whitening, by the factor of the inverse")
def cholesky_of_the_inverse(x, eps):
    xc = x - x.mean(0)
    W = np.linalg.cholesky(np.linalg.inv(xc.T @ xc / len(x) + eps * np.eye(x.shape[1])))
    return xc @ W


@wrong("03-whiten", "another rotation than ZCA's")
def upper_cholesky(x, eps):
    xc = x - x.mean(0)
    W = scipy.linalg.cholesky(np.linalg.inv(xc.T @ xc / len(x) + eps * np.eye(x.shape[1]))[::-1, ::-1])
    return xc[:, ::-1] @ W.T


@wrong("03-whiten", "divisor N - 1")
def zca_by_default_cov(x, eps):
    xc = x - x.mean(0)
    S, U = np.linalg.eigh(np.cov(x.T))
    return xc @ U @ np.diag(1 / np.sqrt(S + eps)) @ U.T


@wrong("03-whiten", "divisor N - 1", "eps is fixed at 1e-8")
def zca_by_default_cov_and_eps(x, eps):
    xc = x - x.mean(0)
    S, U = np.linalg.eigh(np.cov(x.T))
    return xc @ U @ np.diag(1 / np.sqrt(S + 1e-8)) @ U.T


@wrong("03-whiten", "not divided by N", "The mean is never removed", "eps is fixed at 1e-12")
def whitening_of_a_sum(x, eps):
    d, V = np.linalg.eigh(np.dot(x.T, x))
    return np.dot(x, V @ np.diag(1.0 / np.sqrt(d + 1e-12)) @ V.T)


@wrong("03-whiten", "eps is subtracted from the eigenvalues")
def whitening_minus_eps(x, eps):
    xc = x - x.mean(0)
    d, V = np.linalg.eigh(xc.T @ xc / len(x))
    return xc @ V @ np.diag(1.0 / np.sqrt(d - eps)) @ V.T


@wrong("03-whiten", "eps is added to the inverse")
def whitening_inverse_eps(x, eps):
    xc = x - x.mean(0)
    U, S, _ = np.linalg.svd(xc.T @ xc / len(x))
    return xc @ U @ np.sqrt(np.diag(1.0 / S + eps)) @ U.T


@wrong("03-whiten", "near 10,000 in float32")
def whitening_by_raw_moments(x, eps):
    mean = x.mean(0)
    d, V = np.linalg.eigh(x.T @ x / len(x) - np.outer(mean, mean))
    return (x - mean) @ (V * (d + eps) ** -0.5) @ V.T


@wrong("03-whiten", "eps is added to every entry of the covariance")
def whitening_eps_everywhere(x, eps):
    xc = x - x.mean(0)
    values, V = np.linalg.eigh(xc.T @ xc / len(x) + eps)
    return xc @ V / np.sqrt(values) @ V.T


@wrong("03-whiten", "eps is a lower bound of the eigenvalues")
def whitening_clipped(x, eps):
    xc = x - x.mean(0)
    values, V = np.linalg.eigh(xc.T @ xc / len(x))
    return xc @ V / np.sqrt(np.maximum(values, eps)) @ V.T


# 04 and 05: orders of a step, a penalty


@right("04-orders")
def orders_by_polynomial(w, g, lr):
    terms = [1.0]
    for a, b in zip(w, g, strict=True):
        terms = [p * a + q * (-lr * b) for p, q in zip([*terms, 0.0], [0.0, *terms], strict=True)]
    return terms


@right("04-orders")
def orders_by_sets(w, g, lr):
    terms = np.zeros(len(w) + 1)
    for step in itertools.product((0, 1), repeat=len(w)):
        terms[sum(step)] += math.prod(-lr * b if s else a for s, a, b in zip(step, w, g, strict=True))
    return terms


@wrong("04-orders", "The signs are missing")
def orders_without_signs(w, g, lr):
    terms = np.zeros(len(w) + 1)
    for step in itertools.product((0, 1), repeat=len(w)):
        terms[sum(step)] += math.prod(lr * b if s else a for s, a, b in zip(step, w, g, strict=True))
    return terms


@right("05-penalty")
def penalty_into_zeros(z, lam):
    N, C = z.shape
    dz = np.zeros((N, C))
    for c in range(C):
        mean, var = np.mean(z[:, c]), np.var(z[:, c])
        for n in range(N):
            dz[n, c] = lam / C * (2 * mean / N + 4 * (var - 1) * (z[n, c] - mean) / N)
    return dz


@right("05-penalty")
def penalty_in_torch(z, lam):
    z = torch.tensor(z, requires_grad=True)
    loss = lam * (z.mean(0) ** 2 + (z.var(0, unbiased=False) - 1) ** 2).mean()
    loss.backward()
    return z.grad


@wrong("05-penalty", "unbiased")
def penalty_by_torch_default(z, lam):
    z = torch.tensor(z, requires_grad=True)
    var = (z - z.mean(0)).pow(2).mean(0)
    grad = 2 * z.mean(0) / len(z) + 2 * (z.var(0).detach() - 1) * torch.autograd.grad(var.sum(), z)[0]
    return (lam * grad / z.shape[1]).detach()


@wrong("05-penalty", "near 10,000 in float32")
def penalty_by_raw_moments(z, lam):
    N, C = z.shape
    mean = z.mean(0)
    var = (z**2).mean(0) - mean**2
    return lam * (2 * mean + 4 * (var - 1) * (z - mean)) / N / C


@wrong("04-orders", "none of the mistakes I know")
def orders_of_absolute_weights(w, g, lr):
    return orders_by_sets(abs(w), g, lr)


@wrong("04-orders", "The highest order comes first")
def orders_as_poly1d(w, g, lr):
    return orders_by_sets(w, g, lr)[::-1]


@wrong("05-penalty", "unbiased, and its derivative follows it")
def penalty_by_torch_var(z, lam):
    z = torch.tensor(z, requires_grad=True)
    (lam * (z.mean(0) ** 2 + (z.var(0) - 1) ** 2).mean()).backward()
    return z.grad


@wrong("05-penalty", "none of the mistakes I know")
def penalty_on_large_variances(z, lam):
    N, C = z.shape
    return lam * (2 * z.mean(0) + 4 * np.maximum(z.var(0) - 1, 0) * (z - z.mean(0))) / N / C


# 06: batch norm forward


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


# 07: batch norm backward


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


# 08: a step, and Adam


def dz_of(h, W, gamma, dy, eps):
    return staged_backward(dy, h @ W, gamma, eps)


@right("08-step")
def step_with_staged_backward(h, W, gamma, beta, dy, lr, eps):
    dz, dgamma, dbeta = dz_of(h, W, gamma, dy, eps)
    return W - lr * np.dot(h.T, dz), gamma - lr * dgamma, beta - lr * dbeta


@right("08-step")
def step_by_sgd(h, W, gamma, beta, dy, lr, eps):
    W, gamma, beta = (torch.tensor(a, requires_grad=True) for a in (W, gamma, beta))
    z = torch.tensor(h) @ W
    y = gamma * (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + eps) + beta
    y.backward(torch.tensor(dy))
    torch.optim.SGD([W, gamma, beta], lr=lr).step()
    return W, gamma, beta


@wrong("08-step", "holds only what each z does to its own xhat, through the mean.")
def step_own_effect(h, W, gamma, beta, dy, lr, eps):
    z = h @ W
    r = 1 / np.sqrt(z.var(0) + eps)
    xhat = (z - z.mean(0)) * r
    dz = dy * gamma * r * (1 - 1 / len(h))
    return W - lr * h.T @ dz, gamma - lr * (dy * xhat).sum(0), beta - lr * dy.sum(0)


@wrong("08-step", "eps is fixed at 1e-5")
def step_with_own_eps(h, W, gamma, beta, dy, lr, eps):
    return step_with_staged_backward(h, W, gamma, beta, dy, lr, 1e-5)


@wrong("08-step", "eps is fixed at 1e-12")
def step_with_tiny_eps(h, W, gamma, beta, dy, lr, eps):
    return step_with_staged_backward(h, W, gamma, beta, dy, lr, 1e-12)


@wrong("08-step", "gamma is updated before dz", "dgamma is divided by N", "dbeta is divided by N")
def step_in_a_loop(h, W, gamma, beta, dy, lr, eps):
    N = len(h)
    xhat = (h @ W - (h @ W).mean(0)) / np.sqrt((h @ W).var(0) + eps)
    gamma = gamma - lr * (dy * xhat).sum(0) / N
    beta = beta - lr * dy.sum(0) / N
    dz, _, _ = dz_of(h, W, gamma, dy, eps)
    return W - lr * h.T @ dz, gamma, beta


@wrong("08-step", "near 10,000 in float32")
def step_one_pass(h, W, gamma, beta, dy, lr, eps):
    dz, dgamma, dbeta = backward_one_pass(dy, h @ W, gamma, eps)
    return W - lr * h.T @ dz, gamma - lr * dgamma, beta - lr * dbeta


@right("08-adam")
def adam_as_in_the_paper(gamma, grads, lr, beta1, beta2, eps):
    m, v, b1, b2 = np.zeros(gamma.shape), np.zeros(gamma.shape), 1.0, 1.0
    for g in grads:
        b1, b2 = b1 * beta1, b2 * beta2
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * np.square(g)
        gamma = gamma - lr * (m / (1 - b1)) / (np.sqrt(v / (1 - b2)) + eps)
    return gamma, m, v


@right("08-adam")
def adam_with_sqrt_of_numbers(gamma, grads, lr, beta1, beta2, eps):
    m = v = 0
    for t, g in enumerate(grads):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        root = np.sqrt(1 - beta2 ** (t + 1))
        gamma = gamma - lr * root / (1 - beta1 ** (t + 1)) * m / (np.sqrt(v) + eps * root)
    return gamma, m, v


def adam(own=None, short=False, kept=False):
    def function(gamma, grads, lr, beta1, beta2, eps):
        eps = eps if own is None else own
        m, v = np.zeros_like(gamma), np.zeros_like(gamma)
        for t, g in enumerate(grads, 1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            if short:
                gamma = gamma - lr * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + eps)
            else:
                gamma = gamma - lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
        return gamma, m / (1 - beta1 ** len(grads)) if kept else m, v

    return function


for text in ("1e-7", "1e-8", "1e-12"):
    wrong("08-adam", f"eps is fixed at {text}")(adam(float(text)))
wrong("08-adam", "eps is forgotten")(adam(0.0))
wrong("08-adam", "a shorter form of Adam")(adam(short=True))
wrong("08-adam", "The m that is returned is corrected", "eps is fixed at 1e-8")(adam(1e-8, kept=True))


wrong("08-adam", "none of the mistakes I know")(lambda gamma, grads, *others: adam()(gamma, abs(grads), *others))
wrong("08-adam", "none of the mistakes I know")(lambda gamma, grads, *o: adam()(gamma, np.clip(grads, -5, 5), *o))


@wrong("08-adam", "correction of v is 1 - beta2 in every step")
def adam_without_the_power(gamma, grads, lr, beta1, beta2, eps):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        gamma = gamma - lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2)) + eps)
    return gamma, m, v


# 09: running statistics, folding


@right("09-running")
def running_with_scalars(means, vars, n, momentum):
    mean, var = 0.0, 1.0
    for a, b in zip(means, vars, strict=True):
        mean += momentum * (a - mean)
        var += momentum * (b * n / (n - 1) - var)
    return mean, var


@right("09-running")
def running_with_ones(means, vars, n, momentum):
    mean, var = np.zeros(means.shape[1]), np.ones(means.shape[1])
    for t in range(means.shape[0]):
        mean = (1 - momentum) * mean + momentum * means[t]
        var = (1 - momentum) * var + momentum * vars[t] * n / (n - 1)
    return mean[None], var[None]


@right("09-running")
def running_in_closed_form(means, vars, n, momentum):
    T = len(means)
    w = momentum * (1 - momentum) ** np.arange(T)[::-1]
    return w @ means, (1 - momentum) ** T + w @ vars * n / (n - 1)


def running(keep=None, start=(0.0, 1.0), factor=lambda n, T: n / (n - 1), root=False):
    def function(means, vars, n, momentum):
        old = 1 - momentum if keep is None else keep(momentum)
        mean, var = start[0] + 0 * means[0], start[1] + 0 * vars[0]
        for a, b in zip(means, vars, strict=True):
            b = b * factor(n, len(means))
            mean = old * mean + (1 - old) * a
            var = old * var + (1 - old) * (b**0.5 if root else b)
        return mean, var**2 if root else var

    return function


KERAS = "momentum has the other direction."
wrong("09-running", KERAS)(running(lambda m: m))
wrong("09-running", "averaged as they are, biased")(running(factor=lambda n, T: 1))
wrong("09-running", "starts at 1, not at 0")(running(start=(0.0, 0.0)))
wrong("09-running", KERAS, "averaged as they are, biased")(running(lambda m: m, factor=lambda n, T: 1))
wrong("09-running", KERAS, "averaged as they are, biased", "starts at 1, not at 0")(
    running(lambda m: m, (0.0, 0.0), lambda n, T: 1)
)
wrong("09-running", "averaged as they are, biased", "starts at 1, not at 0")(running(None, (0, 0), lambda n, T: 1))
wrong("09-running", "a new batch always weighs 0.1")(running(lambda m: 0.9))
wrong("09-running", "a new batch always weighs 0.01", "averaged as they are", "starts at 1")(
    running(lambda m: 0.99, (0.0, 0.0), lambda n, T: 1)
)
wrong("09-running", "counts the batches")(running(factor=lambda n, T: T / (T - 1)))
wrong("09-running", "averaged, and squared then")(running(root=True))


@wrong("09-running", "stands at the running variance as a whole")
def running_corrected_at_the_end(means, vars, n, momentum):
    mean, var = running(factor=lambda n, T: 1)(means, vars, n, momentum)
    return mean, n / (n - 1) * var


@wrong("09-running", "All batches weigh the same")
def population_statistics(means, vars, n, momentum):
    return means.mean(0), n / (n - 1) * vars.mean(0)


@wrong("09-running", "The first batch starts the averages", "averaged as they are, biased", KERAS)
def running_from_the_first_batch(means, vars, n, momentum):
    mean, var = None, None
    for a, b in zip(means, vars, strict=True):
        mean = a if mean is None else momentum * mean + (1 - momentum) * a
        var = b if var is None else momentum * var + (1 - momentum) * b
    return mean, var


@wrong("09-running", "The statistics are those of the last batch alone")
def running_forgets(means, vars, n, momentum):
    mean, var = 0, 1
    for t in range(len(means)):
        mean, var = means[t], vars[t] * n / (n - 1)
    return mean, var


@right("09-fold")
def fold_with_diag(W, b, gamma, beta, mean, var, eps):
    s = np.diag(gamma / np.sqrt(var + eps))
    return W @ s, (b - mean) @ s + beta


@right("09-fold")
def fold_in_torch(W, b, gamma, beta, mean, var, eps):
    W, b, gamma, beta, mean, var = (torch.as_tensor(a) for a in (W, b, gamma, beta, mean, var))
    return torch.nn.utils.fusion.fuse_linear_bn_weights(W.T, b, mean, var, eps, gamma, beta)[0].T, (
        beta + (b - mean) * torch.rsqrt(var + eps) * gamma
    )


@wrong("09-fold", "eps is fixed at 1e-5")
def fold_with_own_eps(W, b, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(var + 1e-5)
    return W * scale, (b - mean) * scale + beta


@wrong("09-fold", "eps is fixed at 1e-3")
def fold_with_keras_eps(W, b, gamma, beta, mean, var, eps=0.001):
    std = np.sqrt(var + 0.001)
    return W * gamma / std, gamma * (b - mean) / std + beta


@wrong("09-fold", "own bias b is forgotten", "eps is forgotten")
def fold_without_bias(W, b, gamma, beta, mean, var, eps):
    return W * gamma / np.sqrt(var), beta - mean * gamma / np.sqrt(var)


@wrong("09-fold", "gamma and beta have changed places")
def fold_swapped(W, b, gamma, beta, mean, var, eps):
    std = np.sqrt(var + eps)
    return W * (beta / std), (b - mean) / std * beta + gamma


@wrong("09-fold", "eps is subtracted from the variance")
def fold_minus_eps(W, b, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(var - eps)
    return W * scale, (b - mean) * scale + beta


@wrong("09-running", "Only the first batch is averaged in")
def running_returns_in_the_loop(means, vars, n, momentum):
    return running_with_scalars(means[:1], vars[:1], n, momentum)


@wrong("09-fold", "gamma is missing in b_new, there alone")
def fold_bias_without_gamma(W, b, gamma, beta, mean, var, eps):
    std = np.sqrt(var + eps)
    return W * gamma / std, (b - mean) / std + beta


@wrong("09-fold", "gamma is missing in the scale of W_new, there alone")
def fold_weights_without_gamma(W, b, gamma, beta, mean, var, eps):
    std = np.sqrt(var + eps)
    return W / std, (b - mean) * gamma / std + beta


@wrong("09-fold", "eps is a lower bound of the variance")
def fold_clipped(W, b, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(np.maximum(var, eps))
    return W * scale, (b - mean) * scale + beta


# 10: pooling


@right("10-pool")
def pool_two_by_two(counts, means, vars):
    n, mean, m2 = 0, 0, 0
    for k, m, v in zip(counts, means, vars, strict=True):
        delta = m - mean
        m2 = m2 + v * k + delta**2 * n * k / (n + k)
        mean = mean + delta * k / (n + k)
        n += k
    return mean, m2 / n


@right("10-pool")
def pool_by_average(counts, means, vars):
    mean = np.average(means, axis=0, weights=counts)
    return mean, np.average(vars + (means - mean) ** 2, axis=0, weights=counts)


@wrong("10-pool", "near 10,000 in float32")
def pool_by_mean_squares(counts, means, vars):
    w = (counts / counts.sum())[:, None]
    mean = (w * means).sum(0)
    return mean, (w * (vars + means**2)).sum(0) - mean**2


@wrong("10-pool", "standard deviations are averaged, and squared then")
def pool_of_stds(counts, means, vars):
    w = (counts / counts.sum())[:, None]
    mean = (w * means).sum(0)
    std = (w * np.sqrt(vars)).sum(0)
    return mean, std**2 + (w * (means - mean) ** 2).sum(0)


@wrong("10-pool", "The parts' means lie apart", "standard deviations are averaged, and squared then")
def pool_of_stds_alone(counts, means, vars):
    return (
        np.average(means, axis=0, weights=counts),
        np.average(np.sqrt(vars), axis=0, weights=counts) ** 2,
    )


@wrong("10-pool", "The spread of the means is taken unweighted, and about their own mean")
def pool_with_np_var(counts, means, vars):
    shares = counts / counts.sum()
    return shares @ means, shares @ vars + means.var(0)


@wrong("10-pool", "The parts' means lie apart", "weighted with n - 1 and divided by N - k")
def pool_as_for_a_t_test(counts, means, vars):
    return counts @ means / counts.sum(), (counts - 1) @ vars / (counts.sum() - len(counts))


@wrong("10-pool", "weighted with n - 1, as unbiased ones")
def pool_of_unbiased(counts, means, vars):
    N = counts.sum()
    mean = counts @ means / N
    return mean, ((counts - 1) @ vars + counts @ (means - mean) ** 2) / N


@wrong("10-pool", "Chan's formula with a delta taken after")
def pool_with_a_late_delta(counts, means, vars):
    n, mean, m2 = counts[0], means[0], vars[0] * counts[0]
    for count, new, var in zip(counts[1:], means[1:], vars[1:], strict=True):
        mean = mean + (new - mean) * count / (n + count)
        m2 = m2 + var * count + (new - mean) ** 2 * n * count / (n + count)
        n = n + count
    return mean, m2 / n


# 12: group norm, a factor on all weights


@right("12-axes")
def group_norm_in_torch(x, gamma, beta, groups, eps):
    x, gamma, beta = (torch.from_numpy(a) for a in (x, gamma, beta))
    return F.group_norm(x, groups, gamma, beta, eps)


@right("12-axes")
def group_norm_by_loops(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    y, size = np.zeros((N, C, L)), C // groups
    for n in range(N):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            y[n, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return y * gamma.reshape(1, C, 1) + beta.reshape(1, C, 1)


@right("12-axes")
def group_norm_channels_last(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.transpose(0, 2, 1).reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return (v.reshape(N, L, C) * gamma + beta).transpose(0, 2, 1)


@wrong("12-axes", "as it lies in memory, not transposed, for gamma and beta, too")
def group_norm_reshaped(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return (v.reshape(N, L, C) * gamma + beta).reshape(N, C, L)


@wrong("12-axes", "as it lies in memory, not transposed. So what is last")
def group_norm_reshaped_inside(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, L, groups, C // groups)
    v = (v - v.mean((1, 3), keepdims=True)) / np.sqrt(v.var((1, 3), keepdims=True) + eps)
    return v.reshape(N, C, L) * gamma[:, None] + beta[:, None]


@wrong("12-axes", "The groups are cut from (N, L, C)")
def group_norm_of_transposed(x, gamma, beta, groups, eps):
    t = x.transpose(0, 2, 1)
    v = t.reshape(len(t), groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    return (v.reshape(t.shape) * gamma + beta).transpose(0, 2, 1)


@wrong("12-axes", "the same gamma and beta, that at the group's number")
def group_norm_one_gamma_per_group(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    return (gamma[:groups, None] * v + beta[:groups, None]).reshape(N, C, L)


@wrong("12-axes", "the same gamma and beta, its first channel's")
def group_norm_first_gamma(x, gamma, beta, groups, eps):
    N, C, L = x.shape
    v = x.reshape(N, groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
    size = C // groups
    return (gamma[::size, None] * v + beta[::size, None]).reshape(N, C, L)


@wrong("12-axes", "eps is fixed at 1e-6")
def group_norm_with_own_eps(x, gamma, beta, groups, eps):
    return group_norm_in_torch(x, gamma, beta, groups, 1e-6)


@wrong("12-axes", "unbiased", "eps is fixed at 1e-5")
def group_norm_by_torch_var(x, gamma, beta, groups, eps):
    v = torch.from_numpy(x).reshape(len(x), groups, -1)
    v = (v - v.mean(-1, keepdim=True)) / torch.sqrt(v.var(-1, keepdim=True) + 1e-5)
    return v.numpy().reshape(x.shape) * gamma[:, None] + beta[:, None]


@wrong("12-axes", "near 10,000 in float32")
def group_norm_one_pass(x, gamma, beta, groups, eps):
    v = x.reshape(len(x), groups, -1)
    mean = v.mean(-1, keepdims=True)
    v = (v - mean) / np.sqrt((v**2).mean(-1, keepdims=True) - mean**2 + eps)
    return v.reshape(x.shape) * gamma[:, None] + beta[:, None]


@right("12-scale")
def scaled_by_cases(y, gamma, beta, a):
    return y if a > 0 else 2 * beta - y


@right("12-scale")
def scaled_through_z(y, gamma, beta, a):
    z = a * (y - beta) / gamma
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    return gamma * z + beta


@wrong("12-scale", "not invariant for every a")
def scaled_not_at_all(y, gamma, beta, a):
    return y.copy()


@wrong("12-axes", "none of the mistakes I know")
def group_norm_of_absolute_parameters(x, gamma, beta, groups, eps):
    return group_norm_in_torch(x, abs(gamma), -abs(beta), groups, eps)


@wrong("12-axes", "eps is a lower bound of the variance")
def group_norm_clipped(x, gamma, beta, groups, eps):
    v = x.reshape(len(x), groups, -1)
    v = (v - v.mean(-1, keepdims=True)) / np.sqrt(np.maximum(v.var(-1, keepdims=True), eps))
    return v.reshape(x.shape) * gamma[:, None] + beta[:, None]


@wrong("12-scale", "beta (7,) and a = 0.04")
def scaled_by_a_clipped_factor(y, gamma, beta, a):
    return np.clip(a, -1, 1) * (y - beta) + beta


# 13: weight norm, moments behind a ReLU


@right("13-weightnorm")
def weight_norm_with_norms(dw, v, g):
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    dg = np.sum(dw * v / norm, axis=1, keepdims=True)
    return g[:, None] / norm * dw - g[:, None] * dg / norm**2 * v, dg


@right("13-weightnorm")
def weight_norm_with_projections(dw, v, g):
    dv = np.zeros(v.shape)
    for i in range(len(v)):
        u = v[i] / np.sqrt(v[i] @ v[i])
        dv[i] = g[i] / np.sqrt(v[i] @ v[i]) * (np.eye(len(u)) - np.outer(u, u)) @ dw[i]
    return dv, [float(a @ b / np.sqrt(b @ b)) for a, b in zip(dw, v, strict=True)]


@wrong("13-weightnorm", "dg is not divided", "The projection is forgotten")
def weight_norm_without_projection(dw, v, g):
    return g[:, None] * dw / np.linalg.norm(v, axis=1, keepdims=True), (dw * v).sum(1)


@right("13-moments")
def moments_by_scipy(mean, var):
    s = np.sqrt(var)
    z = scipy.stats.norm
    first = mean * z.cdf(mean / s) + s * z.pdf(mean / s)
    return first, (mean**2 + var) * z.cdf(mean / s) + mean * s * z.pdf(mean / s) - first**2


@right("13-moments")
def moments_with_erf(mean, var):
    means, variances = [], []
    for m, v in zip(mean.tolist(), var.tolist(), strict=True):
        s = math.sqrt(v)
        share, density = 0.5 * (1 + math.erf(m / s / math.sqrt(2))), math.exp(-(m**2) / v / 2) / math.sqrt(2 * math.pi)
        means.append(m * share + s * density)
        variances.append((m**2 + v) * share + m * s * density - means[-1] ** 2)
    return means, variances


@wrong("13-moments", "var_out is the mean square")
def moments_without_square(mean, var):
    s = np.sqrt(var)
    z = scipy.stats.norm
    first = mean * z.cdf(mean / s) + s * z.pdf(mean / s)
    return first, (mean**2 + var) * z.cdf(mean / s) + mean * s * z.pdf(mean / s)


@wrong("13-weightnorm", "g is missing in the term that is subtracted")
def weight_norm_without_second_g(dw, v, g):
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    dg = np.sum(dw * v / norm, axis=1, keepdims=True)
    return g[:, None] / norm * dw - dg / norm**2 * v, dg


@wrong("13-moments", "where r has lost its factor")
def moments_with_bare_erf(mean, var):
    s = np.sqrt(var)
    share, density = (1 + scipy.special.erf(mean / s)) / 2, scipy.stats.norm.pdf(mean / s)
    first = mean * share + s * density
    return first, (mean**2 + var) * share + mean * s * density - first**2


# 14: SELU


@right("14-start")
def lecun_with_sqrt(normals):
    return normals * np.sqrt(1 / normals.shape[1])


@right("14-start")
def lecun_with_std(normals):
    units, inputs = normals.shape
    return normals / np.sqrt(inputs) * np.ones((units, inputs))


@wrong("14-start", "Glorot's initialization")
def glorot(normals):
    return normals * np.sqrt(2 / sum(normals.shape))


@right("14-dropout")
def dropout_with_where(h, kept, keep_prob):
    alpha = -1.7580993408473766
    a = np.sqrt(1 / (keep_prob + alpha**2 * keep_prob * (1 - keep_prob)))
    b = -a * alpha * (1 - keep_prob)
    return a * np.where(kept > 0, h, alpha) + b


@wrong("14-dropout", "That is plain dropout")
def plain_dropout(h, kept, keep_prob):
    return h * kept / keep_prob


@wrong("14-start", "The factor 3/4 is PyTorch's gain")
def start_with_gain(normals):
    return torch.nn.init.calculate_gain("selu") * normals / np.sqrt(normals.shape[1])


@wrong("14-dropout", "rounded constants, 1.67 and 1.05")
def dropout_with_rounded_constants(h, kept, keep_prob):
    bound = -1.67 * 1.05
    a = (keep_prob + bound**2 * keep_prob * (1 - keep_prob)) ** -0.5
    return a * (h * kept + bound * (1 - kept)) - a * (1 - keep_prob) * bound


def named(entry):
    return f"{entry[0]}-{entry[1].__name__}"


@pytest.mark.parametrize(("name", "function"), RIGHT, ids=map(named, RIGHT))
def test_what_is_right_passes(name, function):
    diagnosis = check(name, function)
    assert diagnosis.right, diagnosis
    assert len(diagnosis.remedies) == len(set(diagnosis.sentences[1:])), "each remark has its remedy"


@pytest.mark.parametrize(("name", "function", "says"), WRONG, ids=map(named, WRONG))
def test_what_is_wrong_is_refused_and_named(name, function, says):
    diagnosis = check(name, function)
    assert not diagnosis.right
    seen = diagnosis.sentences[1:]
    assert len(seen) >= len(says)
    for part in says:
        assert any(part in sentence for sentence in seen), diagnosis
    remarks = [sentence for sentence in seen if not any(part in sentence for part in says)]
    assert all("float32" in sentence or "the shape" in sentence for sentence in remarks), diagnosis


@pytest.mark.parametrize("name", [name for name in EXERCISES if EXERCISES[name].far])
def test_the_tolerance_in_single_precision_lies_between_right_and_wrong(name):
    """Far from both: two passes in float32 come within a tenth of it, a variance that cancels is ten times as far."""
    far = EXERCISES[name].far
    assert far
    single = {n: np.float32(a) if isinstance(a, np.ndarray) else a for n, a in far.around(FAR).items()}
    double = {n: np.float64(a) if isinstance(a, np.ndarray) else a for n, a in single.items()}
    expected = EXERCISES[name].run(draws=[double])[0]

    def deviation(function):
        with np.errstate(all="ignore"):
            outputs = function(*copy.deepcopy(list(single.values())))
        outputs = outputs if len(expected) > 1 else (outputs,)
        outputs = [np.asarray(a.detach() if isinstance(a, torch.Tensor) else a).squeeze() for a in outputs]
        each = [abs(a - b).max() / abs(b).max() for a, b in zip(outputs, expected.values(), strict=True)]
        return max(math.inf if math.isnan(d) else d for d in each)

    assert max(deviation(function) for other, function in RIGHT if other == name) < far.tolerance / 10
    wrong = [deviation(f) for other, f, says in WRONG if other == name and "float32" in says[0]]
    assert min(wrong) > 10 * far.tolerance


def test_the_corpus_is_large_and_goes_over_all_exercises():
    assert len(RIGHT) >= 50
    assert len(WRONG) >= 135
    assert len({name for name, _ in RIGHT}) == 20
