"""Traces of torchvision's models against torch's own counters, torchvision's published figures, and the zoo."""

from __future__ import annotations

import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torchvision import models  # noqa: E402

from archcalc import Network, Report, analyze, trace, zoo  # noqa: E402
from archcalc.pytorch.build import build  # noqa: E402
from archcalc.pytorch.load import load, without_data  # noqa: E402

HUNT = os.environ.get("HYPOTHESIS_PROFILE") == "hunt"

CLASSIFIERS = models.list_models(module=models)

# One model a family, small: for these torch's FlopCounterMode counts too; it takes as long as the trace
COUNTED = {
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn"),
    *("vit_b_16", "wide_resnet50_2"),
}


def made(path: str, **settings: str) -> nn.Module:
    if path.startswith(".segmentation"):
        settings["weights_backbone"] = "None"  # which would be fetched
    return without_data(load(f"torchvision.models{path}", settings)[1])


def flop_counter_macs(module: nn.Module, *inputs: Any, **kwargs: Any) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module.eval().to("meta")(*inputs, **kwargs)
    assert counter.get_total_flops() % 2 == 0
    return int(counter.get_total_flops()) // 2


def assert_tensors(report: Report, module: nn.Module) -> None:
    assert report.total.params == sum(parameter.numel() for parameter in module.parameters())
    assert report.total.buffers == sum(buffer.numel() for buffer in module.buffers())


# Classification


def test_torchvision_has_the_models_that_are_traced_here() -> None:
    assert len(CLASSIFIERS) >= 80
    assert set(CLASSIFIERS) >= COUNTED


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classification_model_has_torchvisions_published_figures(name: str) -> None:
    weights = next(iter(models.get_model_weights(name)))
    size = weights.transforms.keywords["crop_size"]
    settings = {"image_size": str(size)} if name.startswith("vit") else {}
    if name == "googlenet":  # the published figure leaves the auxiliary classifiers out; Inception v3's does not
        settings = {"aux_logits": "False"}
    module = made(f":{name}", **settings)
    report = analyze(trace(module, (1, 3, size, size)))
    assert_tensors(report, module)
    assert report.total.params == weights.meta["num_params"]
    assert round(report.total.macs / 1e9, 3) == weights.meta["_ops"]
    assert [row.name for row in report.uncounted] == []
    assert report.output == (1, 1000)
    if HUNT or name in COUNTED:
        assert report.total.macs == flop_counter_macs(module, torch.empty(1, 3, size, size, device="meta"))


def test_auxiliary_classifiers_that_do_not_run_are_rows_marked_unused() -> None:
    report = analyze(trace(made(":googlenet"), (1, 3, 224, 224)))
    unused = [row for row in report if row.kind.endswith("unused")]
    assert {row.name.partition(".")[0] for row in unused} == {"aux1", "aux2"}
    assert all(row.macs == 0 for row in unused)
    module = made(":googlenet")
    assert isinstance(module, models.GoogLeNet)
    aux = sum(p.numel() for part in (module.aux1, module.aux2) if part is not None for p in part.parameters())
    assert sum(row.params for row in unused) == aux == 13_004_888 - 6_624_904


# Segmentation, video, optical flow, detection


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (".segmentation:fcn_resnet50", (1, 3, 64, 96)),
        (".segmentation:lraspp_mobilenet_v3_large", (1, 3, 64, 96)),
        (".segmentation:deeplabv3_mobilenet_v3_large", (2, 3, 64, 96)),
        (".video:r3d_18", (1, 3, 8, 32, 32)),
        (".video:mc3_18", (1, 3, 8, 32, 32)),
        (".video:r2plus1d_18", (1, 3, 8, 32, 32)),
        (".video:s3d", (1, 3, 16, 224, 224)),
        (".video:mvit_v1_b", (1, 3, 16, 224, 224)),
        (".video:swin3d_t", (1, 3, 8, 64, 64)),
    ],
)
def test_segmentation_and_video_models_count_as_flop_counter_mode_does(path: str, shape: tuple[int, ...]) -> None:
    module = made(path)
    report = analyze(trace(module, shape))
    assert_tensors(report, module)
    assert report.uncounted == ()
    assert report.total.macs == flop_counter_macs(module, torch.empty(shape, device="meta"))


def test_segmentation_model_has_a_dict_of_outputs() -> None:
    net = trace(made(".segmentation:fcn_resnet50"), (1, 3, 64, 96))
    assert analyze(net).output == (1, 21, 64, 96)


def test_optical_flow_model_takes_two_images() -> None:
    module = made(".optical_flow:raft_small")
    shape = (1, 3, 128, 128)
    net = trace(module, (shape, shape), num_flow_updates=2)
    report = analyze(net)
    assert [node.name for node in net.input_nodes] == ["input1", "input2"]
    assert_tensors(report, module)
    images = [torch.empty(shape, device="meta") for _ in range(2)]
    assert report.total.macs == flop_counter_macs(module, *images, num_flow_updates=2)
    assert not any("conv" in row.kind.lower() or "mm" in row.kind for row in report.uncounted)
    assert {row.kind for row in report.uncounted} <= {"grid_sampler_2d"}


def test_detection_model_runs_on_real_tensors_and_lists_what_is_uncounted() -> None:
    module = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    with pytest.warns(UserWarning, match="cannot run without data .*traced with real tensors"):
        report = analyze(trace(module, ([torch.rand(3, 64, 64)],)))
    assert_tensors(report, module)
    assert all(row.output for row in report.uncounted)
    assert all(row.kind.partition("::")[0] in ("torchvision",) or "::" not in row.kind for row in report.uncounted)
    assert any("nms" in row.kind for row in report.uncounted)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module([torch.rand(3, 64, 64)])
    assert report.total.macs * 2 == counter.get_total_flops()


# Against the zoo

ZOO: list[tuple[str, str, dict[str, Any]]] = [
    ("resnet18", "resnet18", {}),
    ("resnet34", "resnet34", {}),
    ("resnet50", "resnet50", {}),
    ("alexnet", "alexnet-torchvision", {}),
    ("vgg19", "vgg19", {"avgpool": True}),
    ("vgg16_bn", "vgg16", {"avgpool": True, "batch_norm": True}),
]


def facts(report: Report) -> list[tuple[Any, ...]]:
    """All numbers of every row but for rows that are views or do nothing in eval mode."""
    return [
        (
            *(row.kind, row.output, row.weights, row.biases, row.buffers, dict(row.ledger), row.activations),
            *(row.receptive_field, row.jump, row.inputs),
        )
        for row in report
    ]


@pytest.mark.parametrize(("model", "name", "choices"), ZOO)
def test_trace_and_zoo_agree_row_for_row(model: str, name: str, choices: dict[str, Any]) -> None:
    traced = analyze(trace(made(f":{model}"), (1, 3, 224, 224)))
    known = analyze(zoo.find(name).build(**choices), (1, 3, 224, 224))
    assert facts(traced) == facts(known)
    names = {row.name: other.name for row, other in zip(traced, known, strict=True)}
    assert [tuple(names[i] for i in row.node.inputs) for row in traced] == [row.node.inputs for row in known]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_traced_resnet_has_the_zoos_names_for_its_modules(name: str) -> None:
    traced = trace(made(f":{name}"), (1, 3, 224, 224))
    known = zoo.find(name).build()
    modules = {node.name for node in known if node.layer.kind not in ("Input", "Add", "Flatten", "ReLU")}
    assert modules <= {node.name for node in traced}


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_trace_of_build_is_the_network(name: str) -> None:
    network = zoo.find(name).build()
    again = trace(build(network, device="meta"), network.input_nodes[0].layer.output())
    assert facts(analyze(again)) == facts(analyze(network))
    assert [node.name for node in again] == [node.name for node in network]
    assert [node.inputs for node in again] == [node.inputs for node in network]
    assert [_out_of_place(node.layer) for node in again] == [_out_of_place(node.layer) for node in network]


def _out_of_place(layer: Any) -> Any:
    """A layer but for what a built module may decide on its own; channels are known where they were inferred."""
    return {
        name: getattr(layer, name)
        for name in layer.__dataclass_fields__
        if name not in ("inplace", "in_channels", "in_features", "num_features")
    }


def test_networks_name_says_what_was_traced() -> None:
    assert trace(made(":resnet18"), (1, 3, 64, 64)).name == "resnet"
    net: Network = trace(made(":resnet18"), (1, 3, 64, 64), name="mine")
    assert net.name == "mine"
