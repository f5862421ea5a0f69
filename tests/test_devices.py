import getpass
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from archcalc.errors import InputError, RoomError
from archcalc.pytorch import devices

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def accelerator(monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def test_the_cpu_comes_first_and_no_type_twice() -> None:
    kinds = [device.type for device in devices.present()]
    assert kinds[0] == "cpu"
    assert len(kinds) == len(set(kinds))


def test_auto_is_all_that_is_present() -> None:
    assert devices.resolve("auto") == devices.present()


def test_cpu_is_the_cpu_by_either_name() -> None:
    assert devices.resolve("cpu") == devices.resolve("cpu:0") == (CPU,)


@pytest.mark.parametrize(
    ("name", "device"), [("cuda", torch.device("cuda")), ("cuda:1", torch.device("cuda", 1)), ("auto", None)]
)
def test_an_accelerator_that_is_present(monkeypatch: pytest.MonkeyPatch, name: str, device: torch.device) -> None:
    accelerator(monkeypatch, "cuda", 2)
    assert devices.resolve(name) == ((CPU, torch.device("cuda")) if name == "auto" else (device,))


@pytest.mark.parametrize("name", ["mps", "xpu:0", "cuda:2", "cpu:1", "meta", "cudaa", "", "cuda:x", "CPU", "cuda:-1"])
def test_an_absent_or_misspelt_device_says_what_is_present(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    accelerator(monkeypatch, "cuda", 2)
    with pytest.raises(InputError) as caught:
        devices.resolve(name)
    assert str(caught.value) == f"no device {name!r} here: present are cpu, cuda:0, cuda:1"


def test_synchronize_has_nothing_to_do_on_the_cpu() -> None:
    devices.synchronize(CPU)


def test_environment_on_the_cpu() -> None:
    facts = devices.environment(CPU, dtype=torch.bfloat16, threads=3)
    assert facts["device"] == "cpu"
    assert facts["device_name"] == facts["cpu"] != ""
    assert facts["torch"] == torch.__version__
    assert facts["python"] == platform.python_version()
    assert (facts["dtype"], facts["threads"]) == ("bfloat16", 3)
    assert isinstance(facts["cpus"], int)
    assert facts["cpus"] >= 1
    assert "cuda" not in facts


def test_environment_names_no_host_user_or_path() -> None:
    text = " ".join(str(value) for value in devices.environment(CPU, dtype=torch.float32, threads=1).values())
    assert platform.node() not in text.split()
    assert getpass.getuser() not in text.split()
    assert "/" not in text.replace(devices.cpu_model(), "")


def test_environment_on_cuda_has_versions_and_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    facts = devices.environment(torch.device("cuda", 1), dtype=torch.float16, threads=1)
    assert facts["device_name"] == "name of cuda:1"
    assert facts["cuda"] == torch.version.cuda
    assert isinstance(facts["tf32_matmul"], bool)
    assert isinstance(facts["tf32_conv"], bool)


def test_the_cpu_model_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "Path", lambda _: Path("no", "such", "file"))
    assert devices.cpu_model() == (platform.processor() or platform.machine())


def test_a_dtype_that_the_device_lacks() -> None:
    devices.require_dtype(CPU, torch.float32)
    with pytest.raises(InputError, match=r"^cpu cannot convolve in float8_e4m3fn$"):
        devices.require_dtype(CPU, torch.float8_e4m3fn)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_out_of_memory_is_one_line_and_frees_what_the_pass_held(error: RuntimeError) -> None:
    released: list[str] = []

    class Held:
        def __del__(self) -> None:
            released.append("held")

    def work() -> None:
        held = Held()
        assert held
        raise error

    with pytest.raises(InputError, match=r"^out of memory on cpu: .*may fit$") as caught, devices.memory_guard(CPU):
        work()
    assert released == ["held"]
    assert caught.value.__context__ is error


def test_the_cache_of_an_accelerator_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    module = SimpleNamespace(empty_cache=lambda: emptied.append("cache"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_device_module", lambda: module)
    with pytest.raises(RoomError), devices.memory_guard(torch.device("mps")):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)")
    assert emptied == ["cache"]


@pytest.mark.parametrize(("threads", "said"), [(1, "1 CPU thread"), (2, "2 CPU threads")])
def test_an_environment_in_words(threads: int, said: str) -> None:
    facts = devices.environment(CPU, dtype=torch.float32, threads=threads)
    assert devices.described(facts) == f"{devices.cpu_model()}, {said}, torch {torch.__version__}"


def test_what_a_device_lacks_is_one_line() -> None:
    error = devices.lacking(
        "vgg11", torch.float16, CPU, NotImplementedError("no kernel for 'Half'\nCPU: registered at")
    )
    assert str(error) == "vgg11 cannot run in float16 on cpu: no kernel for 'Half'"


def test_no_memory_on_the_cpu_is_said_too() -> None:
    with pytest.raises(InputError, match="out of memory on cpu"), devices.memory_guard(CPU):
        torch.empty(2**60)


def test_the_memory_guard_lets_other_errors_through() -> None:
    with pytest.raises(RuntimeError, match="mine"), devices.memory_guard(CPU):
        raise RuntimeError("mine")


@pytest.mark.cuda
@needs_cuda
def test_environment_of_a_real_cuda_device() -> None:
    (device,) = devices.resolve("cuda")
    facts = devices.environment(device, dtype=torch.float32, threads=1)
    assert facts["device_name"] == torch.cuda.get_device_name()
    assert facts["cudnn"] == torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    devices.synchronize(device)


@pytest.mark.cuda
@needs_cuda
def test_out_of_memory_on_a_real_cuda_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    with pytest.raises(InputError, match="out of memory on cuda"), devices.memory_guard(device):
        [torch.empty(2**30, device=device) for _ in range(2**20)]
    assert torch.cuda.memory_allocated() == before
