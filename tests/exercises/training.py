"""Chapter 8: steps, and Adam, as readers and libraries write them."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right, wrong
from tests.exercises.transform import backward_one_pass, staged_backward


@reference("08-step")
def step_by_torch(h, W, gamma, beta, dy, lr, eps):
    parameters = [torch.nn.Parameter(torch.tensor(a)) for a in (W, gamma, beta)]
    z = torch.tensor(h) @ parameters[0]
    y = torch.nn.functional.batch_norm(z, None, None, *parameters[1:], training=True, eps=eps)
    y.backward(torch.tensor(dy))
    torch.optim.SGD(parameters, lr).step()
    return tuple(parameters)


@reference("08-adam")
def adam_by_torch(gamma, grads, lr, beta1, beta2, eps):
    gamma = torch.nn.Parameter(torch.tensor(gamma))
    adam = torch.optim.Adam([gamma], lr, (beta1, beta2), eps)
    for grad in torch.tensor(grads):
        gamma.grad = grad
        adam.step()
    return gamma, adam.state[gamma]["exp_avg"], adam.state[gamma]["exp_avg_sq"]


@right("08-step")
def step_on_the_page(h, W, gamma, beta, dy, lr, eps):
    z = h @ W
    mean, var = z.mean(0), z.var(0)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (z - mean) * rstd
    dgamma = (dy * xhat).sum(0)
    dbeta = dy.sum(0)
    dxhat = dy * gamma
    dz = rstd * (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0))
    dW = h.T @ dz
    return W - lr * dW, gamma - lr * dgamma, beta - lr * dbeta


edits(
    "08-step",
    step_on_the_page,
    (" - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0) -> ", "as constants"),
    (" - xhat * (dxhat * xhat).mean(0) -> ", "through the variance"),
    (" - dxhat.mean(0) -> ", "through the mean"),
    ("= rstd * (dxhat -> = (dxhat", "factor rstd"),
    ("dxhat = dy * gamma -> dxhat = dy", "dz lacks gamma"),
    (
        "dxhat = dy -> gamma = gamma - lr * dgamma; dxhat = dy ;; gamma - lr * dgamma, beta -> gamma, beta",
        "before dz is computed",
    ),
    ("z.var(0) -> z.var(0, ddof=1)", "unbiased"),
    ("np.sqrt(var + eps) -> np.sqrt(var)", "eps is forgotten"),
    ("np.sqrt(var + eps) -> np.sqrt(var + 1e-5)", "eps is fixed at 1e-5"),
    ("np.sqrt(var + eps) -> (var + eps)", "z - mean is divided by var + eps"),
    ("h.T @ dz -> h.T @ dy", "past batch norm"),
    ("h.T @ dz -> h.T @ dxhat", "lies before the normalization"),
    ("h.T @ dz -> z.T @ dz", "with the layer's output"),
    ("h.T @ dz -> xhat.T @ dz", "with the normalized output"),
    ("h.T @ dz -> dz.T @ h", "transposed"),
    ("(dy * xhat).sum(0) -> (dy * (gamma * xhat + beta)).sum(0)", "from dy * y"),
    ("(dy * xhat).sum(0) -> (dy * z).sum(0)", "from dy * z"),
    ("(dy * xhat).sum(0) -> dy.sum(0)", "dgamma lacks xhat"),
    ("(dy * xhat).sum(0) -> dy * xhat", "dgamma is not summed"),
    ("= dy.sum(0) -> = dy", "dbeta is not summed"),
    ("gamma - lr * dgamma, beta - lr * dbeta -> gamma - lr * dbeta, beta - lr * dgamma", "changed places"),
    ("z = h -> lr = -lr; z = h", "All steps go uphill"),
    ("z = h -> lr = 1; z = h", "forgotten in all steps"),
    ("z = h -> lr = lr * lr; z = h", "applied twice"),
    ("z = h -> dy = dy / len(h); z = h", "All gradients are divided by N"),
    ("gamma - lr * dgamma -> gamma + lr * dgamma", "gamma goes uphill"),
    ("beta - lr * dbeta -> beta", "beta stays as it was"),
    ("W - lr * dW -> W - dW", "forgotten for W"),
    ("(dy * xhat).sum(0) -> (dy * xhat).mean(0)", "dgamma is divided by N"),
    ("beta - lr * dbeta -> dbeta", "dbeta is returned"),
    ("W - lr -> W + lr ;; gamma - lr -> gamma + lr", "W goes uphill.", "gamma goes uphill."),
    ("return W - lr * dW -> W -= lr * dW; return W", "The function changes its argument W."),
)


@right("08-adam")
def adam_on_the_page(gamma, grads, lr, beta1, beta2, eps):
    m, v = np.zeros_like(gamma), np.zeros_like(gamma)
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        mhat = m / (1 - beta1**t)
        vhat = v / (1 - beta2**t)
        gamma = gamma - lr * mhat / (np.sqrt(vhat) + eps)
    return gamma, m, v


edits(
    "08-adam",
    adam_on_the_page,
    (" / (1 - beta1**t) ->  ;;  / (1 - beta2**t) -> ", "The bias correction is forgotten"),
    (" / (1 - beta1**t) -> ", "The bias correction of m is forgotten"),
    (" / (1 - beta2**t) -> ", "The bias correction of v is forgotten"),
    ("start=1 -> start=2", "counted from 2"),
    ("start=1 -> start=0", "gamma_new[0] is nan, with"),
    ("beta1**t -> beta1 ;; beta2**t -> beta2", "1 - beta1 and 1 - beta2 in every step"),
    ("beta1**t -> beta1 ** len(grads) ;; beta2**t -> beta2 ** len(grads)", "take the last t"),
    ("v / (1 - beta2**t) -> v ;; np.sqrt(vhat) -> np.sqrt(vhat) / (1 - beta2**t)", "behind its root"),
    ("mhat = m -> mhat = m = m ;; vhat = v -> vhat = v = v", "corrected m and v go"),
    ("mhat = m -> mhat = m = m", "The corrected m goes"),
    ("vhat = v -> vhat = v = v", "The corrected v goes"),
    ("gamma, m, v\n -> gamma, mhat, v\n", "The m that is returned"),
    ("gamma, m, v\n -> gamma, m, vhat\n", "The v that is returned"),
    ("(np.sqrt(vhat) + eps) -> np.sqrt(vhat + eps)", "inside the root"),
    ("vhat) + eps -> vhat)", "eps is forgotten"),
    ("vhat) + eps -> vhat) + 1e-8", "eps is fixed at 1e-8"),
    ("lr * mhat / (np.sqrt(vhat) + eps) -> lr * (1 - beta2**t) ** 0.5 * mhat / (np.sqrt(v) + eps)", "shorter form"),
    ("np.sqrt(vhat) -> vhat", "The root is forgotten"),
    ("g**2 -> g", "v averages the gradients"),
    ("m, v = np -> beta1, beta2 = beta2, beta1; m, v = np", "beta1 and beta2 have changed places"),
    ("beta1 * m + (1 - beta1) * g -> (1 - beta1) * m + beta1 * g", "changed places in m."),
    ("beta2 * v + (1 - beta2) * g -> (1 - beta2) * v + beta2 * g", "changed places in v."),
    ("(1 - beta1) * g -> g", "m lacks the factor"),
    ("(1 - beta2) * g -> g", "v lacks the factor"),
    ("lr * mhat -> lr * g", "along the gradient itself"),
    ("gamma - lr -> gamma + lr", "The sign is wrong"),
    ("lr * mhat -> mhat", "The learning rate is forgotten"),
    ("        gamma = -> \n    gamma =", "only the last step"),
)


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


@wrong("08-adam", "gamma_new shows none of the mistakes I know", "m shows none")
def adam_of_absolute_gradients(gamma, grads, *others):
    return adam()(gamma, abs(grads), *others)


@wrong("08-adam", "gamma_new shows none of the mistakes I know", "m shows none", "v shows none")
def adam_of_clipped_gradients(gamma, grads, *others):
    return adam()(gamma, np.clip(grads, -5, 5), *others)


@wrong("08-adam", "correction of v is 1 - beta2 in every step")
def adam_without_the_power(gamma, grads, lr, beta1, beta2, eps):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        gamma = gamma - lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2)) + eps)
    return gamma, m, v
