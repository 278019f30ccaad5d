"""Policies as programs that run without this package: torch.export and ONNX. Book: evaluation/deployment.

A program holds what one deterministic decision touches, normaliser included, and nothing of training. Beside it lies a
JSON file that says for which spaces it is, which version wrote it, and the hash of its bytes.
"""

import copy
import hashlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib import __version__
from ca14lib.agents import AGENTS, TEAMS, Agent, ContinuousAgent, DiscreteAgent, OnPolicyAgent
from ca14lib.agents.base import space_from_json, space_to_json
from ca14lib.agents.check import ACTIONS, BOX, CONTINUOUS_ACTIONS
from ca14lib.agents.hybrid import ConstrainedBCQ
from ca14lib.agents.multi_agent import COMA, MAAC, MADDPG, MultiAgent
from ca14lib.agents.multi_agent.communication import CommunicatingTeam
from ca14lib.agents.multi_agent.policy_team import PolicyTeam
from ca14lib.agents.multi_agent.value_team import ValueTeam
from ca14lib.agents.offline.bcq import BCQ, DiscreteBCQ, supported_actions
from ca14lib.environments import joint_spaces

Format = Literal["torch", "onnx"]
Outputs = dict[str, NDArray]
Run = Callable[[dict[str, NDArray]], list[NDArray]]

FORMAT = "ca14-export-1"
FORMATS = ("torch", "onnx")
TOLERANCE = 1e-5  # how far outputs of a program may be from the agent's, relative where they are larger than 1
CHECKED_BATCHES = (1, 17)  # sizes at which a program is compared with its agent before it is written
TRAINING_ONLY = (torch.Generator, torch.optim.Optimizer)
TABLES = ("PSRL", "PosteriorMean", "QLearning", "UCBVI")


# What can be exported


def why_not_exportable(agent: Any) -> str | None:
    """The reason why an agent cannot become a program of one observation, or None if it can."""
    if isinstance(agent, MultiAgent):
        if agent.memory_size:
            return "it keeps a memory from step to step, and a program here is a function of one observation"
        if isinstance(agent, CommunicatingTeam) and agent.channel_mode == "scrambled":
            return "its channel is scrambled, which draws random numbers in every step"
        return None
    if isinstance(agent, DiscreteAgent | ContinuousAgent | OnPolicyAgent):
        return None
    if isinstance(agent, Agent):
        return "it derives from none of DiscreteAgent, ContinuousAgent, OnPolicyAgent and MultiAgent"
    return "it has no policy network; what it would do in every state is its policy_table"


def exportable_agents() -> pd.DataFrame:
    """Every agent and team of the course in its default setting: what its program takes and gives, or why not.

    Returns:
        ``agent``, ``inputs``, ``outputs``, ``exportable`` and ``reason``.
    """
    rows = []
    for name in AGENTS | TEAMS:
        agent = example_agent(name)
        reason = why_not_exportable(agent)
        masked = _takes_mask(agent)
        rows.append(
            {
                "agent": name,
                "inputs": "observation, mask" if masked else "observation",
                "outputs": ", ".join(_output_names(agent)),
                "exportable": reason is None,
                "reason": reason or "",
            }
        )
    for name in TABLES:
        reason = why_not_exportable(None)
        rows.append({"agent": name, "inputs": "", "outputs": "", "exportable": False, "reason": reason or ""})
    return pd.DataFrame(rows)


def example_agent(name: str, seed: int = 0, config: Any = None) -> Agent:
    """An untrained agent or team on made-up spaces: 3 numbers or 3 agents with 4 numbers each, 4 actions or 2 numbers.

    Args:
        name: Of ``AGENTS`` or ``TEAMS``.
        seed: Of the weights.
        config: Configuration; None for the default.
    """
    if name in TEAMS:
        one = gym.spaces.Box(-10, 10, (4,), np.float32)
        return TEAMS[name](*joint_spaces(one, ACTIONS, 3), config, seed=seed)
    cls = AGENTS[name]
    actions: gym.Space = CONTINUOUS_ACTIONS if issubclass(cls, ContinuousAgent) else ACTIONS
    return cls(BOX, actions, config, seed=seed)


def _takes_mask(agent: Agent) -> bool:
    return isinstance(agent.action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)


def _output_names(agent: Agent) -> list[str]:
    return ["action", "scores"] if _takes_mask(agent) else ["action"]


# Agents as pure modules


class PolicyModule(nn.Module):
    """The deterministic policy of an agent: tensors in, tensors out (book eq. evaluation-program).

    Args:
        agent: Copied without its optimisers and its generator; the copy lives on the CPU.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = _without_training(agent)
        space = agent.action_space
        if isinstance(space, gym.spaces.Box):
            low, high = ContinuousAgent._float_bounds.func(agent)  # type: ignore[attr-defined]
            self.register_buffer("low", torch.as_tensor(low), persistent=False)
            self.register_buffer("high", torch.as_tensor(high), persistent=False)

    def scores(self, observation: Tensor, mask: Tensor) -> Tensor:
        """Q-values or log-probabilities ``[N, …, A]``, −∞ where an action must not be chosen."""
        agent: Any = self.agent
        if isinstance(agent, OnPolicyAgent):
            return agent.policy(agent._input(observation), mask)[0]
        if isinstance(agent, MultiAgent):
            return self._team_scores(agent._features(observation), mask)
        if isinstance(agent, DiscreteBCQ | ConstrainedBCQ):  # they choose among what the data support
            mask = supported_actions(agent.behaviour(agent._input(observation)), agent.config.threshold, mask)
        return agent._scores(observation).masked_fill(~mask, -torch.inf)

    def _team_scores(self, inputs: Tensor, mask: Tensor) -> Tensor:
        agent: Any = self.agent
        if isinstance(agent, PolicyTeam):
            return agent._distribution(agent._step(inputs, None, None)[0], mask)[0]
        if isinstance(agent, ValueTeam):
            outputs = agent.utilities(inputs)[0]
        elif isinstance(agent, MADDPG | MAAC):
            outputs = agent.actor(inputs)[0]
        else:
            assert isinstance(agent, COMA), f"no scores known for {type(agent).__name__}"
            outputs = agent.policy(inputs)[0]
        return outputs.masked_fill(~mask, -torch.inf)

    def unclipped(self, observation: Tensor) -> Tensor:
        """Continuous actions ``[N, …, D]`` in environment units, not clipped to the bounds."""
        agent: Any = self.agent
        if isinstance(agent, MultiAgent):
            return agent._best(agent._features(observation), None, None)[0]
        if isinstance(agent, OnPolicyAgent):
            unit = agent.policy(agent._input(observation))[0]
        else:
            unit = agent._unit_action(observation, True).clamp(-1, 1)
        return agent._environment(unit)


class DiscretePolicyModule(PolicyModule):
    """Observation and mask to the best allowed action and the scores of all."""

    def forward(self, observation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(observation, mask)
        return scores.argmax(dim=-1), scores


class ContinuousPolicyModule(PolicyModule):
    """Observation to the action, in environment units and within the bounds."""

    low: Tensor
    high: Tensor

    def forward(self, observation: Tensor) -> tuple[Tensor]:
        return (torch.minimum(torch.maximum(self.unclipped(observation), self.low), self.high),)


def policy_module(agent: Agent) -> DiscretePolicyModule | ContinuousPolicyModule:
    """The deterministic policy of an agent as a module without state, generator or optimiser.

    Returns:
        For discrete actions a module of ``observation`` ``[N, …]`` and ``mask`` ``[N, …, A]`` that gives actions and
        scores; for continuous ones a module of the observation that gives actions.
    Raises:
        ValueError: If the agent cannot be exported, with the reason (:func:`exportable_agents` lists them).
    """
    reason = why_not_exportable(agent)
    if reason is not None:
        raise ValueError(f"{type(agent).__name__} cannot be exported: {reason}")
    module = DiscretePolicyModule(agent) if _takes_mask(agent) else ContinuousPolicyModule(agent)
    module.eval().requires_grad_(False)
    _drop_unused(module, _example_inputs(agent, 2))
    return module


def _without_training(agent: Agent) -> Agent:
    """A copy on the CPU that can decide and can no longer learn."""
    training = {name for name, value in agent.__dict__.items() if isinstance(value, TRAINING_ONLY)}
    left_out = training | {"optimizers", "_action_range"}  # the range may lie on another device
    made = object.__new__(type(agent))
    made.__dict__ = copy.deepcopy({name: value for name, value in agent.__dict__.items() if name not in left_out})
    made.to("cpu")
    made.device = torch.device("cpu")
    if isinstance(agent.action_space, gym.spaces.Box):
        _ = made._action_range  # computed here, so that a program holds it as a constant
    return made


def _drop_unused(module: PolicyModule, inputs: dict[str, Tensor]) -> None:
    """Remove every network that a decision does not call: critics, targets, encoders."""
    used: set[nn.Module] = set()

    def note(called: nn.Module, *_: Any) -> None:
        used.add(called)

    hooks = [part.register_forward_hook(note) for part in module.modules()]
    try:
        with torch.no_grad():
            module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()

    def drop(parent: nn.Module) -> None:
        if isinstance(parent, nn.ModuleList | nn.Sequential):
            return  # their parts are known by position
        for name, child in list(parent.named_children()):
            if used.isdisjoint(child.modules()):
                del parent._modules[name]
            else:
                drop(child)

    drop(module.agent)


def _example_inputs(agent: Agent, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Random observations, and for discrete actions masks that allow about two thirds."""
    generator = torch.Generator().manual_seed(seed)
    space, actions = agent.observation_space, agent.action_space
    if isinstance(space, gym.spaces.Discrete):
        inputs = {"observation": torch.randint(int(space.n), (rows,), generator=generator)}
    else:
        inputs = {"observation": torch.randn(rows, *(space.shape or ()), generator=generator)}
    if isinstance(actions, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        lead = (rows, *(actions.shape or ()))
        count = int(actions.n if isinstance(actions, gym.spaces.Discrete) else actions.nvec[0])
        mask = torch.rand(*lead, count, generator=generator) < 2 / 3
        mask[..., 0] |= ~mask.any(dim=-1)
        inputs["mask"] = mask
    return inputs


# Programs on disk


def export_policy(agent: Agent, path: str | Path, format: Format = "torch", *, overwrite: bool = False) -> Path:
    """Write an agent's deterministic policy as a program, and beside it ``PATH.json`` with what belongs to it.

    Both are written under temporary names first, the program is compared with the agent, and only then are they
    renamed. A kill between the two renames leaves a pair whose hashes differ, which :func:`load_exported` refuses.

    Args:
        agent: An agent or a team without memory.
        path: File of the program; ``.pt2`` and ``.onnx`` are usual.
        format: ``"torch"`` (torch.export) or ``"onnx"``, which needs the extra ``export``.
        overwrite: Replace an export that is there.
    Returns:
        The path.
    Raises:
        ValueError: If the agent cannot be exported, the format is unknown, or the program does not give what the agent
            gives; nothing is written.
        FileExistsError: If there is a file and ``overwrite`` is false.
        ImportError: If ONNX is not installed.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    description = _description_path(path)
    for file in (path, description):
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; overwrite=True replaces it")
    if format == "onnx":
        _require_onnx()
    module = policy_module(agent)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        program = folder / ("policy.pt2" if format == "torch" else "policy.onnx")
        _write_program(module, _example_inputs(agent, 2), program, format)
        error = parity_error(agent, _runner(program, format))
        if not error <= TOLERANCE:
            raise ValueError(
                f"the {format} program of {type(agent).__name__} is off the agent by {error:.2g}, "
                f"more than {TOLERANCE:g}: nothing was written"
            )
        metadata = {
            "format": FORMAT,
            "ca14lib": __version__,
            "torch": torch.__version__,
            "kind": format,
            "sha256": _sha256(program),
            "agent": type(agent).__name__,
            "observation_space": space_to_json(agent.observation_space),
            "action_space": space_to_json(agent.action_space),
            "outputs": _output_names(agent),
            "parameters": sum(weight.numel() for weight in module.parameters()),
            "parity": error,
        }
        written = folder / "policy.json"
        written.write_text(json.dumps(metadata, indent=1) + "\n", "utf8")
        os.replace(program, path)
        os.replace(written, description)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


def _write_program(module: nn.Module, inputs: dict[str, Tensor], path: Path, format: Format) -> None:
    batch = torch.export.Dim("batch")
    with torch.no_grad(), _quiet():
        # strict: sizes that the networks read with len() stay symbols only there
        exported = torch.export.export(
            module, (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}, strict=True
        )
        if format == "torch":
            torch.export.save(exported, path)
            return
        program = torch.onnx.export(
            exported, input_names=list(inputs), output_names=["action", "scores"][: 1 + ("mask" in inputs)],
            verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters speak of what they look for and do not find; nothing of it concerns a policy."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require_onnx() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # what torch's exporter needs
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: pip install 'ca14lib[export]'") from error
    return onnxruntime


def _runner(path: Path, format: Format) -> Run:
    """A function of named arrays to the program's outputs, on one thread."""
    if format == "torch":
        with _quiet():
            module = torch.export.load(path).module()

        def run_torch(inputs: dict[str, NDArray]) -> list[NDArray]:
            with torch.inference_mode():
                return [value.numpy() for value in module(**{k: torch.from_numpy(v) for k, v in inputs.items()})]

        return run_torch
    runtime = _require_onnx()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def parity_error(agent: Agent, run: Run, *, batches: tuple[int, ...] = CHECKED_BATCHES, seed: int = 0) -> float:
    """How far a program is from its agent on random observations and masks (book eq. evaluation-parity).

    The largest difference of any output, relative where the agent's is larger than 1. Another discrete action than
    ``agent.act``'s counts as infinite, unless its score is as good up to the tolerance; another one of BCQ's candidates
    counts as none if the critic's value is as good up to the tolerance, because the largest of many is found by
    comparing numbers that rounding can swap.

    Args:
        agent: What the program was made from.
        run: The program.
        batches: Numbers of rows to try.
        seed: Fixes the observations.
    """
    worst = 0.0
    module = policy_module(agent)
    for rows in batches:
        inputs = _example_inputs(agent, rows, seed)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        found = run(arrays)
        acted = _acted(agent, arrays)
        if found[0].shape != acted.shape:
            return float("inf")
        if not _takes_mask(agent):
            tied = _tied(agent, inputs["observation"], found[0], acted)
            worst = max(worst, _distance(found[0][~tied], acted[~tied]))
            continue
        with torch.no_grad():
            scores = module(**inputs)[1].numpy()
        worst = max(worst, _distance(found[1], scores))
        taken = np.take_along_axis(scores, found[0][..., None], axis=-1)
        wanted = np.take_along_axis(scores, acted[..., None], axis=-1)
        if not (abs(taken - wanted) <= TOLERANCE * np.maximum(1, abs(wanted))).all():
            return float("inf")
    return worst


def _tied(agent: Agent, observation: Tensor, found: NDArray, acted: NDArray) -> NDArray[np.bool_]:
    """Rows ``[N]`` in which BCQ's choice fell on another candidate of the same value."""
    if not isinstance(agent, BCQ) or found.shape != acted.shape or not np.isfinite(found).all():
        return np.zeros(len(acted), dtype=np.bool_)
    with torch.no_grad():
        inputs = agent._input(observation.to(agent.device))
        values = [
            agent.critic.first(torch.cat([inputs, agent._unit(torch.as_tensor(each, device=agent.device))], dim=-1))
            for each in (found, acted)
        ]
    first, second = (value.squeeze(-1).cpu().numpy() for value in values)
    other = abs(found - acted).max(axis=1) > TOLERANCE
    return other & (abs(first - second) <= TOLERANCE * np.maximum(1, abs(second)))


def _acted(agent: Agent, arrays: dict[str, NDArray]) -> NDArray:
    """What the agent itself does."""
    return np.asarray(agent.act(arrays["observation"], mask=arrays.get("mask"), deterministic=True))


def _distance(found: NDArray, wanted: NDArray) -> float:
    if found.shape != wanted.shape or (np.isinf(found) != np.isinf(wanted)).any() or np.isnan(found).any():
        return float("inf")
    finite = np.isfinite(wanted)
    difference = abs(found[finite] - wanted[finite]) / np.maximum(1, abs(wanted[finite]))
    return float(difference.max(initial=0.0))


class ExportedPolicy:
    """A program that was written by :func:`export_policy`, with the ``act`` of an agent.

    Attributes:
        observation_space: Of one observation.
        action_space: Of one action.
        metadata: What the JSON file says.
    """

    def __init__(self, run: Run, metadata: dict[str, Any]) -> None:
        self._run, self.metadata = run, metadata
        self.observation_space = space_from_json(metadata["observation_space"])
        self.action_space = space_from_json(metadata["action_space"])
        self.device = torch.device("cpu")
        self._kind = np.int64 if isinstance(self.observation_space, gym.spaces.Discrete) else np.float32

    @property
    def takes_mask(self) -> bool:
        """Whether actions can be forbidden."""
        return isinstance(self.action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)

    def outputs(self, observation: ArrayLike, *, mask: ArrayLike | None = None) -> Outputs:
        """Everything that the program gives, by name: ``action`` and, for discrete actions, ``scores``.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, …, A]``, true where an action is allowed; None for all.
        Raises:
            ValueError: If observation or mask do not fit.
        """
        seen = Agent._observation_tensor(self, observation).numpy()  # type: ignore[arg-type]
        inputs = {"observation": np.ascontiguousarray(seen, dtype=self._kind)}
        if self.takes_mask:
            inputs["mask"] = self._checked_mask(mask, len(seen))
        elif mask is not None:
            raise ValueError(f"the policy has continuous actions, {self.action_space}, and takes no mask")
        return dict(zip(self.metadata["outputs"], self._run(inputs)))

    def act(self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = True) -> NDArray:
        """Actions for a batch of observations, as :meth:`ca14lib.agents.Agent.act` gives them.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, …, A]``, true where an action is allowed; None for all.
            deterministic: Must be true: a program holds the deterministic policy.
        Returns:
            Actions ``[N, …]``.
        """
        if not deterministic:
            raise ValueError("an exported policy is deterministic, got deterministic=False")
        return self.outputs(observation, mask=mask)["action"]

    def _checked_mask(self, mask: ArrayLike | None, rows: int) -> NDArray[np.bool_]:
        space = self.action_space
        assert isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
        count = int(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec[0])
        shape = (rows, *(space.shape or ()), count)
        if mask is None:
            return np.ones(shape, dtype=np.bool_)
        allowed = np.asarray(mask)
        if allowed.dtype != np.bool_ or allowed.shape != shape or not allowed.any(axis=-1).all():
            raise ValueError(
                f"mask must be booleans of shape {shape} that allow an action in every row, "
                f"got dtype {allowed.dtype}, shape {allowed.shape}"
            )
        return np.ascontiguousarray(allowed)


def load_exported(path: str | Path) -> ExportedPolicy:
    """Load a program that :func:`export_policy` wrote, after comparing its bytes with the hash beside it.

    The hash finds damage and mix-ups, not malice: whoever can change the program can change the hash. Load only what
    comes from a place you trust.

    Raises:
        FileNotFoundError: If program or description is missing.
        ValueError: If it was written by another version, is damaged, or is no export of this course.
        ImportError: If it is an ONNX program and onnxruntime is not installed.
    """
    path = Path(path)
    metadata = read_description(path)
    found = _sha256(path)
    if found != metadata["sha256"]:
        raise ValueError(
            f"{path} is not the program that {_description_path(path).name} describes: its hash begins with "
            f"{found[:12]}, expected {metadata['sha256'][:12]}"
        )
    return ExportedPolicy(_runner(path, metadata["kind"]), metadata)


def read_description(path: str | Path) -> dict[str, Any]:
    """What the JSON file beside a program says, after checks of format and version; errors as :func:`load_exported`."""
    path = Path(path)
    description = _description_path(path)
    for file in (path, description):
        if not file.is_file():
            raise FileNotFoundError(f"no exported policy at {path}: {file} is missing")
    try:
        metadata = json.loads(description.read_text("utf8"))
        known = isinstance(metadata, dict) and metadata["format"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{description} describes no exported policy: {error}") from error
    if known != FORMAT:
        raise ValueError(f"{description} has the format {known!r}, this version reads {FORMAT!r}: export again")
    if metadata.get("ca14lib") != __version__:
        raise ValueError(
            f"{path} was exported by ca14lib {metadata.get('ca14lib')}, this is {__version__}: export again"
        )
    return metadata


def _description_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
