"""Faults planted in small networks on the digits, each with a healthy twin: what bnlib.lab.doctor is tried on.

Nothing here needs the doctor. A builder returns the arguments of its ``examine``, made anew by each call.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_linear_bn_eval
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from bnlib.data import load

Case = dict[str, Any]
Make = Callable[[], nn.Module]
Change = Callable[[Tensor], Tensor]


class Fault(NamedTuple):
    """One fault, and the same without it.

    Attributes
    ----------
    rule : the rule that must be named first
    what : what was done wrong, in one line
    source : a public report of it, or ""
    sick, healthy : give the arguments of ``examine``; on the healthy ones the doctor must be silent
    """

    rule: str
    what: str
    source: str
    sick: Callable[[], Case]
    healthy: Callable[[], Case]


# Examples, and batches of them.


@cache
def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    split = load("digits", 0)
    arrays = split.x_train, split.y_train, split.x_val, split.y_val
    x, y, x_val, y_val = (torch.tensor(array) for array in arrays)
    return x.float(), y, x_val.float(), y_val


def flat(x: Tensor) -> Tensor:
    return x


def images(x: Tensor) -> Tensor:
    return x.view(-1, 1, 8, 8)


def inverted(x: Tensor) -> Tensor:
    return 1 - x


def faint(x: Tensor) -> Tensor:
    return 0.3 * x


def bright(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * x


def after(*changes: Change) -> Change:
    def change(x: Tensor) -> Tensor:
        for c in changes:
            x = c(x)
        return x

    return change


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers from this seed; those of the caller go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def pairs(inputs: Change = flat, *, count: int = 8, size: int = 60, val: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Shuffled batches (x, y)."""
    x, y = _digits()[2:] if val else _digits()[:2]
    with seeded(1):
        rows = torch.randperm(len(x))[: count * size].split(size)
    return [(inputs(x[r]), y[r]) for r in rows]


def alone(inputs: Change = flat, **how: Any) -> list[Tensor]:
    return [x for x, _ in pairs(inputs, **how)]


# Networks.


def chain(
    norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    *,
    bias: bool = False,
    between: Make = nn.ReLU,
    dropout: tuple[float, float] = (0.0, 0.0),
    width: int = 64,
) -> nn.Sequential:
    """Dense, width-100-100-10; dropout behind the first and the second activation."""
    modules: list[nn.Module] = []
    for n, p in zip((width, 100), dropout, strict=True):
        modules += [nn.Linear(n, 100, bias=bias), norm(100), between()]
        modules += [nn.Dropout(p)] if p else []
    return nn.Sequential(*modules, nn.Linear(100, 10))


def conv_chain(
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, bias: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Convolutional, with dropout behind the last norm, and also in front of the third if asked."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=bias), norm(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=bias), norm(16), nn.ReLU()),
        *([nn.Dropout(dropout)] if dropout else []),
        *(nn.Conv2d(16, 16, 3, padding=1, bias=bias), norm(16), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, 10)),
    )


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(h)))


def residual() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(Block(8), Block(8)),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )


def norms(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


# Training, and what a case is made of.


def sgd(model: nn.Module, lr: float = 0.1, decay: float = 1e-4) -> SGD:
    """Weight decay on what has more than one axis."""
    several = [p for p in model.parameters() if p.ndim > 1]
    one = [p for p in model.parameters() if p.ndim <= 1]
    return SGD([{"params": several}, {"params": one, "weight_decay": 0.0}], lr=lr, weight_decay=decay)


def fit(
    model: Any,
    steps: int,
    inputs: Change = flat,
    *,
    lr: float = 0.1,
    size: int = 60,
    seed: int = 0,
    optimizer: Optimizer | None = None,
    each: Callable[[], None] = lambda: None,
) -> Any:
    """Train the model, in the modes it is in; each() is called after every step."""
    optimizer = optimizer or sgd(model, lr)
    x, y = _digits()[:2]
    with seeded(seed):
        for _ in range(steps):
            rows = torch.randperm(len(x))[:size]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs(x[rows])), y[rows]).backward()
            optimizer.step()
            each()
    optimizer.zero_grad()
    return model


def settle(model: Any, inputs: Change = flat, *, steps: int = 100) -> Any:
    """Let the running statistics follow, without a step of the weights."""
    x, _ = _digits()[:2]
    modes = [(m, m.training) for m in model.modules()]
    model.train()
    with torch.no_grad(), seeded(2):
        for _ in range(steps):
            model(inputs(x[torch.randperm(len(x))[:60]]))
    for m, training in modes:
        m.training = training
    return model


@cache
def _trained(make: Make, inputs: Change, steps: int, lr: float, size: int, seed: int) -> nn.Module:
    with seeded(seed):
        model = make()
    return fit(model, steps, inputs, lr=lr, size=size, seed=seed)


def trained(
    make: Make, inputs: Change = flat, steps: int = 200, *, lr: float = 0.1, size: int = 60, seed: int = 0
) -> Any:
    """The network after training, in train mode."""
    return copy.deepcopy(_trained(make, inputs, steps, lr, size, seed))


def used(model: nn.Module, inputs: Change = flat, **more: Any) -> Case:
    """The case of a model in eval mode, without a loss."""
    return {"model": model.eval(), "batches": pairs(inputs), **more}


def going_on(model: nn.Module, inputs: Change = flat, **more: Any) -> Case:
    """The case of a model in training, in the modes it is in."""
    defaults = {"batches": pairs(inputs), "optimizer": sgd(model), "loss": F.cross_entropy}
    return {"model": model, **defaults, **more}


def used_chain() -> Case:
    return used(trained(chain))


def used_conv() -> Case:
    return used(trained(conv_chain, images), images)


def used_residual() -> Case:
    return used(trained(residual, images), images)


def chain_going_on() -> Case:
    return going_on(trained(chain))


def conv_going_on() -> Case:
    return going_on(trained(conv_chain, images), images)


def residual_going_on() -> Case:
    return going_on(trained(residual, images), images)


# The wrong mode.


def train_mode_on() -> Case:
    return {"model": trained(chain), "batches": alone()}


def train_mode_on_conv() -> Case:
    return {"model": trained(conv_chain, images), "batches": pairs(images)}


def left_in_train() -> Case:
    case = used_chain()
    case["model"][4].train()
    return case


def left_in_train_block() -> Case:
    case = used_residual()
    case["model"][4].train()
    return case


class Stubborn(nn.BatchNorm2d):
    """Whose author kept it in train mode, for better numbers on large test batches."""

    def train(self, mode: bool = True) -> "Stubborn":
        return super().train()


def left_in_train_stubborn() -> Case:
    def make() -> nn.Module:
        model = conv_chain()
        model[4] = Stubborn(16)
        return model

    return used(trained(make, images), images)


def left_in_eval() -> Case:
    case = chain_going_on()
    case["model"][4].eval()
    return case


def left_in_eval_block() -> Case:
    case = residual_going_on()
    case["model"][3].eval()
    return case


# Statistics of the batch, in use.


def no_running_stats() -> Case:
    return used(trained(partial(chain, partial(nn.BatchNorm1d, track_running_stats=False))))


def no_running_stats_conv() -> Case:
    def make() -> nn.Module:
        model = conv_chain()
        model[7] = nn.BatchNorm2d(16, track_running_stats=False)
        return model

    return used(trained(make, images), images)


class Functional(nn.Module):
    """A norm written with F.batch_norm, with no thought of the mode if always is True."""

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, always: bool) -> None:
        super().__init__()
        self.always = always
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        batch = self.always or self.training
        return F.batch_norm(x, self.mean, self.var, self.gamma, self.beta, batch)


def functional(always: bool) -> Case:
    return used(trained(partial(conv_chain, partial(Functional, always=always)), images), images)


class BuiltInForward(nn.Module):
    """A new norm in each call: it starts in train mode, is never trained, and never stored."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.BatchNorm1d(x.shape[1])(x)


def built_in_forward() -> Case:
    return used(trained(partial(chain, lambda n: BuiltInForward())))


class Centred(nn.Module):
    """A network whose input is centred by the batch's mean, or by that of the training set."""

    centre: Tensor

    def __init__(self, by_batch: bool) -> None:
        super().__init__()
        self.by_batch = by_batch
        self.register_buffer("centre", _digits()[0].mean(0))
        self.layers = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x - (x.mean(0) if self.by_batch else self.centre))


def centred(by_batch: bool) -> Case:
    return used(trained(partial(Centred, by_batch)), batches=alone())


class Listed(nn.Module):
    """A dense network that holds its norms in a list, where train() and eval() do not find them."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 100, bias=False), nn.Linear(100, 100, bias=False)])
        held = [nn.BatchNorm1d(100), nn.BatchNorm1d(100)]
        self.norms: Sequence[nn.Module] | nn.ModuleList = held if plain else nn.ModuleList(held)
        self.head = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.head(x)


def listed(plain: bool) -> Case:
    return used(trained(partial(Listed, plain)))


# Running statistics that are wrong.


def bad_pixel() -> Case:
    model = trained(chain)
    x = _digits()[0][:60].clone()
    x[7, 20] = torch.inf
    with torch.no_grad():  # as by a scaler, the step of the weights was left out
        model(x)
    return used(model)


def half_overflow() -> Case:
    model = trained(conv_chain, images)
    with seeded(), torch.no_grad(), torch.autocast("cpu", torch.float16):
        model(1e6 * images(_digits()[0][:60]))
    return used(model, images)


def parameters_only() -> Case:
    saved = dict(trained(chain).named_parameters())
    with seeded(5):
        model = chain()
    model.load_state_dict(saved, strict=False)
    return used(model)


def averaged_copy(buffers: bool) -> Case:
    """A target network that follows the parameters of an online network, and its buffers or not."""
    with seeded():
        online = conv_chain()
    target = copy.deepcopy(online)

    @torch.no_grad()
    def follow() -> None:
        for ours, theirs in zip(target.parameters(), online.parameters(), strict=True):
            ours.lerp_(theirs, 0.2)
        if buffers:
            for ours, theirs in zip(target.buffers(), online.buffers(), strict=True):
                ours.copy_(theirs)

    fit(online, 200, images, each=follow)
    return used(target, images)


def momentum(value: float, size: int = 60) -> Case:
    return used(trained(partial(chain, partial(nn.BatchNorm1d, momentum=value)), size=size, seed=1))


def momentum_going_on(value: float, size: int) -> Case:
    model = trained(partial(conv_chain, partial(nn.BatchNorm2d, momentum=value)), images, size=size)
    return going_on(model, images, batches=pairs(images, count=16, size=size))


def reset_and_hurried(steps: int) -> Case:
    model = trained(conv_chain, images)
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = 0.02
    return used(settle(model, images, steps=steps), images)


def momentum_zero() -> Case:
    return going_on(trained(partial(chain, partial(nn.BatchNorm1d, momentum=0.0))))


def momentum_zero_re_estimated() -> Case:
    """Statistics reset, and re-estimated with momentum 0, where None, the plain average, was meant."""
    model = trained(residual, images)
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = 0.0
    return used(settle(model, images), images)


def averaged_weights(re_estimated: bool) -> Case:
    """Weights averaged by hand in a copy, which keeps the statistics of when it was made."""
    model = trained(residual, images, 5)
    average, seen = copy.deepcopy(model), 0

    @torch.no_grad()
    def add() -> None:
        nonlocal seen
        seen += 1
        for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 / seen)

    fit(model, 150, images, each=add)
    if re_estimated:
        update_bn([x for x, _ in pairs(images, count=17)], average)
    return used(average, images)


def foreign_buffers(seed: int, steps: int) -> Case:
    """The buffers of another run, or of an earlier checkpoint."""
    model = trained(chain)
    model.load_state_dict(dict(trained(chain, steps=steps, seed=seed).named_buffers()), strict=False)
    return used(model)


def early_buffers() -> Case:
    model = trained(conv_chain, images)
    model.load_state_dict(dict(trained(conv_chain, images, steps=8).named_buffers()), strict=False)
    return used(model, images)


def deviation_stored() -> Case:
    model = trained(chain)
    for norm in norms(model):
        norm.running_var.sqrt_()
    return used(model)


def validated(make: Make, inputs: Change, change: Change) -> Case:
    return used(trained(make, inputs), inputs, val_batches=pairs(after(change, inputs), count=5, val=True))


# Fine-tuning.


def freeze(model: Any) -> Any:
    for norm in norms(model):
        norm.eval()
    return model


def tuned(change: Change, steps: int, lr: float) -> Case:
    model = fit(freeze(trained(chain)), steps, change, lr=lr, seed=3)
    return going_on(model, change, optimizer=sgd(model, lr))


def frozen_early(wait: int, steps: int, lr: float) -> Case:
    """Statistics frozen after so many steps, and training gone on with."""
    model = fit(freeze(trained(conv_chain, images, wait)), steps, images, lr=lr, seed=3)
    return going_on(model, images, optimizer=sgd(model, lr))


def parity() -> list[tuple[Tensor, Tensor]]:
    return [(x, y % 2) for x, y in pairs()]


def new_head(modes_too: bool) -> Case:
    """A new head, odd or even, on a dense network of which nothing else is to change."""
    model = trained(chain).requires_grad_(False)
    with seeded(4):
        model[6] = nn.Linear(100, 2)
    if modes_too:
        freeze(model)
    return going_on(model, batches=parity(), optimizer=SGD(model[6].parameters(), lr=0.1))


def new_head_conv(modes_too: bool) -> Case:
    model = trained(conv_chain, images).requires_grad_(False)
    with seeded(4):
        model[11] = nn.Linear(256, 10)
    if modes_too:
        freeze(model)
    return going_on(model, images, optimizer=SGD(model[11].parameters(), lr=0.1))


def frozen_at(make: Make, inputs: Change, lr: float) -> Case:
    model = freeze(trained(make, inputs))
    return going_on(model, inputs, optimizer=sgd(model, lr))


# Code of one's own.


class Handmade(nn.Module):
    """A norm with its statistics in plain attributes, and its own idea of what evaluation does."""

    def __init__(self, channels: int, evaluate: str) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mu, self.sigma2 = torch.zeros(channels), torch.ones(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            self.mu = 0.9 * self.mu + 0.1 * mean.detach()
            self.sigma2 = 0.9 * self.sigma2 + 0.1 * var.detach()
            return (x - mean) / (var + 1e-5).sqrt() * self.scale + self.shift
        var = self.sigma2 + 1e-5
        return (x - self.mu) / (var if self.evaluate == "without the root" else var.sqrt()) * self.scale + self.shift


def handmade(evaluate: str) -> nn.Module:
    return trained(partial(chain, partial(Handmade, evaluate=evaluate)))


class Checkpointed(nn.Module):
    """A part of which the activations are computed again for the backward pass."""

    def __init__(self, part: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.part, self.reentrant = part, reentrant

    def forward(self, x: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return self.part(x)
        return checkpoint(self.part, x, use_reentrant=self.reentrant)


def checkpointed(case: Case, place: int, reentrant: bool) -> Case:
    model = case["model"]
    model[place] = Checkpointed(model[place], reentrant)
    return case


def checkpointed_middle() -> Case:
    """The second layer with its norm as one part."""
    case = chain_going_on()
    layers = list(case["model"])
    part = Checkpointed(nn.Sequential(*layers[3:6]).train(), False)
    return {**case, "model": nn.Sequential(*layers[:3], part, layers[6])}


class TwoBranches(nn.Module):
    """The upper half of the image and the lower, inverted; with one norm for both, or with two."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.upper, self.lower = nn.Linear(32, 50, bias=False), nn.Linear(32, 50, bias=False)
        self.first = nn.BatchNorm1d(50)
        self.second = self.first if shared else nn.BatchNorm1d(50)
        self.head = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x.split(32, 1)
        h = torch.cat([self.first(self.upper(upper)), self.second(self.lower(3 - 3 * lower))], 1)
        return self.head(F.relu(h))


def two_branches(shared: bool) -> Case:
    return going_on(trained(partial(TwoBranches, shared)))


def _fake(real: Tensor) -> Tensor:
    return 0.5 * torch.rand_like(real)


def discriminator() -> nn.Sequential:
    with seeded():
        return nn.Sequential(
            *(nn.Linear(64, 100, bias=False), nn.BatchNorm1d(100), nn.LeakyReLU(0.2)),
            *(nn.Linear(100, 100, bias=False), nn.BatchNorm1d(100), nn.LeakyReLU(0.2)),
            nn.Linear(100, 1),
        )


def _judged(logits: Tensor, real: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, real)


def real_and_fake(together: bool) -> Case:
    """A discriminator that sees real and generated images in one batch, or one after the other, in the loss."""
    model = discriminator()
    ones, zeros = torch.ones(60, 1), torch.zeros(60, 1)

    def loss(logits: Tensor, fake: Tensor) -> Tensor:
        return _judged(logits, ones) + _judged(model(fake), zeros)

    with seeded(6):
        batches = [(x, _fake(x)) for x in alone(count=16)]
    if together:
        batches = [(torch.cat([real, fake]), torch.cat([ones, zeros])) for real, fake in batches]
    case = {"model": model, "batches": batches, "loss": _judged if together else loss, "optimizer": sgd(model, 0.02)}
    for _ in range(10):
        for batch in batches:
            case["optimizer"].zero_grad()
            case["loss"](model(batch[0]), batch[1]).backward()
            case["optimizer"].step()
    case["optimizer"].zero_grad()
    return case


# Batches.


def in_batches(case: Case, inputs: Change = flat, *, size: int, count: int = 16) -> Case:
    return {**case, "batches": pairs(inputs, count=count, size=size)}


def one_left_over() -> Case:
    case = chain_going_on()
    case["batches"].append(tuple(t[:1] for t in pairs(val=True)[0]))
    return case


def pooled_head() -> nn.Sequential:
    """Whose last norm sees one value of each example."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU()),
        nn.Linear(32, 10),
    )


def pooled_head_in(size: int, count: int) -> Case:
    return in_batches(going_on(trained(pooled_head, images), images), images, size=size, count=count)


def sorted_by_class() -> Case:
    x, y = _digits()[:2]
    rows = [(y == c).nonzero()[:60, 0] for c in range(8)]
    return going_on(trained(chain), batches=[(x[r], y[r]) for r in rows])


def bright_and_dark(mixed: bool) -> Case:
    """Images from two cameras, of which one is brighter, in batches of both or of one."""

    def both(x: Tensor) -> Tensor:
        return torch.where((torch.arange(len(x)) % 2 == 0)[:, None], faint(x), bright(x)).view(-1, 1, 8, 8)

    sources = (faint, bright)
    by_source = [(images(sources[i % 2](x)), y) for i, (x, y) in enumerate(pairs())]
    return going_on(trained(conv_chain, both), batches=pairs(both) if mixed else by_source)


class Causal(nn.Module):
    """Predicts at each position from those up to it: a causal convolution, or attention with a mask."""

    def __init__(self, embed: nn.Module, attention: bool, batch_norm: bool, outputs: int) -> None:
        super().__init__()
        self.embed, self.outputs = embed, nn.Linear(16, outputs)
        self.conv = None if attention else nn.Conv1d(16, 16, 3, bias=False)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True) if attention else None
        self.batch_norm = nn.BatchNorm1d(16) if batch_norm else None
        self.layer_norm = None if batch_norm else nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)  # (N, L, C)
        if self.conv is not None:
            mixed = self.conv(F.pad(h.transpose(1, 2), (2, 0))).transpose(1, 2)
        else:
            assert self.attention is not None
            mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).triu(1)
            mixed = h + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return self.outputs(F.relu(self.normalized(mixed)))

    def normalized(self, h: Tensor) -> Tensor:
        if self.batch_norm is not None:
            return self.batch_norm(h.transpose(1, 2)).transpose(1, 2)
        assert self.layer_norm is not None
        return self.layer_norm(h)


@cache
def _tokens() -> list[tuple[Tensor, Tensor]]:
    split = load("markov", 0)
    x, y = (torch.tensor(a[:480]).split(60) for a in (split.x_train, split.y_train))
    return list(zip(x, y, strict=True))


def _token_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def _trained_on(model: nn.Module, batches: list[tuple[Tensor, Tensor]], loss: Any, lr: float) -> Case:
    optimizer = sgd(model, lr)
    for _ in range(20):
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    optimizer.zero_grad()
    return {"model": model, "batches": batches, "loss": loss, "optimizer": optimizer}


def next_token(batch_norm: bool) -> Case:
    with seeded():
        model = Causal(nn.Embedding(10, 16), False, batch_norm, 10)
    return _trained_on(model, _tokens(), _token_loss, 0.3)


def next_row(batch_norm: bool) -> Case:
    """The next row of an image from those above it."""
    with seeded():
        model = Causal(nn.Linear(8, 16), True, batch_norm, 8)
    rows = [x.view(-1, 8, 8) for x in alone()]
    return _trained_on(model, [(x[:, :-1], x[:, 1:]) for x in rows], F.mse_loss, 0.1)


# Layers in the wrong place, and units that do nothing.


def biased() -> Case:
    return going_on(trained(partial(chain, bias=True)))


def biased_conv() -> Case:
    return going_on(trained(partial(conv_chain, bias=True), images), images)


def dropped_out(dropout: tuple[float, float]) -> Case:
    return used(trained(partial(chain, dropout=dropout)))


def dropped_out_conv(p: float) -> Case:
    return going_on(trained(partial(conv_chain, dropout=p), images), images)


def normed_pixels(blank: int) -> Case:
    """A norm on the pixels: the 40 that vary most, of which so many are blank here."""
    kept = _digits()[0].var(0).argsort(descending=True)[:40]
    seen = torch.ones(40)
    seen[:blank] = 0

    def inputs(x: Tensor) -> Tensor:
        return x[:, kept] * seen

    def make() -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(40), *chain(width=40))

    return going_on(trained(make, inputs), inputs)


def activation_first() -> nn.Sequential:
    """The norms behind the activations, where a bias counts."""

    def part(inputs: int) -> nn.Sequential:
        linear = nn.Linear(inputs, 60)
        nn.init.constant_(linear.bias, 0.5)  # or some units would be dead from the start
        return nn.Sequential(linear, nn.ReLU(), nn.BatchNorm1d(60))

    return nn.Sequential(*part(64), *part(60), nn.Linear(60, 10))


def dead_in_front(dead: int) -> Case:
    model = trained(activation_first, lr=0.05)
    with torch.no_grad():
        model[3].bias[:dead] = -100
    return used(settle(fit(model, 50, lr=0.05)))


def dead_behind(make: Make, inputs: Change, place: int, dead: int) -> Any:
    model = trained(make, inputs)
    with torch.no_grad():
        model[place].bias[:dead] = -20
    return fit(model, 100, inputs, seed=7)


def saturated(between: Make, gamma: float, beta: float) -> Any:
    """Gamma and beta of the last norm set so, and held, and training gone on with."""
    model = trained(partial(chain, between=between))
    with torch.no_grad():
        model[4].weight.mul_(gamma)
        model[4].bias.add_(beta)
    return fit(model, 100, lr=0.05, seed=7)


def zero_gamma(make: Make, inputs: Change, place: int) -> Any:
    def started() -> nn.Module:
        model: Any = make()
        nn.init.zeros_(model[place].weight)
        return model

    return trained(started, inputs)


def zero_gamma_residual() -> Case:
    """As is the custom, gamma starts at 0 in each block's last norm: the block is then skipped, at first."""
    with seeded():
        model: Any = residual()
    for place in (3, 4):
        nn.init.zeros_(model[place].norm2.weight)
    return going_on(settle(model, images), images)


# The optimizer, and the scale of the weights.


def decay_on_all(case: Case, optimizer: Callable[..., Optimizer]) -> Case:
    return {**case, "optimizer": optimizer(case["model"].parameters())}


def frozen_with_zero_grads(decay: float) -> Case:
    """Frozen norms whose gradients are tensors of zeros, which for the optimizer are as good as any."""
    model = freeze(trained(chain))
    optimizer = sgd(model, 0.01)
    optimizer.param_groups[1]["weight_decay"] = decay
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # as left by zero_grad(set_to_none=False)
    for norm in norms(model):
        norm.requires_grad_(False)
    return going_on(model, optimizer=optimizer)


def at_rate(make: Make, inputs: Change, lr: float) -> Case:
    """Soon after the start."""
    model = settle(trained(make, inputs, 30), inputs)
    return going_on(model, inputs, optimizer=sgd(model, lr))


def at_adam_rate(lr: float) -> Case:
    model = settle(trained(conv_chain, images, 30), images)
    return going_on(model, images, optimizer=Adam(model.parameters(), lr=lr))


def enlarged(model: Any, factor: float, places: Sequence[int] = (0, 3)) -> Any:
    """The same function with larger weights in front of norms, whose statistics fit."""
    with torch.no_grad():
        for i in places:
            model[i].weight.mul_(factor)
            model[i + 1].running_mean.mul_(factor)
            model[i + 1].running_var.mul_(factor**2)
    return model


class Cast(nn.Module):
    """A model under autocast."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype):
            return self.model(x).float()


def cast_chain(factor: float) -> Case:
    return used(Cast(enlarged(trained(chain), factor, (0,)), torch.float16))


def cast_conv() -> Case:
    return used(Cast(trained(conv_chain, images), torch.float16), images)


def overflowing() -> Case:
    model = trained(chain)
    with torch.no_grad():
        model[3].weight.mul_(1e38)
    return going_on(model)


def near_the_end_of_half() -> Case:
    """The first convolution's outputs just below 65,504."""
    model = trained(conv_chain, images)
    with torch.no_grad():
        largest = max(model[0](x).abs().max().item() for x in alone(images))
    return used(Cast(enlarged(model, 60_000 / largest, (0,)), torch.float16), images)


class Offset(nn.Module):
    """Inputs far from 0, as where a table's column holds years."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


def offset(by: float) -> Case:
    model = settle(nn.Sequential(Offset(by), *trained(chain)))
    return used(Cast(model, torch.bfloat16))


def converted(model: nn.Module, dtype: torch.dtype, keep_norms: bool) -> Any:
    """To half precision, with the norms or without them."""
    halved = copy.deepcopy(model).to(dtype)
    if keep_norms:
        for ours, theirs in zip(norms(halved), norms(model), strict=True):
            ours.float().load_state_dict(theirs.state_dict())
    return halved


def halved(keep_norms: bool) -> Case:
    model = converted(trained(chain), torch.float16, keep_norms)
    return used(model, batches=[x.half() for x in alone()])


def halved_conv(keep_norms: bool) -> Case:
    model = converted(trained(conv_chain, images), torch.bfloat16, keep_norms)
    return going_on(model, batches=[(x.bfloat16(), y) for x, y in pairs(images)])


class OwnHalf(nn.Module):
    """A norm that computes in the dtype of its statistics, with the statistics of one that was trained."""

    momentum = 0.1

    def __init__(self, norm: nn.BatchNorm1d, dtype: torch.dtype, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = (nn.Parameter(p.detach().to(dtype)) for p in (norm.weight, norm.bias))
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, norm.get_buffer(name).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        z = x.to(mean.dtype)
        if self.training:
            mean, var = z.mean(0), z.var(0, correction=0)
        return ((z - mean) / (var + self.eps) ** 0.5 * self.weight + self.bias).to(x.dtype)


def own_half(dtype: torch.dtype) -> Case:
    model: Any = trained(chain)
    for i in (1, 4):
        model[i] = OwnHalf(model[i], dtype, 1e-9)
    return used(model)


def tiny(factor: float) -> Case:
    """Inputs in a unit that makes them tiny."""

    def inputs(x: Tensor) -> Tensor:
        return factor * x

    return used(trained(chain, inputs), inputs)


def tiny_images(factor: float) -> Case:
    def inputs(x: Tensor) -> Tensor:
        return factor * images(x)

    return going_on(trained(conv_chain, inputs), inputs)


def other_eps(case: Case, which: slice) -> Case:
    for norm in norms(case["model"])[which]:
        norm.eps = 1e-3
    return case


# Deployment.


def exported(make: Make, inputs: Change, mode: bool) -> Case:
    """The program that torch.export makes of the model in train mode, or in eval mode."""
    model = trained(make, inputs)
    example = inputs(_digits()[0][:60])
    program = export(copy.deepcopy(model).train(mode), (example,), dynamic_shapes=({0: Dim("n", min=2)},))
    return used(model, inputs, deployed=program.module())


def predicting(mode: bool) -> Case:
    """A service's own predict function, which does not look at the mode."""
    case = used_conv()
    service = copy.deepcopy(case["model"]).train(mode)
    service[10].eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return service(x)

    return {**case, "deployed": predict}


def folded(*, eps: float | None = None, without: str = "") -> Case:
    """Each norm folded into the layer before it: with the norm's own eps or another, with its beta or not."""
    case = used_chain()
    model = copy.deepcopy(case["model"])
    for i in (0, 3):
        norm = model[i + 1]
        norm.eps = eps or norm.eps
        with torch.no_grad():
            if without:
                getattr(norm, without).zero_()
        model[i] = fuse_linear_bn_eval(model[i], norm)
        model[i + 1] = nn.Identity()
    return {**case, "deployed": model}


NESTED_UNET = "https://github.com/4uiiurz1/pytorch-nested-unet/issues/39"

FAULTS = (
    Fault(
        "train-mode-on",
        "a dense network is used as training left it, in train mode",
        "https://github.com/milesial/Pytorch-UNet/issues/31",
        train_mode_on,
        lambda: {**used_chain(), "batches": alone()},
    ),
    Fault(
        "train-mode-on",
        "a convolutional network, with dropout, is used in train mode",
        "https://github.com/wolny/pytorch-3dunet/issues/53",
        train_mode_on_conv,
        used_conv,
    ),
    Fault("left-in-train", "one norm is put back into train mode after eval()", "", left_in_train, used_chain),
    Fault("left-in-train", "a residual block is put back into train mode", "", left_in_train_block, used_residual),
    Fault("left-in-train", "a norm overrides train() to stay in train mode", "", left_in_train_stubborn, used_conv),
    Fault("left-in-eval", "training goes on with one norm left in eval mode", "", left_in_eval, chain_going_on),
    Fault(
        "left-in-eval",
        "validation put a block into eval mode and did not put it back",
        "https://github.com/fartashf/vsepp/issues/4",
        left_in_eval_block,
        residual_going_on,
    ),
    Fault(
        "no-running-stats",
        "track_running_stats=False in every norm",
        "https://github.com/xu-ji/IIC/issues/49",
        no_running_stats,
        used_chain,
    ),
    Fault(
        "no-running-stats",
        "track_running_stats=False in one norm of three",
        "https://github.com/TengdaHan/DPC/issues/21",
        no_running_stats_conv,
        used_conv,
    ),
    Fault(
        "company",
        "F.batch_norm(..., training=True) in forward",
        "https://github.com/dragen1860/MAML-Pytorch/issues/44",
        lambda: functional(True),
        lambda: functional(False),
    ),
    Fault("company", "a norm is built inside forward", "", built_in_forward, used_chain),
    Fault("company", "x - x.mean(0) by hand", "", lambda: centred(True), lambda: centred(False)),
    Fault(
        "company",
        "the norms are held in a plain list, which eval() does not reach",
        "",
        lambda: listed(True),
        lambda: listed(False),
    ),
    Fault(
        "not-finite-statistics",
        "one batch with an infinite pixel was seen in train mode",
        "https://github.com/pytorch/pytorch/issues/90342",
        bad_pixel,
        used_chain,
    ),
    Fault(
        "not-finite-statistics",
        "a convolution overflowed under fp16 autocast, and the statistics kept it",
        "https://github.com/pytorch/pytorch/issues/88474",
        half_overflow,
        used_conv,
    ),
    Fault(
        "never-updated",
        "parameters alone were saved, and loaded with strict=False",
        "",
        parameters_only,
        used_chain,
    ),
    Fault(
        "never-updated",
        "a target network follows parameters() without the buffers",
        "https://github.com/DLR-RM/stable-baselines3/issues/996",
        lambda: averaged_copy(False),
        lambda: averaged_copy(True),
    ),
    Fault(
        "too-few-updates",
        "momentum 0.001 for 200 steps",
        "",
        lambda: momentum(0.001),
        lambda: momentum(0.1),
    ),
    Fault(
        "too-few-updates",
        "statistics reset and re-estimated on 30 batches with momentum 0.02",
        "",
        lambda: reset_and_hurried(30),
        lambda: reset_and_hurried(200),
    ),
    Fault(
        "momentum-near-1",
        "momentum 0.99 copied from Keras, batches of 8",
        "https://github.com/pytorch/vision/issues/8250",
        lambda: momentum(0.99, 8),
        lambda: momentum(0.1, 8),
    ),
    Fault(
        "momentum-near-1",
        "momentum 0.999 copied from another framework, in training",
        "https://github.com/kazuto1011/deeplab-pytorch/issues/79",
        lambda: momentum_going_on(0.999, 8),
        lambda: momentum_going_on(0.1, 8),
    ),
    Fault("momentum-zero", "momentum 0 in training", "", momentum_zero, chain_going_on),
    Fault(
        "momentum-zero",
        "statistics reset, and re-estimated with momentum 0 instead of None",
        "https://github.com/Lightning-AI/pytorch-lightning/issues/14866",
        momentum_zero_re_estimated,
        used_residual,
    ),
    Fault(
        "too-few-updates",
        "averaged weights with the statistics of before",
        "https://github.com/Lightning-AI/pytorch-lightning/issues/8811",
        lambda: averaged_weights(False),
        lambda: averaged_weights(True),
    ),
    Fault(
        "stale-statistics",
        "the buffers of another run",
        "",
        lambda: foreign_buffers(1, 200),
        lambda: foreign_buffers(0, 200),
    ),
    Fault("too-few-updates", "the buffers of an early checkpoint", "", early_buffers, used_conv),
    Fault("stale-statistics", "the standard deviation stored as running_var", "", deviation_stored, used_chain),
    Fault(
        "other-source",
        "validated on inverted images",
        "",
        lambda: validated(chain, flat, inverted),
        lambda: validated(chain, flat, flat),
    ),
    Fault(
        "other-source",
        "validated on faint images",
        "",
        lambda: validated(conv_chain, images, faint),
        lambda: validated(conv_chain, images, flat),
    ),
    Fault(
        "other-source",
        "validated on brighter images",
        "",
        lambda: validated(residual, images, bright),
        lambda: validated(residual, images, flat),
    ),
    Fault(
        "frozen-drifting",
        "fine-tuned on inverted images with the statistics of the others",
        "",
        lambda: tuned(inverted, 200, 0.01),
        lambda: tuned(flat, 20, 0.003),
    ),
    Fault(
        "frozen-drifting",
        "statistics frozen soon after the start, and 200 steps trained since",
        "",
        lambda: frozen_early(5, 200, 0.02),
        lambda: frozen_early(200, 20, 0.003),
    ),
    Fault(
        "frozen-by-requires-grad",
        "the next train() put a frozen network's norms back into train mode",
        "https://github.com/pgniewko/gt-pyg/issues/112",
        lambda: new_head(False),
        lambda: new_head(True),
    ),
    Fault(
        "frozen-by-requires-grad",
        "a convolutional backbone is frozen by requires_grad_(False) alone",
        "https://github.com/lightly-ai/lightly/issues/1438",
        lambda: new_head_conv(False),
        lambda: new_head_conv(True),
    ),
    Fault(
        "frozen-rate",
        "norms frozen, and the rate 3 of before",
        "",
        lambda: frozen_at(chain, flat, 3.0),
        lambda: frozen_at(chain, flat, 0.003),
    ),
    Fault(
        "frozen-rate",
        "norms of a convolutional network frozen, and the rate 0.5 of before",
        "",
        lambda: frozen_at(conv_chain, images, 0.5),
        lambda: frozen_at(conv_chain, images, 0.003),
    ),
    Fault(
        "modes-apart",
        "a hand-written norm forgets the root in eval mode",
        "",
        lambda: used(handmade("without the root")),
        lambda: used(handmade("rightly")),
    ),
    Fault(
        "updated-twice",
        "a checkpointed block (use_reentrant=False)",
        "https://github.com/pytorch/pytorch/issues/96136",
        lambda: checkpointed(residual_going_on(), 4, False),
        residual_going_on,
    ),
    Fault(
        "updated-twice",
        "a checkpointed block (use_reentrant=True)",
        "https://github.com/gpleiss/efficient_densenet_pytorch/issues/73",
        lambda: checkpointed(residual_going_on(), 3, True),
        residual_going_on,
    ),
    Fault(
        "updated-twice",
        "the second of two dense layers, with its norm, is checkpointed",
        "https://github.com/pytorch/pytorch/issues/62471",
        checkpointed_middle,
        chain_going_on,
    ),
    Fault(
        "one-norm-two-inputs",
        "one norm for two branches",
        "",
        lambda: two_branches(True),
        lambda: two_branches(False),
    ),
    Fault(
        "one-norm-two-inputs",
        "a discriminator sees real and generated images one after the other",
        "https://github.com/carpedm20/DCGAN-tensorflow/issues/266",
        lambda: real_and_fake(False),
        lambda: real_and_fake(True),
    ),
    Fault(
        "batch-of-one",
        "images one at a time",
        "https://github.com/uci-cbcl/UFold/issues/18",
        lambda: in_batches(conv_going_on(), images, size=1),
        conv_going_on,
    ),
    Fault(
        "batch-of-one",
        "one example at a time in a dense network",
        "https://github.com/fastai/fastai/issues/1352",
        lambda: in_batches(chain_going_on(), size=1),
        chain_going_on,
    ),
    Fault(
        "batch-of-one",
        "a last batch of one",
        "https://github.com/NRCan/geo-deep-learning/issues/113",
        one_left_over,
        chain_going_on,
    ),
    Fault("small-batch", "batches of 3", "", lambda: in_batches(chain_going_on(), size=3), chain_going_on),
    Fault(
        "small-batch",
        "batches of 4, where the last norm sees one value of each image",
        "",
        lambda: pooled_head_in(4, 16),
        lambda: pooled_head_in(60, 8),
    ),
    Fault(
        "sorted-batches",
        "each batch is of one class",
        "https://github.com/happynear/NormFace/issues/4",
        sorted_by_class,
        chain_going_on,
    ),
    Fault(
        "sorted-batches",
        "each batch is from one camera, and one is brighter",
        "",
        lambda: bright_and_dark(False),
        lambda: bright_and_dark(True),
    ),
    Fault(
        "causal-leak",
        "batch norm over the positions of a model of tokens",
        "",
        lambda: next_token(True),
        lambda: next_token(False),
    ),
    Fault(
        "causal-leak",
        "batch norm over the rows of an image, each predicted from those above it",
        "https://github.com/Globe-Research/deep-orderbook/issues/5",
        lambda: next_row(True),
        lambda: next_row(False),
    ),
    Fault("bias-before-norm", "dense layers with a bias in front of a norm", "", biased, chain_going_on),
    Fault("bias-before-norm", "convolutions with a bias in front of a norm", NESTED_UNET, biased_conv, conv_going_on),
    Fault(
        "dropout-before-norm",
        "dropout of 0.5 in front of a dense layer and its norm",
        "https://github.com/luigibonati/mlcolvar/issues/267",
        lambda: dropped_out((0.5, 0.0)),
        lambda: dropped_out((0.0, 0.5)),
    ),
    Fault(
        "dropout-before-norm",
        "dropout of 0.5 in front of a convolution and its norm",
        "https://github.com/FengAoWang/TMO-Net/issues/12",
        lambda: dropped_out_conv(0.5),
        conv_going_on,
    ),
    Fault("flat-units", "half of the pixels are blank", "", lambda: normed_pixels(20), lambda: normed_pixels(0)),
    Fault("flat-units", "dead units in front of a norm", "", lambda: dead_in_front(30), lambda: dead_in_front(0)),
    Fault(
        "dead-units",
        "beta so negative that ReLU gives 0 for all, in 60 of 100 units",
        "",
        lambda: used(dead_behind(chain, flat, 1, 60)),
        lambda: used(dead_behind(chain, flat, 1, 0)),
    ),
    Fault(
        "dead-units",
        "beta so negative that ReLU gives 0 for all, in 8 of 16 channels",
        "",
        lambda: going_on(dead_behind(conv_chain, images, 7, 8), images),
        lambda: going_on(dead_behind(conv_chain, images, 7, 0), images),
    ),
    Fault(
        "saturated-units",
        "gamma 50 in front of tanh",
        "",
        lambda: going_on(saturated(nn.Tanh, 50, 0)),
        lambda: going_on(saturated(nn.Tanh, 1, 0)),
    ),
    Fault(
        "saturated-units",
        "beta 10 in front of a sigmoid",
        "",
        lambda: used(saturated(nn.Sigmoid, 1, 10)),
        lambda: used(saturated(nn.Sigmoid, 1, 0)),
    ),
    Fault(
        "zero-gamma",
        "gamma starts at 0 in the last norm of a dense chain",
        "",
        lambda: going_on(zero_gamma(chain, flat, 4)),
        zero_gamma_residual,
    ),
    Fault(
        "zero-gamma",
        "gamma starts at 0 in the last norm of a convolutional chain",
        "",
        lambda: going_on(zero_gamma(conv_chain, images, 7), images),
        zero_gamma_residual,
    ),
    Fault(
        "decay-on-norm",
        "SGD with weight decay on every parameter",
        "https://github.com/torch/torch7/issues/846",
        lambda: decay_on_all(chain_going_on(), partial(SGD, lr=0.1, weight_decay=5e-4)),
        chain_going_on,
    ),
    Fault(
        "decay-on-norm",
        "AdamW with its default decay on every parameter",
        "",
        lambda: decay_on_all(conv_going_on(), partial(AdamW, lr=1e-3)),
        lambda: decay_on_all(conv_going_on(), partial(AdamW, lr=1e-3, weight_decay=0.0)),
    ),
    Fault(
        "decay-on-frozen-norm",
        "gamma and beta are frozen, with gradients of 0, and decay all the same",
        "https://github.com/iamwangyabin/S-Prompts/pull/2",
        lambda: frozen_with_zero_grads(1e-2),
        lambda: frozen_with_zero_grads(0.0),
    ),
    Fault(
        "growing-weights",
        "SGD at rate 10",
        "",
        lambda: at_rate(chain, flat, 10.0),
        lambda: at_rate(chain, flat, 0.1),
    ),
    Fault("growing-weights", "Adam at rate 0.3", "", lambda: at_adam_rate(0.3), lambda: at_adam_rate(1e-3)),
    Fault(
        "dead-rate",
        "weights in front of the norms are 1,000 times as large",
        "",
        lambda: going_on(enlarged(trained(chain), 1000)),
        chain_going_on,
    ),
    Fault(
        "dead-rate",
        "filters in front of the norms are 1,000 times as large",
        "",
        lambda: going_on(enlarged(trained(conv_chain, images), 1000, (0, 3, 6)), images),
        conv_going_on,
    ),
    Fault(
        "not-finite",
        "a layer in front of a norm overflows under fp16 autocast",
        "https://github.com/pytorch/pytorch/issues/115500",
        lambda: cast_chain(1e5),
        lambda: cast_chain(1),
    ),
    Fault("not-finite", "float32 weights of some 1e37 in front of a norm", "", overflowing, chain_going_on),
    Fault(
        "eps-below-resolution",
        "a norm of one's own in fp16 with eps 1e-9",
        "",
        lambda: own_half(torch.float16),
        lambda: own_half(torch.float32),
    ),
    Fault(
        "half-statistics",
        "model.half() with the norms, in use",
        "https://github.com/NVIDIA/apex/pull/144",
        lambda: halved(False),
        lambda: halved(True),
    ),
    Fault(
        "half-statistics",
        "model.bfloat16() with the norms, in training",
        "",
        lambda: halved_conv(False),
        lambda: halved_conv(True),
    ),
    Fault(
        "half-range",
        "inputs far from 0 under bf16 autocast",
        "",
        lambda: offset(100.0),
        lambda: offset(0.0),
    ),
    Fault("half-range", "a norm's inputs just below 65,504 in fp16", "", near_the_end_of_half, cast_conv),
    Fault(
        "eps-dominates",
        "inputs of some 1e-4, whose variance is below eps",
        "",
        lambda: tiny(1e-4),
        lambda: tiny(1.0),
    ),
    Fault(
        "eps-dominates",
        "images of some 1e-3, whose variance is below eps",
        "",
        lambda: tiny_images(1e-3),
        lambda: tiny_images(1.0),
    ),
    Fault(
        "mixed-eps",
        "one of two norms converted with Keras's eps",
        "https://github.com/gzuidhof/nn-transfer/pull/3",
        lambda: other_eps(used_chain(), slice(1)),
        used_chain,
    ),
    Fault(
        "mixed-eps",
        "two of five norms converted with Keras's eps",
        "",
        lambda: other_eps(used_residual(), slice(2)),
        used_residual,
    ),
    Fault(
        "deployed-company",
        "exported in train mode",
        "https://github.com/Samsung/ONE/issues/12087",
        lambda: exported(chain, flat, True),
        lambda: exported(chain, flat, False),
    ),
    Fault(
        "deployed-company",
        "a predict function runs a copy in train mode",
        "",
        lambda: predicting(True),
        lambda: predicting(False),
    ),
    Fault("deployed-disagrees", "folded with another eps", "", lambda: folded(eps=1e-3), folded),
    Fault("deployed-disagrees", "folded without beta", "", lambda: folded(without="bias"), folded),
    Fault(
        "deployed-disagrees",
        "folded without the running mean",
        "",
        lambda: folded(without="running_mean"),
        folded,
    ),
)
