"""Layer kinds, one file a family. Adding a kind is adding one class."""

from archcalc.layers.activation import Dropout, ReLU, Softmax
from archcalc.layers.base import KINDS, Layer
from archcalc.layers.conv import Conv2d, Linear
from archcalc.layers.norm import BatchNorm2d, LocalResponseNorm
from archcalc.layers.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from archcalc.layers.shape import Add, Concat, Flatten, Input, PadChannels, Subsample

__all__ = [
    "KINDS",
    "AdaptiveAvgPool2d",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Input",
    "Layer",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "PadChannels",
    "ReLU",
    "Softmax",
    "Subsample",
]
