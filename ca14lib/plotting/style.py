"""One look for every figure of the book: palette, fonts, direct labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's colour-blind safe colours; line styles and markers tell them apart in grey as well
PALETTE: dict[str, str] = {
    "DQN": "#D55E00",
    "DiscreteBC": "#7F7F7F",
    "DiscreteCQL": "#0072B2",
    "DiscreteIQL": "#009E73",
    "TabularPessimism": "#CC79A7",
    "optimum": "#000000",
    "behaviour": "#E69F00",
    "random": "#56B4E9",
}
LINE_STYLES: dict[str, Any] = {
    "DQN": (0, (5, 1)),
    "DiscreteBC": (0, (1, 1)),
    "DiscreteCQL": "-",
    "DiscreteIQL": (0, (3, 1, 1, 1)),
    "TabularPessimism": (0, (5, 3)),
}
MARKERS: dict[str, str] = {
    "DQN": "X",
    "DiscreteBC": "s",
    "DiscreteCQL": "o",
    "DiscreteIQL": "^",
    "TabularPessimism": "D",
}
NAMES: dict[str, str] = {
    "DiscreteBC": "BC",
    "DiscreteCQL": "CQL",
    "DiscreteIQL": "IQL",
    "TabularPessimism": "pessimistic planning",
    "behaviour": "behaviour",
    "random": "uniform random",
}

STYLE: dict[str, Any] = {
    "figure.figsize": (7.0, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.facecolor": "white",  # stays legible on a dark page
    "axes.facecolor": "white",
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.markersize": 8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def colour(name: str) -> str:
    """Colour of an algorithm or reference, the same throughout the book."""
    return PALETTE.get(name, "#444444")


def label(name: str) -> str:
    """Name of an algorithm or reference as figures print it."""
    return NAMES.get(name, name)


@contextmanager
def course_style() -> Iterator[None]:
    """Matplotlib settings of the course, for the time being."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        yield


def new_axes(columns: int = 1, rows: int = 1, *, size: tuple[float, float] | None = None, **keywords: Any) -> Any:
    """Figure and axes in the course's style; ``size`` in inches."""
    with course_style():
        return plt.subplots(rows, columns, figsize=size or (7.0, 4.0), **keywords)


def reference_line(axes: Axes, value: float, name: str, text: str | None = None) -> None:
    """A labelled horizontal line: the optimum, the behaviour, the random policy."""
    style = {"optimum": "-", "behaviour": "--", "random": ":"}.get(name, "-.")
    axes.axhline(value, color=colour(name), linestyle=style, linewidth=1.5, zorder=1)
    axes.annotate(
        text or label(name), (1.0, value), xycoords=("axes fraction", "data"), xytext=(4, 0),
        textcoords="offset points", va="center", color=colour(name), fontsize=12, annotation_clip=False,
    )  # fmt: skip
