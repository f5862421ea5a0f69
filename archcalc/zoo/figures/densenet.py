"""What was published about DenseNets."""

from archcalc.zoo.figures import Figure, torchvision

FIGURES: tuple[Figure, ...] = torchvision({"densenet121": ("7,978,856", "2.834G")})
