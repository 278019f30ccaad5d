"""``check_agent`` passes every agent of the course and refuses broken ones, naming what is wrong."""

import dataclasses

import numpy as np
import pytest
import torch

from ca14lib.agents import AGENTS, DQN, PPO, AgentConfig, DQNConfig, check_agent
from ca14lib.agents.base import Agent
from ca14lib.agents.checkpoint import read_checkpoint
from ca14lib.agents.offline import DiscreteBC, DiscreteIQL, DiscreteIQLConfig
from ca14lib.agents.safe import CPO, CVaRPolicyGradient, PPOLagrangian
from ca14lib.data import Rollout

REASONS: dict[type[Agent], str] = {}


def broken(reason: str):
    """Register a broken agent with the text that check_agent's complaint must contain."""

    def register(mutant: type[Agent]) -> type[Agent]:
        REASONS[mutant] = reason
        return mutant

    return register


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_of_the_course_passes(name):
    check_agent(AGENTS[name])


def test_an_agent_passes_with_a_configuration_of_ones_own():
    check_agent(DQN, DQNConfig(hidden_sizes=(8,), exploration=1.0, target_rate=1.0))
    check_agent(DiscreteIQL, DiscreteIQLConfig(hidden_sizes=(8,), expectile=0.99, temperature=0.0))


@pytest.mark.parametrize("stranger", [DQNConfig, Agent, "DQN", None])
def test_what_is_no_discrete_agent_is_refused(stranger):
    with pytest.raises(ValueError, match="DiscreteAgent"):
        check_agent(stranger)


def test_checking_leaves_the_global_generators_as_they_were():
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    check_agent(DiscreteBC)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


# What poor data break


@broken("when all rewards are")
class StandardisesRewards(DQN):
    """Divides rewards by their spread in the batch, which is 0 when all are equal."""

    def update(self, batch):
        return super().update(dataclasses.replace(batch, reward=batch.reward / batch.reward.std()))


# What acts wrongly


@broken("was allowed")
class IgnoresMasks(DiscreteBC):
    """Acts as if everything were allowed."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, deterministic=deterministic)


@broken("was allowed")
class IgnoresMasksWhenExploring(DQN):
    """Obeys the mask with its greedy action only."""

    def _probabilities(self, scores):
        return super()._probabilities(torch.nan_to_num(scores, neginf=-1e9))


@broken("NumPy array")
class ActsInTensors(DQN):
    """Returns torch tensors."""

    def act(self, observation, *, mask=None, deterministic=False):
        return torch.as_tensor(super().act(observation, mask=mask, deterministic=deterministic))


@broken("one action per observation")
class ActsInColumns(DQN):
    """Returns [N, 1]."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask, deterministic=deterministic)[:, None]


@broken("must be integers")
class ActsInFloats(DQN):
    """Returns floating-point actions."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask, deterministic=deterministic).astype(float)


@broken("must lie in Discrete")
class CountsFromOne(DQN):
    """Numbers its actions 1 to 4."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask, deterministic=deterministic) + 1


@broken("must not be random")
class ExploresWhenDeterministic(DiscreteBC):
    """Draws its action whatever it is asked for."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask)


@broken("rest of its batch")
class ActsOnTheWholeBatch(DiscreteBC):
    """Centres the logits of each action over the batch."""

    def _scores(self, observation):
        scores = super()._scores(observation)
        return scores - scores.mean(dim=0)


@broken("rows of policy_table must sum to 1")
class TabulatesScores(DiscreteBC):
    """Calls unnormalised numbers a policy table."""

    def policy_table(self, model, deterministic=True):
        return np.exp(super().policy_table(model, deterministic))


@broken("forbidden actions no probability")
class TabulatesForbiddenActions(DiscreteBC):
    """Ignores the model's mask in its policy table."""

    def policy_table(self, model, deterministic=True):
        return super().policy_table(dataclasses.replace(model, action_mask=None), deterministic)


@broken("policy_table")
class TabulatesAnotherPolicy(DiscreteBC):
    """Its table is that of the least likely action."""

    def policy_table(self, model, deterministic=True):
        if not deterministic:
            return super().policy_table(model, False)
        table = super().policy_table(model, False)
        table = np.where(table > 0, table, np.inf)
        return np.eye(4)[table.argmin(axis=1)]


@broken("policy_table")
class ActsApartFromItsTable(DiscreteBC):
    """Says it draws from the softmax and draws uniformly."""

    def act(self, observation, *, mask=None, deterministic=False):
        if deterministic:
            return super().act(observation, mask=mask, deterministic=True)
        allowed = torch.tensor(self.probabilities(observation, mask=mask) > 0).double()
        return torch.multinomial(allowed, 1, generator=self.generator)[:, 0].numpy()


# What updates wrongly


@broken("truncated: a time limit is not an end")
class EndsAtCuts(DQN):
    """Treats a time limit as the end of the task."""

    def update(self, batch):
        return super().update(dataclasses.replace(batch, terminated=batch.terminated | batch.truncated))


@broken("terminated")
class NeverEnds(DQN):
    """Bootstraps past the end of the task."""

    def _target(self, batch):
        return super()._target(dataclasses.replace(batch, terminated=torch.zeros_like(batch.terminated)))


@broken("0-d tensor")
class LogsFloats(DQN):
    """Converts its losses at every update."""

    def update(self, batch):
        return {name: value.item() for name, value in super().update(batch).items()}


@broken("0-d tensor")
class LogsVectors(DQN):
    """Logs one number per transition."""

    def update(self, batch):
        return super().update(batch) | {"reward": batch.reward}


@broken("gradient graph")
class LogsItsGraph(DiscreteBC):
    """Forgets to detach what it logs."""

    def update(self, batch):
        return {"loss": self.policy(batch.observation).mean() + super().update(batch)["loss"]}


@broken("is nan")
class LogsNaN(DQN):
    """Divides nothing by nothing."""

    def update(self, batch):
        return super().update(batch) | {"ratio": torch.zeros(()) / 0}


@broken("at least one number")
class LogsNothing(DQN):
    """Keeps its losses to itself."""

    def update(self, batch):
        super().update(batch)
        return {}


@broken("changed no parameter")
class LearnsNothing(DiscreteBC):
    """Computes its loss and forgets the step."""

    def update(self, batch):
        return {"loss": self.policy(batch.observation).mean().detach()}


@broken("NaN or infinite")
class Explodes(DiscreteBC):
    """Divides its first weight by zero."""

    def update(self, batch):
        logs = super().update(batch)
        with torch.no_grad():
            next(self.parameters()).div_(0.0)
        return logs


@broken("in an optimiser")
class LeavesTheTargetTrainable(DQN):
    """Copies the network without freezing the copy."""

    def _build(self):
        super()._build()
        self.target_network.requires_grad_(True)


@broken("two optimisers")
class TrainsTwice(DiscreteBC):
    """Gives the same parameters to two optimisers."""

    def _build(self):
        super()._build()
        self._optimizer("again", self.policy)


@broken("update changed batch.reward")
class ScalesRewardsInPlace(DQN):
    """Writes into the batch it is lent."""

    def update(self, batch):
        batch.reward.mul_(0.1)
        return super().update(batch)


@broken("update ignores the normalizer")
class UpdatesOnRawObservations(DiscreteBC):
    """Uses its normalizer only to act."""

    def update(self, batch):
        normalizer, self.normalizer = self.normalizer, None
        logs = super().update(batch)
        self.normalizer = normalizer
        return logs


@broken("act ignores the normalizer")
class ActsOnRawObservations(DiscreteBC):
    """Uses its normalizer only to learn."""

    def _scores(self, observation):
        return self.policy(observation)


@broken("normalizer")
class TabulatesRawObservations(DiscreteBC):
    """Uses its normalizer to act and learn, but not in its policy table."""

    def policy_table(self, model, deterministic=True):
        normalizer, self.normalizer = self.normalizer, None
        table = super().policy_table(model, deterministic)
        self.normalizer = normalizer
        return table


# What is not reproducible


@broken("same actions")
class DrawsFromTorchsGlobalGenerator(DiscreteBC):
    """Draws actions without its own generator."""

    def act(self, observation, *, mask=None, deterministic=False):
        if deterministic:
            return super().act(observation, mask=mask, deterministic=True)
        policy = self._policy(self._observation_tensor(observation), mask, False)
        return torch.multinomial(policy.detach(), 1)[:, 0].numpy()


@broken("same actions")
class DrawsFromNumPysGlobalGenerator(DiscreteBC):
    """Draws actions with NumPy's global generator."""

    def act(self, observation, *, mask=None, deterministic=False):
        policy = self.probabilities(observation, mask=mask, deterministic=deterministic)
        draws = np.random.random(len(policy))  # noqa: NPY002
        return (policy.cumsum(axis=1) < draws[:, None]).sum(axis=1)


@broken("global generator")
class DropsOutWithTheGlobalGenerator(DiscreteBC):
    """Draws one number from the global generator in every update."""

    def update(self, batch):
        torch.rand(1)
        return super().update(batch)


@broken("whatever the global generator holds")
class StartsFromTheGlobalGenerator(DiscreteBC):
    """Adds noise of the global generator to its initial weights."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        with torch.no_grad():
            self.policy[0].weight.add_(torch.rand_like(self.policy[0].weight))


@broken("global generator")
class SeedsTheGlobalGenerator(DiscreteBC):
    """Calls torch.manual_seed when it is built."""

    def __init__(self, *arguments, seed=0, **keywords):
        torch.manual_seed(seed)
        super().__init__(*arguments, seed=seed, **keywords)


@broken("another seed")
class HasOneSeed(DiscreteBC):
    """Starts from the same weights whatever the seed."""

    def __init__(self, *arguments, seed=0, **keywords):
        super().__init__(*arguments, seed=0, **keywords)


# What is not saved and loaded whole


@broken("go on training as the saved one")
class SavesWithoutItsOptimizer(DQN):
    """Forgets the moments of Adam."""

    def state(self):
        tensors, metadata = super().state()
        return {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}, metadata


@broken("act like the saved one")
class SavesAnotherGenerator(DiscreteBC):
    """Stores a fresh generator in place of its own."""

    def state(self):
        tensors, metadata = super().state()
        return tensors | {"generator": torch.Generator().manual_seed(1).get_state()}, metadata


@broken("hold the saved weights")
class LoadsNothing(DQN):
    """Reads the file and leaves it at that."""

    def load(self, path):
        read_checkpoint(path)
        return self


@broken("hold the saved weights")
class LoadsWithoutItsTarget(DQN):
    """Restores the trained network only."""

    def restore(self, tensors, metadata):
        own = {f"module.{name}": value.clone() for name, value in self.state_dict().items() if "target" in name}
        super().restore(tensors | own, metadata)


@broken("damaged or foreign")
class LoadsAnything(DiscreteBC):
    """Does not ask whose weights it takes."""

    def restore(self, tensors, metadata):
        super().restore(tensors, metadata | {"agent": type(self).__name__})


@broken("that failed changed the agent")
class LoadsBeforeItLooks(DiscreteBC):
    """Takes the weights first and finds out afterwards whose they were."""

    def restore(self, tensors, metadata):
        weights = {n.removeprefix("module."): t for n, t in tensors.items() if n.startswith("module.")}
        self.load_state_dict(weights)
        super().restore(tensors, metadata)


# What accepts everything


@broken("observations of another shape")
class ActsOnAnyShape(DQN):
    """Cuts or pads whatever it is shown."""

    def _observation_tensor(self, observation):
        shape = (len(observation), *self.observation_space.shape)
        return super()._observation_tensor(
            np.resize(np.asarray(observation).astype(self.observation_space.dtype), shape)
        )


@broken("out of range or NaN")
class ActsOnNaN(DQN):
    """Takes any numbers for an observation."""

    def _observation_tensor(self, observation):
        if not self.observation_space.shape:
            return super()._observation_tensor(np.clip(observation, 0, self.observation_space.n - 1))
        return super()._observation_tensor(np.nan_to_num(observation))


@broken("a mask of another shape")
class AcceptsAnyMask(DQN):
    """Reads as much of the mask as it needs."""

    def _policy(self, observation, mask, deterministic):
        return super()._policy(observation, None if mask is None else np.asarray(mask)[:, :4], deterministic)


@broken("a mask that allows nothing")
class AcceptsEmptyMasks(DQN):
    """Does as it likes where nothing is allowed."""

    def _policy(self, observation, mask, deterministic):
        if mask is not None and np.shape(mask) == (len(observation), 4):
            mask = np.asarray(mask) | ~np.asarray(mask).any(axis=1, keepdims=True)
        return super()._policy(observation, mask, deterministic)


@broken("an unknown device")
class RunsAnywhere(DQN):
    """Falls back to the CPU without a word."""

    def __init__(self, *arguments, device="cpu", **keywords):
        super().__init__(*arguments, device="cpu", **keywords)


# What does not say what it is


@dataclasses.dataclass
class LooseConfig:
    hidden_sizes: tuple[int, ...] = (16, 16)
    learning_rate: float = 1e-3
    discount: float = 0.99


@broken("frozen dataclass")
class ChangesItsSettings(DiscreteBC):
    """Has a configuration that anyone can change."""

    config_class = LooseConfig


@broken("docstring")
class SaysNothing(DiscreteBC):
    config_class = AgentConfig


# What learns wrongly from rollouts


def changed(rollout: Rollout, **columns: torch.Tensor | None) -> Rollout:
    return dataclasses.replace(rollout, **columns)


@broken("ignores the rollout's action_mask")
class LearnsFromUnmaskedProbabilities(PPO):
    """Recomputes the probabilities of its actions without the mask that they were drawn with."""

    def update(self, rollout):
        return super().update(changed(rollout, action_mask=None))


@broken("ignores next_observation after a cut")
class EndsRolloutsAtCuts(PPO):
    """Promises nothing after a time limit."""

    def _advantages(self, rollout):
        return super()._advantages(changed(rollout, terminated=rollout.terminated | rollout.truncated))


@broken("after a true end")
class GoesOnAfterTheEnd(PPO):
    """Promises something after a true end."""

    def _advantages(self, rollout):
        ended = rollout.terminated | rollout.truncated
        return super()._advantages(changed(rollout, terminated=torch.zeros_like(ended), truncated=ended))


@broken("go on behind the last row")
class EndsWithTheRollout(PPO):
    """Takes the last row for an end unless it is a cut."""

    def _advantages(self, rollout):
        terminated = rollout.terminated.clone()
        terminated[-1] |= ~rollout.truncated[-1]
        return super()._advantages(changed(rollout, terminated=terminated))


@broken("must change nothing at λ = 0")
class CutsAtAnotherDiscount(PPO):
    """Values what follows a cut at half its worth."""

    def _advantages(self, rollout):
        advantage, cost_advantage, target = super()._advantages(rollout)
        inside = rollout.truncated.clone()
        inside[-1] = False
        return advantage - 0.5 * inside.flatten(), cost_advantage, target


@broken("without a completed episode")
class AveragesNothing(PPOLagrangian):
    """Divides the cost of no episode by their number."""

    def _update_multiplier(self, rollout):
        cost = rollout.episode_cost.sum(dim=0) / len(rollout.episode_cost)
        self.multiplier.add_(cost - self.cost_limits).clamp_(min=0.0)


@broken("no cost to compare with its limit")
class HoldsSilenceForObedience(PPOLagrangian):
    """Lets the multiplier sink where no episode was completed."""

    def _build(self):
        super()._build()
        self.multiplier.add_(1.0)

    def _update_multiplier(self, rollout):
        cost = rollout.mean_episode_cost()
        self.multiplier.sub_(0.01) if cost is None else super()._update_multiplier(rollout)


@broken("go on training as the saved one")
class ForgetsItsMultiplier(PPOLagrangian):
    """Does not save it."""

    def _build(self):
        super()._build()
        self.register_buffer("multiplier", self.multiplier, persistent=False)


@broken("a rollout with too few costs")
class AcceptsFewerCosts(PPOLagrangian):
    """Fills in zeros."""

    def update(self, rollout):
        missing = self.num_costs - rollout.num_costs
        pad = torch.nn.functional.pad
        return super().update(
            changed(rollout, cost=pad(rollout.cost, (0, missing)), episode_cost=pad(rollout.episode_cost, (0, missing)))
        )


@broken("changed batch.reward")
class ScalesTheRollout(PPO):
    """Writes into the rollout it is lent."""

    def update(self, rollout):
        rollout.reward.mul_(0.5)
        return super().update(rollout)


@broken("units of the actions")
class LearnsInEnvironmentUnits(PPO):
    """Takes its actions for numbers in [−1, 1]."""

    def _unit(self, action):
        return action


@broken("in an optimiser")
class HidesItsPolicy(CPO):
    """Does not say which parameters it moves."""

    def _build_policy_update(self):
        super()._build_policy_update()
        self.own_parameters, self.policy_parameters = self.policy_parameters, []

    def _policy_step(self, *arguments):
        self.policy_parameters = self.own_parameters
        logs = super()._policy_step(*arguments)
        self.policy_parameters = []
        return logs


@broken(r"must be \[H, S, A\] with a horizon")
class TabulatesOneTime(PPO):
    """Shows what it does at the start only."""

    def policy_table(self, model, deterministic=True):
        table = super().policy_table(model, deterministic)
        return table[0] if table.ndim == 3 else table


@broken("another time than its row's")
class TabulatesBackwards(PPO):
    """Counts the time down where it should count it up."""

    def policy_table(self, model, deterministic=True):
        table = super().policy_table(model, deterministic)
        return table[::-1] if table.ndim == 3 else table


@broken("none ended")
class LearnsFromParts(CVaRPolicyGradient):
    """Takes what it saw of an episode for the whole."""

    def update(self, rollout):
        terminated = rollout.terminated.clone()
        terminated[-1] = True
        return super().update(changed(rollout, terminated=terminated))


@broken("what was seen afterwards must not count")
class PromisesMoreThanTheEpisode(CVaRPolicyGradient):
    """Adds the value of what follows a cut to an episode's utility."""

    def update(self, rollout):
        self.cut = rollout.flat("truncated")
        return super().update(rollout)

    def _advantages(self, scored):
        advantage, cost_advantage, target = super()._advantages(scored)
        value = self._values(self._input(scored.flat("next_observation"))).detach()[:, 0]
        return advantage + self.cut * value, cost_advantage, target


@pytest.mark.parametrize("mutant", REASONS, ids=lambda mutant: mutant.__name__)
def test_a_broken_agent_is_caught_by_name(mutant):
    with pytest.raises(AssertionError, match=REASONS[mutant]):
        check_agent(mutant)
