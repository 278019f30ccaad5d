"""Faults planted in the four agents, one function each, and the properties that must catch them.

A fault takes pytest's ``monkeypatch`` and swaps one piece of the package for a wrong one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import ca14lib.agents.dqn as dqn
import ca14lib.agents.offline.bc as bc
import ca14lib.agents.offline.cql as cql
import ca14lib.agents.offline.iql as iql
from ca14lib.agents import Agent
from ca14lib.data import Transitions

Plant = Callable[[pytest.MonkeyPatch], None]

REFERENCE = "three-updates-equal-the-reference"
TRUNCATION = "an-update-ignores-truncation"
TRUE_END = "an-update-ignores-what-follows-a-true-end"
POLYAK = "the-target-network-follows-by-polyak-and-gets-no-gradient"
MASK = "forbidden-next-actions-never-count"
PROBE_ACTION = "ProbeAction-has-the-right-values"
PROBE_DISCOUNT = "ProbeDiscount-has-the-right-values"
PROBE_TRUNCATION = "ProbeTruncation-has-the-right-values"
PROBE_VALUE = "ProbeValue-has-the-right-values"
PROBE_REWARD = "ProbeReward-has-the-right-values"
TD_TARGET = "td-target-is-the-reward-plus-the-discounted-next-value-unless-terminated"
DOUBLE = "the-online-network-picks-the-next-action-and-the-target-network-rates-it"
TD_LOSS = "td-loss-is-half-the-mean-squared-error"
NLL = "negative-log-likelihood-is-that-of-the-softmax-of-each-row"
NLL_GRADIENT = "negative-log-likelihood-has-the-gradient-softmax-minus-one-hot"
FREQUENCIES = "the-copy-takes-on-the-frequencies-of-the-data"
PENALTY = "conservative-penalty-is-the-negative-log-likelihood-under-softmax-q"
PENALTY_GRADIENT = "conservative-penalty-has-the-gradient-softmax-minus-one-hot"
PENALTY_SHIFT = "conservative-penalty-does-not-see-a-shift-of-a-state"
PENALTY_FINITE = "conservative-penalty-is-finite-for-huge-values"
CQL_FIXED_POINT = "values-rest-where-the-fixed-point-of-tabular-cql-is"
EXPECTILE = "expectile-loss-is-the-asymmetric-square"
EXPECTILE_MINIMUM = "expectile-loss-is-least-at-the-expectile-of-the-sample"
WEIGHT = "advantage-weight-is-the-clipped-exponential"
WEIGHTED = "weighted-log-likelihood-weighs-each-row"
TWINS = "twin-critics-start-apart"
IN_SAMPLE = "unrecorded-actions-are-never-asked-for"
IQL_FIXED_POINT = "value-and-policy-rest-where-the-theory-says"


@dataclass(frozen=True)
class Fault:
    """A planted fault: its algorithm, what it does, and the properties each of which must fail."""

    algorithm: str
    plant: Plant
    caught_by: tuple[str, ...]


FAULTS: dict[str, Fault] = {}


def fault(*caught_by: str) -> Callable[[Plant], Plant]:
    """Register a fault under its function's name, ``algorithm_what_is_wrong``."""

    def register(plant: Plant) -> Plant:
        algorithm = plant.__name__.split("_")[0]
        FAULTS[plant.__name__.replace("_", "-")] = Fault(algorithm, plant, caught_by)
        return plant

    return register


def sees(cls: type[Agent], change: Callable[[Agent, Transitions], Transitions]) -> Plant:
    """The agent's update gets a changed batch."""
    healthy = cls.update
    return lambda patch: patch.setattr(cls, "update", lambda self, batch: healthy(self, change(self, batch)))


def taken(q: Tensor, action: Tensor) -> Tensor:
    return q.gather(1, action.unsqueeze(1)).squeeze(1)


def end_at_cuts(agent: Agent, batch: Transitions) -> Transitions:
    return replace(batch, terminated=batch.terminated | batch.truncated)


def descend(loss, *optimizers):
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.detach()


# DQN


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def dqn_truncation_ends_bootstrap(patch):
    sees(dqn.DQN, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def dqn_true_end_bootstraps(patch):
    patch.setattr(dqn, "td_target", lambda reward, terminated, value, discount: reward + discount * value)


@fault(TD_TARGET, REFERENCE, PROBE_DISCOUNT)
def dqn_discount_forgotten(patch):
    patch.setattr(dqn, "td_target", lambda r, terminated, value, discount: torch.where(terminated, r, r + value))


@fault(DOUBLE, REFERENCE)
def dqn_single_estimator(patch):
    patch.setattr(dqn, "double_q_value", lambda online, target, mask=None: target.max(dim=1).values)


@fault(DOUBLE, REFERENCE)
def dqn_networks_swapped_in_double_estimator(patch):
    healthy = dqn.double_q_value
    patch.setattr(dqn, "double_q_value", lambda online, target, mask=None: healthy(target, online, mask))


@fault(MASK, DOUBLE)
def dqn_mask_ignored_in_target(patch):
    healthy = dqn.double_q_value
    patch.setattr(dqn, "double_q_value", lambda online, target, mask=None: healthy(online, target))


@fault(POLYAK, REFERENCE, PROBE_DISCOUNT)
def dqn_target_never_moves(patch):
    patch.setattr(dqn, "polyak_update", lambda target, source, rate: None)


@fault(POLYAK, REFERENCE)
def dqn_target_rate_inverted(patch):
    healthy = dqn.polyak_update
    patch.setattr(dqn, "polyak_update", lambda target, source, rate: healthy(target, source, 1 - rate))


@fault(REFERENCE)
def dqn_target_not_detached(patch):
    """Bootstraps from the trained network itself, gradient included."""

    def target(self, batch):
        next_q = self.q_network(self._input(batch.next_observation)).max(dim=1).values
        return dqn.td_target(batch.reward, batch.terminated, next_q, self.config.discount)

    patch.setattr(dqn.DQN, "_target", target)


@fault(TD_LOSS, REFERENCE)
def dqn_loss_broadcast_over_the_batch(patch):
    """[B, 1] minus [B] is [B, B]: every prediction is pulled to every target."""
    patch.setattr(dqn, "td_loss", lambda q, target: 0.5 * (q.unsqueeze(1) - target).square().mean())


@fault(TD_LOSS, REFERENCE, PROBE_REWARD)
def dqn_loss_climbed(patch):
    healthy = dqn.td_loss
    patch.setattr(dqn, "td_loss", lambda q, target: -healthy(q, target))


@fault(TD_LOSS, REFERENCE)
def dqn_huber_loss(patch):
    patch.setattr(dqn, "td_loss", lambda q, target: functional.smooth_l1_loss(q, target))


@fault(REFERENCE, PROBE_ACTION)
def dqn_fits_the_greedy_action(patch):
    def update_batch(agent, batch):
        return replace(batch, action=agent.q_network(agent._input(batch.observation)).argmax(dim=1))

    sees(dqn.DQN, update_batch)(patch)


@fault(PROBE_VALUE, REFERENCE)
def dqn_observation_ignored(patch):
    sees(dqn.DQN, lambda agent, batch: replace(batch, observation=torch.zeros_like(batch.observation)))(patch)


@fault(REFERENCE)
def dqn_normalizer_forgotten_in_target(patch):
    @torch.no_grad()
    def target(self, batch):
        raw = batch.next_observation
        value = dqn.double_q_value(self.q_network(raw), self.target_network(raw), batch.next_action_mask)
        return dqn.td_target(batch.reward, batch.terminated, value, self.config.discount)

    patch.setattr(dqn.DQN, "_target", target)


# Behaviour cloning


@fault(NLL, NLL_GRADIENT, REFERENCE, FREQUENCIES)
def bc_softmax_twice(patch):
    patch.setattr(bc, "negative_log_likelihood", lambda z, a: functional.cross_entropy(z.softmax(dim=1), a))


@fault(NLL, NLL_GRADIENT, REFERENCE)
def bc_softmax_over_batch(patch):
    patch.setattr(bc, "negative_log_likelihood", lambda z, a: -taken(z.log_softmax(dim=0), a).mean())


@fault(NLL, NLL_GRADIENT, REFERENCE, FREQUENCIES)
def bc_likelihood_minimised(patch):
    patch.setattr(bc, "negative_log_likelihood", lambda z, a: -functional.cross_entropy(z, a))


@fault(NLL, NLL_GRADIENT, REFERENCE, FREQUENCIES)
def bc_softmax_forgotten(patch):
    patch.setattr(bc, "negative_log_likelihood", lambda z, a: -taken(z, a).mean())


@fault(NLL, NLL_GRADIENT, REFERENCE, FREQUENCIES)
def bc_squared_error_on_logits(patch):
    def loss(logits, action):
        return (logits - functional.one_hot(action, logits.shape[1])).square().mean()

    patch.setattr(bc, "negative_log_likelihood", loss)


@fault(REFERENCE)
def bc_actions_of_the_next_row(patch):
    sees(bc.DiscreteBC, lambda agent, batch: replace(batch, action=batch.action.roll(1)))(patch)


@fault(REFERENCE, FREQUENCIES)
def bc_clones_its_own_choice(patch):
    def own_choice(agent, batch):
        return replace(batch, action=agent.policy(agent._input(batch.observation)).argmax(dim=1))

    sees(bc.DiscreteBC, own_choice)(patch)


@fault("cloning-reads-neither-rewards-nor-successors", REFERENCE, FREQUENCIES)
def bc_weighs_by_reward(patch):
    def update(self, batch):
        logits = self.policy(self._input(batch.observation))
        loss = (batch.reward * functional.cross_entropy(logits, batch.action, reduction="none")).mean()
        return {"loss": descend(loss, self.optimizer)}

    patch.setattr(bc.DiscreteBC, "update", update)


@fault(REFERENCE)
def bc_gradients_pile_up(patch):
    def update(self, batch):
        loss = bc.negative_log_likelihood(self.policy(self._input(batch.observation)), batch.action)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    patch.setattr(bc.DiscreteBC, "update", update)


@fault(REFERENCE)
def bc_normalizer_forgotten_in_update(patch):
    def update(self, batch):
        loss = bc.negative_log_likelihood(self.policy(batch.observation), batch.action)
        return {"loss": descend(loss, self.optimizer)}

    patch.setattr(bc.DiscreteBC, "update", update)


# Conservative Q-learning


@fault(PENALTY, PENALTY_GRADIENT, REFERENCE)
def cql_logsumexp_over_batch(patch):
    patch.setattr(cql, "conservative_penalty", lambda q, a: q.logsumexp(dim=0).mean() - taken(q, a).mean())


@fault(PENALTY, PENALTY_GRADIENT, REFERENCE, CQL_FIXED_POINT)
def cql_penalty_sign(patch):
    healthy = cql.conservative_penalty
    patch.setattr(cql, "conservative_penalty", lambda q, a: -healthy(q, a))


@fault(PENALTY, PENALTY_GRADIENT, PENALTY_SHIFT, REFERENCE, CQL_FIXED_POINT)
def cql_data_action_not_raised(patch):
    patch.setattr(cql, "conservative_penalty", lambda q, a: q.logsumexp(dim=1).mean())


@fault(PENALTY, PENALTY_GRADIENT, REFERENCE, CQL_FIXED_POINT)
def cql_greedy_action_raised(patch):
    patch.setattr(cql, "conservative_penalty", lambda q, a: (q.logsumexp(dim=1) - q.max(dim=1).values).mean())


@fault(PENALTY, PENALTY_GRADIENT, REFERENCE, CQL_FIXED_POINT)
def cql_mean_for_logsumexp(patch):
    patch.setattr(cql, "conservative_penalty", lambda q, a: (q.mean(dim=1) - taken(q, a)).mean())


@fault(PENALTY_FINITE)
def cql_exponentials_overflow(patch):
    patch.setattr(cql, "conservative_penalty", lambda q, a: (q.exp().sum(dim=1).log() - taken(q, a)).mean())


@fault(PENALTY_GRADIENT, REFERENCE, CQL_FIXED_POINT)
def cql_penalty_detached(patch):
    healthy = cql.conservative_penalty
    patch.setattr(cql, "conservative_penalty", lambda q, a: healthy(q.detach(), a) + 0 * q.sum())


@fault(REFERENCE, CQL_FIXED_POINT, "without-penalty-cql-is-dqn-bit-for-bit")
def cql_weight_ignored(patch):
    def loss(self, batch, q_all, q, target):
        penalty = cql.conservative_penalty(q_all, batch.action)
        return cql.td_loss(q, target) + penalty, {"penalty": penalty.detach()}

    patch.setattr(cql.DiscreteCQL, "_loss", loss)


@fault(DOUBLE, REFERENCE)
def cql_single_estimator(patch):
    patch.setattr(dqn, "double_q_value", lambda online, target, mask=None: target.max(dim=1).values)


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def cql_truncation_ends_bootstrap(patch):
    sees(cql.DiscreteCQL, end_at_cuts)(patch)


@fault(POLYAK, REFERENCE)
def cql_target_copied_every_update(patch):
    healthy = dqn.polyak_update
    patch.setattr(dqn, "polyak_update", lambda target, source, rate: healthy(target, source, 1.0))


# Implicit Q-learning


def fit_value(combine=torch.minimum, critics="target_critics", new_value=True):
    """DiscreteIQL._fit_value with one part changed."""

    def fit(self, observation, action):
        with torch.no_grad():
            first, second = (taken(critic(observation), action) for critic in getattr(self, critics))
            target_q = combine(first, second)
        error = target_q - self.value(observation).squeeze(1)
        loss = descend(iql.expectile_loss(error, self.config.expectile), self.value_optimizer)
        with torch.no_grad():
            return loss, target_q - self.value(observation).squeeze(1) if new_value else error.detach()

    return fit


@fault(EXPECTILE, EXPECTILE_MINIMUM, REFERENCE, IQL_FIXED_POINT)
def iql_expectile_side_swapped(patch):
    healthy = iql.expectile_loss
    patch.setattr(iql, "expectile_loss", lambda error, level: healthy(error, 1 - level))


@fault(EXPECTILE, EXPECTILE_MINIMUM, REFERENCE, IQL_FIXED_POINT)
def iql_quantile_for_expectile(patch):
    def loss(error, level):
        return (torch.where(error < 0, level - 1, level) * error).mean()

    patch.setattr(iql, "expectile_loss", loss)


@fault(REFERENCE)
def iql_max_of_twin_critics(patch):
    patch.setattr(iql.DiscreteIQL, "_fit_value", fit_value(combine=torch.maximum))


@fault(REFERENCE)
def iql_advantage_from_old_value(patch):
    patch.setattr(iql.DiscreteIQL, "_fit_value", fit_value(new_value=False))


@fault(REFERENCE)
def iql_value_from_online_critics(patch):
    patch.setattr(iql.DiscreteIQL, "_fit_value", fit_value(critics="critics"))


@fault(REFERENCE, IN_SAMPLE)
def iql_critic_on_greedy_next_action(patch):
    def fit(self, observation, batch):
        with torch.no_grad():
            following = self._input(batch.next_observation)
            best = torch.minimum(*(critic(following) for critic in self.target_critics)).max(dim=1).values
            target = iql.td_target(batch.reward, batch.terminated, best, self.config.discount)
        first, second = (taken(critic(observation), batch.action) for critic in self.critics)
        loss = iql.td_loss(first, target) + iql.td_loss(second, target)
        return descend(loss, self.critic_optimizer), first.detach().mean()

    patch.setattr(iql.DiscreteIQL, "_fit_critics", fit)


@fault(WEIGHT, REFERENCE, IQL_FIXED_POINT)
def iql_temperature_inverted(patch):
    healthy = iql.advantage_weight
    patch.setattr(iql, "advantage_weight", lambda advantage, beta, top: healthy(advantage, 1 / max(beta, 1e-9), top))


@fault(WEIGHT, REFERENCE)
def iql_weight_unclipped(patch):
    patch.setattr(iql, "advantage_weight", lambda advantage, beta, top: (beta * advantage).exp())


@fault(WEIGHT, REFERENCE, IQL_FIXED_POINT)
def iql_advantage_sign(patch):
    healthy = iql.advantage_weight
    patch.setattr(iql, "advantage_weight", lambda advantage, beta, top: healthy(-advantage, beta, top))


@fault(WEIGHTED, REFERENCE)
def iql_likelihood_over_batch(patch):
    def loss(logits, action, weight):
        return -(weight * taken(logits.log_softmax(dim=0), action)).mean()

    patch.setattr(iql, "weighted_log_likelihood_loss", loss)


@fault(WEIGHTED, REFERENCE, IQL_FIXED_POINT)
def iql_weight_ignored(patch):
    loss = lambda logits, action, weight: functional.cross_entropy(logits, action)  # noqa: E731
    patch.setattr(iql, "weighted_log_likelihood_loss", loss)


@fault(REFERENCE)
def iql_weight_not_detached(patch):
    """The policy's loss reaches V through the weight, and V takes the step."""

    def fit(self, observation, action, advantage):
        target_q = advantage + self.value(observation).squeeze(1).detach()
        advantage = target_q - self.value(observation).squeeze(1)
        weight = iql.advantage_weight(advantage, self.config.temperature, self.config.max_weight)
        loss = iql.weighted_log_likelihood_loss(self.policy(observation), action, weight)
        return descend(loss, self.policy_optimizer, self.value_optimizer)

    patch.setattr(iql.DiscreteIQL, "_fit_policy", fit)


@fault(REFERENCE)
def iql_critic_target_not_detached(patch):
    """The critics' loss reaches V through their target, and V takes the step."""

    def fit(self, observation, batch):
        following = self.value(self._input(batch.next_observation)).squeeze(1)
        target = iql.td_target(batch.reward, batch.terminated, following, self.config.discount)
        first, second = (taken(critic(observation), batch.action) for critic in self.critics)
        loss = iql.td_loss(first, target) + iql.td_loss(second, target)
        return descend(loss, self.critic_optimizer, self.value_optimizer), first.detach().mean()

    patch.setattr(iql.DiscreteIQL, "_fit_critics", fit)


@fault(REFERENCE)
def iql_critics_before_value(patch):
    def update(self, batch):
        observation = self._input(batch.observation)
        critic_loss, q = self._fit_critics(observation, batch)
        value_loss, advantage = self._fit_value(observation, batch.action)
        policy_loss = self._fit_policy(observation, batch.action, advantage)
        iql.polyak_update(self.target_critics, self.critics, self.config.target_rate)
        return {"value_loss": value_loss, "policy_loss": policy_loss, "critic_loss": critic_loss, "q": q}

    patch.setattr(iql.DiscreteIQL, "update", update)


@fault(POLYAK, REFERENCE, PROBE_DISCOUNT)
def iql_target_critics_never_move(patch):
    patch.setattr(iql, "polyak_update", lambda target, source, rate: None)


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def iql_truncation_ends_bootstrap(patch):
    sees(iql.DiscreteIQL, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def iql_true_end_bootstraps(patch):
    patch.setattr(iql, "td_target", lambda reward, terminated, value, discount: reward + discount * value)


@fault(TWINS)
def iql_twin_critics_are_one(patch):
    healthy = iql.DiscreteIQL._build

    def build(self):
        healthy(self)
        self.critics[1].load_state_dict(self.critics[0].state_dict())

    patch.setattr(iql.DiscreteIQL, "_build", build)
