"""Who uses the batch, and who should."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bnlib.lab.doctor.look import EVAL, Seen
from bnlib.lab.doctor.report import number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

APART = 1.5  # difference of the modes, beyond noise, in the outputs' spread over examples
FEW = 16  # examples per process


@rule(
    "train-mode-on",
    "wrong",
    "The model is in train mode, and without loss and optimizer it is judged as it is used: each prediction then "
    "depends on the batch, and each batch moves the running statistics.",
    "Call model.eval() before it is used. If it is to be judged as it is trained, pass loss or optimizer.",
    f"{PAGE}checks",
    explains=("left-in-train",),
)
def _train_mode_on(seen: Seen) -> Iterator[Found]:
    using = [norm for norm in seen.norms.values() if norm.was_training]
    if seen.used and seen.was_training and using and seen.switchable:
        counts = [number("norms that use the batch", f"{len(using)} of {len(seen.norms)}", "none in use")]
        yield Found([norm.name for norm in using], counts)


@rule(
    "left-in-train",
    "wrong",
    "The model is in eval mode, but these modules are in train mode.",
    "Call model.eval() once more, last; look for a train() in a hook, a callback or a submodule.",
    f"{PAGE}checks",
    explains=("company",),
)
def _left_in_train(seen: Seen) -> Iterator[Found]:
    if seen.was_training or not seen.switchable:
        return
    names = [norm.name for norm in seen.norms.values() if norm.was_training]
    names += [name for name, training in seen.others.items() if training]
    if names:
        yield Found(names, [number("modules in train mode", str(len(names)), "0")])


@rule(
    "left-in-eval",
    "harmful",
    "The model trains, and so do these norms' gamma and beta; but they are in eval mode, unlike the other norms, and "
    "their running statistics stand still.",
    "Call model.train() before training goes on. To freeze a norm on purpose, freeze its gamma and beta as well.",
    f"{PAGE}frozen",
    explains=("frozen-drifting", "frozen-rate"),
)
def _left_in_eval(seen: Seen) -> Iterator[Found]:
    frozen = [norm for norm in seen.norms.values() if not norm.training]
    if not seen.was_training or seen.used or len(frozen) == len(seen.norms):
        return
    names = [n.name for n in frozen if n.stored and any(p.requires_grad for p in n.module.parameters(recurse=False))]
    if names:
        yield Found(names, [number("norms in eval mode", f"{len(names)} of {len(seen.norms)}", "none, or all")])


@rule(
    "no-running-stats",
    "wrong",
    "These norms store no running statistics (track_running_stats=False): in eval mode, too, they use the batch, and "
    "each prediction depends on its company.",
    "Build them with track_running_stats=True, and estimate the statistics with update_bn.",
    f"{PAGE}checks",
    explains=("company",),
)
def _no_running_stats(seen: Seen) -> Iterator[Found]:
    names = [norm.name for norm in seen.norms.values() if not norm.stored]
    if names:
        change = seen.company.change if seen.company else 0.0
        yield Found(names, [number("change of an output with its company", change, "0, but for rounding")])


@rule(
    "company",
    "wrong",
    "In eval mode an example's output depends on the other examples of its batch, although no batch norm here is in "
    "train mode. {where}",
    "Look there, and just in front, for batch statistics: F.batch_norm(..., training=True), a norm that is built "
    "inside forward, a submodule in a plain list, which eval() does not reach, an export in train mode, or a mean over "
    "axis 0.",
    f"{PAGE}checks",
)
def _company(seen: Seen) -> Iterator[Found]:
    if seen.company:
        names = [seen.company.first] if seen.company.first else []
        found = [number("change of an output with its company", seen.company.change, "0, but for rounding")]
        where = f"It shows first at {names[0]}." if names else "It shows in no single module: look at forward()."
        yield Found(names, found, where=where)


@rule(
    "causal-leak",
    "wrong",
    "In eval mode an output depends on earlier positions alone, in train mode on later ones as well: batch norm's "
    "statistics over positions let the model see what it should predict.",
    "Use a norm of each position by itself, such as layer norm or RMS norm.",
    "16_transformers.html",
)
def _leak(seen: Seen) -> Iterator[Found]:
    if seen.leak is not None:
        names = [norm.name for norm in seen.norms.values() if norm.training and norm.calls.get(EVAL)]
        yield Found(names, [number("change of an output with later positions", seen.leak, "0, but for rounding")])


@rule(
    "modes-apart",
    "wrong",
    "On the same batch the outputs of train and eval mode have hardly anything in common, and the norms' running "
    "statistics do not explain it. {where}",
    "Look there for something that does another thing in eval mode: statistics stored by code of one's own, a root or "
    "a mean that is missing in one branch.",
    f"{PAGE}checks",
)
def _modes_apart(seen: Seen) -> Iterator[Found]:
    if seen.apart is None or seen.apart[0] <= APART:
        return
    whole, first = seen.apart
    found = [number("difference of the modes / spread over examples", whole, f"below {APART:g}")]
    where = f"It begins at {first}." if first else "It begins in no single module: look at forward()."
    yield Found([first] if first else [], found, where=where)


@rule(
    "no-sync",
    "harmful",
    "{processes} processes train together, and each normalizes its own part of the batch.",
    "Convert the model, nn.SyncBatchNorm.convert_sync_batchnorm(model), before it is wrapped, or use larger parts.",
    f"{PAGE}machines",
    explains=("small-batch",),
)
def _no_sync(seen: Seen) -> Iterator[Found]:
    names = [n.name for n in seen.norms.values() if n.training and not isinstance(n.module, torch.nn.SyncBatchNorm)]
    if seen.processes > 1 and seen.examples <= FEW and names:
        found = [number("examples per process", seen.examples, f"more than {FEW}, or SyncBatchNorm")]
        yield Found(names, found, processes=seen.processes)
