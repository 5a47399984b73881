"""On public architectures the doctor is silent, or says that it is too early to tell.

``make trust`` examines all of them, trained until it is no longer too early; without, the quick ones are trained less.
"""

import os

import pytest
from architectures import ARCHITECTURES, Architecture, cross_entropy, images, sgd, train

from bnlib.lab.doctor import examine
from bnlib.lab.doctor.rules.statistics import EARLY

ALL = os.environ.get("TRUST") == "all"
STEPS = EARLY + 20 if ALL else 30
# What it rightly finds: biases in front of batch norms, and in i-RevNet one momentum of 0.9.
BIASED = [
    "BAM-ResNet", "BN-Inception", "FishNet", "HRNet", "LEDNet", "ResNeSt-A", "SegNet", "SqueezeNext", "U-Net", "VGG",
]  # fmt: skip
RIGHTLY = {name: {"bias-before-norm"} for name in BIASED} | {"i-RevNet": {"momentum-near-1"}}
# What it may find, and rightly: norms behind dropout, or behind blocks left out at random; and at the start some
# first layers whose weights multiply within five steps at this rate.
NOISY = ["FractalNet", "Jasper", "ResDrop-ResNet", "ShakeDrop", "Shake-Shake"]
STEEP = ["GhostNet", "MobileNet", "MobileNet, simplified"]
MAY = {name: {"dropout-before-norm"} for name in NOISY} | {name: {"growing-weights"} for name in STEEP}
QUICK = [
    "AirNet", "BAM-ResNet", "BN-Inception", "BagNet", "CBAM-ResNet", "CGNet", "CondenseNet", "DIA-ResNet", "DPN", "DRN",
    "IBN(a)-ResNet", "Jasper", "MobileNet", "MobileNet, simplified", "MobileNetV2", "Oct-ResNet", "PeleeNet",
    "PreResNet", "QuartzNet", "RegNet (SE)", "ResAttNet", "ResDrop-ResNet", "ResNet", "ResNet, bottlenecks", "RoR",
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
    if ALL:
        reports.append(examine(model, batches, optimizer=optimizer, loss=cross_entropy))
    reports.append(examine(model.eval(), batches))
    for report in reports:
        found = {finding.rule for finding in report.findings} - MAY.get(architecture.name, set())
        assert found == RIGHTLY.get(architecture.name, set()), report
