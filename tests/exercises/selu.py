"""Chapter 15: starts and dropouts, as readers and libraries write them."""

import numpy as np
import torch

from bnlib.selu import alpha_dropout
from tests.exercises.cases import edits, reference, right, wrong


@reference("15-start")
def weights_of_length_one(normals):
    """As PyTorch's LeCun normal draws them: its gain for SELU is 3/4, so that its "linear" one is wanted."""
    gain = normals.dtype.type(torch.nn.init.calculate_gain("linear"))
    return gain * normals / np.sqrt(normals.shape[1], dtype=normals.dtype)


reference("15-dropout")(alpha_dropout)


@right("15-start")
def lecun_on_the_page(normals):
    inputs = normals.shape[1]
    return normals * (1 / inputs) ** 0.5


edits(
    "15-start",
    lecun_on_the_page,
    ("1 / inputs -> 2 / inputs", "He's initialization, for ReLU"),
    ("1 / inputs -> 2 / sum(normals.shape)", "Glorot's initialization"),
    (" * (1 / inputs) ** 0.5 -> ", "a variance as large as their number"),
    ("(1 / inputs) ** 0.5 -> (1 / inputs)", "multiplied by 1/inputs"),
    ("1 / inputs -> 1 / len(normals)", "the root of the number of units"),
    ("1 / inputs -> 1 / (3 * inputs)", "PyTorch's linear layers"),
    ("(1 / inputs) -> inputs", "upside down"),
    ("* (1 / inputs) ** 0.5 -> / np.linalg.norm(normals, axis=1)[:, None]", "exactly the length 1"),
    ("* (1 / inputs) ** 0.5 -> / np.linalg.norm(normals, axis=0)", "Each column has the length 1"),
    (
        "return normals * (1 / inputs) ** 0.5 -> "
        "w = normals - normals.mean(1)[:, None]; return w / np.linalg.norm(w, axis=1)[:, None]",
        "The rows are centred",
    ),
    ("* (1 -> * 1.0507009873554805 * (1", "SELU's scale went into the weights"),
)


@right("15-dropout")
def dropout_on_the_page(h, kept, keep_prob):
    q, bound = keep_prob, -1.0507009873554805 * 1.6732632423543772
    x = np.where(kept == 1, h, bound)
    var = q + q * (1 - q) * bound**2
    a = 1 / var**0.5
    b = -a * (1 - q) * bound
    return a * x + b


edits(
    "15-dropout",
    dropout_on_the_page,
    ("h, bound) -> h / q, 0) ;; return a * x + b -> return x", "That is plain dropout"),
    ("h, bound) -> h, 0)", "What is dropped becomes 0"),
    ("return a * x + b -> return x", "mean and variance are not restored"),
    ("q, bound = keep_prob -> q, bound = 1 - keep_prob", "not the one that is dropped"),
    ("1 / var**0.5 -> 1 / var", "lacks the root"),
    ("1 / var**0.5 -> var**0.5", "The slope is the standard deviation"),
    ("return a * x + b -> return a * x", "The shift is missing"),
    ("b = -a -> b = a", "The shift has the other sign"),
    ("b = -a * -> b = -", "not multiplied by the slope"),
    ("-a * (1 - q) -> -a * q", "The shift counts the kept share"),
    ("-1.0507009873554805 * -> -", "The scale is missing in the lower bound"),
    ("-1.0507009873554805 -> 1.0507009873554805", "The bound has the wrong sign"),
    ("q * (1 - q) * bound**2 -> (1 - q) * bound**2", "keep_prob is missing"),
    ("q * (1 - q) * bound**2 -> q * bound**2", "1 - keep_prob is missing"),
    ("var = q + -> var = 1 +", "bring the variance keep_prob"),
    ("var = q + q * (1 - q) * bound**2 -> var = q", "part of the variance is missing"),
    ("* bound**2 -> * bound ;; var**0.5 -> abs(var) ** 0.5", "not squared"),
    ("kept == 1 -> kept == 0", "turned round"),
    ("return a * x + b -> return (x - x.mean()) / x.std()", "those of the batch at hand"),
)


@right("15-start")
def lecun_with_sqrt(normals):
    return normals * np.sqrt(1 / normals.shape[1])


@right("15-start")
def lecun_with_std(normals):
    units, inputs = normals.shape
    return normals / np.sqrt(inputs) * np.ones((units, inputs))


@wrong("15-start", "Glorot's initialization")
def glorot(normals):
    return normals * np.sqrt(2 / sum(normals.shape))


@right("15-dropout")
def dropout_with_where(h, kept, keep_prob):
    alpha = -1.7580993408473766
    a = np.sqrt(1 / (keep_prob + alpha**2 * keep_prob * (1 - keep_prob)))
    b = -a * alpha * (1 - keep_prob)
    return a * np.where(kept > 0, h, alpha) + b


@wrong("15-dropout", "That is plain dropout", "not the one that is dropped")
def plain_dropout_of_what_is_dropped(h, kept, keep_prob):
    return h * kept / (1 - keep_prob)


@wrong("15-dropout", "That is plain dropout")
def plain_dropout(h, kept, keep_prob):
    return h * kept / keep_prob


@wrong("15-start", "The factor 3/4 is PyTorch's gain")
def start_with_gain(normals):
    return torch.nn.init.calculate_gain("selu") * normals / np.sqrt(normals.shape[1])


@wrong("15-dropout", "rounded constants, 1.67 and 1.05")
def dropout_with_rounded_constants(h, kept, keep_prob):
    bound = -1.67 * 1.05
    a = (keep_prob + bound**2 * keep_prob * (1 - keep_prob)) ** -0.5
    return a * (h * kept + bound * (1 - kept)) - a * (1 - keep_prob) * bound
