"""Measured memory: what PyTorch's allocator holds is the account and parts that have a name, to the byte."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import archcalc as ac
from archcalc.errors import CheckError, InputError
from archcalc.footprint import Memory
from archcalc.pytorch import allocated, blocks
from archcalc.pytorch.allocated import BLOCK, Allocated, measure, measured_table
from archcalc.pytorch.blocks import Block, ReadsNoted, Record, layers_marked, recording
from archcalc.targets import Argument, Target, resolve
from tests.conftest import Shell

CPU = torch.device("cpu")
MIB = 2**20
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def taken(
    name: str, size: str, *, batch: int = 2, optimizer: str = "sgd", dtype: str = "float32", device: torch.device = CPU
) -> Allocated:
    target = resolve(name, inputs=[size], batch=str(batch))
    return measure(target, ac.memory(target.report(), optimizer=optimizer, dtype=dtype), device=device)


ZOO = [
    *(("alexnet", "3x96x96"), ("alexnet-torchvision", "3x64x64"), ("vgg11", "3x32x32"), ("resnet34", "3x64x64")),
    *(("resnet50", "3x64x64"), ("googlenet", "3x224x224"), ("googlenet-torchvision", "3x64x64")),
    *(("mobilenet-v1", "3x64x64"), ("mobilenet-v2", "3x64x64"), ("densenet121", "3x64x64"), ("lenet5", "1x32x32")),
    *(("squeezenet1-1", "3x64x64"), ("resnet20", "3x32x32"), ("inception-reduced", "256x32x32")),
]

PHASES = ["params and buffers", "inference, peak", "forward, peak", "forward, end", "backward, peak", "backward, end"]
PHASES += ["step, peak", "step, end"]


@pytest.mark.parametrize(("name", "size"), ZOO, ids=[name for name, _ in ZOO])
def test_every_difference_has_a_name(name: str, size: str) -> None:
    result = taken(name, size)
    assert {phase.name: phase.remainder for phase in result.phases} == dict.fromkeys(PHASES, 0)
    for exact in ("params and buffers", "backward, end", "step, end"):
        assert result[exact].difference == 0
    assert set(result["forward, end"].parts) <= {"loss", "Python's numbers"}  # so all that backward keeps is computed


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "squeezenet1_1"])
def test_traced_modules_too(name: str) -> None:
    result = taken(f"torch:torchvision.models:{name}", "3x64x64", optimizer="momentum")
    assert [phase.remainder for phase in result.phases] == [0] * 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "mixed"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw"])
def test_every_optimizer_and_dtype(optimizer: str, dtype: str) -> None:
    result = taken("resnet20", "3x32x32", optimizer=optimizer, dtype=dtype)
    assert [phase.remainder for phase in result.phases] == [0] * 8
    assert result["step, end"].measured == result.memory.training - result.memory.kept


def test_attention_of_the_zoo() -> None:
    result = taken("vit-b-16", "3x224x224", batch=1, optimizer="none")
    assert [phase.remainder for phase in result.phases] == [0, 0]


def test_a_small_network_by_hand() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Any:
            return self.second(self.first(x).relu())

    target = traced(Small(), (32, 8))
    result = measure(target, ac.memory(target.report(), optimizer="adam"), device=CPU)
    # 8·16 + 16 + 16·4 + 4 = 212 weights of 4 bytes
    assert result["params and buffers"].measured == 848
    # at ReLU 2·32·16 numbers; the 32·8 of the input are still held
    assert result["inference, peak"].measured == 848 + 4096 + 1024
    assert dict(result["inference, peak"].parts) == {"held after the last read": 1024}
    # weights, Adam's two numbers for each and four counts of 4 bytes, the input, ReLU's output, the loss
    assert result["forward, end"].measured == 848 + 1696 + 16 + 1024 + 2048 + 4
    # in the place of what was kept and of the loss there are gradients
    assert result["backward, end"].measured == result["step, end"].measured == 848 + 1696 + 16 + 1024 + 848


def traced(module: nn.Module, *shapes: tuple[int, ...]) -> Target:
    from archcalc.pytorch.trace import trace

    return Target(trace(module, shapes), tuple(map(Argument, shapes)), make=lambda: module)


def test_python_numbers_that_autograd_keeps() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) * 3 * 0.5

    target = traced(Scaled(8, 4), (2, 8))
    result = measure(target, ac.memory(target.report()), device=CPU)
    assert result["forward, end"].parts["Python's numbers"] == 16
    assert [phase.remainder for phase in result.phases] == [0] * 8


def test_a_wrong_account_leaves_a_remainder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ac.layers.Linear, "kept", ())
    monkeypatch.setattr(ac.layers.BatchNorm2d, "in_place", property(lambda self: True))
    result = taken("mobilenet-v2", "3x32x32")
    assert result["inference, peak"].remainder > 0
    assert result["forward, end"].remainder > 0


def test_the_module_and_the_generators_are_left_as_they_were() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    module[0].requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    target = traced(module, (2, 3, 8, 8))
    assert measure(target, ac.memory(target.report()), device=CPU)["forward, end"].remainder == 0
    assert module.training
    assert [one.requires_grad for one in module[0].parameters()] == [False, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads


def test_nothing_is_left_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Record] = []
    phases = allocated._phases

    def noted(session: Any, memory: Memory) -> Any:
        seen.append(session.record)
        return phases(session, memory)

    monkeypatch.setattr(allocated, "_phases", noted)
    taken("resnet20", "3x32x32", optimizer="adam")
    (record,) = seen
    assert len(record.blocks) > 1000
    assert [block for block in record.blocks if block.freed == float("inf")] == []


def test_what_an_accelerator_takes_back_between_operations_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiler's tree has an accelerator's blocks within other events only; those of the CPU are everywhere."""
    plain, read = taken("resnet20", "3x32x32"), Record.read
    left_out: list[Any] = []

    def within_events(record: Record, roots: Any) -> None:
        left_out.extend(root for root in roots if root.tag.name == "Allocation")
        read(record, [root for root in roots if root.tag.name != "Allocation"])

    monkeypatch.setattr(Record, "read", within_events)
    assert taken("resnet20", "3x32x32").phases == plain.phases
    assert left_out == []


def test_backward_runs_in_the_thread_that_the_profiler_sees() -> None:
    with recording(CPU):
        assert not torch.autograd.is_multithreading_enabled()
        torch.ones(1)
    assert torch.autograd.is_multithreading_enabled()


def test_masks_of_one_byte() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Dropout(1.0), nn.Dropout(inplace=True), nn.Dropout(0.0))
    held = ac.memory(traced(module, (2, 4)).report())
    assert allocated._wider_masks(held) == (4 - 1) * 2 * 6  # of the first: the others run step by step
    assert allocated._wider_masks(ac.memory(held.report, dtype="bfloat16")) == (2 - 1) * 2 * 6


def test_the_record_sees_what_one_operation_makes_for_itself() -> None:
    with recording(CPU) as record, record.phase("all"):
        x = torch.ones(MIB, dtype=torch.uint8)
        y = x.float()
        z = torch.cumsum(torch.cat([y, y]), 0)
        del y
    assert [block.nbytes for block in record.at(record.end("all"))] == [MIB, 8 * MIB]
    # y, the joined one and the sum: 4 + 8 + 8 MiB beside the first
    assert record.peak("all", record.blocks)[0] == 21 * MIB
    assert len(z) == 2 * MIB


def test_layers_and_reads() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x + 1) * (x + 2)

    module = nn.Sequential(nn.Tanhshrink(), Twice())
    x = torch.ones(256)
    with recording(CPU) as record, torch.inference_mode(), layers_marked(module), ReadsNoted(), record.phase("run"):
        y = x + 0
        module(y)
    found = [block for block in sorted(record.blocks, key=made) if block.nbytes == 1024]
    # y, which the first layer reads last, what that computes within and puts out; two sums and a product, which are
    # not a layer's; nobody reads the product
    assert [block.workspace for block in found] == [False, True, False, False, False, False]
    assert found[0].read < found[2].freed < found[0].freed


def made(block: Block) -> int:
    return block.made


def test_an_accelerators_rounding_and_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's blocks rounded up as CUDA's allocator does, and its statistics made of them."""
    asked: dict[tuple[int, int], int] = {}
    paired, phases = blocks._paired, allocated._phases

    def rounded(events: Any, reads: Any) -> Iterator[Block]:
        for block in paired(events, reads):
            asked[block.address, block.made] = block.nbytes
            yield replace(block, nbytes=-(-block.nbytes // BLOCK) * BLOCK)

    def counted(session: Any, memory: Memory) -> Any:
        record = session.record
        for name in record.phases:
            alive = record.at(record.end(name))
            nbytes = sum(block.nbytes for block in alive)
            now = nbytes, nbytes - sum(asked[block.address, block.made] for block in alive)
            session.counted[name] = (record.peak(name, record.blocks)[0], 0), now
        return phases(session, memory)

    monkeypatch.setattr(blocks, "_paired", rounded)
    monkeypatch.setattr(allocated, "_phases", counted)
    result = taken("resnet34", "3x64x64", optimizer="adam")
    # 36 batch norms have a count of 8 bytes; the four tensors of the 7 of them of 64 channels fill half a block each;
    # the first weights, 64·3·7·7·4 bytes, end in half a block; the bias of 4,000 bytes takes 8 blocks
    assert result["params and buffers"].parts["rounding"] == 36 * 504 + 7 * 4 * 256 + 256 + 96
    assert [phase.remainder for phase in result.phases] == [0] * 8


def test_statistics_of_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"allocated_bytes.all.current": 1024, "allocated_bytes.all.peak": 4096}
    more = {"requested_bytes.all.current": 1000, "requested_bytes.all.peak": 4000}
    monkeypatch.setattr(torch.accelerator, "memory_stats", lambda device: {**known})
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("M", (), {"memory_stats": lambda device: more}))
    statistics = allocated._Statistics(torch.device("cuda"))
    assert (statistics.now(), statistics.peak()) == ((0, 0), (3072, 72))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(), "flatten has no parameters to train: measure with --optimizer none"),
        (nn.BatchNorm2d(3), "failed in warm-up with ValueError: Expected more than 1 value per channel"),
    ],
)
def test_what_cannot_be_trained_is_said(module: nn.Module, message: str) -> None:
    target = traced(module, (1, 3, 1, 1))
    held = ac.memory(target.report())
    with pytest.raises((InputError, CheckError), match=message):
        measure(target, held, device=CPU)
    assert len(measure(target, ac.memory(target.report(), optimizer="none"), device=CPU).phases) == 2


def test_what_does_not_fit_is_said(shell: Shell) -> None:
    message = shell.refused("memory", "vgg19", "--batch", "1000000", "--measure", "--device", "cpu")
    assert message.startswith("vgg19 on 1000000×3×224×224 needs ")
    assert message.endswith("a smaller batch or input may fit")
    assert "no device 'cuda:99' here" in shell.refused("memory", "lenet5", "--measure", "--device", "cuda:99")


def test_what_cannot_be_allocated_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocated, "available", lambda device: None)
    with pytest.raises(InputError, match=r"^out of memory on cpu"):
        taken("lenet5", "1x32x32", batch=10**12)
    assert [phase.remainder for phase in taken("lenet5", "1x32x32").phases] == [0] * 8


def test_an_interrupt_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(allocated._Run, "_train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            taken("lenet5", "1x32x32")
    assert torch.get_num_threads() == threads
    assert taken("lenet5", "1x32x32")["forward, end"].remainder == 0


def test_the_command(shell: Shell) -> None:
    arguments = ["memory", "lenet5", "--batch", "2", "--measure", "--device", "cpu"]
    table = shell.ok(*arguments, "--summary")
    assert "lenet5 on 2x1x32x32, float32: measured memory, bytes" in table
    assert "forward, end" in table
    record = json.loads(shell.ok(*arguments, "--format", "json"))
    assert record["schema"] == "archcalc.memory/1"
    (measured,) = record["measured"]
    assert measured["environment"]["threads"] == 1
    by_name = {phase["name"]: phase for phase in measured["phases"]}
    assert by_name["params and buffers"]["measured"] == record["weights"] + record["buffers"]
    assert by_name["backward, peak"]["computed"] == record["training"]
    for phase in measured["phases"]:
        assert phase["measured"] == phase["computed"] + sum(phase["parts"].values()) + phase["remainder"]
    header, first, *_ = shell.ok(*arguments, "--format", "csv").splitlines()
    assert header == "device,phase,computed,measured,difference,of which,remainder"
    assert first == "cpu,params and buffers,243360,243360,0,,0"
    assert "measured" not in json.loads(shell.ok("memory", "lenet5", "--format", "json"))


def test_attention_that_runs_as_one_kernel_is_noted() -> None:
    target = traced(torchvision.models.VisionTransformer(32, 16, 1, 4, 64, 128, num_classes=10), (1, 3, 32, 32))
    result = measure(target, ac.memory(target.report(), optimizer="none"), device=CPU)
    assert "attention as one kernel" in " ".join(measured_table([result]).notes)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["alexnet-torchvision", "resnet34", "googlenet-torchvision", "mobilenet-v2"])
def test_a_real_cuda_device(name: str, optimizer: str) -> None:
    before = torch.cuda.memory_allocated()
    result = taken(name, "3x64x64", optimizer=optimizer, device=torch.device("cuda"))
    assert result["params and buffers"].remainder == 0
    assert result["forward, peak"].measured >= result["forward, end"].measured
    state = result["step, end"].parts.get("state on the CPU", 0)
    assert state == (-4 * result.memory.tensors if optimizer == "adam" else 0)
    left = torch.cuda.memory_allocated() - before
    assert left == result["step, end"].parts.get("held by libraries", 0)


@pytest.mark.cuda
@needs_cuda
def test_out_of_memory_on_a_real_cuda_device_leaves_nothing_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocated, "available", lambda device: None)
    before = torch.cuda.memory_allocated()
    with pytest.raises(InputError, match="out of memory on cuda"):
        taken("resnet34", "3x512x512", batch=100_000, optimizer="none", device=torch.device("cuda"))
    assert torch.cuda.memory_allocated() == before
