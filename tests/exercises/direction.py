"""Chapter 12: steps with weight decay, as readers and PyTorch take them."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right, wrong


@reference("12-step")
def step_of_torch(w, gamma, dw, dgamma, lr, decay):
    """PyTorch's SGD, with a group that decays and one that does not."""
    params = [torch.tensor(v, requires_grad=True) for v in (w, gamma)]
    for param, grad in zip(params, (dw, dgamma), strict=True):
        param.grad = torch.tensor(grad)
    groups = [{"params": params[:1], "weight_decay": decay}, {"params": params[1:]}]
    torch.optim.SGD(groups, lr=lr).step()
    w_new, gamma_new = (param.detach().numpy() for param in params)
    return w_new, gamma_new, lr / np.square(w).sum(0)


@right("12-step")
def step_on_the_page(w, gamma, dw, dgamma, lr, decay):
    w_new = (1 - lr * decay) * w - lr * dw
    gamma_new = gamma - lr * dgamma
    rate = lr / (w**2).sum(0)
    return w_new, gamma_new, rate


edits(
    "12-step",
    step_on_the_page,
    ("(w**2).sum(0) -> (w**2).sum(0) ** 0.5", "divided by the length"),
    ("(w**2).sum(0) -> (w**2).sum(0) ** 2", "fourth power"),
    ("lr / (w**2) -> lr * (w**2)", "longer weights turn less"),
    ("rate = lr / -> rate = 1 /", "The learning rate is missing"),
    ("(w**2).sum(0) -> (w**2).mean(0)", "averaged, not summed"),
    ("rate = lr / (w**2) -> rate = lr / (w_new**2)", "that of the next step"),
    ("= gamma - lr * dgamma -> = (1 - lr * decay) * gamma - lr * dgamma", "gamma decays"),
    ("(1 - lr * decay) * w -> w", "The weights do not decay"),
    ("(1 - lr * decay) * w -> (1 - decay) * w", "not multiplied by the learning rate"),
    ("(1 - lr * decay) * w -> (1 + lr * decay) * w", "its sign is turned round"),
    ("(1 - lr * decay) * w - lr * dw -> (1 - lr * decay) * (w - lr * dw)", "Decay shrinks the step, too"),
)


@right("12-step")
def step_with_norm(w, gamma, dw, dgamma, lr, decay):
    return w - lr * (dw + decay * w), gamma - lr * dgamma, lr / np.linalg.norm(w, axis=0) ** 2


@wrong("12-step", "divided by the length", "gamma decays")
def all_decays(w, gamma, dw, dgamma, lr, decay):
    return w - lr * (dw + decay * w), gamma - lr * (dgamma + decay * gamma), lr / np.linalg.norm(w, axis=0)
