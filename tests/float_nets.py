"""Float networks in plain torch.nn, as people write them, for tests of ``convert``."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def vgg(norm: bool = True) -> nn.Sequential:
    """A VGG-like chain, nested, on (N, 1, 16, 16)."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        norms = [nn.BatchNorm2d(outputs)] if norm else []
        return [nn.Conv2d(inputs, outputs, 3, padding=1), *norms, nn.ReLU(inplace=True)]

    features = [*block(1, 8), nn.MaxPool2d(2), *block(8, 16), *block(16, 16), nn.MaxPool2d(2)]
    head = [nn.Linear(256, 32), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(32, 10)]
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*features),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(*head),
        )
    )


class Block(nn.Module):
    """torchvision's BasicBlock: one nn.ReLU called twice, and ``+=``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class FunctionalBlock(Block):
    """The same block with F.relu."""

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out)


class ResNet(nn.Module):
    """A ResNet-like net on (N, 1, 16, 16); the head is registered before the stem."""

    def __init__(self, block: type[Block] = Block) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 10)
        self.layer2 = nn.Sequential(block(8, 16, 2), block(16, 16))
        self.layer1 = nn.Sequential(block(8, 8), block(8, 8))
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class MobileNet(nn.Module):
    """Depthwise separable convolutions with ReLU6 and inverted residuals, on (N, 3, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
            layer = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False)
            return [layer, nn.BatchNorm2d(outputs)]

        self.stem = nn.Sequential(*conv(3, 8, 3), nn.ReLU6())
        self.expand = nn.Sequential(*conv(8, 24, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(*conv(24, 24, 3, 24), nn.ReLU6())
        self.project = nn.Sequential(*conv(24, 8, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x)))
        return self.head(self.pool(x))


class Lenet(nn.Module):
    """The functional style of the PyTorch tutorials, without batch norm, on (N, 1, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(24, 10)
        self.fc1 = nn.Linear(256, 24)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        x = F.dropout(self.fc1(x).relu(), 0.5, training=self.training)
        return self.fc2(x)


class TwoHeads(nn.Module):
    """A trunk and two heads; one has a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.hidden = nn.Linear(16, 8)
        self.one = nn.Linear(8, 3)
        self.two = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.trunk(x)
        return {"one": self.one(F.relu(self.hidden(x))), "two": self.two(x)}


def mlp() -> nn.Sequential:
    """A perceptron without any norm, on (N, 12)."""
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 4),
    )  # fmt: skip
