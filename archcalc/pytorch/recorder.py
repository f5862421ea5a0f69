"""Recorder: writes a network's nodes down while a module runs, its layers one each, other operations one by one."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from archcalc import units
from archcalc.errors import ShapeError
from archcalc.extents import Shape
from archcalc.graph import Held, Network, Node, Origin
from archcalc.layers import Input, Layer
from archcalc.layers.operation import Constant, Parameter, Recorded, Uncounted, Unused
from archcalc.nest import Role
from archcalc.pytorch import modules, operations
from archcalc.pytorch.observe import role_of, tensors
from archcalc.pytorch.origins import (
    ATTENTION,
    autograd_functions,
    base_of,
    classes_of,
    function_name,
    how_called,
    keeper_of,
    order_of,
    parents_beside,
    ways_to,
)
from archcalc.pytorch.shadow import held_tensors

SILENT = {"detach", "alias", "lift_fresh", "detach_copy"}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes nodes down as modules and operations run; knows which node every tensor came from."""

    def __init__(self, module: nn.Module, name: str, dtype: torch.dtype):
        super().__init__()  # type: ignore[no-untyped-call]
        self.module, self.name, self.dtype = module, name, dtype
        self.nodes: list[Node] = []
        self.sources: dict[int, tuple[Tensor, str]] = {}
        self.pending: dict[int, tuple[Tensor, str, Layer, str, str]] = {}
        self.taken: Counter[str] = Counter()
        self.stack: list[tuple[str, nn.Module, tuple[tuple[int, ...], ...]]] = []
        self.layer: nn.Module | None = None
        self.expected: tuple[list[Tensor], Shape] = ([], ())
        self.functions: tuple[str, ...] = ()
        self.called = "name"
        self.weighs, self.worded, self.dropout = True, False, 0.0
        self.call = self.seen = 0
        self.ways = ways_to(module)
        self.classes = classes_of(module)
        self.keepers = autograd_functions()
        self.raised: tuple[BaseException | None, Any] = (None, None)
        self.paths = {id(part): path for path, part in reversed(list(module.named_modules(remove_duplicate=False)))}
        self.layers = {id(part): modules.layer_of(part) for part in module.modules()}
        self.own = [(path, part, _own(part)) for path, part in module.named_modules()]
        self.tensors = {id(tensor): path for path, tensor in _tensors(module)}
        self.counted: dict[int, str] = {}
        self.ran: set[int] = set()
        self.calls: dict[str, list[tuple[int, ...]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.layer is not None:
            with torch._C.DisableTorchFunction():  # of the functions that a meta kernel calls nothing is asked
                return func(*args, **kwargs)
        inputs = tuple(held_tensors((args, kwargs)))
        given = tuple([tuple(x.shape) for x in inputs])
        with torch._C.DisableTorchFunction():
            result = func(*args, **kwargs)
        self._operation(func, args, kwargs, inputs, given, result)
        return result

    def enter(self, arguments: Any, kwargs: dict[str, Any]) -> None:
        """Write an input node for every tensor among the arguments."""
        positional = [x for x in tree_flatten(arguments)[0] if isinstance(x, Tensor)]
        for i, x in enumerate(positional):
            self._add("input" if len(positional) == 1 else f"input{i + 1}", Input(tuple(x.shape)), (), x)
        for key, value in kwargs.items():
            for x in tree_flatten(value)[0]:
                if isinstance(x, Tensor):
                    self._add(key, Input(tuple(x.shape)), (), x)

    def before(self, part: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called."""
        given = tuple(tuple(x.shape) for x in held_tensors((args, kwargs)))
        self.stack.append((self.paths[id(part)], part, given))
        self.ran.add(id(part))
        if self.layer is None and self._is_layer(part, args, kwargs):
            self.layer = part

    def _is_layer(self, part: nn.Module, args: Any, kwargs: Any) -> bool:
        """Whether this call is what the module's layer states; otherwise the operations in it are written down."""
        layer = self.layers[id(part)]
        if layer is None or not modules.plain(part, args, kwargs):
            return False
        if torch._C._functorch.peek_interpreter_stack() is not None:  # vmap and the like: shapes lack an axis
            return False
        if any(one is not None and id(one) not in self.tensors for one in part._parameters.values()):
            return False  # functional_call has put others in their place
        inputs = list(held_tensors((args, kwargs)))
        if layer.inputs is not None and layer.inputs >= 0:
            inputs = inputs[: layer.inputs]
        try:
            self.expected = inputs, layer.output(*[tuple(x.shape) for x in inputs]) if inputs else ()
        except ShapeError:
            return False
        return bool(inputs)

    def after(self, part: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """A module has returned, or raised."""
        if not self.stack or self.stack[-1][1] is not part:
            return
        entry = self.stack.pop()
        error = sys.exc_info()[1] if result is None else None
        if error is not None:
            self.layer = None if self.layer is part else self.layer
            self.raised = self.raised if self.raised[0] is error else (error, entry)
            return
        if self.layer is not part:
            if self.layer is None and not any(True for _ in part.children()):
                first = next(held_tensors(result), None)
                self.calls.setdefault(entry[0], []).append(() if first is None else tuple(first.shape))
            return
        self.layer = None
        layer = self.layers[id(part)]
        assert layer is not None
        inputs, expected = self.expected
        outputs = list(held_tensors(result))
        sources = tuple(self._source(x) for x in inputs)
        path = self.paths[id(part)]
        given = tuple(tuple(x.shape) for x in inputs)
        agrees = expected == tuple(outputs[0].shape)
        if not agrees:  # its parameters stay, as rows of their own
            own = [one for _, one in _own(part)]
            sources += tuple(self._source(one) for one in own)
            given += tuple(tuple(one.shape) for one in own)
            layer = Uncounted(type(part).__name__, given, tuple(outputs[0].shape))
        held = self._held(part, path) if agrees else ()
        origin = Origin(
            self.classes[path],
            contiguous=all(x.is_contiguous() for x in inputs[:1]),
            one_size=isinstance(getattr(part, "kernel_size", None), int),
            ways=self.ways[id(part)],
            worded=isinstance(getattr(part, "padding", None), str),
        )
        name = self._add(path or type(part).__name__.lower(), layer, sources, outputs[0], path, held, origin=origin)
        for x in outputs[1:]:
            self._also(f"{name}.output", "output", x, outputs[0], name, path)

    def failure(self, error: BaseException) -> str:
        """Where the module failed, what it had received, and why."""
        inputs = tuple(node.layer.output() for node in self.nodes if isinstance(node.layer, Input))
        last = self.stack[-1] if self.stack else ("", self.module, inputs)
        path, part, given = self.raised[1] if self.raised[0] is error else last
        received = " and ".join(map(units.shape, given)) or "no tensor"
        weight = getattr(part, "weight", None)
        held = f" (its weight is {units.shape(weight.shape)})" if isinstance(weight, Tensor) else ""
        bare = isinstance(error, KeyError | SystemExit)  # whose text is a key or a number alone
        said = f"{type(error).__name__}: {error}" if bare else str(error)
        reason = shorten(said, 600, placeholder=" …") or type(error).__name__
        where = f"{self.name}: {path} ({type(part).__name__})" if path else f"{self.name} ({type(part).__name__})"
        return f"{where} received {received}{held} and failed: {reason}"

    def network(self, result: Any) -> Network:
        """The network as recorded, with a row for what holds parameters but did not run."""
        outputs = [self._source(x) for x in tensors(result)]
        for path, part, own in self.own:
            left = [(key, _role(key, tensor), tensor) for key, tensor in own if id(tensor) not in self.counted]
            if left:
                those = tuple((key, role, tuple(tensor.shape)) for key, role, tensor in left)
                held = tuple(self._tensor(key, tensor) for key, _, tensor in left)
                name = self._add(path or self.name, Unused(type(part).__name__, those), (), None, path, held)
                self.counted |= {id(tensor): name for _, _, tensor in left}
        nodes = tuple(map(self._completed, self.nodes))
        return Network(self.name, nodes, tuple(dict.fromkeys(outputs)), _named(self.dtype))

    def _completed(self, node: Node) -> Node:
        """The node, with what is known of its module when all has run."""
        if node.origin is None:
            return node
        if isinstance(node.layer, Parameter | Unused):
            path = ".".join(node.blocks) if isinstance(node.layer, Parameter) else node.name
            base = base_of(self.module.get_submodule(path)) if path in self.calls else ""
            return replace(node, origin=replace(node.origin, calls=tuple(self.calls.get(path, ())), base=base))
        if node.origin.ways == 1 or node.origin.functions:
            return node
        part = self.module.get_submodule(node.name.partition(":")[0])
        return replace(node, origin=replace(node.origin, parents=parents_beside(self.module, part, self.ran)))

    def _operation(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        inputs: tuple[Tensor, ...],
        given: tuple[tuple[int, ...], ...],
        result: Any,
    ) -> None:
        namespace, _, qualified = func.name().partition("::")
        name = qualified.partition(".")[0]
        outputs = list(held_tensors(result))
        if not outputs:
            return
        if name in SILENT:
            self.sources[id(outputs[0])] = (outputs[0], self._source(inputs[0]))
            return
        inplace = name.endswith("_") and not name.endswith("__")
        name = (name[:-1] if inplace else name) if namespace == "aten" else f"{namespace}::{name}"
        sources = tuple(self._source(x) for x in inputs)
        path = self.stack[-1][0] if self.stack else ""
        label = f"{path}.{name.strip('_')}" if path else name.strip("_")
        calls = [operations.Call(name, inplace, tuple(args), kwargs, inputs, given, x) for x in outputs]
        functions = self._functions(name, inputs)
        part = self.stack[-1][1] if self.stack else self.module
        origin = Origin(
            self.classes[path],
            functions,
            self.called,
            one_size=isinstance(getattr(part, "kernel_size", None), int),
            ways=self.ways[id(part)],
            worded=self.worded,
            call=self.call,
        )
        if "attention" in functions[0]:
            origin = replace(origin, order=order_of(outputs[0]), dropout=self.dropout)
        node = self._add(label, self._checked(calls[0]), sources, outputs[0], path, origin=origin)
        if inplace and inputs and inputs[0]._base is not None:
            self._written(inputs[0], node, path)
        for call in calls[1:]:
            if name in operations.PARTS:
                self._add(label, self._checked(call), sources, call.output, path, origin=origin)
            else:
                self._also(label, name, call.output, outputs[0], node, path)

    def _functions(self, op: str, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
        """The functions that run an operation: those seen, and those that multi_head_attention_forward calls itself."""
        if self.functions != (ATTENTION,):
            return self.functions or (op,)
        weighted = any(x._base is not None and id(x._base) in self.tensors for x in inputs)
        if op in ("mm", "addmm") or (op == "bmm" and weighted):
            return ATTENTION, "functional.linear"
        if op in ("bmm", "baddbmm"):
            return ATTENTION, op if self.weighs else "functional.scaled_dot_product_attention"
        return self.functions

    def _written(self, part: Tensor, node: str, path: str) -> None:
        """A node has written a part of a tensor: what reads it, or another view of it, from now on reads that too."""
        whole = part._base
        assert whole is not None
        shape, before = tuple(whole.shape), self._source(whole)
        label = f"{path}.write" if path else "write"
        layer = Recorded("write", (), shape, view=True, copied=0)
        origin = Origin(self.classes[path], ("write",), call=self.call)
        written = self._add(label, layer, (before, node), whole, path, origin=origin)
        for key, (x, _) in list(self.sources.items()):
            if x._base is whole and x is not part:
                del self.sources[key]
                view = Recorded("write", (shape,), tuple(x.shape), view=True)
                self.pending[key] = (x, label, view, written, path)

    def _also(self, label: str, op: str, x: Tensor, first: Tensor, node: str, path: str) -> None:
        """A further output of a node, which becomes a row if anything reads it."""
        if id(x) not in self.sources:
            alike = 0 if x.shape == first.shape else -1
            layer = Recorded(op, (tuple(first.shape),), tuple(x.shape), view=True, copied=alike)
            self.pending[id(x)] = (x, label, layer, node, path)

    def _checked(self, call: operations.Call) -> Layer:
        """The call's layer, if its rule gives the shape that came out."""
        try:
            layer = operations.layer_of(call)
            agrees = layer.output(*call.given) == tuple(call.output.shape)
        except ShapeError:
            agrees = False
        except Exception as error:
            warnings.warn(f"the rule of {call.name} failed and is left out: {error}", stacklevel=2)
            agrees = False
        return layer if agrees else Uncounted(call.name, call.given, tuple(call.output.shape))

    def _add(
        self,
        label: str,
        layer: Layer,
        sources: tuple[str, ...],
        output: Tensor | None,
        path: str = "",
        held: tuple[Held, ...] = (),
        functions: tuple[str, ...] = (),
        origin: Origin | None = None,
    ) -> str:
        self.taken[label] += 1
        name = label if self.taken[label] == 1 else f"{label}:{self.taken[label]}"
        blocks = tuple(path.split(".")) if path else ()
        origin = origin or Origin(self.classes[path], functions)
        keeper = keeper_of(sys._getframe(1), self.keepers)
        self.nodes.append(
            Node(
                name,
                layer,
                sources,
                blocks[:-1] if path == label else blocks,
                held,
                replace(origin, keeper=keeper) if keeper else origin,
                None if output is None else self._other(output),
            )
        )
        if output is not None:
            self.sources[id(output)] = (output, name)
        return name

    def _source(self, x: Tensor) -> str:
        """The node a tensor came from; a parameter, buffer or constant gets its node when first used."""
        known = self.sources.get(id(x))
        if known is not None:
            return known[1]
        if id(x) in self.pending:
            _, label, layer, node, path = self.pending.pop(id(x))
            return self._add(label, layer, (node,), x, path)
        path = self.tensors.get(id(x), "")
        if not path:
            return self._add("constant", Constant(tuple(x.shape)), (), x)
        owner, _, key = path.rpartition(".")
        held = self._tensor("tensor", x)
        name = self._add(path, Parameter(tuple(x.shape), _role(key, x)), (), x, owner, (held,))
        self.counted.setdefault(id(x), name)
        return name

    def _held(self, part: nn.Module, path: str) -> tuple[Held, ...]:
        """The tensors of a layer; those that another row counts already are marked."""
        held = []
        for key, tensor in (*part.named_parameters(remove_duplicate=False), *part.named_buffers()):
            held.append(self._tensor(key, tensor))
            self.counted.setdefault(id(tensor), path)
        return tuple(held)

    def _tensor(self, key: str, tensor: Tensor) -> Held:
        counted_by = self.counted.get(id(tensor))
        return Held(key, tuple(tensor.shape), tensor.requires_grad, counted_by, self._other(tensor))

    def _other(self, x: Tensor) -> str | None:
        """The type of a tensor's numbers where it is not the module's."""
        return None if x.dtype == self.dtype else _named(x.dtype)


class Functions(TorchFunctionMode):
    """Tells the recorder which function of torch the module's own code is calling."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, kwargs = self.recorder, kwargs or {}
        if recorder.layer is not None:
            return func(*args, **kwargs)
        recorder.functions, recorder.weighs = (function_name(func),), kwargs.get("need_weights", True)
        recorder.called = how_called(func, sys._getframe(1))
        recorder.seen += 1
        recorder.call = recorder.seen
        recorder.dropout = float(args[10]) if recorder.functions == (ATTENTION,) and len(args) > 10 else 0.0
        recorder.worded = any(isinstance(one, str) and one in ("same", "valid") for one in (*args, *kwargs.values()))
        try:
            return func(*args, **kwargs)
        finally:
            recorder.functions, recorder.called, recorder.worded, recorder.call = (), "name", False, 0


def hook(module: nn.Module, recorder: Recorder) -> None:
    """Tell the recorder of every call of every submodule."""
    for part in module.modules():
        part.register_forward_pre_hook(recorder.before, with_kwargs=True)
        part.register_forward_hook(recorder.after, prepend=True, with_kwargs=True, always_call=True)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=True)
    yield from module.named_buffers(remove_duplicate=True)


def _own(part: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers that a module itself holds, as they are now."""
    return [(key, one) for key, one in (*part._parameters.items(), *part._buffers.items()) if one is not None]


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _role(key: str, tensor: Tensor) -> Role:
    return role_of(key) if isinstance(tensor, nn.Parameter) else "buffer"
