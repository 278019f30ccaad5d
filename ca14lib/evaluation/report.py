"""An evaluation as a folder to be read and passed on: one HTML page, CSV tables and figures.

Book: evaluation/framework.
"""

import base64
import html
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ca14lib.evaluation.evaluator import DIMENSIONS, NOT_APPLICABLE, Evaluation, pareto_front
from ca14lib.plotting import new_axes
from ca14lib.plotting.evaluation import profile_lines, radar, rank_ranges, score_bars, trade_off

MARK = "ca14-report"  # a file that says the folder is a report, so that only reports are ever replaced
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1a1a1a; background: #fff }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } img { max-width: 100%; height: auto } figure { margin: 1.5rem 0 } .none { color: #6a6a6a }
"""


def write_report(
    evaluation: Evaluation, folder: str | Path, *, groups: Mapping[str, str] | None = None, title: str = "Evaluation",
    overwrite: bool = False, notes: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write ``index.html`` (one page, pictures inside, no network), its tables as CSV and its figures as PNG.

    The folder appears at once when all is written; a report that is replaced is there until then.

    Args:
        evaluation: What an :class:`~ca14lib.evaluation.Evaluator` found.
        folder: Where to.
        groups: Kind of each agent, for the colours.
        title: Of the page.
        overwrite: Replace a report that is there. Anything else that is there is never replaced.
        notes: Lines on the page, such as command, seeds and version.
    Returns:
        Path of the page.
    Raises:
        FileExistsError: If there is something at ``folder`` that may not be replaced.
    """
    target = Path(folder)
    check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        (part / MARK).touch()
        for name, table in _tables(evaluation).items():
            table.to_csv(part / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        pictures = {}
        for name, (figure, alt) in _figures(evaluation, groups).items():
            figure.savefig(part / f"{name}.png", dpi=130)
            plt.close(figure)
            pictures[name] = ((part / f"{name}.png").read_bytes(), alt)
        (part / "index.html").write_text(_page(evaluation, pictures, title, notes or {}), "utf8")
        part.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)) / "old"
            os.replace(target, old)
            try:
                os.replace(part, target)
            except OSError:
                os.replace(old, target)
                raise
            finally:
                shutil.rmtree(old.parent, ignore_errors=True)
        else:
            os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target / "index.html"


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a folder that :func:`write_report` would refuse, before any work is done.

    Raises:
        FileExistsError: If there is something that may not be replaced.
    """
    if not target.exists():
        return
    if target.is_dir() and (target / MARK).exists():
        if not overwrite:
            raise FileExistsError(f"there is a report in {target}: give --overwrite to replace it, or another folder")
        return
    raise FileExistsError(f"{target} exists and is no report: it is left alone; give another folder")


def _tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    profiles = [
        pd.DataFrame(profile._asdict()).assign(agent=agent)[["agent", "thresholds", "share", "low", "high"]]
        for agent, profile in evaluation.profiles.items()
    ]
    tables = {
        "scores": evaluation.scores, "dimensions": evaluation.dimensions, "costs": evaluation.costs,
        "optimality_gap": evaluation.gaps, "improvement": evaluation.improvement,
        "sensitivity": evaluation.sensitivity,
    }  # fmt: skip
    return tables | ({"profiles": pd.concat(profiles)} if profiles else {})


def _figures(evaluation: Evaluation, groups: Mapping[str, str] | None) -> dict[str, tuple[Any, str]]:
    """Figures with what a reader who cannot see them must know."""
    scores, figures = evaluation.scores, {}
    judged = scores[scores["score"].notna()]
    if judged.empty:
        return {}
    listed = "; ".join(f"{row.agent} {row.score:.2f}" for row in judged.head(5).itertuples())
    figures["scores"] = (score_bars(judged, groups=groups), f"Bars of weighted scores, the best five: {listed}.")
    top = judged["agent"].head(3).tolist()
    dimensions = list(evaluation.weights)
    if len(dimensions) >= 3:
        figures["radar"] = (
            radar(scores, dimensions, names=top),
            f"Radar of {', '.join(top)} on {len(dimensions)} axes.",
        )
    with_profiles = [name for name in evaluation.ranking if name in evaluation.profiles][:5]
    if with_profiles:
        figure, axes = new_axes()
        profile_lines(axes, evaluation.profiles, names=with_profiles)
        figures["profiles"] = (figure, f"Performance profiles of {', '.join(with_profiles)}.")
    both = judged.merge(evaluation.costs.dropna(subset=["training_time"]), on="agent")
    if len(both) >= 2:
        front = pareto_front(both["score"].tolist(), both["training_time"].tolist())
        named = ", ".join(both["agent"][np.array(front)])
        figures["trade_off"] = (
            trade_off(
                both, "score", "training_time", front, groups=groups,
                labels=("training, seconds of processor time", "weighted score"),
            ),
            f"Weighted score against training time; on the front: {named}.",
        )  # fmt: skip
    moved = evaluation.sensitivity[evaluation.sensitivity["agent"].isin(judged["agent"])]
    figures["sensitivity"] = (
        rank_ranges(moved, groups=groups),
        f"Ranges of ranks as the weights move; {top[0]} is first with {_first(evaluation, top[0]):.0%} of weights.",
    )
    return figures


def _first(evaluation: Evaluation, agent: str) -> float:
    return float(evaluation.sensitivity.set_index("agent").loc[agent, "first"])


def _page(
    evaluation: Evaluation, pictures: Mapping[str, tuple[bytes, str]], title: str, notes: Mapping[str, Any]
) -> str:  # fmt: skip
    weights = ", ".join(f"{name.replace('_', ' ')} {weight:g}" for name, weight in evaluation.weights.items())
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(name)}: {html.escape(str(value))}</p>" for name, value in notes.items()),
        f"<p>Weights, divided by their sum over what applies: {weights}. Scores lie between 0 and 1; intervals hold "
        "95% of the resampled runs.</p>",
        "<h2>Weighted scores</h2>", _picture(pictures, "scores"), _html_table(_score_table(evaluation)),
        "<h2>Dimensions</h2>", _html_table(_definitions()), _picture(pictures, "radar"),
        "<h2>Performance profiles</h2>", _picture(pictures, "profiles"), _html_table(evaluation.gaps),
        "<h2>Cost</h2>", _picture(pictures, "trade_off"), _html_table(evaluation.costs),
        "<h2>How the ranking moves as the weights move</h2>", _picture(pictures, "sensitivity"),
        _html_table(evaluation.sensitivity),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )


def _score_table(evaluation: Evaluation) -> pd.DataFrame:
    return evaluation.scores.drop(columns=["applies"], errors="ignore")


def _definitions() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dimension": item.name, "what is measured": item.definition, "unit": item.unit, "better": item.direction}
            for item in DIMENSIONS.values()
        ]
    )


def _picture(pictures: Mapping[str, tuple[bytes, str]], name: str) -> str:
    if name not in pictures:
        return ""
    data, alt = pictures[name]
    source = base64.b64encode(data).decode("ascii")
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{source}"></figure>'


def _html_table(table: pd.DataFrame) -> str:
    heads = "".join(f'<th scope="col">{html.escape(str(name).replace("_", " "))}</th>' for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in table.itertuples(index=False)
    )
    table_html = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="table">{table_html}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, float) and np.isnan(value):
        return f'<span class="none">{NOT_APPLICABLE}</span>'
    return f"{value:.3g}" if isinstance(value, float) else html.escape(str(value))
