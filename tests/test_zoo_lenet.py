"""LeNet-5 against LeCun et al. 1998, and its variants."""

from __future__ import annotations

from archcalc import Report, analyze, zoo


def report(name: str, **choices: object) -> Report:
    return analyze(zoo.find(name).build(**choices))


# LeCun et al. 1998, section II.B: trainable parameters and connections of each layer. C5 is printed as 48,120
# connections, each with a weight of its own; F6 as 10,164 parameters, each used once.
PARAMETERS = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
CONNECTIONS = {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164, "output": 840}


def test_lenet5_as_published() -> None:
    found = report("lenet5")

    def of(layer: str, quantity: str) -> int:
        return sum(getattr(row, quantity) for row in found if row.name.partition(".")[0] == layer)

    assert {name: of(name, "params") for name in PARAMETERS} == PARAMETERS
    assert found.total.params == 60_000  # "60,000 trainable free parameters"
    # the centres of the RBF units, 84 numbers for each of ten classes, "were chosen by hand and kept fixed"
    assert found.total.buffers == of("output", "buffers") == 10 * 84
    # a connection is a weight or bias at work: a multiply-accumulate or an addition of a bias, in subsampling each of
    # four inputs and the bias, at the end each difference from a centre
    connections = {
        name: of(name, "macs") + sum(row.ledger.get("bias_add", 0) for row in found if row.name == name)
        for name in CONNECTIONS
    }
    connections["s2"], connections["s4"] = ((4 + 1) * found[f"{name}.mean"].activations for name in ("s2", "s4"))
    connections["output"] = found["output"].ledger["mul"]
    assert connections == CONNECTIONS
    assert sum(CONNECTIONS.values()) == 340_908  # "340,908 connections"


def test_the_table_of_c3() -> None:
    # LeCun et al. 1998, Table I, a line for each map of S2
    table = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    columns = tuple(tuple(i for i in range(6) if table[i][k] == "X") for k in range(16))
    assert report("lenet5")["c3"].node.layer.table == columns  # type: ignore[attr-defined]


def test_sizes_of_figure_2() -> None:
    found = report("lenet5")
    shapes = [found[name].output[1:] for name in ("c1", "s2.tanh", "c3", "s4.tanh", "c5", "f6", "output")]
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,)]
    # "each unit of C3 ... 14×14, of C5 the whole input"
    assert found["c5"].receptive_field == (32, 32)


def test_lenet5_on_cifar10() -> None:
    found = report("lenet5-cifar10")
    assert {row.name: row.params for row in found if row.params} == {
        "conv1": 5 * 5 * 3 * 6 + 6,
        "conv2": 5 * 5 * 6 * 16 + 16,
        "fc1": 5 * 5 * 16 * 120 + 120,
        "fc2": 120 * 84 + 84,
        "fc3": 84 * 10 + 10,
    }
    assert found.total.params == 62_006
    normed = report("lenet5-cifar10", batch_norm=True)
    # after each layer but the last: 6 + 16 + 120 + 84 = 226 channels, each a weight and a bias; four counts of batches
    assert normed.total.params - found.total.params == 2 * 226
    assert normed.total.buffers == 2 * 226 + 4
    assert normed.total.macs == found.total.macs
    assert [row.kind for row in normed][-3:] == ["BatchNorm1d", "ReLU", "Linear"]


def test_caffes_lenet() -> None:
    # Sze et al. 2017, Table II: 431 k weights and 2.3 M MACs; 20·25 + 50·20·25 + 500·800 + 10·500
    total = report("lenet-caffe").total
    assert total.weights == 430_500
    # 24²·20·25 + 8²·50·500 + 400,000 + 5,000
    assert total.macs == 288_000 + 1_600_000 + 400_000 + 5_000
