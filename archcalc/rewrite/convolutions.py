"""Convolutions in other convolutions' place: separable, stacked, narrowed, grouped; and what that saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from archcalc.analysis import Row, analyze
from archcalc.errors import InputError
from archcalc.graph import Network
from archcalc.layers import Layer
from archcalc.layers.base import ints
from archcalc.layers.conv import Conv2d
from archcalc.nest import ledger
from archcalc.rewrite.changes import CONVOLUTIONS, chain, changed, followers_of, spatial


def depthwise_separable(network: Network, *, layers: str | None = None) -> Network:
    """A k×k depthwise and a 1×1 pointwise convolution instead of each k×k convolution.

    The stride is the depthwise one's; both have a bias if the convolution has (Howard et al. 2017, section 3.1).

    >>> from archcalc import zoo
    >>> net = depthwise_separable(zoo.vgg19(), layers="conv1_1")
    >>> [node.name for node in net][1:4]
    ['conv1_1.depthwise', 'conv1_1.relu1', 'conv1_1.pointwise']
    """
    followers = followers_of(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        channels = row.inputs[0][1]
        if not spatial(layer):
            return ()
        depthwise = replace(layer, out_channels=channels, groups=channels)
        pointwise = type(layer)(layer.out_channels, 1, bias=layer.bias)
        return chain(row, followers(row), (("depthwise", depthwise), ("pointwise", pointwise)))

    return changed(network, "depthwise-separable", change, layers, "a convolution of k×k that is not grouped")


def stacked(network: Network, *, layers: str | None = None) -> Network:
    """A stack of 3×3 convolutions instead of each 5×5, 7×7, 9×9, 11×11, ...

    The stack sees what the large kernel sees, at the same places: (k - 1)/2 convolutions, each as wide as the one
    replaced, of which the last has the stride (Simonyan & Zisserman 2014, section 2.3).

    >>> from archcalc import zoo
    >>> [node.name for node in stacked(zoo.alexnet(), layers="conv2")][5:8]
    ['conv2.1', 'conv2.relu1', 'conv2.2']
    """
    followers = followers_of(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not isinstance(layer, CONVOLUTIONS):
            return ()
        sizes = set(ints(layer.kernel_size))
        (size,) = sizes if len(sizes) == 1 else (0,)
        if size < 5 or size % 2 == 0:
            return ()
        count = size // 2
        parts = [
            (
                str(i + 1),
                replace(
                    layer,
                    kernel_size=3,
                    stride=layer.stride if i == count - 1 else 1,
                    padding=_share(layer.padding, i, count),
                ),
            )
            for i in range(count)
        ]
        return chain(row, followers(row), parts)

    return changed(network, "stacked", change, layers, "a convolution of 5×5 or an odd larger size")


def bottleneck(network: Network, ratio: int = 4, *, layers: str | None = None) -> Network:
    """1×1 convolutions around each k×k convolution, which then has 1/RATIO of its channels (4 by default).

    One narrows before it, one widens after it (He et al. 2015, section 4.1 and figure 5).
    """
    _at_least_1("ratio", ratio)
    followers = followers_of(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not spatial(layer):
            return ()
        narrow = max(layer.out_channels // ratio, 1)
        if narrow >= row.inputs[0][1]:
            return ()
        reduce = type(layer)(narrow, 1, bias=layer.bias)
        expand = type(layer)(layer.out_channels, 1, bias=layer.bias)
        parts = (("reduce", reduce), ("conv", replace(layer, out_channels=narrow)), ("expand", expand))
        return chain(row, followers(row), parts)

    what = f"a convolution of k×k on more channels than 1/{ratio} of its own"
    return changed(network, f"bottleneck={ratio}", change, layers, what)


def groups(network: Network, groups: int, *, layers: str | None = None) -> Network:
    """Each k×k convolution in GROUPS groups that do not see each other, where they divide its channels."""
    _at_least_1("groups", groups)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not spatial(layer) or layer.out_channels % groups or row.inputs[0][1] % groups or groups == 1:
            return ()
        return ((row.name, replace(layer, groups=groups)),)

    what = f"an ungrouped convolution of k×k whose channels {groups} divides"
    return changed(network, f"groups={groups}", change, layers, what)


def macs_ratio(rewrite: Callable[[Network], Network], kernel: int | str = "k") -> Any:
    """Closed form of MACs after to MACs before for one convolution of C to K channels: a SymPy expression.

    The convolution is rewritten with sizes that are different primes; then the loops of the real nests are lettered.
    A kernel size that the rewrite asks for is a number. Raises MissingPackageError without SymPy.

    >>> macs_ratio(depthwise_separable)
    k**(-2) + 1/K
    >>> macs_ratio(stacked, 5)
    9/25 + 9*K/(25*C)
    """
    from archcalc.symbols import symbol

    taps = 3 if isinstance(kernel, str) else kernel
    letters = {17: symbol("C"), 19: symbol("K"), 23: symbol("P"), 29: symbol("Q")}
    if isinstance(kernel, str):
        letters[taps] = symbol(kernel)
    one = Network.sequential("one", (1, 17, 23, 29), [Conv2d(19, taps, padding=taps // 2)])

    def macs(network: Network) -> Any:
        nests = [nest for row in analyze(network) for nest in row.nests]
        lettered = [
            nest._replace(loops={loop: letters.get(size, size) for loop, size in nest.loops.items()}) for nest in nests
        ]
        return ledger(tuple(lettered))["mac"]

    return (macs(rewrite(one)) / macs(one)).expand()


def _share(padding: Any, index: int, count: int) -> Any:
    """What a convolution of a stack pads of the padding of all of them."""
    if isinstance(padding, str):
        return padding
    return tuple(one // count + (index < one % count) for one in padding)


def _at_least_1(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")
