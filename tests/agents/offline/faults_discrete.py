"""Faults planted in the agents with discrete actions, and the properties that must catch them: see ``planting.py``."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

import ca14lib.agents.dqn as dqn
import ca14lib.agents.offline.awr as awr
import ca14lib.agents.offline.bc as bc
import ca14lib.agents.offline.bc_regularized as regularized
import ca14lib.agents.offline.bcq as bcq
import ca14lib.agents.offline.cql as cql
import ca14lib.agents.offline.iql as iql
from tests.agents.offline.planting import descend, end_at_cuts, endless, fault_table, sees

FAULTS, fault = fault_table()

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
LABELLED = "labelled-updates-equal-the-reference"
RETURN = "lambda-return-is-the-mixture-of-all-n-step-returns"
LABELS = "labels-are-the-returns-of-the-recorded-episodes"
ENDLESS = "labels-of-an-endless-task-bootstrap-through-the-time-limit"
NORMALIZED = "normalized-advantage-has-mean-zero-and-deviation-one"
AWR_WEIGHT = "awr-weight-is-the-clipped-exponential-of-the-advantage-over-the-temperature"
AWR_FIXED_POINT = "the-value-is-the-mean-and-the-policy-the-weighted-frequency"
NO_DIFFERENCES = "without-differences-awr-is-cloning"
BEHAVIOUR = "behaviour-loss-is-the-likelihood-plus-the-mean-squared-logit"
SUPPORT = "supported-actions-are-those-within-the-threshold-of-the-most-likely"
NEVER_EMPTY = "the-most-likely-action-is-always-supported"
HUBER = "huber-loss-is-quadratic-up-to-one-and-linear-beyond"
UNSUPPORTED = "values-of-unsupported-actions-never-count"
ACTS_IN_SUPPORT = "every-action-taken-is-supported"
NEXT_SUPPORT = "the-support-is-found-among-allowed-next-actions"
NO_THRESHOLD = "at-threshold-zero-the-target-is-that-of-double-dqn"
BCQ_FIXED_POINT = "the-best-supported-action-is-chosen-and-rarer-better-ones-are-not"
EXPECTED_VALUE = "expected-value-is-the-mean-of-q-under-the-softmax"
POLICY_LOSS = "the-policy-loss-is-value-and-likelihood-with-their-signs"
BALANCE = "the-policy-rests-where-value-and-likelihood-balance"
HEAVY_WEIGHT = "a-heavy-weight-clones"


def taken(q: Tensor, action: Tensor) -> Tensor:
    return q.gather(1, action.unsqueeze(1)).squeeze(1)


# DQN


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def dqn_truncation_ends_bootstrap(patch):
    sees(dqn.DQN, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def dqn_true_end_bootstraps(patch):
    patch.setattr(dqn, "td_target", endless)


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
    patch.setattr(iql, "td_target", endless)


@fault(TWINS)
def iql_twin_critics_are_one(patch):
    healthy = iql.DiscreteIQL._build

    def build(self):
        healthy(self)
        self.critics[1].load_state_dict(self.critics[0].state_dict())

    patch.setattr(iql.DiscreteIQL, "_build", build)


# Advantage-weighted regression


@fault(RETURN, LABELS, ENDLESS)
def awr_cut_episodes_end_in_nothing(patch):
    healthy = awr.lambda_return

    def returns(reward, terminated, truncated, next_value, discount, decay):
        return healthy(reward, terminated | truncated, truncated, next_value, discount, decay)

    patch.setattr(awr, "lambda_return", returns)


@fault(RETURN, LABELS)
def awr_returns_run_on_into_the_next_episode(patch):
    healthy = awr.lambda_return

    def returns(reward, terminated, truncated, next_value, discount, decay):
        last = torch.arange(len(reward)) == len(reward) - 1
        return healthy(reward, terminated & last, truncated & last, next_value.nan_to_num(), discount, decay)

    patch.setattr(awr, "lambda_return", returns)


@fault(RETURN, LABELS)
def awr_trace_inverted(patch):
    healthy = awr.lambda_return
    patch.setattr(awr, "lambda_return", lambda r, d, t, v, discount, decay: healthy(r, d, t, v, discount, 1 - decay))


@fault(RETURN)
def awr_value_after_a_true_end_counts(patch):
    healthy = awr.lambda_return

    def returns(reward, terminated, truncated, next_value, discount, decay):
        none = torch.zeros_like(terminated)
        return healthy(reward, none, truncated | terminated, next_value, discount, decay)

    patch.setattr(awr, "lambda_return", returns)


@fault(LABELS)
def awr_labels_with_values_of_the_wrong_step(patch):
    """V(s) where V(s') belongs."""
    healthy = awr.DiscreteAWR.relabel

    def relabel(self, dataset):
        shifted = replace(dataset.transitions, next_observation=dataset.transitions.observation)
        twin = dataset.relabelled(dataset.transitions.reward)
        twin.transitions = shifted
        return healthy(self, twin)

    patch.setattr(awr.DiscreteAWR, "relabel", relabel)


@fault(LABELLED)
def awr_labels_ignored(patch):
    sees(awr.DiscreteAWR, lambda agent, batch: replace(batch, value_target=None))(patch)


@fault(NORMALIZED, REFERENCE, LABELLED)
def awr_advantages_not_centred(patch):
    def advantage(target, value, epsilon=1e-5):
        return (target - value) / ((target - value).std(correction=0) + epsilon)

    patch.setattr(awr, "normalized_advantage", advantage)


@fault(NORMALIZED, NO_DIFFERENCES)
def awr_division_by_no_spread(patch):
    def advantage(target, value, epsilon=1e-5):
        difference = target - value
        return (difference - difference.mean()) / difference.std(correction=0)

    patch.setattr(awr, "normalized_advantage", advantage)


@fault(NORMALIZED, REFERENCE, AWR_FIXED_POINT)
def awr_advantage_sign(patch):
    healthy = awr.normalized_advantage
    patch.setattr(awr, "normalized_advantage", lambda target, value: healthy(value, target))


@fault(AWR_WEIGHT, REFERENCE, AWR_FIXED_POINT)
def awr_temperature_multiplies(patch):
    healthy = awr.awr_weight
    patch.setattr(awr, "awr_weight", lambda advantage, temperature, top: healthy(advantage, 1 / temperature, top))


@fault(AWR_WEIGHT, REFERENCE)
def awr_weight_unclipped(patch):
    patch.setattr(awr, "awr_weight", lambda advantage, temperature, top: (advantage / temperature).exp())


@fault(REFERENCE, LABELLED)
def awr_advantage_from_old_value(patch):
    def update(self, batch):
        observation = self._input(batch.observation)
        target = self._one_step_target(batch) if batch.value_target is None else batch.value_target
        value = self.value(observation).squeeze(1)
        loss = descend(awr.td_loss(value, target), self.value_optimizer)
        advantage = awr.normalized_advantage(target, value.detach())
        weight = awr.awr_weight(advantage, self.config.temperature, self.config.max_weight)
        policy_loss = awr.weighted_log_likelihood_loss(self.policy(observation), batch.action, weight)
        return {"value_loss": loss, "policy_loss": descend(policy_loss, self.policy_optimizer), "weight": weight.mean()}

    patch.setattr(awr.DiscreteAWR, "update", update)


@fault(REFERENCE, LABELLED, AWR_FIXED_POINT)
def awr_weight_ignored(patch):
    loss = lambda logits, action, weight: functional.cross_entropy(logits, action)  # noqa: E731
    patch.setattr(awr, "weighted_log_likelihood_loss", loss)


@fault(TRUNCATION, REFERENCE)
def awr_truncation_ends_bootstrap(patch):
    sees(awr.DiscreteAWR, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def awr_true_end_bootstraps(patch):
    patch.setattr(awr, "td_target", endless)


# Batch-constrained Q-learning


@fault(BEHAVIOUR, REFERENCE, BCQ_FIXED_POINT)
def bcq_logits_rectified(patch):
    """A ReLU on the imitation logits: no action can be made unlikely."""
    healthy = bcq.behaviour_loss
    patch.setattr(bcq, "behaviour_loss", lambda logits, action, penalty: healthy(logits.relu(), action, penalty))


@fault(BEHAVIOUR, REFERENCE)
def bcq_penalty_forgotten(patch):
    healthy = bcq.behaviour_loss
    patch.setattr(bcq, "behaviour_loss", lambda logits, action, penalty: healthy(logits, action, 0.0))


@fault(SUPPORT, REFERENCE, BCQ_FIXED_POINT)
def bcq_threshold_absolute(patch):
    """π_β > ζ instead of the ratio to the most likely action."""

    def supported(logits, threshold, mask=None):
        logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(dim=1) > threshold

    patch.setattr(bcq, "supported_actions", supported)


@fault(NEVER_EMPTY)
def bcq_threshold_absolute_empties_states(patch):
    patch.setattr(bcq, "supported_actions", lambda z, threshold, mask=None: z.softmax(dim=1) > threshold)


@fault(SUPPORT, REFERENCE)
def bcq_softmax_over_batch(patch):
    def supported(logits, threshold, mask=None):
        likelihood = logits.softmax(dim=0)
        return likelihood / likelihood.amax(dim=1, keepdim=True) > threshold

    patch.setattr(bcq, "supported_actions", supported)


@fault(SUPPORT, NEXT_SUPPORT)
def bcq_scale_set_by_a_forbidden_action(patch):
    healthy = bcq.supported_actions

    def supported(logits, threshold, mask=None):
        found = healthy(logits, threshold)
        return found if mask is None else found & mask

    patch.setattr(bcq, "supported_actions", supported)


@fault(REFERENCE, UNSUPPORTED)
def bcq_target_over_all_actions(patch):
    @torch.no_grad()
    def target(self, batch):
        following = self._input(batch.next_observation)
        value = bcq.double_q_value(self.q_network(following), self.target_network(following), batch.next_action_mask)
        return bcq.td_target(batch.reward, batch.terminated, value, self.config.discount)

    patch.setattr(bcq.DiscreteBCQ, "_target", target)


@fault(REFERENCE)
def bcq_support_of_the_state_before(patch):
    @torch.no_grad()
    def target(self, batch):
        following = self._input(batch.next_observation)
        supported = bcq.supported_actions(self.behaviour(self._input(batch.observation)), self.config.threshold)
        value = bcq.double_q_value(self.q_network(following), self.target_network(following), supported)
        return bcq.td_target(batch.reward, batch.terminated, value, self.config.discount)

    patch.setattr(bcq.DiscreteBCQ, "_target", target)


@fault(ACTS_IN_SUPPORT, BCQ_FIXED_POINT)
def bcq_acts_outside_the_support(patch):
    def policy(self, observation, mask, deterministic):
        q = self._scores(observation)
        if mask is not None:
            q = q.masked_fill(~self._allowed(mask, q.shape), -torch.inf)
        return functional.one_hot(q.argmax(dim=-1), self.num_actions).float()

    patch.setattr(bcq.DiscreteBCQ, "_policy", policy)


@fault(HUBER, REFERENCE)
def bcq_squared_error(patch):
    patch.setattr(bcq, "huber_loss", lambda q, target: 0.5 * (q - target).square().mean())


@fault(REFERENCE, NO_THRESHOLD)
def bcq_single_estimator(patch):
    def value(online, target, supported):
        return target.masked_fill(~supported, -torch.inf).max(dim=1).values

    patch.setattr(bcq, "double_q_value", value)


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def bcq_truncation_ends_bootstrap(patch):
    sees(bcq.DiscreteBCQ, end_at_cuts)(patch)


@fault(TD_TARGET, REFERENCE)  # the errors of Huber's linear part leave the gradient as it is
def bcq_true_end_bootstraps(patch):
    patch.setattr(bcq, "td_target", endless)


@fault(POLYAK, REFERENCE, PROBE_DISCOUNT)
def bcq_target_never_moves(patch):
    patch.setattr(bcq, "polyak_update", lambda target, source, rate: None)


# Value maximisation with a behaviour-cloning term


@fault(POLICY_LOSS, REFERENCE, BALANCE)
def regularized_value_minimised(patch):
    def loss(logits, q, action, weight):
        return weight * functional.cross_entropy(logits, action) + (logits.softmax(dim=1) * q).sum(dim=1).mean()

    patch.setattr(regularized, "regularized_policy_loss", loss)


@fault(POLICY_LOSS, REFERENCE, BALANCE, HEAVY_WEIGHT)
def regularized_cloning_term_sign(patch):
    healthy = regularized.regularized_policy_loss
    patch.setattr(regularized, "regularized_policy_loss", lambda z, q, a, weight: healthy(z, q, a, -weight))


@fault(POLICY_LOSS, REFERENCE, BALANCE)
def regularized_weight_ignored(patch):
    healthy = regularized.regularized_policy_loss
    patch.setattr(regularized, "regularized_policy_loss", lambda z, q, a, weight: healthy(z, q, a, 1.0))


@fault(REFERENCE)
def regularized_policy_loss_moves_the_critic(patch):
    """The critic is raised where the policy acts, because Q is not detached in the policy's loss."""

    def update(self, batch):
        observation, target = self._input(batch.observation), self._target(batch)
        q_all = self.q_network(observation)
        q = taken(q_all, batch.action)
        critic_loss = regularized.td_loss(q, target)
        policy_loss = regularized.regularized_policy_loss(
            self.policy(observation), q_all, batch.action, self.config.behaviour_weight
        )
        descend(critic_loss + policy_loss, self.optimizer)
        regularized.polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {"critic_loss": critic_loss.detach(), "policy_loss": policy_loss.detach(), "q": q.detach().mean()}

    patch.setattr(regularized.DiscreteBCRegularized, "update", update)


@fault(EXPECTED_VALUE, REFERENCE)
def regularized_target_of_the_best_action(patch):
    patch.setattr(regularized, "expected_value", lambda logits, q, mask=None: q.max(dim=1).values)


@fault(EXPECTED_VALUE, POLICY_LOSS, REFERENCE)
def regularized_softmax_over_batch(patch):
    patch.setattr(regularized, "expected_value", lambda z, q, mask=None: (z.softmax(dim=0) * q).sum(dim=1))


@fault(EXPECTED_VALUE)
def regularized_mask_ignored_in_target(patch):
    healthy = regularized.expected_value
    patch.setattr(regularized, "expected_value", lambda logits, q, mask=None: healthy(logits, q))


@fault(TRUNCATION, REFERENCE, PROBE_TRUNCATION)
def regularized_truncation_ends_bootstrap(patch):
    sees(regularized.DiscreteBCRegularized, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def regularized_true_end_bootstraps(patch):
    patch.setattr(regularized, "td_target", endless)


@fault(POLYAK, REFERENCE, PROBE_DISCOUNT)
def regularized_target_never_moves(patch):
    patch.setattr(regularized, "polyak_update", lambda target, source, rate: None)
