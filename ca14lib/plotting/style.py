"""One look for every figure of the book: palette, fonts, direct labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's colour-blind safe colours, and more that keep their distance from them; line styles and markers tell
# algorithms apart in grey as well.
# The discrete and the continuous version of an algorithm look the same.
PALETTE: dict[str, str] = {
    "DQN": "#D55E00",
    "BC": "#7F7F7F",
    "BC10%": "#C0504D",
    "AWR": "#999933",
    "BCQ": "#882255",
    "BCRegularized": "#8B5A2B",
    "TD3BC": "#332288",
    "CQL": "#0072B2",
    "IQL": "#009E73",
    "SAC": "#7B2CBF",
    "TabularPessimism": "#CC79A7",
    # safe agents, which never share a figure with offline ones
    "PPO": "#7F7F7F",
    "PPOLagrangian": "#D55E00",
    "PIDLagrangian": "#CC79A7",
    "CPO": "#0072B2",
    "FixedPenalty": "#8B5A2B",
    "SafePolicyGradient": "#009E73",
    "CVaRPolicyGradient": "#332288",
    "RiskSensitivePolicyGradient": "#882255",
    # robust agents: return distributions, attacked agents, and worlds to train in, one kind to a figure
    "C51": "#882255",
    "QRDQN": "#0072B2",
    "IQN": "#009E73",
    "AdversarialPPO": "#0072B2",
    "ATLA": "#009E73",
    "one world": "#7F7F7F",
    "many worlds": "#D55E00",
    "many worlds, memory": "#0072B2",
    # estimators of off-policy evaluation, which never share a figure with agents
    "IS": "#D55E00",
    "WIS": "#CC79A7",
    "PDIS": "#8B5A2B",
    "FQE": "#009E73",
    "DR": "#0072B2",
    "optimum": "#000000",
    "behaviour": "#E69F00",
    "random": "#56B4E9",
}
LINE_STYLES: dict[str, Any] = {
    "DQN": (0, (5, 1)),
    "BC": (0, (1, 1)),
    "BC10%": (0, (2, 2)),
    "AWR": (0, (4, 1, 1, 1)),
    "BCQ": (0, (6, 2)),
    "BCRegularized": (0, (7, 1, 1, 1)),
    "TD3BC": (0, (3, 2)),
    "CQL": "-",
    "IQL": (0, (3, 1, 1, 1)),
    "SAC": (0, (8, 2)),
    "TabularPessimism": (0, (5, 3)),
    "PPO": (0, (1, 1)),
    "PPOLagrangian": (0, (5, 1)),
    "PIDLagrangian": "-",
    "CPO": (0, (6, 2)),
    "FixedPenalty": (0, (7, 1, 1, 1)),
    "SafePolicyGradient": (0, (3, 1, 1, 1)),
    "CVaRPolicyGradient": (0, (3, 2)),
    "RiskSensitivePolicyGradient": (0, (8, 2, 1, 2, 1, 2)),
    "C51": (0, (5, 1)),
    "QRDQN": "-",
    "IQN": (0, (3, 1, 1, 1)),
    "AdversarialPPO": "-",
    "ATLA": (0, (3, 1, 1, 1)),
    "one world": (0, (1, 1)),
    "many worlds": (0, (5, 1)),
    "many worlds, memory": "-",
    "IS": (0, (5, 1)),
    "WIS": (0, (5, 3)),
    "PDIS": (0, (1, 1)),
    "FQE": (0, (3, 1, 1, 1)),
    "DR": "-",
}
MARKERS: dict[str, str] = {
    "DQN": "X",
    "BC": "s",
    "BC10%": "p",
    "AWR": "v",
    "BCQ": "P",
    "BCRegularized": ">",
    "TD3BC": "<",
    "CQL": "o",
    "IQL": "^",
    "SAC": "*",
    "TabularPessimism": "D",
    "PPO": "s",
    "PPOLagrangian": "X",
    "PIDLagrangian": "D",
    "CPO": "o",
    "FixedPenalty": ">",
    "SafePolicyGradient": "^",
    "CVaRPolicyGradient": "<",
    "RiskSensitivePolicyGradient": "P",
    "C51": "X",
    "QRDQN": "o",
    "IQN": "^",
    "AdversarialPPO": "o",
    "ATLA": "^",
    "one world": "s",
    "many worlds": "X",
    "many worlds, memory": "o",
    "IS": "X",
    "WIS": "D",
    "PDIS": "s",
    "FQE": "^",
    "DR": "o",
}
NAMES: dict[str, str] = {
    "BC10%": "BC on the best 10%",
    "BCRegularized": "BC-regularised",
    "TD3BC": "TD3+BC",
    "TabularPessimism": "pessimistic planning",
    "PPOLagrangian": "PPO-Lagrangian",
    "PIDLagrangian": "PID-Lagrangian",
    "FixedPenalty": "fixed penalty",
    "SafePolicyGradient": "safe policy gradient",
    "CVaRPolicyGradient": "CVaR policy gradient",
    "RiskSensitivePolicyGradient": "risk-sensitive gradient",
    "QRDQN": "QR-DQN",
    "AdversarialPPO": "adversarial PPO",
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
    return PALETTE.get(name.removeprefix("Discrete"), "#444444")


def label(name: str) -> str:
    """Name of an algorithm or reference as figures print it."""
    name = name.removeprefix("Discrete")
    return NAMES.get(name, name)


def line_style(name: str) -> Any:
    """Line style of an algorithm, the same throughout the book."""
    return LINE_STYLES.get(name.removeprefix("Discrete"), "-")


def marker(name: str) -> str:
    """Marker of an algorithm, the same throughout the book."""
    return MARKERS.get(name.removeprefix("Discrete"), "o")


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
