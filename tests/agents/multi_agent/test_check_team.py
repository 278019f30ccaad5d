"""The public test suite for teams notices planted faults, and passes a sound team of each kind."""

import dataclasses

import pytest
import torch

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import check
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.vdn import VDN
from ca14lib.data import JointTransitions

SMALL = IPPOConfig(hidden_sizes=(8,), epochs=1, minibatches=1)


def build(agent_class, **changes) -> check.TeamBuild:
    config = (
        VDN.config_class(hidden_sizes=(8,)) if issubclass(agent_class, VDN) else dataclasses.replace(SMALL, **changes)
    )
    return check.TeamBuild(agent_class, config, check.ACTIONS)


class UsesWhatFollowsTheEnd(IPPO):
    """Bootstraps through true ends."""

    def update(self, batch: JointTransitions) -> dict:
        cut = batch.terminated | batch.truncated
        return super().update(dataclasses.replace(batch, terminated=torch.zeros_like(cut), truncated=cut))


class IgnoresCuts(IPPO):
    """Takes every cut for a true end."""

    def update(self, batch: JointTransitions) -> dict:
        ends = batch.terminated | batch.truncated
        return super().update(dataclasses.replace(batch, terminated=ends, truncated=torch.zeros_like(ends)))


class ForgetsItsMask(IPPO):
    """Acts as if everything were allowed."""

    def _draw(self, inputs, memory, mask):
        return super()._draw(inputs, memory, None)

    def _best(self, inputs, memory, mask):
        return super()._best(inputs, memory, None)


class DrawsGlobally(IPPO):
    """Uses torch's global generator."""

    def _draw(self, inputs, memory, mask):
        torch.rand(1)
        return super()._draw(inputs, memory, mask)


class ForgetsItsNormalizer(IPPO):
    """Learns from raw observations."""

    def _features(self, observation):
        return observation.reshape(*observation.shape[:-1], self.features)


class ChangesTheBatch(IPPO):
    """Scales the rewards it was given in place."""

    def update(self, batch):
        batch.reward.mul_(0.5)
        return super().update(batch)


class NeverTrains(IPPO):
    """Updates nothing."""

    def update(self, batch):
        self._check(batch)
        return {"loss": torch.zeros(())}


class KeepsTheGraph(IPPO):
    """Returns a loss with its graph."""

    def update(self, batch):
        logs = super().update(batch)
        return logs | {"extra": next(self.parameters()).sum()}


class TakesAnything(IPPO):
    """Skips the checks of what it is given."""

    def _check(self, batch):
        return None


class LearnsFromPadding(VDN):
    """Counts rows that never happened."""

    def _check(self, batch):
        return None

    def update(self, batch):
        return super().update(dataclasses.replace(batch, filled=torch.ones_like(batch.terminated)))


FAULTS = [
    (UsesWhatFollowsTheEnd, check.stops_at_the_end),
    (IgnoresCuts, check.stops_at_the_end),
    (ForgetsItsMask, check.obeys_masks),
    (DrawsGlobally, check.repeats_bit_for_bit),
    (ForgetsItsNormalizer, check.applies_its_normalizer_everywhere),
    (ChangesTheBatch, check.leaves_the_batch_alone),
    (NeverTrains, check.learns_every_trained_parameter),
    (KeepsTheGraph, check.updates_return_finite_scalars),
    (TakesAnything, check.refuses_bad_input),
    (LearnsFromPadding, check.ignores_what_did_not_happen),
]


@pytest.mark.parametrize("fault, property_", FAULTS, ids=lambda value: value.__name__)
def test_planted_fault_is_noticed(fault, property_):
    property_(build(fault.__mro__[1]))  # the sound team passes
    with pytest.raises((AssertionError, RuntimeError, AttributeError)):
        property_(build(fault))


def test_suite_is_for_teams_only():
    with pytest.raises(ValueError, match="MultiAgent"):
        check_agent(torch.nn.Linear)
