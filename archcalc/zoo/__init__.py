"""The zoo: published networks as ordinary specs, one file a family; their choices are keyword arguments."""

from archcalc.zoo.alexnet import alexnet, alexnet_torchvision
from archcalc.zoo.inception import inception_naive, inception_reduced
from archcalc.zoo.registry import ENTRIES, Entry, entry, find
from archcalc.zoo.resnet import plain18, plain34, resnet18, resnet34, resnet50, resnet101, resnet152
from archcalc.zoo.vgg import vgg11, vgg13, vgg16, vgg16c, vgg19

__all__ = [
    "ENTRIES",
    "Entry",
    "alexnet",
    "alexnet_torchvision",
    "entry",
    "find",
    "inception_naive",
    "inception_reduced",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg16c",
    "vgg19",
]
