"""What a training run measured, as a tidy data frame."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


class History:
    """Numbers logged during training: one row per step and metric."""

    def __init__(self, rows: list[tuple[int, str, float]] | None = None) -> None:
        self._rows = [(int(step), str(metric), float(value)) for step, metric, value in rows or []]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Log values at a step."""
        self._rows += [(step, metric, float(value)) for metric, value in values.items()]

    @property
    def frame(self) -> pd.DataFrame:
        """Columns ``step``, ``metric``, ``value``."""
        return pd.DataFrame(self._rows, columns=["step", "metric", "value"])

    @property
    def rows(self) -> list[tuple[int, str, float]]:
        """The same as a list of tuples."""
        return list(self._rows)

    def last(self, metric: str) -> float:
        """The newest value of a metric.

        Raises:
            KeyError: Naming the metrics there are, if it was never logged.
        """
        for _, name, value in reversed(self._rows):
            if name == metric:
                return value
        raise KeyError(f"metric {metric!r} was never logged; there are {sorted({name for _, name, _ in self._rows})}")

    def series(self, metric: str) -> pd.Series:
        """A metric indexed by step."""
        frame = self.frame
        return frame[frame.metric == metric].set_index("step")["value"].rename(metric)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, History) and self.frame.equals(other.frame)  # two missing numbers are equal

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        steps = self._rows[-1][0] if self._rows else 0
        metrics = ", ".join(sorted({name for _, name, _ in self._rows}))
        return f"History({len(self._rows)} values up to step {steps:,}: {metrics})"
