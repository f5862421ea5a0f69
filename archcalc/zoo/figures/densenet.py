"""What was published about DenseNets."""

from archcalc.zoo.figures import Figure, keras, torchvision

FIGURES: tuple[Figure, ...] = (
    *keras({"densenet121": "8,062,504"}),
    *torchvision({"densenet121": ("7,978,856", "2.834G")}),
)
