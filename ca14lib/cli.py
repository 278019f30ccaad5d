"""The command ``ca14``: list, collect, train, evaluate, run the experiments of the sections, report."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ca14lib.grading.commands import assignment_app, grade

# Heavy imports (torch, Minari, pandas) wait until a command needs them, so that --help answers at once.

app = typer.Typer(
    help="Tools of the course CA14: advanced deep reinforcement learning.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)
list_app = typer.Typer(help="List what the course offers.", no_args_is_help=True)
run_app = typer.Typer(help="Run the experiment of a section and write its result tables.", no_args_is_help=True)
app.add_typer(list_app, name="list")
app.add_typer(run_app, name="run")
app.add_typer(assignment_app, name="assignment")

console = Console()


def _version(show: bool) -> None:
    if show:
        import ca14lib

        console.print(f"ca14lib {ca14lib.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Tools of the course CA14: advanced deep reinforcement learning."""


@list_app.command("environments")
def list_environments() -> None:
    """List the environments, their spaces, limits, costs and behaviours."""
    import gymnasium as gym

    from ca14lib.environments import CONTINUOUS_ENVIRONMENTS, ENVIRONMENTS, GYMNASIUM_TASKS, batched_environment

    table = Table(
        Column("id", no_wrap=True), "observation", "actions", "steps of an episode", "states", "costs", "behaviours",
        title="Environments",
    )  # fmt: skip
    for environment_id in ENVIRONMENTS | CONTINUOUS_ENVIRONMENTS:
        environment = batched_environment(environment_id)
        table.add_row(
            environment_id,
            _space(environment.single_observation_space),
            _space(environment.single_action_space),
            f"{environment.horizon} (task)" if environment.horizon else _limit(environment.time_limit),
            str(environment.tabular_model().num_states) if environment_id in ENVIRONMENTS else "continuous",
            _costs(gym.make(environment_id)),
            ", ".join(environment.behaviours()),
        )
    for environment_id in GYMNASIUM_TASKS:
        try:
            task = gym.make(environment_id)
        except ImportError as error:
            table.add_row(environment_id, escape(str(error)))
            continue
        limit = gym.spec(environment_id).max_episode_steps or getattr(task.unwrapped, "config", {}).get("duration")
        table.add_row(
            environment_id,
            _space(task.observation_space),
            _space(task.action_space),
            _limit(limit),
            "continuous",
            _costs(task),
            "",
        )
        task.close()
    console.print(table)


@list_app.command("agents")
def list_agents() -> None:
    """List the agents and teams, and their settings with default values."""
    from ca14lib.agents import AGENTS, TEAMS

    table = Table(Column("agent", no_wrap=True), "what it is", "settings (default)", title="Agents")
    for name, agent in (AGENTS | TEAMS).items():
        settings = ", ".join(f"{item.name}={item.default}" for item in fields(agent.config_class))
        table.add_row(name, (agent.__doc__ or "").split("\n")[0], settings)
    console.print(table)


@list_app.command("games")
def list_games() -> None:
    """List the games of several agents, their spaces and the libraries that bring more."""
    from ca14lib.environments import MULTI_AGENT_ENVIRONMENTS, MULTI_AGENT_FAMILIES, multi_agent_environment

    table = Table(
        Column("game", no_wrap=True), "agents", "observation of one", "actions of one", "state", "steps of an episode",
        title="Games (defaults)",
    )  # fmt: skip
    for name in MULTI_AGENT_ENVIRONMENTS:
        game = multi_agent_environment(name, 1)
        table.add_row(
            name,
            str(game.num_agents),
            _space(game.agent_observation_space),
            _space(game.agent_action_space),
            _space(game.state_space),
            f"{game.horizon} (game)" if game.horizon else _limit(game.time_limit),
        )
    for prefix, (_, _, library) in MULTI_AGENT_FAMILIES.items():
        table.add_row(
            f"{prefix}/…", "", "", "", "", f"needs {library}" if library else "the environments, for one agent"
        )
    console.print(table)


@list_app.command("datasets")
def list_datasets() -> None:
    """List the Minari datasets on this computer (folder $MINARI_DATASETS_PATH, else ~/.minari/datasets)."""
    from ca14lib.data.minari_files import local_datasets

    table = Table(
        Column("id", no_wrap=True), "environment", "behaviour", "episodes", "transitions", title="Local Minari datasets"
    )
    for name, metadata in local_datasets().items():
        spec = metadata.get("env_spec")
        environment = json.loads(spec)["id"] if isinstance(spec, str) else getattr(spec, "id", "unknown")
        table.add_row(
            name,
            environment,
            str(metadata.get("algorithm_name", "unknown")),
            f"{metadata['total_episodes']:,}",
            f"{metadata['total_steps']:,}",
        )
    console.print(table)
    if not table.row_count:
        console.print("none yet; `ca14 collect CA14/GridWorld-v0 gridworld/mixed-v0 --policy mixed` makes one")


@app.command()
def collect(
    environment: Annotated[str, typer.Argument(help="Environment id: CA14/GridWorld-v0, Pendulum-v1, …")],
    dataset: Annotated[str, typer.Argument(help="Minari id to store under, for example gridworld/mixed-v0.")],
    policy: Annotated[str, typer.Option(help="Behaviour that the environment offers.")] = "random",
    episodes: Annotated[int, typer.Option(help="Number of whole episodes.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of environment and behaviour.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a dataset of that id.")] = False,
) -> None:
    """Collect episodes with a behaviour and store them as a Minari dataset."""
    from ca14lib.environments import ENVIRONMENTS, tabular_model
    from ca14lib.training import collect as collect_episodes

    data = collect_episodes(environment, policy, episodes, seed)
    report = data.quality(tabular_model(environment) if environment in ENVIRONMENTS else None)
    data.to_minari(dataset, overwrite=overwrite)
    table = Table("quantity", "value", title=f"{dataset}: {policy} on {environment}, seed {seed}")
    for name, value in report.items():
        table.add_row(str(name), f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    console.print(table)


@app.command("make-datasets")
def make_datasets(
    environment: Annotated[str, typer.Argument(help="pendulum (a minute or two) or hopper (under an hour).")],
    seed: Annotated[int, typer.Option(help="Seed of the behaviour agent's training and of the collection.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Minari folder; by default $MINARI_DATASETS_PATH, else ~/.minari/datasets.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace datasets that exist.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave datasets that exist as they are, and do nothing.")] = False,
    cache: Annotated[
        Path, typer.Option(help="Folder of the unfinished training, from which a stopped command goes on.")
    ] = Path("runs/datasets"),
    output: Annotated[Path | None, typer.Option(help="Folder of the result table; by default results/.")] = None,
) -> None:
    """Train SAC and store its data in four qualities: random, medium, expert and medium-replay."""
    import torch

    from ca14lib.experiments.offline import datasets

    if keep and datasets.all_exist(environment, folder):
        console.print(f"the datasets of {environment} exist")
        return
    torch.set_num_threads(1)  # one thread is the faster for networks of this size
    table = datasets.make_datasets(environment, seed, folder=folder, overwrite=overwrite, cache=cache)
    path = datasets.write_datasets_table(table, seed, output)
    _print_frame(f"{environment}/…-v0, seed {seed}", table)
    console.print(f"table: {path}", markup=False, highlight=False)


@app.command()
def train(
    agent: Annotated[str, typer.Argument(help="Agent, for example DiscreteIQL; see `ca14 list agents`.")],
    dataset: Annotated[str, typer.Argument(help="Minari id of the data; see `ca14 list datasets`.")],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, and to resume from if it exists.")],
    updates: Annotated[int, typer.Option(help="Number of updates in all.")] = 3_000,
    batch_size: Annotated[int, typer.Option(help="Transitions per update.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the agent, name=value; may be repeated.")
    ] = None,
    top_episodes: Annotated[
        float, typer.Option(help="Train on this share of the episodes, those of highest return: 0.1 with BC is 10% BC.")
    ] = 1.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    history: Annotated[Path | None, typer.Option(help="CSV file for the training history.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")] = None,
) -> None:
    """Train an agent on a stored dataset."""
    from ca14lib.agents import agent_class
    from ca14lib.data import OfflineDataset
    from ca14lib.training import train_offline

    cls = agent_class(agent)
    config = _config(cls.config_class, setting or [])
    data = OfflineDataset.from_minari(dataset).to(_device(device))
    if top_episodes != 1.0:
        data = data.top_episodes(top_episodes)
    learner = cls(
        data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed, device=device
    )
    log = train_offline(
        learner, data, updates, batch_size=batch_size, seed=seed, checkpoint=output,
        checkpoint_every=max(updates // 10, 1), tensorboard=tensorboard,
    )  # fmt: skip
    _print_history(log.frame, history, f"{agent} on {dataset}: {updates:,} updates")
    console.print(f"checkpoint: {output}", markup=False, highlight=False)


@app.command("train-on-policy")
def train_on_policy(
    agent: Annotated[str, typer.Argument(help="On-policy agent, for example PPOLagrangian; see `ca14 list agents`.")],
    environment: Annotated[str, typer.Argument(help="Environment id, for example CA14/SafeGrid-v0.")],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, and to resume from if it exists.")],
    steps: Annotated[int, typer.Option(help="Environment steps in all.")] = 500_000,
    num_envs: Annotated[int, typer.Option(help="Environments stepped together.")] = 128,
    rollout_steps: Annotated[int, typer.Option(help="Steps of each between two updates.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of weights and environments.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the agent, name=value, such as cost_limits=0.6; may be repeated."),
    ] = None,
    environment_setting: Annotated[
        list[str] | None,
        typer.Option("--environment", help="Setting of the environment, name=value in JSON; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    history: Annotated[Path | None, typer.Option(help="CSV file for the training history.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")] = None,
) -> None:
    """Train an on-policy agent, safe or not, in an environment."""
    from ca14lib.agents import OnPolicyAgent, agent_class
    from ca14lib.training import train_on_policy as train
    from ca14lib.training import vector_environment

    cls = agent_class(agent)
    if not issubclass(cls, OnPolicyAgent):
        raise ValueError(f"{agent} is not an on-policy agent; `ca14 train` trains offline agents on a dataset")
    arguments = dict(_json_setting(text) for text in environment_setting or [])
    spaces = vector_environment(environment, 1, **arguments)
    learner = cls(
        spaces.single_observation_space,
        spaces.single_action_space,
        _config(cls.config_class, setting or []),
        seed=seed,
        device=_device(device),
    )
    spaces.close()
    iterations = -(-steps // (num_envs * rollout_steps))
    log = train(
        learner, environment, steps, environment_arguments=arguments, num_envs=num_envs, rollout_steps=rollout_steps,
        seed=seed, checkpoint=output, checkpoint_every=max(iterations // 10, 1), tensorboard=tensorboard,
    )  # fmt: skip
    _print_history(log.frame, history, f"{agent} on {environment}: {steps:,} steps")
    console.print(f"checkpoint: {output}", markup=False, highlight=False)


@app.command("train-team")
def train_team(
    agent: Annotated[str, typer.Argument(help="Team, for example MAPPO; see `ca14 list agents`.")],
    environment: Annotated[str, typer.Argument(help="Game, for example TargetGrid; see `ca14 list games`.")],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, and to resume from if it exists.")],
    steps: Annotated[int, typer.Option(help="Steps of all copies of the game together.")] = 500_000,
    num_envs: Annotated[int, typer.Option(help="Copies stepped together.")] = 64,
    rollout_steps: Annotated[int, typer.Option(help="Steps of each between two updates.")] = 16,
    updates: Annotated[int, typer.Option(help="Updates per iteration, of teams that learn from a replay.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Transitions, or episodes, per update from a replay.")] = 256,
    capacity: Annotated[int, typer.Option(help="Transitions, or episodes, that a replay keeps.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of weights and games.")] = 0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the team, name=value; may be repeated.")
    ] = None,
    environment_setting: Annotated[
        list[str] | None,
        typer.Option("--environment", help="Setting of the game, name=value in JSON; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    history: Annotated[Path | None, typer.Option(help="CSV file for the training history.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")] = None,
) -> None:
    """Train a team of agents in a game."""
    from ca14lib.agents import agent_class
    from ca14lib.agents.multi_agent import MultiAgent
    from ca14lib.environments import multi_agent_environment
    from ca14lib.training import train_multi_agent

    cls = agent_class(agent)
    if not issubclass(cls, MultiAgent):
        raise ValueError(f"{agent} is not a team; `ca14 list agents` shows the teams that train-team trains")
    arguments = dict(_json_setting(text) for text in environment_setting or [])
    learner = cls.for_game(
        multi_agent_environment(environment, 1, **arguments), _config(cls.config_class, setting or []),
        seed=seed, device=_device(device),
    )  # fmt: skip
    iterations = -(-steps // (num_envs * rollout_steps))
    log = train_multi_agent(
        learner, environment, steps, environment_arguments=arguments, num_envs=num_envs, rollout_steps=rollout_steps,
        updates=updates, batch_size=batch_size, capacity=capacity, seed=seed, checkpoint=output,
        checkpoint_every=max(iterations // 10, 1), log_every=max(iterations // 100, 1), tensorboard=tensorboard,
    )  # fmt: skip
    _print_history(log.frame, history, f"{agent} on {environment}: {steps:,} steps")
    console.print(f"checkpoint: {output}", markup=False, highlight=False)


def _json_setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--environment expects name=value, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _print_history(frame: Any, path: Path | None, title: str) -> None:
    """The first and last value of every metric; the whole history as CSV if a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        frame.to_csv(partial, index=False)
        partial.replace(path)
    table = Table("metric", "first logged", "last logged", title=title)
    for metric, group in frame.groupby("metric", sort=False):
        table.add_row(str(metric), f"{group['value'].iloc[0]:.4g}", f"{group['value'].iloc[-1]:.4g}")
    console.print(table)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="File that `ca14 train` wrote.")],
    environment: Annotated[str, typer.Argument(help="Environment id.")],
    discount: Annotated[float, typer.Option(help="Discount of the evaluation.")] = 1.0,
    horizon: Annotated[
        int | None, typer.Option(help="Steps of an episode; left out, the environment's own artificial limit.")
    ] = None,
    stochastic: Annotated[bool, typer.Option(help="Evaluate the stochastic policy, not the greedy one.")] = False,
    episodes: Annotated[
        int, typer.Option(help="Episodes, where the problem is too large to be evaluated exactly.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the starts of these episodes.")] = 0,
    limit: Annotated[
        float | None, typer.Option(help="Limit on the expected cost of an episode: adds the optimum within it.")
    ] = None,
    environment_setting: Annotated[
        list[str] | None,
        typer.Option("--environment", help="Setting of the environment, name=value in JSON; may be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Evaluate a trained agent: exactly beside the optimum where the problem is finite, else over fresh episodes."""
    import gymnasium as gym

    from ca14lib.agents import load_agent
    from ca14lib.agents.multi_agent import MultiAgent
    from ca14lib.environments import ENVIRONMENTS, batched_environment
    from ca14lib.evaluation import ExactEvaluation

    arguments = dict(_json_setting(text) for text in environment_setting or [])
    if environment not in ENVIRONMENTS:
        learner = load_agent(checkpoint)
        if isinstance(learner, MultiAgent):
            _write_json(output, _evaluate_team(learner, environment, episodes, seed, stochastic, arguments))
            return
        numbers = _evaluate_by_episodes(learner, environment, episodes, seed, stochastic, arguments)
        _write_json(output, numbers)
        return
    batched = batched_environment(gym.make(environment, **arguments))
    model = batched.tabular_model()
    learner = load_agent(checkpoint)
    if learner.observation_space != batched.single_observation_space:
        raise ValueError(
            f"{checkpoint} acts on observations {learner.observation_space}, "
            f"{environment} shows {batched.single_observation_space}"
        )
    if horizon is None and discount == 1.0:
        horizon = model.horizon or batched.time_limit
    exact = ExactEvaluation(model, discount=discount, horizon=horizon, deterministic=not stochastic)
    scores = exact(learner)
    own = learner.policy_table(model, deterministic=not stochastic)  # type: ignore[operator]
    policies = {f"{type(learner).__name__} (this agent)": own} | batched.behaviours()
    rows = {"optimum": exact.optimum} | {name: exact.of_policy(policy)["return"] for name, policy in policies.items()}
    costs: dict[str, float] = {}
    if model.num_costs == 1:
        from ca14lib.solvers import constrained_optimum, policy_costs

        costs = {name: float(policy_costs(model, policy, discount, horizon)[0]) for name, policy in policies.items()}
        scores["cost"] = costs[f"{type(learner).__name__} (this agent)"]
        if limit is not None:
            best = constrained_optimum(model, limit, discount, horizon)
            rows[f"optimum within {limit:g}"] = best.optimal_return
            costs[f"optimum within {limit:g}"] = float(best.costs[0])
    elif limit is not None:
        raise ValueError(f"--limit needs a problem with one cost, {environment} has {model.num_costs}")
    steps = "no step limit" if horizon is None else f"{horizon} steps"
    columns = ["policy", "exact return", "share of optimum", *(["exact cost"] if costs else [])]
    table = Table(*columns, title=f"{environment}, discount {discount}, {steps}")
    for name, value in rows.items():
        share = (value - exact.reference) / (exact.optimum - exact.reference)  # type: ignore[operator]
        cost = [f"{costs[name]:.4f}" if name in costs else ""] if costs else []
        table.add_row(name, f"{value:.4f}", f"{share:.3f}", *cost)
    console.print(table)
    fixed = {"environment": environment, "discount": discount, "horizon": horizon, "optimum": exact.optimum}
    _write_json(output, fixed | scores)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="File that a training command wrote.")],
    output: Annotated[Path, typer.Option(help="File of the program; a description is written beside it.")],
    format: Annotated[str, typer.Option("--format", help="torch or onnx (needs the extra export).")] = "torch",
    overwrite: Annotated[bool, typer.Option(help="Replace an export that exists.")] = False,
) -> None:
    """Write an agent's deterministic policy as a program that runs without this package."""
    from ca14lib.agents import load_agent
    from ca14lib.deployment import export_policy, load_exported

    path = export_policy(load_agent(checkpoint), output, format, overwrite=overwrite)  # type: ignore[arg-type]
    found = load_exported(path).metadata
    table = Table("quantity", "value", title=f"{found['agent']} as {format} program")
    for name in ("parameters", "parity", "sha256"):
        table.add_row(name, f"{found[name]:.3g}" if isinstance(found[name], float) else str(found[name]))
    console.print(table)
    console.print(f"program: {path}", markup=False, highlight=False)


@app.command()
def card(
    checkpoint: Annotated[Path, typer.Argument(help="File that a training command wrote.")],
    program: Annotated[Path | None, typer.Option(help="Exported program to compare with the agent.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Minari id of the data it was trained on.")] = None,
    results: Annotated[Path | None, typer.Option(help="CSV file with rows of results.")] = None,
    intended_use: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    limits: Annotated[str | None, typer.Option(help="What it must not be used for.")] = None,
    output: Annotated[Path | None, typer.Option(help="Markdown file; by default the card is printed.")] = None,
) -> None:
    """Write the model card of a checkpoint, with the checklist of the five critical factors."""
    from ca14lib.data import OfflineDataset
    from ca14lib.deployment import Evidence, model_card

    rows = None
    if results is not None:
        import pandas as pd

        rows = pd.read_csv(results)
    data = None if dataset is None else OfflineDataset.from_minari(dataset)
    text = model_card(
        checkpoint, Evidence(dataset=data, results=rows, export=program), intended_use=intended_use, limits=limits
    )
    if output is None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    partial.write_text(text, "utf8")
    partial.replace(output)
    console.print(f"card: {output}", markup=False, highlight=False)


@app.command()
def latency(
    path: Annotated[Path, typer.Argument(help="Exported program, or checkpoint of an agent without memory.")],
    decisions: Annotated[int, typer.Option(help="Decisions that are timed, at least 100.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the observations.")] = 0,
) -> None:
    """Time single decisions on one thread: median, p99 and maximum."""
    from ca14lib.agents import load_agent
    from ca14lib.agents.multi_agent import MultiAgent
    from ca14lib.deployment import load_exported, measure_latency

    exported = path.with_name(f"{path.name}.json").exists()
    policy: Any = load_exported(path) if exported else load_agent(path)
    if isinstance(policy, MultiAgent) and policy.memory_size:
        raise ValueError(f"{path} holds a team with memory; latency is measured of decisions on one observation")
    import numpy as np

    space = policy.observation_space
    space.seed(seed)
    seen = np.stack([np.asarray(space.sample()) for _ in range(64)])
    table = Table("quantity", "ms", title=f"{path.name}: {decisions:,} decisions on one thread")
    for name, value in measure_latency(policy, seen, decisions)._asdict().items():
        if name != "decisions":
            table.add_row(name, f"{value:.3f}")
    console.print(table)


def _evaluate_by_episodes(
    agent: Any, environment: str, episodes: int, seed: int, stochastic: bool, arguments: dict[str, Any]
) -> dict[str, Any]:
    from ca14lib.environments import CONTINUOUS_ENVIRONMENTS, GYMNASIUM_TASKS
    from ca14lib.evaluation import RolloutEvaluation

    evaluation = RolloutEvaluation(
        environment, episodes, seed, deterministic=not stochastic, environment_arguments=arguments
    )
    returns, lengths = evaluation.episodes_of(agent)
    numbers = {
        "environment": environment, "episodes": episodes, "seed": seed, "return": float(returns.mean()),
        "return_std": float(returns.std()), "return_min": float(returns.min()), "return_max": float(returns.max()),
        "length": float(lengths.mean()),
    }  # fmt: skip
    table = Table("quantity", "value", title=f"{type(agent).__name__} on {environment}, {episodes} episodes")
    if environment in GYMNASIUM_TASKS or environment in CONTINUOUS_ENVIRONMENTS:
        numbers |= {name: value for name, value in evaluation(agent).items() if "cost" in name}
    for name, value in numbers.items():
        if name not in ("environment", "episodes", "seed"):
            table.add_row(name, f"{value:.4g}")
    console.print(table)
    return numbers


def _evaluate_team(
    team: Any, environment: str, episodes: int, seed: int, stochastic: bool, arguments: dict[str, Any]
) -> dict[str, Any]:
    from ca14lib.evaluation import TeamEvaluation

    evaluation = TeamEvaluation(
        environment, episodes, environment_arguments=arguments, seed=seed, deterministic=not stochastic
    )
    numbers = dict(evaluation(team))
    table = Table("quantity", "value", title=f"{type(team).__name__} on {environment}, {episodes} episodes")
    for name, value in numbers.items():
        table.add_row(name, f"{value:.4g}")
    console.print(table)
    return {"environment": environment, "episodes": episodes, "seed": seed} | numbers


def _write_json(path: Path | None, numbers: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(json.dumps(numbers, indent=1) + "\n", "utf8")
        temporary.replace(path)


# options that the sections share
Seeds = Annotated[int, typer.Option(help="Seeds per setting, at least 2.")]
Quick = Annotated[bool, typer.Option("--quick", help="Minutes instead of hours: few settings, short training.")]
Output = Annotated[
    Path | None, typer.Option(help="Folder of the tables; by default results/, with --quick runs/quick/.")
]
Cache = Annotated[Path, typer.Option(help="Folder of finished runs, from which a stopped experiment goes on.")]
Jobs = Annotated[int | None, typer.Option(help="Processes; one per core by default.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT, whose workers do the runs; see the scale page."),
]


def _part_option(parts: str, needs: str = "") -> Any:
    return typer.Option(help=f"{parts}; may be repeated; all by default{needs}.")


@run_app.command("offline")
def run_offline(
    seeds: Seeds = 10,
    quick: Quick = False,
    part: Annotated[
        list[str] | None,
        _part_option(
            "gridworld, hyperparameters, sepsis, evaluation, pendulum, hopper or driving",
            " (hopper needs `ca14 make-datasets hopper` first)",
        ),
    ] = None,
    output: Output = None,
    cache: Cache = Path("runs/offline"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Section 1: offline agents and off-policy evaluation, as shares of the exact optimum or scores of control."""
    from ca14lib.experiments import offline

    _run_section(offline, seeds, quick, part, output, cache, jobs, scheduler)


@run_app.command("safe")
def run_safe(
    seeds: Seeds = 10,
    quick: Quick = False,
    part: Annotated[
        list[str] | None,
        _part_option(
            "grid, cliff, multipliers, shield, reactor, velocity, sepsis or driving",
            " (driving needs the extra applications)",
        ),
    ] = None,
    output: Output = None,
    cache: Cache = Path("runs/safe"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Section 2: safe agents beside the exact optimum within their limits, mechanisms, applications."""
    from ca14lib.experiments import safe

    _run_section(safe, seeds, quick, part, output, cache, jobs, scheduler)


@run_app.command("multi-agent")
def run_multi_agent(
    seeds: Seeds = 10,
    quick: Quick = False,
    part: Annotated[
        list[str] | None,
        _part_option(
            "games, two_step, target_grid, scaling, public_games, credit, communication or self_play",
            " (public_games needs the extra games)",
        ),
    ] = None,
    output: Output = None,
    cache: Cache = Path("runs/multi-agent"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Section 3: teams and games, beside exact equilibria, optima and bounds."""
    from ca14lib.experiments import multi_agent

    _run_section(multi_agent, seeds, quick, part, output, cache, jobs, scheduler)


@run_app.command("robust")
def run_robust(
    seeds: Seeds = 10,
    quick: Quick = False,
    part: Annotated[
        list[str] | None,
        _part_option("mdp, randomisation, adaptation, attacks, distributional, regret or uncertainty"),
    ] = None,
    output: Output = None,
    cache: Cache = Path("runs/robust"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Section 4: robust agents beside exact worst cases, bounds and optima."""
    from ca14lib.experiments import robust

    _run_section(robust, seeds, quick, part, output, cache, jobs, scheduler)


@run_app.command("evaluation")
def run_evaluation(
    seeds: Seeds = 5,
    quick: Quick = False,
    part: Annotated[
        list[str] | None,
        _part_option(
            "comparison, healthcare, driving, trading, market, robotics, industrial, energy, anm, deployment, "
            "offline_safe, fine_tuning, robust_safe, partners, continual or preferences",
            " (driving needs the extra applications, deployment export, anm energy)",
        ),
    ] = None,
    output: Output = None,
    cache: Cache = Path("runs/evaluation"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Section 5: all agents on one scale, applications beside practitioners' baselines, hybrids, deployment."""
    from ca14lib.experiments import evaluation

    _run_section(evaluation, seeds, quick, part, output, cache, jobs, scheduler)


@run_app.command("all")
def run_all(
    seeds: Seeds = 10,
    quick: Quick = False,
    output: Output = None,
    cache: Annotated[Path, typer.Option(help="Folder of finished runs, one folder per section.")] = Path("runs"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """All sections, part by part: every table of the book, or with --quick a small version of each.

    Stopped at any moment and started again, it goes on with the runs that are missing. A part that fails, or that
    needs something which is not installed, does not end the others; a list at the end says so.
    """
    from ca14lib.experiments.everything import run_everything

    _use_scheduler(scheduler)
    if quick and output is None:
        output = Path("runs/quick")
    outcomes = run_everything(seeds=seeds, quick=quick, output=output, cache_folder=cache, jobs=jobs)
    table = Table("section", "part", "outcome", "minutes", title="All sections")
    for outcome in outcomes:
        table.add_row(outcome.section, outcome.part, escape(outcome.text), f"{outcome.seconds / 60:.1f}")
    console.print(table)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


def _run_section(
    section: Any, seeds: int, quick: bool, part: list[str] | None, output: Path | None, cache: Path, jobs: int | None,
    scheduler: str | None,
) -> None:  # fmt: skip
    """Run parts of a section's experiment and show its tables, but not those of single runs."""
    _use_scheduler(scheduler)
    if quick and output is None:
        output = Path("runs/quick")
    tables = section.run(seeds=seeds, quick=quick, parts=part, output=output, cache_folder=cache, jobs=jobs)
    for name, frame in tables.items():
        if not name.endswith(("_runs", "_history")):
            _print_frame(name, frame)


def _use_scheduler(address: str | None) -> None:
    """Every sweep of this process asks the environment for its scheduler."""
    from ca14lib.training.sweep import SCHEDULER_VARIABLE

    if address is not None:
        os.environ[SCHEDULER_VARIABLE] = address


@app.command()
def report(
    output: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")] = Path("runs/report"),
    results: Annotated[
        Path | None, typer.Option(help="Folder with the measurements of `ca14 run evaluation`; by default results/.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="Weight of a dimension, name=number; may be repeated. Those not named keep theirs."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a report that is there.")] = False,
) -> None:
    """Write the evaluation of all agents as one HTML page, CSV tables and figures."""
    from ca14lib.evaluation import WEIGHTS, Evaluator
    from ca14lib.evaluation.report import check_target, write_report
    from ca14lib.experiments.evaluation.comparison import MEASUREMENTS
    from ca14lib.experiments.evaluation.homes import HOME_OF
    from ca14lib.experiments.results import is_stale, read_metadata, read_results

    check_target(output, overwrite)
    weights = dict(WEIGHTS)
    for text in weight or []:
        name, equals, number = text.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            raise ValueError(f"--weight expects name=number, got {text!r}") from None
        if not equals:
            raise ValueError(f"--weight expects name=number, got {text!r}")
    evaluator = Evaluator(weights)
    measurements = read_results(MEASUREMENTS, results)
    made = read_metadata(MEASUREMENTS, results)
    notes = {
        "Measured by": made["command"], "Date": made["date"], "Seeds": len(made["seeds"]),
        "Version": made["versions"]["ca14lib"],
    }  # fmt: skip
    if is_stale(MEASUREMENTS, results):
        notes["Note"] = "the code has changed since these measurements were made"
        console.print(f"the measurements are from other code than this: `{made['command']}` makes them again")
    groups = {name: HOME_OF[name].split(",")[0] for name in measurements["agent"].unique() if name in HOME_OF}
    groups |= {name: "other" for name in measurements["agent"].unique() if name not in groups}
    page = write_report(
        evaluator(measurements), output, groups=groups, title="All agents of the course", overwrite=overwrite,
        notes=notes,
    )  # fmt: skip
    console.print(f"report: {page}", markup=False, highlight=False)


def _print_frame(title: str, frame: Any) -> None:
    names = [Column(str(name), no_wrap=frame[name].dtype == object) for name in frame.columns]
    table = Table(*names, title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


def _limit(steps: int | None) -> str:
    return "no limit" if steps is None else f"{steps} (artificial)"


def _costs(environment: Any) -> str:
    """The number of cost functions that a single environment reports."""
    _, info = environment.reset(seed=0)
    cost = info.get("cost")
    return "" if cost is None else str(getattr(cost, "size", 1))


def _space(space: Any) -> str:
    if hasattr(space, "n"):
        return f"integer below {space.n}"
    return f"{space.dtype} {list(space.shape)}"


def _device(name: str) -> Any:
    from ca14lib.agents.base import checked_device

    return checked_device(name)


def _config(config_class: Any, settings: list[str]) -> Any:
    """The default configuration with ``name=value`` settings, each read as the type of its default."""
    config = config_class()
    known = {item.name: getattr(config, item.name) for item in fields(config)}
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(f"--set expects name=value with a name of {', '.join(known)}, got {setting!r}")
        try:
            if isinstance(known[name], tuple):
                parts = [part.strip() for part in text.strip("()").split(",") if part.strip()]
                changes[name] = tuple(int(part) if part.isdigit() else float(part) for part in parts)
            elif isinstance(known[name], bool):
                if text not in ("True", "False"):
                    raise ValueError(text)
                changes[name] = text == "True"
            elif known[name] is None:  # a number that is off by default
                changes[name] = None if text == "None" else float(text)
            else:
                changes[name] = type(known[name])(text)
        except ValueError:
            raise ValueError(f"--set {name} expects a value like {known[name]}, got {text!r}") from None
    return replace(config, **changes)


app.command()(grade)


def main() -> None:
    """Entry point: errors that a user can mend are one line, not a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError, FileExistsError, ConnectionError, ImportError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
