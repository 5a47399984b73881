"""Chapter 1: lines and effective sizes, as readers and libraries write them."""

import numpy as np
import scipy.stats

from bnlib.shift import effective_sample_size
from tests.exercises.cases import reference, right, wrong


@reference("01-weights")
def line_by_polyfit(x, y, w):
    return np.polyfit(x, y, 1, w=np.sqrt(w))[::-1].astype(x.dtype), w.dtype.type(effective_sample_size(w))


@right("01-weights")
def line_by_shares(x, y, w):
    share = w / w.sum()
    x_mean, y_mean = share @ x, share @ y
    c = x - x_mean
    slope = (share @ (c * (y - y_mean))) / (share @ c**2)
    return np.array([y_mean - slope * x_mean, slope]), 1 / (share @ share)


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
