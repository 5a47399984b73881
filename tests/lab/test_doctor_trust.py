"""On public architectures the doctor is silent, or says that it is too early to tell.

``make trust`` examines all of them, trained until it is no longer too early; without, the quick ones are trained less.
"""

import os
from pathlib import Path

import pytest
from architectures import ARCHITECTURES, Architecture, cross_entropy, images, sgd, train

from bnlib.lab.doctor import examine
from bnlib.lab.doctor.rules.statistics import EARLY

ALL = os.environ.get("TRUST") == "all"
STEPS = EARLY + 20 if ALL else 10
# What it rightly finds: biases in front of batch norms, and in i-RevNet one momentum of 0.9.
BIASED = [
    "BAM-ResNet", "BN-Inception", "FishNet", "HRNet", "LEDNet", "ResNeSt-A", "SegNet", "SqueezeNext", "U-Net", "VGG",
]  # fmt: skip
RIGHTLY = {name: {"bias-before-norm"} for name in BIASED} | {"i-RevNet": {"momentum-near-1"}}
# What it may find, and rightly: norms behind dropout, or behind blocks left out at random; and at the start some
# first layers whose weights multiply within five steps at this rate.
NOISY = ["FractalNet", "Jasper", "LEDNet", "ResDrop-ResNet", "ShakeDrop", "Shake-Shake"]
STEEP = ["GhostNet", "MobileNet", "MobileNet, simplified", "SqueezeNext"]
MAY = {name: {"dropout-before-norm"} for name in NOISY} | {name: {"growing-weights"} for name in STEEP}
MAY["RevNet"] = {"updated-twice"}  # its blocks run again for the gradient, as with checkpointing
QUICK = [
    "AirNet", "BAM-ResNet", "BN-Inception", "BagNet", "CBAM-ResNet", "CGNet", "CondenseNet", "DIA-ResNet", "DPN", "DRN",
    "IBN(a)-ResNet", "Jasper", "MobileNet", "MobileNet, simplified", "MobileNetV2", "Oct-ResNet", "PeleeNet",
    "PreResNet", "QuartzNet", "RegNet", "ResAttNet", "ResDrop-ResNet", "ResNet", "ResNet, bottlenecks", "RoR",
    "SE-ResNet", "SENet", "SegNet", "ShaResNet", "ShakeDrop", "ShuffleNet", "ShuffleNetV2", "SparseNet", "TResNet",
    "U-Net", "i-RevNet",
]  # fmt: skip
EXAMINED = [a for a in ARCHITECTURES if ALL or a.name in QUICK]


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated:DeprecationWarning")  # RevNet's own
@pytest.mark.parametrize("architecture", EXAMINED, ids=lambda a: a.name)
def test_it_is_silent_on_a_public_architecture(architecture: Architecture):
    model = architecture.build()
    optimizer = sgd(model)
    x, y = images(4 * 16, architecture.shape, seed=0)
    batches = list(zip(x.split(16), y.split(16), strict=True))
    reports = [examine(model, batches, optimizer=optimizer, loss=cross_entropy)]
    train(model, optimizer, architecture.shape, STEPS)
    reports.append(examine(model, batches, optimizer=optimizer, loss=cross_entropy))
    if ALL:  # before, a model in use would still hold the start of its averages
        reports.append(examine(model.eval(), batches))
    for report in reports:
        found = {finding.rule for finding in report.findings} - MAY.get(architecture.name, set())
        assert found == RIGHTLY.get(architecture.name, set()), report


def test_the_page_counts_what_is_true_of_them():
    page = (Path(__file__).parents[2] / "chapters/practice.md").read_text("utf-8")
    assert set(QUICK) <= {a.name for a in ARCHITECTURES}
    biased, noisy, steep = (len(set(names) & set(QUICK)) for names in (BIASED, NOISY, STEEP))
    rest = len(QUICK) - biased - noisy - steep - 1
    assert {"i-RevNet"} == set(RIGHTLY) - set(BIASED)
    for part in (
        f"On {rest} of {len(QUICK)} it finds nothing",
        f"{biased} have biases in front of batch norms, 1 a momentum of 0.9, and {noisy} dropout",
        f"in {steep} the weights of first layers",
    ):
        assert part in page
