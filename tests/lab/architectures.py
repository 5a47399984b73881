"""Public architectures with batch normalization, small enough to train in a test, and digits to train them on."""

from functools import cache
from importlib import import_module
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.data import SETS, load

CLASSES = 10
MOST = 2976  # images to train on, in whole batches of 32
SMALL, LARGE = (3, 32, 32), (3, 64, 64)


class Spoken(nn.Module):
    """A network that is also told how long each signal is; here all are as long as the batch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, torch.full((len(x),), x.shape[-1]))[0]


class Architecture(NamedTuple):
    """A network of pytorchcv: what of which module makes it, with which arguments, and the shape of one input."""

    name: str
    module: str
    make: str
    kwargs: dict[str, Any]
    shape: tuple[int, ...]

    def build(self) -> nn.Module:
        """The network with the same random weights each time; the shared generator stays as it was."""
        spoken = len(self.shape) == 2
        inputs = {"in_channels": self.shape[0]} if spoken else {"in_size": self.shape[1:]}
        module = import_module(f"pytorchcv.models.{self.module}")  # its model_provider would need torchvision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = getattr(module, self.make)(**self.kwargs, **inputs, num_classes=CLASSES)
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                # The last pooling is as wide as what is left of an image of the published size, and these are smaller.
                if isinstance(child, nn.AvgPool2d) and child.stride == 1 and child.kernel_size not in (1, 2, 3):
                    setattr(parent, name, nn.AdaptiveAvgPool2d(1))
        return Spoken(net) if spoken else net


def _net(
    name: str, made_by: str, shape: tuple[int, ...], channels: Any = None, first: int | None = None, **kwargs: Any
) -> Architecture:
    """An entry, with the widths of the stages and of what is before them where the network is given these."""
    module, make = made_by.split(".")
    widths = {"channels": channels, "init_block_channels": first}
    return Architecture(name, module, make, {k: v for k, v in widths.items() if v is not None} | kwargs, shape)


def _stages(*widths: int, units: int = 1) -> list[list[int]]:
    return [[width] * units for width in widths]


def _growing(width: int, growth: int, *units: int) -> list[list[int]]:
    """The widths of stages in which each unit adds channels to those before it."""
    starts = np.cumsum([0, *units[:-1]])
    return [[width + growth * int(start + i + 1) for i in range(n)] for start, n in zip(starts, units, strict=True)]


ARCHITECTURES = (
    _net("ResNet", "resnet_cifar.CIFARResNet", SMALL, _stages(8, 16, 32, units=2), 8, bottleneck=False),
    _net(
        "ResNet, bottlenecks", "resnet.ResNet", LARGE, _stages(32, 64, 128, 256), 16, bottleneck=True, conv1_stride=True
    ),
    _net("ResNet-D", "resnetd.ResNetD", LARGE, _stages(32, 64, 128, 256), 16, bottleneck=True, conv1_stride=False),
    _net("PreResNet", "preresnet_cifar.CIFARPreResNet", SMALL, _stages(8, 16, 32, units=2), 8, bottleneck=False),
    _net("SE-ResNet", "seresnet_cifar.CIFARSEResNet", SMALL, _stages(16, 32, 64), 16, bottleneck=False),
    _net("SENet", "senet.SENet", SMALL, _stages(64, 128, units=2), 32, cardinality=8, bottleneck_width=16),
    _net("BAM-ResNet", "bamresnet.BamResNet", LARGE, _stages(16, 32, 64, 128), 16, bottleneck=False),
    _net("CBAM-ResNet", "cbamresnet.CbamResNet", LARGE, _stages(16, 32, 64, 128), 16, bottleneck=False),
    _net("DIA-ResNet", "diaresnet_cifar.CIFARDIAResNet", SMALL, _stages(8, 16, 32, units=2), 8, bottleneck=False),
    _net("DenseNet", "densenet_cifar.get_densenet_cifar", SMALL, blocks=22, growth_rate=8, bottleneck=True),
    _net("SparseNet", "sparsenet.SparseNet", LARGE, [[24, 16, 32], [24, 16, 32]], 16, growth_rate=8),
    _net("PeleeNet", "peleenet.PeleeNet", LARGE, _growing(16, 16, 2, 2, 2), 16, bottleneck_sizes=[1, 2, 4]),
    _net("CondenseNet", "condensenet.CondenseNet", SMALL, _growing(16, 8, 2, 3, 3), 16, groups=4),
    _net("VGG", "vgg.VGG", (3, 56, 56), [[8], [8], [16, 16]], bias=True, use_bn=True),
    _net("WRN", "wrn_cifar.CIFARWRN", SMALL, _stages(16, 32, 64, units=2), 8),
    _net("WRN-1bit", "wrn1bit_cifar.CIFARWRN1bit", SMALL, _stages(16, 32, 64, units=2), 16),
    _net("PyramidNet", "pyramidnet_cifar.get_pyramidnet_cifar", SMALL, blocks=20, alpha=24, bottleneck=False),
    _net("ResNeXt", "resnext_cifar.CIFARResNeXt", SMALL, _stages(32, 64, 128), 16, cardinality=4, bottleneck_width=16),
    _net("AirNet", "airnet.AirNet", LARGE, _stages(32, 64, 128), 16, ratio=2),
    _net("BagNet", "bagnet.BagNet", SMALL, _stages(32, 64, 128), 16, final_pool_size=5, normal_kernel_sizes=[1, 1, 1]),
    _net("SKNet", "sknet.SKNet", LARGE, _stages(128, 256), 16),
    _net("SCNet", "scnet.SCNet", LARGE, _stages(32, 64, 128), 16),
    _net("ResNeSt-A", "resnesta.ResNeStA", LARGE, _stages(32, 64, 128), 16, bottleneck=True),
    _net("TResNet", "tresnet.TResNet", LARGE, _stages(16, 32, 128, 256), 16, bottleneck=[False, False, True, True]),
    _net("Oct-ResNet", "octresnet.OctResNet", LARGE, _stages(16, 32, 64, 128), 16, bottleneck=False, conv1_stride=True),
    _net("IBN(a)-ResNet", "ibnresnet.IBNResNet", LARGE, _stages(32, 64, 128), 16),
    _net(
        "ShaResNet", "sharesnet.ShaResNet", LARGE, _stages(16, 32, 64, units=3), 16, bottleneck=True, conv1_stride=True
    ),
    _net(
        "ResAttNet",
        "resattnet.ResAttNet",
        LARGE,
        _stages(32, 64, units=2),
        16,
        attentions=[[0, 1], [0, 0]],
        att_scales=[1, 1, 1],
    ),
    _net(
        "iSQRT-COV-ResNet",
        "isqrtcovresnet.iSQRTCOVResNet",
        LARGE,
        _stages(16, 32, 64),
        16,
        final_block_channels=16,
        bottleneck=False,
        conv1_stride=True,
    ),
    _net("RiR", "rir_cifar.CIFARRiR", SMALL, _stages(8, 16, 32, units=2), 8, final_block_channels=64),
    _net("RoR", "ror_cifar.CIFARRoR", SMALL, _stages(8, 16, 32, units=2), 8),
    _net(
        "ResDrop-ResNet",
        "resdropresnet_cifar.CIFARResDropResNet",
        SMALL,
        _stages(8, 16, 32, units=2),
        8,
        bottleneck=False,
        life_probs=[0.9, 0.8, 0.7, 0.6, 0.5, 0.5],
    ),
    _net(
        "Shake-Shake",
        "shakeshakeresnet_cifar.CIFARShakeShakeResNet",
        SMALL,
        _stages(8, 16, 32, units=2),
        8,
        bottleneck=False,
    ),
    _net(
        "ShakeDrop",
        "shakedropresnet_cifar.CIFARShakeDropResNet",
        SMALL,
        _stages(8, 16, 32, units=2),
        8,
        bottleneck=False,
        life_probs=[0.9, 0.8, 0.7, 0.6, 0.5, 0.5],
    ),
    _net(
        "FractalNet",
        "fractalnet_cifar.CIFARFractalNet",
        SMALL,
        [8, 16, 32, 32, 32],
        num_columns=3,
        dropout_probs=[0.0, 0.1, 0.2, 0.3, 0.4],
        loc_drop_prob=0.15,
        glob_drop_ratio=0.5,
    ),
    _net("RevNet", "revnet.RevNet", SMALL, _stages(16, 32, 64, units=2), 16, bottleneck=False),
    _net("i-RevNet", "irevnet.IRevNet", SMALL, _stages(24, 96, units=2), 12, final_block_channels=192),
    _net("MobileNet", "mobilenet.get_mobilenet", LARGE, width_scale=0.25),
    _net("MobileNet, simplified", "mobilenet.get_mobilenet", LARGE, width_scale=0.25, dws_simplified=True),
    _net("MobileNetV2", "mobilenetv2.get_mobilenetv2", LARGE, width_scale=0.25),
    _net("MobileNetV3", "mobilenetv3.get_mobilenetv3", LARGE, version="small", width_scale=0.35),
    _net("IGCV3", "igcv3.get_igcv3", LARGE, width_scale=0.25),
    _net("MnasNet", "mnasnet.get_mnasnet", LARGE, version="small", width_scale=1.0),
    _net("MixNet", "mixnet.get_mixnet", LARGE, version="s", width_scale=0.5),
    _net("ShuffleNet", "shufflenet.ShuffleNet", LARGE, _stages(48, 96, 192, units=2), 12, groups=3),
    _net(
        "ShuffleNetV2", "shufflenetv2.ShuffleNetV2", LARGE, _stages(32, 64, 128, units=2), 16, final_block_channels=128
    ),
    _net(
        "EfficientNet",
        "efficientnet.EfficientNet",
        LARGE,
        [[8], [16, 16], [24, 24], [32, 32, 40], [48]],
        16,
        final_block_channels=128,
        kernel_sizes=[[3], [3, 3], [5, 5], [3, 3, 5], [5]],
        strides_per_stage=[1, 2, 2, 2, 2],
        expansion_factors=[[1], [6, 6], [6, 6], [6, 6, 6], [6]],
    ),
    _net("GhostNet", "ghostnet.get_ghostnet", LARGE, width_scale=0.5),
    _net("ESPNetv2", "espnetv2.get_espnetv2", LARGE, width_scale=0.5),
    _net("SqueezeNext", "squeezenext.get_squeezenext", LARGE, version="23v5", width_scale=0.5),
    _net(
        "Inception-v3",
        "inceptionv3.InceptionV3",
        (3, 75, 75),
        [[256, 288], [768, 768], [1280, 2048]],
        192,
        b_mid_channels=[128],
    ),
    _net(
        "BN-Inception",
        "bninception.BNInception",
        LARGE,
        [[64], [128, 64], [128, 64]],
        init_block_channels_list=[16, 32],
        mid1_channels_list=[[[16, 16]], [[16, 16], [16, 16]], [[16, 16], [16, 16]]],
        mid2_channels_list=[[[16, 16, 16, 16]], [[0, 32, 32, 0], [16, 16, 16, 16]], [[0, 32, 32, 0], [16, 16, 16, 16]]],
    ),
    _net("Xception", "xception.Xception", LARGE, [[64], [128], [1024]]),
    _net(
        "DarkNet",
        "darknet.DarkNet",
        LARGE,
        [[8], [16], [16, 32, 16, 32], [32, 64, 32, 64, 32]],
        odd_pointwise=True,
        avg_pool_size=14,
        cls_activ=False,
    ),
    _net("DLA", "dla.dla46c", LARGE),
    _net(
        "DPN",
        "dpn.DPN",
        LARGE,
        [[28, 32], [56, 64]],
        10,
        init_block_kernel_size=3,
        init_block_padding=1,
        rs=[16, 32],
        bws=[16, 32],
        incs=[4, 8],
        groups=4,
        b_case=False,
        for_training=True,
        test_time_pool=False,
    ),
    _net(
        "DRN",
        "drn.DRN",
        SMALL,
        [[8], [16], [32, 32], [32]],
        8,
        dilations=[[1], [1], [1, 1], [2]],
        bottlenecks=[[0], [0], [0, 1], [0]],
        simplifieds=[[1], [1], [0, 0], [1]],
        residuals=[[0], [0], [1, 1], [0]],
    ),
    _net("HarDNet", "hardnet.get_hardnet", LARGE, blocks=39),
    _net("HRNet", "hrnet.get_hrnet", LARGE, version="w18s1"),
    _net(
        "RegNet",
        "regnet.get_regnet",
        LARGE,
        channels_init=24,
        channels_slope=36.44,
        channels_mult=2.49,
        depth=6,
        groups=8,
        use_se=True,
    ),
    _net("VoVNet", "vovnet.VoVNet", LARGE, _stages(32, 64, 96), branch_channels=_stages(16, 20, 24), num_branches=5),
    _net(
        "SelecSLS",
        "selecsls.SelecSLS",
        LARGE,
        [[16, 32], [32, 64], [128]],
        skip_channels=[[0, 16], [0, 32]],
        mid_channels=[[16, 16], [32, 32]],
        kernels3=[[1]],
    ),
    _net(
        "ChannelNet",
        "channelnet.ChannelNet",
        LARGE,
        [[[8, 16]], [[32, 32]], [[64, 64], [64, 64]], [[128, 128]]],
        block_names=[
            [["channet_conv3x3", "channet_dws_conv_block"]],
            [["channet_dws_conv_block", "channet_dws_conv_block"]],
            [["channet_dws_conv_block", "simple_group_block"], ["conv_group_block", "conv_group_block"]],
            [["channet_dws_conv_block", "channet_dws_conv_block"]],
        ],
        merge_types=[["cat"], ["cat"], ["add", "add"], ["seq"]],
    ),
    _net(
        "NASNet",
        "nasnet.get_nasnet",
        LARGE,
        repeat=1,
        penultimate_filters=192,
        init_block_channels=8,
        final_pool_size=7,
        extra_padding=True,
        skip_reduction_layer_input=False,
    ),
    _net("PNASNet", "pnasnet.PNASNet", LARGE, [[40, 40], [80, 80], [160, 160]], 8, stem1_blocks_channels=20),
    _net(
        "DARTS",
        "darts.DARTS",
        LARGE,
        [[16, 16], [32, 32], [64, 64]],
        stem_blocks_channels=12,
        normal_genotype=[
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 0),
            ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1),
            ("skip_connect", 0),
            ("skip_connect", 0),
            ("dil_conv_3x3", 2),
        ],
        reduce_genotype=[
            ("max_pool_3x3", 0),
            ("max_pool_3x3", 1),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
            ("max_pool_3x3", 0),
            ("skip_connect", 2),
            ("skip_connect", 2),
            ("max_pool_3x3", 1),
        ],
    ),
    _net(
        "FishNet",
        "fishnet.FishNet",
        LARGE,
        direct_channels=[[[16], [32], [64]], [[64], [48], [32]], [[40], [104], [200]]],
        skip_channels=[[[8], [16], [32], [64, 64]], [[64], [96], [64], []]],
        init_block_channels=8,
    ),
    _net("MSDNet", "msdnet_cifar10.get_msdnet_cifar10", SMALL, blocks=22),
    _net("U-Net", "unet.UNet", SMALL, [[16, 32, 64, 64], [64, 32, 16, 8]], 8),
    _net(
        "SegNet",
        "segnet.SegNet",
        SMALL,
        [[8, 8, 16, 32, 32], [32, 16, 8, 8, 8]],
        layers=[[2, 2, 2, 2, 2], [2, 2, 2, 2, 1]],
    ),
    _net(
        "LEDNet",
        "lednet.LEDNet",
        LARGE,
        [16, 32, 64],
        dilations=[[0, 1], [0, 1], [0, 1, 2, 5]],
        dropout_rates=[0.03, 0.03, 0.3],
        bn_eps=0.001,
    ),
    _net(
        "CGNet",
        "cgnet.CGNet",
        LARGE,
        [19, 35, 64],
        16,
        layers=[0, 2, 2],
        dilations=[0, 2, 4],
        se_reductions=[0, 8, 16],
        cut_x=[1, 1, 0],
        bn_eps=0.001,
    ),
    _net("DABNet", "dabnet.DABNet", LARGE, [19, 35, 67], 16, dilations=[[], [2], [4, 8]], bn_eps=0.001),
    _net(
        "QuartzNet",
        "jasper.Jasper",
        (64, 64),
        [32, 32, 48, 64, 64],
        kernel_sizes=[11, 11, 13, 15, 1],
        bn_eps=0.001,
        dropout_rates=[0.0] * 5,
        repeat=2,
        use_dw=True,
        use_dr=False,
        from_audio=False,
    ),
    _net(
        "Jasper",
        "jasper.Jasper",
        (64, 64),
        [32, 32, 48, 64, 64],
        kernel_sizes=[11, 11, 13, 15, 1],
        bn_eps=0.001,
        dropout_rates=[0.2, 0.2, 0.2, 0.3, 0.4],
        repeat=2,
        use_dw=False,
        use_dr=False,
        from_audio=False,
    ),
)


@cache
def _digits(seed: int) -> tuple[Tensor, Tensor]:
    split = load("mnist", seed)
    x = torch.tensor(split.x_train, dtype=torch.float32).reshape(-1, *SETS["mnist"].shape)
    return x, torch.tensor(split.y_train)


def images(n: int, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Digits of MNIST and their labels, standardized; for a signal, the rows of the image are the channels.

    Of three channels, the second is the image out of focus and the third its steepness.
    """
    x, y = (values[:n] for values in _digits(seed))
    if len(y) < n:
        raise ValueError(f"n is {n}, but there are {len(y)} images")
    x = F.interpolate(x, shape[-2:], mode="bilinear", align_corners=False)
    if len(shape) == 3:
        down, across = torch.gradient(x, dim=(2, 3))
        x = torch.cat([x, F.avg_pool2d(x, 5, 1, 2), (down**2 + across**2).sqrt()], 1)
        x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    else:
        x = ((x - x.mean()) / x.std()).squeeze(1)
    return x, y


def cross_entropy(output: Any, y: Tensor) -> Tensor:
    """Of the first output; a network that has logits at each place answers with their mean."""
    logits = output if isinstance(output, Tensor) else output[0]
    return F.cross_entropy(logits.flatten(2).mean(2) if logits.ndim > 2 else logits, y)


def sgd(model: nn.Module, lr: float = 0.02) -> torch.optim.SGD:
    """With weight decay on weights alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD([{"params": decayed, "weight_decay": 5e-4}, {"params": others}], lr=lr, momentum=0.9)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, shape: tuple[int, ...], steps: int) -> None:
    """Train a network in place, with batches of 32."""
    x, y = images(min(32 * steps, MOST), shape, seed=0)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  # FractalNet draws from it
        for inputs, labels in islice(cycle(zip(x.split(32), y.split(32), strict=True)), steps):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
