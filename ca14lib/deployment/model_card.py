"""A model card from a checkpoint, and the checklist of five critical factors. Book: evaluation/deployment.

After Mitchell et al. (2019). What the checkpoint or the evidence does not say is "not recorded"; nothing is guessed.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ca14lib import __version__
from ca14lib.agents import Agent, agent_class, load_agent
from ca14lib.agents.base import space_from_json
from ca14lib.agents.checkpoint import read_checkpoint
from ca14lib.agents.multi_agent import MultiAgent
from ca14lib.agents.multi_agent.communication import CommunicatingTeam
from ca14lib.data import OfflineDataset
from ca14lib.deployment.export import TOLERANCE, load_exported, parity_error, policy_module, why_not_exportable
from ca14lib.deployment.monitor import RuntimeMonitor
from ca14lib.training.offline import _fingerprint

NOT_RECORDED = "not recorded"
SHIFT_COLUMNS = ("shift", "domain", "perturbation", "test")
QUESTIONS = {  # what only a person can answer, by the factors of the original course
    "Safety first": (
        "Which states or actions must never occur, and who decided so?",
        "What does the fallback do, and who has tried it?",
    ),
    "Data availability": ("Do the data show the cases in which the policy will act, and until when will they?",),
    "Coordination requirements": ("What happens when another agent, or a person, acts otherwise than in training?",),
    "Environment uncertainty": ("Which changes of the world does no observation show, and who would notice them?",),
    "Regulatory compliance": (
        "Which rules apply to this use, and who has checked them?",
        "Who answers for a decision, and how is it reversed?",
    ),
}


@dataclass(frozen=True)
class Evidence:
    """What is known about a policy beyond its checkpoint; leave out what there is not.

    Attributes:
        dataset: What it was trained on.
        results: Rows of a result table that are about it.
        export: A program of it, written by ``export_policy``.
        monitor: What it will run under.
        answers: A person's answers, by question (the questions are :data:`QUESTIONS`).
    """

    dataset: OfflineDataset | None = None
    results: pd.DataFrame | None = None
    export: str | Path | None = None
    monitor: RuntimeMonitor | None = None
    answers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [question for questions in QUESTIONS.values() for question in questions]
        strange = [question for question in self.answers if question not in known]
        if strange:
            raise ValueError(f"answers must be to one of the questions of the checklist, got {strange[0]!r}")


NOTHING = Evidence()


# The checklist


def checklist(checkpoint: str | Path, evidence: Evidence = NOTHING) -> pd.DataFrame:
    """The five critical factors of the original course, each with what can be computed and what a person must answer.

    Args:
        checkpoint: File of an agent or a training run.
        evidence: What else is known.
    Returns:
        ``factor``, ``check``, ``kind`` (``computed`` or ``person``), ``status`` (``yes``, ``no``, ``not recorded``,
        ``answered``, ``open``) and ``finding``.
    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is damaged or holds no agent.
    """
    metadata = read_checkpoint(checkpoint)[1]
    agent = load_agent(checkpoint)
    computed = {
        "Safety first": _safety(metadata, evidence),
        "Data availability": _data(metadata, evidence),
        "Coordination requirements": _coordination(agent),
        "Environment uncertainty": _uncertainty(evidence),
        "Regulatory compliance": _compliance(agent, metadata, checkpoint, evidence),
    }
    rows = []
    for factor, questions in QUESTIONS.items():
        rows += [(factor, check, "computed", status, finding) for check, status, finding in computed[factor]]
        for question in questions:
            answer = evidence.answers.get(question, "").strip()
            rows.append((factor, question, "person", "answered" if answer else "open", answer))
    return pd.DataFrame(rows, columns=["factor", "check", "kind", "status", "finding"])


Check = tuple[str, str, str]  # what is checked, status, finding


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _safety(metadata: dict[str, Any], evidence: Evidence) -> list[Check]:
    limits = metadata["config"].get("cost_limits")
    rows: list[Check] = [
        (
            "The agent was trained with limits on costs",
            _yes(bool(limits)),
            f"limits {', '.join(f'{limit:g}' for limit in limits)}" if limits else "no limit among its settings",
        )
    ]
    check, results = "Costs or violations were counted in evaluation", evidence.results
    counted = [] if results is None else [str(c) for c in results if "violation" in str(c) or "cost" in str(c)]
    rows.append((check, "yes" if counted else NOT_RECORDED, ", ".join(counted)))
    watchdog = None if evidence.monitor is None else evidence.monitor.watchdog
    said = "" if watchdog is None else f"limit {watchdog.limit:g}, fallback {_name(evidence.monitor)}"
    rows.append(("A watchdog over costs hands over to a fallback", _yes(watchdog is not None), said))
    return rows


def _name(monitor: RuntimeMonitor | None) -> str:
    return "none" if monitor is None else type(monitor.fallback).__name__


def _data(metadata: dict[str, Any], evidence: Evidence) -> list[Check]:
    run = metadata.get("loop", {}).get("run", {})
    source = "data" if "data" in run else "environment" if "environment" in run else None
    finding = "" if source is None else f"{source} {run[source]}"
    rows: list[Check] = [("What it learned from is recorded", "yes" if source else NOT_RECORDED, finding)]
    check, dataset = "The dataset at hand is the one it learned from", evidence.dataset
    if dataset is None or "data" not in run:
        rows.append(
            (check, NOT_RECORDED, "no dataset given" if dataset is None else "no fingerprint in the checkpoint")
        )
    else:
        found = _fingerprint(dataset)
        rows.append((check, _yes(found == run["data"]), f"fingerprint {found}, recorded {run['data']}"))
    rows.append(("Observations are normalised by statistics of the data", _yes(bool(metadata["normalizer"])), ""))
    return rows


def _coordination(agent: Agent) -> list[Check]:
    if not isinstance(agent, MultiAgent):
        return [("It decides alone", "yes", "one agent")]
    talks = isinstance(agent, CommunicatingTeam) and agent.config.channel == "open"
    return [
        ("It decides alone", "no", f"a team of {agent.num_agents}"),
        ("Its agents act without messages", _yes(not talks), "needs a channel in every step" if talks else ""),
        ("Its agents act without memory", _yes(not agent.memory_size), f"{agent.memory_size} numbers each"),
    ]


def _uncertainty(evidence: Evidence) -> list[Check]:
    alarm = None if evidence.monitor is None else evidence.monitor.alarm
    said = ""
    if alarm is not None:
        said = f"{type(alarm.detector).__name__}, threshold {alarm.threshold:.4g}, {alarm.patience} steps in a row"
    results = evidence.results
    shifts = (
        [] if results is None else [name for name in SHIFT_COLUMNS if name in results and results[name].nunique() > 1]
    )
    values = ", ".join(str(value) for name in shifts for value in results[name].unique())  # type: ignore[index]
    return [
        ("An alarm for strange observations is in place", _yes(alarm is not None), said),
        ("It was evaluated in more than one world", "yes" if shifts else NOT_RECORDED, values),
    ]


def _compliance(agent: Agent, metadata: dict[str, Any], checkpoint: str | Path, evidence: Evidence) -> list[Check]:
    run = metadata.get("loop", {}).get("run", {})
    rows: list[Check] = [
        ("The checkpoint is whole", "yes", f"SHA-256 {_sha256(checkpoint)[:16]}…"),
        ("The seed of its training is recorded", "yes" if "seed" in run else NOT_RECORDED, str(run.get("seed", ""))),
    ]
    check = f"The exported program gives what the agent gives, within {TOLERANCE:g}"
    if evidence.export is None:
        rows.append((check, NOT_RECORDED, "no program given"))
    else:
        rows.append((check, *_same_as_exported(agent, evidence.export)))
    logged = evidence.monitor is not None
    rows.append(("Every hand-over is logged", _yes(logged), "RuntimeMonitor.log" if logged else "no monitor given"))
    return rows


def _same_as_exported(agent: Agent, path: str | Path) -> tuple[str, str]:
    program = load_exported(path)
    for name in ("observation_space", "action_space"):
        if getattr(program, name) != getattr(agent, name):
            return "no", f"its {name} is {getattr(program, name)}"
    error = parity_error(agent, program._run)
    return _yes(error <= TOLERANCE), f"off by {error:.2g}"


# The card


def model_card(
    checkpoint: str | Path,
    evidence: Evidence = NOTHING,
    *,
    intended_use: str | None = None,
    limits: str | None = None,
) -> str:
    """A Markdown page about the agent in a checkpoint.

    Args:
        checkpoint: File of an agent or a training run.
        evidence: What else is known: data, results, program, monitor, answers.
        intended_use: What the policy is for, and for whom.
        limits: What it must not be used for, and what is known to go wrong.
    Returns:
        The card; fields that nobody recorded say so.
    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is damaged or holds no agent.
    """
    path = Path(checkpoint)
    tensors, metadata = read_checkpoint(path)
    agent = load_agent(path)
    cls = agent_class(metadata["agent"])
    parts = [
        f"# Model card: {metadata['agent']}",
        (cls.__doc__ or "").split("\n")[0],
        _markdown(_facts(path, agent, metadata), "fact"),
        "## Intended use",
        intended_use or NOT_RECORDED,
        "## Limits",
        limits or NOT_RECORDED,
        "## Interface",
        _markdown(_interface(agent, metadata, tensors), "part"),
        "## Training",
        _markdown(_training(metadata), "fact"),
        "## Data",
        _data_table(evidence.dataset),
        "## Settings",
        _settings(metadata, cls),
        "## Results",
        NOT_RECORDED if evidence.results is None else _frame_markdown(evidence.results),
        "## Checklist of the five critical factors",
    ]
    table = checklist(path, evidence)
    for factor, group in table.groupby("factor", sort=False):
        parts += [f"### {factor}", _frame_markdown(group.drop(columns="factor"))]
    open_items = int((table["status"].isin(["open", "no", NOT_RECORDED])).sum())
    parts.append(f"{open_items} of {len(table)} items are open, not recorded or answered with no.")
    return "\n\n".join(parts) + "\n"


def _facts(path: Path, agent: Agent, metadata: dict[str, Any]) -> dict[str, Any]:
    source = (sys.modules[type(agent).__module__].__doc__ or "").split("\n")[0].split(" Book:")[0]
    reason = why_not_exportable(agent)
    deciding = None if reason else sum(weight.numel() for weight in policy_module(agent).parameters())
    return {
        "algorithm": source or NOT_RECORDED,
        "file": f"{path.name}, SHA-256 {_sha256(path)}",
        "written by": metadata.get("ca14lib", f"{NOT_RECORDED} (this card: ca14lib {__version__})"),
        "parameters": f"{sum(weight.numel() for weight in agent.parameters()):,}",
        "parameters that a decision uses": f"not exportable: {reason}" if deciding is None else f"{deciding:,}",
    }


def _interface(agent: Agent, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    mean = tensors.get("module.normalizer.mean")
    normalised = "no"
    if mean is not None:
        normalised = f"yes, means from {float(mean.min()):.4g} to {float(mean.max()):.4g}"
    memory = getattr(agent, "memory_size", 0)
    return {
        "observation": str(space_from_json(metadata["observation_space"])),
        "action": str(space_from_json(metadata["action_space"])),
        "normalised": normalised,
        "memory": f"{memory} numbers for each agent" if memory else "none",
    }


def _training(metadata: dict[str, Any]) -> dict[str, Any]:
    loop = metadata.get("loop", {})
    run = loop.get("run", {})
    facts = {name: run.get(name, NOT_RECORDED) for name in ("environment", "data", "seed")}
    done = NOT_RECORDED
    if "iteration" in loop and {"num_envs", "rollout_steps"} <= run.keys():
        done = f"{loop['iteration'] * run['num_envs'] * run['rollout_steps']:,} environment steps"
    elif "step" in loop:
        done = f"{loop['step']:,} steps of the training loop"
    rest = {name: value for name, value in run.items() if name not in facts and value is not None}
    return facts | {"trained for": done} | rest


def _settings(metadata: dict[str, Any], cls: type[Agent]) -> str:
    default = asdict(cls.config_class())
    rows = []
    for name, value in metadata["config"].items():
        usual = default.get(name)
        same = value == (list(usual) if isinstance(usual, tuple) else usual)
        rows.append((name, value, "" if same else usual))
    return _frame_markdown(pd.DataFrame(rows, columns=["setting", "value", "default, where another"]))


def _data_table(dataset: OfflineDataset | None) -> str:
    if dataset is None:
        return NOT_RECORDED
    report = dataset.quality()
    facts = {"environment": dataset.environment_id or NOT_RECORDED, "behaviour": dataset.policy or NOT_RECORDED}
    return _markdown(facts | {str(name): value for name, value in report.items()}, "quantity")


def _markdown(facts: Mapping[str, Any], head: str) -> str:
    return _frame_markdown(pd.DataFrame(list(facts.items()), columns=[head, "value"], dtype=object))


def _frame_markdown(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table; bars inside a cell are escaped."""
    lines = ["| " + " | ".join(_cell(name) for name in frame.columns) + " |", "|" + "---|" * frame.shape[1]]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
