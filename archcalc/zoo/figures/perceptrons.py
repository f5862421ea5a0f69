"""What was published about multilayer perceptrons."""

from archcalc.zoo.figures import Figure, table, total

FIGURES: tuple[Figure, ...] = tuple(
    figure
    for hidden, params in ((3, "1,735,178"), (1, "1,209,866"))
    for figure in table(
        "mlp",
        "Zhang et al. 2017, Understanding Deep Learning, table 1",
        "weights and biases, 28×28×3 input",
        ("parameters", params, total("params")),
        choices={"width": 512, "hidden": hidden},
        input=(1, 3, 28, 28),
    )
)
