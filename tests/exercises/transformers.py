"""Chapter 16: a transformer block, as readers and libraries write it."""

import numpy as np
import torch

from tests.exercises.cases import edits, reference, right, wrong


@reference("16-block")
def block_by_pytorch(h, W, W_out, W1, W2, gamma, eps):
    h, W, W_out, W1, W2, gamma = map(torch.tensor, (h, W, W_out, W1, W2, gamma))

    def norm(values, weight):
        return torch.nn.functional.rms_norm(values, values.shape[-1:], weight, eps)

    q, k, v = (norm(h, gamma[0]) @ W).chunk(3, -1)
    h = h + torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True) @ W_out
    return h + torch.relu(norm(h, gamma[1]) @ W1) @ W2


@right("16-block")
def block_on_the_page(h, W, W_out, W1, W2, gamma, eps):
    def norm(a, g):
        m = 0.0
        ms = ((a - m) ** 2).mean(-1, keepdims=True)
        return g * (a - m) / np.sqrt(ms + eps)

    D, T = h.shape[2], h.shape[1]
    q, k, v = np.split(norm(h, gamma[0]) @ W, 3, axis=2)
    logits = q @ k.transpose(0, 2, 1) / np.sqrt(D)
    logits[:, np.triu(np.ones((T, T), bool), 1)] = -np.inf
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    a = h + weights @ v @ W_out
    return a + np.maximum(norm(a, gamma[1]) @ W1, 0) @ W2


edits(
    "16-block",
    block_on_the_page,
    ("logits[:, np.triu(np.ones((T, T), bool), 1)] = -np.inf -> pass", "Nothing is masked"),
    ("np.triu(np.ones((T, T), bool), 1) -> np.tril(np.ones((T, T), bool), -1)", "mask is turned round"),
    ("= -np.inf -> = 0", "set to 0, not to -inf"),
    (".mean(-1, keepdims=True) -> .mean((1, 2), keepdims=True)", "run over positions as well"),
    (".mean(-1, keepdims=True) -> .mean(1, keepdims=True)", "as in instance norm"),
    (".mean(-1, keepdims=True) -> .mean((0, 1), keepdims=True)", "as in batch norm"),
    (".mean(-1, keepdims=True) -> .mean(0, keepdims=True)", "an example sees its company"),
    (".mean(-1, keepdims=True) -> .mean()", "run over everything"),
    (
        "np.split(norm(h, gamma[0]) @ W -> np.split(h @ W"
        " ;; a = h + weights @ v @ W_out -> a = norm(h + weights @ v @ W_out, gamma[0])"
        " ;; a + np.maximum(norm(a, gamma[1]) @ W1, 0) @ W2 -> norm(a + np.maximum(a @ W1, 0) @ W2, gamma[1])",
        "that is post-norm",
    ),
    (
        "np.split(norm(h, gamma[0]) @ W -> np.split(h @ W"
        " ;; weights @ v @ W_out -> norm(weights @ v @ W_out, gamma[0])"
        " ;; np.maximum(norm(a, gamma[1]) @ W1, 0) @ W2 -> norm(np.maximum(a @ W1, 0) @ W2, gamma[1])",
        "at the end of each branch",
    ),
    (
        "a = h + weights -> a = norm(h, gamma[0]) + weights ;; return a + -> return norm(a, gamma[1]) +",
        "What is added to is the normed stream",
    ),
    ("m = 0.0 -> m = a.mean(-1, keepdims=True)", "that is layer norm"),
    ("np.maximum(norm(a, gamma[1]) @ W1 -> np.maximum(a @ W1", "dense layers are not normed"),
    ("np.split(norm(h, gamma[0]) @ W -> np.split(h @ W", "Attention is not normed"),
    ("norm(a, gamma[1]) @ W1 -> norm(h, gamma[1]) @ W1", "read the block's input"),
    ("a = h + weights -> a = weights", "h is not added"),
    ("return a + -> return ", "not added to what the dense layers"),
    (" / np.sqrt(D) -> ", "not divided by the root of D"),
    (" / np.sqrt(D) ->  / D", "divided by D"),
    ("weights.sum(-1, -> weights.sum(1, ;; logits.max(-1, -> logits.max(1,", "positions that read"),
    ("q, k, v = -> k, q, v =", "Queries and keys"),
    ("q, k, v = -> q, v, k =", "Keys and values"),
    ("np.maximum(norm(a, gamma[1]) @ W1, 0) -> (norm(a, gamma[1]) @ W1)", "ReLU is missing"),
    ("return g * -> return ", "gamma is forgotten"),
    ("gamma[1] -> gamma[0]", "Both branches have the first gamma"),
    ("gamma[0] -> gamma[-1] ;; gamma[1] -> gamma[0]", "have changed places"),
    ("/ np.sqrt(ms + eps) -> / (ms + eps)", "the mean square, not its root"),
    ("np.sqrt(ms + eps) -> np.sqrt(ms * D + eps)", "the length, not the root"),
    ("np.sqrt(ms + eps) -> (np.sqrt(ms) + eps)", "outside the root"),
    ("ms + eps -> ms", "eps is forgotten"),
    ("ms + eps -> ms + 1e-5", "fixed at 1e-5"),
)  # fmt: skip


@right("16-block")
def block_place_by_place(h, W, W_out, W1, W2, gamma, eps):
    out, D = np.empty_like(h), h.shape[2]
    for n, sequence in enumerate(h):
        u = np.array([gamma[0] * row / np.sqrt(row @ row / D + eps) for row in sequence])
        q, k, v = u @ W[:, :D], u @ W[:, D : 2 * D], u @ W[:, 2 * D :]
        for t, row in enumerate(sequence):
            weights = np.exp(k[: t + 1] @ q[t] / D**0.5)
            middle = row + weights @ v[: t + 1] @ W_out / weights.sum()
            normed = gamma[1] * middle / np.sqrt(middle @ middle / D + eps)
            out[n, t] = middle + np.maximum(normed @ W1, 0) @ W2
    return out


@wrong("16-block", "Nothing is masked", "that is layer norm")
def block_of_an_encoder(h, W, W_out, W1, W2, gamma, eps):
    def norm(a, g):
        return g * (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + eps)

    q, k, v = np.split(norm(h, gamma[0]) @ W, 3, axis=2)
    weights = np.exp(np.einsum("ntd,nsd->nts", q, k) / np.sqrt(h.shape[2]))
    h = h + (weights / weights.sum(2, keepdims=True)) @ v @ W_out
    return h + np.maximum(norm(h, gamma[1]) @ W1, 0) @ W2
