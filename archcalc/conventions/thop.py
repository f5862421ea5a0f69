"""thop, which looks the exact class of every module that runs up in a table."""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, layer_of, module, modules, run_by, tied, ways
from archcalc.conventions.unbatched import axes, unbatched
from archcalc.extents import Extent, prod
from archcalc.layers import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from archcalc.layers.base import ints

_RANKS = (1, 2, 3)
_CONVOLUTIONS = {f"torch.nn.Conv{rank}d" for rank in _RANKS} | {f"torch.nn.ConvTranspose{rank}d" for rank in _RANKS}
_NORMS = {
    "torch.nn.LayerNorm",
    *(f"torch.nn.{batch}Norm{rank}d" for batch in ("Batch", "Instance") for rank in _RANKS),
    "torch.nn.SyncBatchNorm",
}
_CELLS = {f"torch.nn.{name}Cell" for name in ("RNN", "GRU", "LSTM")}
_SEQUENCES = {f"torch.nn.{name}" for name in ("RNN", "GRU", "LSTM")}
_PRODUCTS = {"torch.nn.Linear", *_CONVOLUTIONS, *_CELLS, *_SEQUENCES}
_KNOWN = {*_PRODUCTS, *_NORMS, "torch.nn.PReLU"}
"""Classes in the table that have multiply-adds or parameters."""


def _not_seen(row: Row) -> Extent:
    return 0 if (module(row) or run_by(row)) in _PRODUCTS or unbatched(row) else -row.macs


def _transposed(row: Row) -> Extent:
    layer = layer_of(row)
    if not (module(row) or run_by(row)).startswith("torch.nn.ConvTranspose"):
        return 0
    assert isinstance(layer, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d)
    return prod(row.output) * (row.inputs[0][1] // layer.groups) * prod(ints(layer.kernel_size)) - row.macs


def _called(row: Row) -> str:
    """The class of the module that a row is a call of, also where its image has no batch axis."""
    alone = unbatched(row)
    return alone.module if alone else module(row)


def _size_for_channels(row: Row) -> Extent:
    """What an image without a batch counts beyond its multiply-adds: the second axis is taken for the channels."""
    alone = unbatched(row)
    if not alone or not row.macs:
        return 0
    layer = layer_of(row)
    taps = prod(ints(getattr(layer, "kernel_size", ())))
    return prod(alone.output) * (alone.given[1] // getattr(layer, "groups", 1)) * taps - row.macs


def _features_for_cells(row: Row) -> Extent:
    """What a cell's single step counts too much: its features are taken for a batch."""
    if module(row) not in _CELLS or len(row.inputs[0]) != 1:
        return 0
    return (row.inputs[0][0] - 1) * (row.macs + _recurrent(row))


def _norm(row: Row) -> Extent:
    if _called(row) not in _NORMS:
        return 0
    if unbatched(row):  # its scale and shift are inputs of the operation
        return (4 if len(row.inputs) > 1 else 2) * prod(row.output)
    layer = layer_of(row)
    affine = getattr(layer, "affine", False) or getattr(layer, "elementwise_affine", False)
    return (4 if affine else 2) * prod(row.output)


def _average(row: Row) -> Extent:
    return prod(row.output) if _called(row) in {f"torch.nn.AvgPool{rank}d" for rank in _RANKS} else 0


def _adaptive(row: Row) -> Extent:
    if _called(row) not in {f"torch.nn.AdaptiveAvgPool{rank}d" for rank in _RANKS}:
        return 0
    given, output = axes(row)
    return prod((*output[:2], *given[2:])) + prod(output)


def _cut(row: Row) -> Extent:
    """What is lost where a size that is no whole number is multiplied in floating point, and cut off."""
    exact = _adaptive(row)
    if not exact or not isinstance(exact, int):
        return 0
    window = 1.0
    for before, after in zip(*(shape[2:] for shape in axes(row)), strict=True):
        window *= before / after
    return int((window + 1) * prod(row.output)) - exact


def _softmax(row: Row) -> Extent:
    if module(row) != "torch.nn.Softmax":
        return 0
    whole = prod(row.output)
    return 3 * whole - whole // row.output[getattr(layer_of(row), "dim", 0) or 0]


def _prelu(row: Row) -> Extent:
    return prod(row.output) if module(row) == "torch.nn.PReLU" else 0


def _upsampling(row: Row) -> Extent:
    fixed = {"torch.nn.UpsamplingNearest2d": "nearest", "torch.nn.UpsamplingBilinear2d": "bilinear"}
    mode = getattr(layer_of(row), "mode", "") if module(row) == "torch.nn.Upsample" else fixed.get(module(row), "")
    return {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}.get(mode, 0) * prod(row.output)


def _recurrent(row: Row) -> Extent:
    """Additions, biases and products of gates; the width of layers after the first, and no projection, as it has it."""
    name = module(row)
    if name not in _CELLS | _SEQUENCES:
        return 0
    layer = layer_of(row)
    hidden, bias = getattr(layer, "hidden_size", 0), getattr(layer, "bias", True)
    width, steps = row.inputs[0][-1], prod(row.inputs[0][:-1])
    gates, finish = {"RNN": (1, 0), "GRU": (3, 4), "LSTM": (4, 4)}[name.removeprefix("torch.nn.").removesuffix("Cell")]
    directions = 2 if getattr(layer, "bidirectional", False) else 1
    total: Extent = 0
    for _ in range(getattr(layer, "num_layers", 1)):
        each = (width + hidden) * hidden + hidden + (2 * hidden if bias else 0)
        total += directions * (gates * each + finish * hidden)
        width = directions * hidden
    return total * steps - row.macs


def _features_for_steps(row: Row) -> Extent:
    """What a sequence without a batch counts too much: its features are taken for steps."""
    if module(row) not in _SEQUENCES or len(row.inputs[0]) != 2:
        return 0
    return (row.inputs[0][1] - 1) * (row.macs + _recurrent(row))


def _known(row: Row) -> bool:
    origin = row.node.origin
    ran = modules(row)[-1] if origin and origin.calls else module(row)  # a parameter's module may have run
    return ran in _KNOWN and not (origin and len(origin.modules) == 1)


def _other_params(row: Row) -> Extent:
    return 0 if _known(row) else -row.params


def _tied(row: Row) -> Extent:
    return tied(row) if _known(row) else 0


def _params_again(row: Row) -> Extent:
    return (ways(row) - 1) * (row.params + tied(row)) if _known(row) else 0


def _again(row: Row) -> Extent:
    """A hook for each parent adds to the module's sum, and each parent takes the sum."""
    more = ways(row) ** 2 - 1
    return more * sum((cause.amount(row) for cause in _CAUSES), start=row.macs) if more else 0


_CAUSES = (
    Cause(
        "normalisation, by element",
        _norm,
        "Batch, layer and instance normalisation cost 4 for each element, 2 without scale and shift.",
    ),
    Cause(
        "adaptive pooling, window + 1 an output element",
        _adaptive,
        "Each output of adaptive average pooling costs an addition for each input of its window and a division.",
    ),
    Cause(
        "adaptive pooling, cut off",
        _cut,
        "Where the windows' average size is no whole number, it is multiplied in floating point and cut off.",
        defect=True,
    ),
    Cause(
        "average pooling, 1 an output element",
        _average,
        "Each output of average pooling costs one operation, whatever the size of the window.",
    ),
    Cause(
        "softmax, 3 an element less 1 a sum",
        _softmax,
        "Of n numbers, softmax takes n exponentials, n - 1 additions and n divisions.",
    ),
    Cause("PReLU, 1 an element", _prelu, "Each element costs one operation."),
    Cause(
        "upsampling, by output element",
        _upsampling,
        "Each output costs 1 (nearest), 5 (linear), 11 (bilinear) or 259 (bicubic).",
    ),
    Cause(
        "gates of recurrent layers",
        _recurrent,
        "Additions, biases and the products of gates are counted beside the multiply-adds of matrices.",
    ),
    Cause(
        "features of a sequence taken for its batch",
        _features_for_steps,
        "Steps and batch are read off the first two axes; without a batch the second has the features.",
        defect=True,
    ),
    Cause(
        "features of a single step taken for its batch",
        _features_for_cells,
        "A cell's batch is read off the first axis; without a batch that has the features.",
        defect=True,
    ),
    Cause(
        "image without a batch, its size taken for channels",
        _size_for_channels,
        "A convolution's channels are read off the second axis; without a batch that is the height, or the length.",
        defect=True,
    ),
    Cause(
        "transposed convolution counted on the output grid",
        _transposed,
        "A transposed convolution multiplies every input, not every output, with its kernel.",
        defect=True,
    ),
    Cause(
        "functional call or class not seen",
        _not_seen,
        "Only modules of exactly the classes in its table are counted: not what a function of PyTorch computes, "
        "nor attention, nor a subclass of a class in the table.",
        defect=True,
    ),
)

CONVENTIONS = (
    Convention(
        "thop",
        "MACs (thop)",
        "multiply-adds of the classes it knows, and operations of some other layers",
        "thop.vision.basic_hooks, thop.rnn_hooks, 0.1.1.post2209072238",
        causes=(
            *_CAUSES,
            Cause(
                "a module with several parents counted again",
                _again,
                "Each parent of a module adds a hook that counts every call, and each takes the sum of all hooks.",
                defect=True,
            ),
        ),
        params="those of modules of the classes it knows, when they run",
        param_causes=(
            Cause(
                "parameters of other modules not seen",
                _other_params,
                "Only modules of exactly the classes in its table are asked for parameters, if they run and are not "
                "the whole network: not a parameter that a module holds itself, nor a layer that does not run.",
                defect=True,
            ),
            Cause(
                "tied parameters counted again",
                _tied,
                "A parameter that two modules share is counted in each of them.",
                defect=True,
            ),
            Cause(
                "a module with several parents counted again",
                _params_again,
                "Each parent of a module counts its parameters.",
                defect=True,
            ),
        ),
    ),
)
