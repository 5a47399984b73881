"""Chapter 3: whitenings, as readers and libraries write them."""

import numpy as np
import scipy.linalg
import torch

from tests.exercises.cases import edits, reference, right, wrong


@reference("03-whiten")
def whiten_by_svd(x, eps):
    rows, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[::2]
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    return rows * (s / np.sqrt(s**2 / len(x) + eps)) @ axes


@right("03-whiten")
def zca_on_the_page(x, eps):
    centred = x - x.mean(0)
    C = centred.T @ centred / len(x)
    values, V = np.linalg.eigh(C)
    return centred @ V @ np.diag(1 / np.sqrt(values + eps)) @ V.T


edits(
    "03-whiten",
    zca_on_the_page,
    (" @ V.T -> ", "This is PCA whitening"),
    ("np.sqrt(values + eps) -> (values + eps)", "divided by the eigenvalue"),
    ("1 / np.sqrt(values + eps) -> np.sqrt(values + eps)", "multiplied by the eigenvalue's root"),
    ("/ len(x) -> / (len(x) - 1)", "divisor N - 1"),
    (" / len(x) -> ", "not divided by N"),
    ("x - x.mean(0) -> x", "mean is never removed"),
    ("return centred -> return x", "for the covariance only"),
    ("x.mean(0) -> x.mean(1, keepdims=True)", "over each row"),
    ("x.mean(0) -> x.mean()", "of all entries"),
    ("centred @ V @ -> centred @ V.T @ ;; @ V.T\n -> @ V\n", "eigenvectors are transposed"),
    ("values + eps -> values", "eps is forgotten"),
    ("np.sqrt(values + eps) -> (np.sqrt(values) + eps)", "added to the root"),
    (
        "centred @ V @ np.diag(1 / np.sqrt(values + eps)) @ V.T -> centred / np.sqrt(centred.var(0) + eps)",
        "standardized only",
    ),
)


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
