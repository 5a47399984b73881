"""Chapter 9: running statistics, and folding, as readers and libraries write them."""

import numpy as np
import torch

from bnlib.running import RunningStats, fold
from tests.exercises.cases import edits, reference, right, wrong


@reference("09-running")
def running_by_torch(means, vars, n, momentum):
    norm = torch.nn.BatchNorm1d(means.shape[1], momentum=momentum, dtype=torch.tensor(means).dtype)
    pattern = np.arange(n) ** 2.0
    pattern = (pattern - pattern.mean()) / pattern.std()
    for mean, var in zip(means, vars, strict=True):  # a batch with just these statistics
        norm(torch.tensor((mean + np.sqrt(var) * pattern[:, None]).astype(means.dtype)))
    return norm.running_mean, norm.running_var


@reference("09-fold")
def folded_by_bnlib(W, b, gamma, beta, mean, var, eps):
    weight, bias = fold(W.T, b, gamma, beta, RunningStats(mean, var), eps)
    return weight.T, bias


@right("09-running")
def running_on_the_page(means, vars, n, momentum):
    m = momentum
    mean, var = np.zeros_like(means[0]), np.ones_like(vars[0])
    for t in range(len(means)):
        mean = (1 - m) * mean + m * means[t]
        var = (1 - m) * var + m * vars[t] * n / (n - 1)
    return mean, var


edits(
    "09-running",
    running_on_the_page,
    ("m = momentum -> m = 1 - momentum", "other direction"),
    (" * n / (n - 1) -> ", "averaged as they are"),
    ("n / (n - 1) -> (n - 1) / n", "upside down"),
    ("n / (n - 1) -> (n + 1) / n", "(n + 1)/n"),
    ("np.ones_like(vars[0]) -> np.zeros_like(vars[0])", "starts at 1, not at 0"),
    ("np.zeros_like(means[0]) -> np.ones_like(means[0])", "starts at 0, not at 1"),
    (
        "np.zeros_like(means[0]), np.ones_like(vars[0]) -> means[0], vars[0] * n / (n - 1)",
        "The first batch starts the averages",
    ),
    ("return mean, var -> left = 1 - (1 - m) ** len(means); return mean / left, var / left", "Adam's correction"),
    ("    mean = (1 -  ->     m = 1 / (t + 1); mean = (1 - ", "weigh the same"),
    ("range(len(means)) -> reversed(range(len(means)))", "from the last to the first"),
    ("range(len(means)) -> range(len(means) - 1)", "The last batch is missing"),
    ("range(len(means)) -> range(1, len(means))", "The first batch is missing"),
    ("m * vars[t] * n / (n - 1) -> m * np.sqrt(vars[t] * n / (n - 1))", "Standard deviations"),
    ("m * means[t] -> m * means[t] * n / (n - 1)", "on the means, too"),
)


@right("09-fold")
def fold_on_the_page(W, b, gamma, beta, mean, var, eps):
    scale = gamma / np.sqrt(var + eps)
    return W * scale, beta + (b - mean) * scale


edits(
    "09-fold",
    fold_on_the_page,
    ("(b - mean) -> (-mean)", "own bias b is forgotten"),
    ("(b - mean) -> b", "running mean is missing"),
    ("(b - mean) -> (b + mean)", "sign in the bias is turned"),
    ("beta + (b -> (b", "beta is missing"),
    ("beta + (b - mean) -> (beta + b - mean)", "beta is multiplied by the scale"),
    ("gamma / -> 1 / ", "gamma is missing"),
    ("np.sqrt(var + eps) -> (var + eps)", "divides by the variance"),
    ("(var + eps) -> (var)", "eps is forgotten"),
    ("np.sqrt(var + eps) -> (np.sqrt(var) + eps)", "outside the root"),
    ("W * scale -> W", "not scaled"),
    ("beta + (b - mean) * scale -> beta + b - mean * scale", "added after the scale"),
    ("beta + (b - mean) * scale -> beta - mean + b * scale", "The mean is not scaled"),
)


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


@wrong("09-running", KERAS, "The first batch starts the averages", "averaged as they are, biased")
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
