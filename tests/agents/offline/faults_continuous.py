"""Faults planted in the agents with continuous actions, but AWR and BCQ, and the properties that must catch them."""

import math
import types

import torch

import ca14lib.agents.base as base
import ca14lib.agents.offline.bc as bc
import ca14lib.agents.offline.cql as cql
import ca14lib.agents.offline.iql as iql
import ca14lib.agents.offline.td3bc as td3bc
import ca14lib.agents.sac as sac
import ca14lib.networks.policies as policies
from tests.agents.offline.planting import descend, end_at_cuts, endless, fault_table, sees

FAULTS, fault = fault_table()

REFERENCE = "four-updates-equal-the-reference"
REFERENCE_THRESHOLD = "four-updates-with-a-threshold-equal-the-reference"
REFERENCE_DECAY = "four-updates-with-a-decaying-rate-equal-the-reference"
REFERENCE_DELAY = "four-updates-with-a-policy-delay-of-three-equal-the-reference"
TRUNCATION = "an-update-ignores-truncation"
TRUE_END = "an-update-ignores-what-follows-a-true-end"
BELLMAN_END = "the-bellman-error-ignores-what-follows-a-true-end"
POLYAK = "the-target-networks-follow-by-polyak-and-get-no-gradient"
TD_TARGET = "td-target-is-the-reward-plus-the-discounted-next-value-unless-terminated"
UNITS = "actions-keep-their-units"
ONE = "squashed-density-integrates-to-one"
SLOPE = "squashed-density-is-the-slope-of-the-distribution-of-tanh-of-a-gaussian"
DRAWN = "drawn-actions-have-the-density-that-is-reported"
LARGE = "log-tanh-slope-is-exact-and-finite-however-large-its-argument"
OUTSIDE_UNITS = "action-log-prob-integrates-to-one-in-environment-units"
SOFT_VALUE = "soft-value-is-the-value-minus-the-weighted-log-density"
TEMPERATURE = "the-temperature-rises-while-entropy-is-under-its-target"
TEMPERATURE_MOVES = "temperature-moves-towards-the-target-entropy"
PENALTY = "penalty-is-the-importance-sampled-log-integral"
INTEGRAL = "penalty-converges-to-the-exact-log-integral"
TERMS = "the-penalty-has-three-n-terms-all-valued-at-s-with-the-densities-of-their-proposals"
NO_ENTROPY = "without-penalty-the-target-has-no-entropy-term"
LAGRANGE = "the-lagrange-weight-rises-when-the-penalty-exceeds-the-threshold-and-falls-otherwise"
BOUNDS = "the-lagrange-weight-stays-within-zero-and-a-million-and-comes-back"
SMOOTHED = "smoothed-action-clips-the-noise-and-then-the-action"
SCALE = "value-scale-is-the-weight-over-the-mean-size-of-q-without-gradient"
DELAY = "the-policy-and-all-targets-move-only-every-second-update"
CLONING = "without-value-td3bc-is-cloning"
GAUSSIAN = "gaussian-density-is-that-of-scipy"
WEIGHTED = "weighted-density-loss-weighs-each-row"
COSINE = "the-policys-rate-falls-by-a-cosine"
IN_SAMPLE = "unrecorded-actions-are-never-asked-for"
MEAN_SQUARE = "cloning-loss-is-the-mean-square-over-rows-and-dimensions"
BLIND = "cloning-reads-neither-rewards-nor-successors"
MEAN = "the-copy-takes-the-mean-action-even-where-no-one-ever-acts"
STOCHASTIC = "stochastic-actions-differ-and-deterministic-ones-do-not"


def inverted(module, patch):
    healthy = module.polyak_update
    patch.setattr(module, "polyak_update", lambda target, source, rate: healthy(target, source, 1 - rate))


# Soft actor-critic


@fault(TRUNCATION, REFERENCE)
def sac_truncation_ends_bootstrap(patch):
    sees(sac.SAC, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def sac_true_end_bootstraps(patch):
    patch.setattr(sac, "td_target", endless)


@fault(POLYAK, REFERENCE)
def sac_target_rate_inverted(patch):
    inverted(sac, patch)


@fault(SOFT_VALUE, REFERENCE)
def sac_entropy_sign(patch):
    patch.setattr(sac, "soft_value", lambda q, log_prob, temperature: q + temperature * log_prob)


@fault(SOFT_VALUE, REFERENCE)
def sac_entropy_forgotten(patch):
    patch.setattr(sac, "soft_value", lambda q, log_prob, temperature: q)


@fault(TEMPERATURE, TEMPERATURE_MOVES, REFERENCE)
def sac_temperature_sign(patch):
    healthy = sac.temperature_loss
    patch.setattr(sac, "temperature_loss", lambda *arguments: -healthy(*arguments))


@fault(TEMPERATURE, TEMPERATURE_MOVES)
def sac_target_entropy_sign(patch):
    healthy = sac.temperature_loss
    patch.setattr(sac, "temperature_loss", lambda log, log_prob, target: healthy(log, log_prob, -target))


@fault(ONE, SLOPE, REFERENCE, LARGE)
def sac_change_of_variables_forgotten(patch):
    patch.setattr(policies, "log_tanh_slope", torch.zeros_like)


@fault(LARGE)
def sac_slope_by_subtraction(patch):
    """The textbook form with its small constant: wrong for large arguments, and its gradient dies there."""
    patch.setattr(policies, "log_tanh_slope", lambda u: (1 - u.tanh().square() + 1e-6).log())


@fault(ONE, SLOPE, REFERENCE)
def sac_change_of_variables_added(patch):
    healthy = policies.log_tanh_slope
    patch.setattr(policies, "log_tanh_slope", lambda u: -healthy(u))


@fault(ONE, SLOPE, REFERENCE)
def sac_log_std_not_in_the_density(patch):
    patch.setattr(
        policies, "gaussian_log_density", lambda z, s: (-0.5 * z.square() - policies.HALF_LOG_2PI).sum(dim=-1)
    )


@fault(DRAWN, REFERENCE)
def sac_variance_for_deviation_in_draws(patch):
    healthy = policies.draw_squashed
    patch.setattr(policies, "draw_squashed", lambda mean, log_std, g: healthy(mean, 2 * log_std, g))


@fault(OUTSIDE_UNITS)
def sac_log_prob_in_unit_density(patch):
    def action_log_prob(self, observation, action):
        with torch.no_grad():
            inputs = self._input(self._observation_tensor(observation))
            unit = self._unit(torch.as_tensor(action, dtype=torch.float32))
            return self.policy.log_prob(inputs, unit).numpy()

    patch.setattr(sac.SAC, "action_log_prob", action_log_prob)


@fault(UNITS)
def sac_acts_in_units_of_the_network(patch):
    patch.setattr(base.ContinuousAgent, "_environment", lambda self, unit: unit)


@fault(REFERENCE)
def sac_critic_sees_raw_actions(patch):
    healthy = sac.SAC._fit_critic

    def fit(self, observation, batch):
        with patch.context() as inner:
            inner.setattr(type(self), "_unit", lambda self, action: action)
            return healthy(self, observation, batch)

    patch.setattr(sac.SAC, "_fit_critic", fit)


@fault(REFERENCE)
def sac_max_of_twin_critics(patch):
    patch.setattr(sac.TwinCritic, "least", lambda self, s, a: torch.maximum(*self(s, a)))


@fault(STOCHASTIC)
def sac_deterministic_acting_ignored(patch):
    patch.setattr(
        sac.SAC, "_unit_action", lambda self, s, deterministic: self.policy.sample(self._input(s), self.generator)[0]
    )


# TD3 with behaviour cloning


@fault(TRUNCATION, REFERENCE)
def td3bc_truncation_ends_bootstrap(patch):
    sees(td3bc.TD3BC, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def td3bc_true_end_bootstraps(patch):
    patch.setattr(td3bc, "td_target", endless)


@fault(SMOOTHED, REFERENCE)
def td3bc_noise_not_clipped(patch):
    patch.setattr(td3bc, "smoothed_action", lambda action, noise, clip: (action + noise).clamp(-1, 1))


@fault(SMOOTHED, REFERENCE)
def td3bc_smoothed_action_leaves_the_box(patch):
    patch.setattr(td3bc, "smoothed_action", lambda action, noise, clip: action + noise.clamp(-clip, clip))


@fault(SCALE)
def td3bc_gradient_through_the_scale(patch):
    patch.setattr(td3bc, "value_scale", lambda q, weight: weight / q.abs().mean())


@fault(SCALE, REFERENCE)
def td3bc_scale_by_the_mean_value(patch):
    patch.setattr(td3bc, "value_scale", lambda q, weight: weight / q.detach().mean().abs().clamp(min=1e-6))


@fault(SCALE, REFERENCE)
def td3bc_scale_forgotten(patch):
    patch.setattr(td3bc, "value_scale", lambda q, weight: torch.tensor(weight))


@fault(DELAY, REFERENCE, REFERENCE_DELAY)
def td3bc_no_delay(patch):
    healthy = td3bc.TD3BC.update

    def update(self, batch):
        self.updates = self.updates * self.config.policy_delay + self.config.policy_delay - 1
        return healthy(self, batch)

    patch.setattr(td3bc.TD3BC, "update", update)


@fault(CLONING, MEAN_SQUARE, REFERENCE)
def td3bc_cloning_pushes_away(patch):
    healthy = td3bc.cloning_loss
    patch.setattr(td3bc, "cloning_loss", lambda action, data: -healthy(action, data))


@fault(MEAN_SQUARE, REFERENCE)
def td3bc_cloning_summed_over_dimensions(patch):
    patch.setattr(td3bc, "cloning_loss", lambda action, data: (action - data).square().sum(dim=1).mean())


@fault(POLYAK, REFERENCE)
def td3bc_target_policy_never_moves(patch):
    healthy = td3bc.polyak_update

    def follow(target, source, rate):
        if not isinstance(target, td3bc.DeterministicPolicy):
            healthy(target, source, rate)

    patch.setattr(td3bc, "polyak_update", follow)


@fault(REFERENCE)
def td3bc_target_from_the_trained_policy(patch):
    healthy = td3bc.TD3BC._fit_critic

    def fit(self, *arguments):
        with patch.context() as inner:
            inner.setattr(self.target_policy, "forward", self.policy.forward)
            return healthy(self, *arguments)

    patch.setattr(td3bc.TD3BC, "_fit_critic", fit)


@fault(UNITS)
def td3bc_actions_only_scaled_to_the_box(patch):
    patch.setattr(base.ContinuousAgent, "_environment", lambda self, unit: self._action_range[1] * unit)


# Conservative Q-learning


@fault(PENALTY, INTEGRAL, REFERENCE)
def cql_densities_forgotten(patch):
    healthy = cql.continuous_conservative_penalty
    patch.setattr(
        cql, "continuous_conservative_penalty", lambda q, density, data: healthy(q, torch.zeros_like(density), data)
    )


@fault(PENALTY, INTEGRAL, REFERENCE)
def cql_densities_added(patch):
    healthy = cql.continuous_conservative_penalty
    patch.setattr(cql, "continuous_conservative_penalty", lambda q, density, data: healthy(q, -density, data))


@fault(PENALTY, REFERENCE)
def cql_logsumexp_over_three_values(patch):
    """A reshape whose result is dropped: the proposals are averaged first, and three terms are left."""

    def penalty(q, density, data):
        ratio = (q - density).unflatten(1, (3, -1)).mean(dim=2)
        return (ratio.logsumexp(dim=1) - data).mean()

    patch.setattr(cql, "continuous_conservative_penalty", penalty)


@fault(PENALTY, REFERENCE)
def cql_data_action_not_raised(patch):
    healthy = cql.continuous_conservative_penalty
    patch.setattr(cql, "continuous_conservative_penalty", lambda q, density, data: healthy(q, density, 0 * data))


@fault(PENALTY)
def cql_exponentials_overflow(patch):
    patch.setattr(
        cql, "continuous_conservative_penalty", lambda q, d, data: ((q - d).exp().mean(dim=1).log() - data).mean()
    )


@fault(TERMS, REFERENCE)
def cql_next_actions_valued_at_the_next_state(patch):
    """The n actions of π(s′) are valued at s′."""
    healthy = cql.CQL._fit_critic_conservatively

    def fit(self, observation, following, *rest):
        plain = self.critic.forward

        def elsewhere(states, actions):
            states = states.view(len(observation), -1, states.shape[1]).clone()
            states[:, 2 * self.config.sampled_actions : 3 * self.config.sampled_actions] = following[:, None]
            return plain(states.flatten(0, 1), actions)

        with patch.context() as inner:
            inner.setattr(self.critic, "forward", elsewhere)
            return healthy(self, observation, following, *rest)

    patch.setattr(cql.CQL, "_fit_critic_conservatively", fit)


def proposals(patch, change):
    """The sampled actions and log-densities of CQL, changed."""
    healthy = cql.CQL._penalty_actions
    patch.setattr(cql.CQL, "_penalty_actions", lambda self, *given: change(self, *healthy(self, *given)))


@fault(TERMS, REFERENCE)
def cql_uniform_actions_on_half_the_box(patch):
    def change(self, actions, density):
        actions[:, : self.config.sampled_actions] = (actions[:, : self.config.sampled_actions] + 1) / 2
        return actions, density

    proposals(patch, change)


@fault(TERMS, INTEGRAL, REFERENCE)
def cql_volume_of_the_box_forgotten(patch):
    def change(self, actions, density):
        density[:, : self.config.sampled_actions] = 0
        return actions, density

    proposals(patch, change)


@fault(TERMS, REFERENCE)
def cql_no_proposals_at_the_next_state(patch):
    def change(self, actions, density):
        kept = 2 * self.config.sampled_actions
        return actions[:, :kept], density[:, :kept]

    proposals(patch, change)


@fault(NO_ENTROPY, REFERENCE)
def cql_entropy_in_the_backup(patch):
    healthy = cql.td_target
    built = cql.CQL._fit_critic_conservatively

    def fit(self, *arguments):
        with patch.context() as inner:
            bonus = self.log_temperature.detach().exp()
            inner.setattr(
                cql, "td_target", lambda r, terminated, v, discount: healthy(r, terminated, v + bonus, discount)
            )
            return built(self, *arguments)

    patch.setattr(cql.CQL, "_fit_critic_conservatively", fit)


@fault(LAGRANGE, REFERENCE_THRESHOLD, BOUNDS)
def cql_dual_descends(patch):
    healthy = cql.gradient_step

    def step(optimizer, loss):
        dual = len(optimizer.param_groups[0]["params"]) == 1 and optimizer.param_groups[0]["params"][0].ndim == 0
        healthy(optimizer, -loss if dual else loss)

    patch.setattr(cql, "gradient_step", step)


@fault(BOUNDS)
def cql_weight_without_bound(patch):
    patch.setattr(cql, "MAX_LAGRANGE_WEIGHT", 1e30)


@fault(BOUNDS)
def cql_bound_in_the_loss(patch):
    """Beyond the bound the loss has no gradient: the weight never comes back."""

    def weight(self, penalties):
        excess = sum(penalty.detach() for penalty in penalties) / 2 - self.config.lagrange_threshold
        cql.gradient_step(self.weight_optimizer, -self.log_weight.exp().clamp(0, 1e6) * excess)
        return self.log_weight.detach().exp().clamp(0, 1e6)

    patch.setattr(cql.CQL, "_weight", weight)


@fault(BELLMAN_END, TD_TARGET, REFERENCE)
def cql_true_end_bootstraps(patch):
    patch.setattr(cql, "td_target", endless)


@fault(TRUNCATION, REFERENCE)
def cql_truncation_ends_bootstrap(patch):
    sees(cql.CQL, end_at_cuts)(patch)


@fault(REFERENCE)
def cql_policy_at_the_rate_of_the_critic(patch):
    healthy = cql.CQL._build

    def build(self):
        healthy(self)
        self.policy_optimizer.param_groups[0]["lr"] = self.config.learning_rate

    patch.setattr(cql.CQL, "_build", build)


@fault(POLYAK, REFERENCE)
def cql_target_never_moves(patch):
    patch.setattr(cql, "polyak_update", lambda target, source, rate: None)


# Implicit Q-learning


@fault(TRUNCATION, REFERENCE)
def iql_truncation_ends_bootstrap(patch):
    sees(iql.IQL, end_at_cuts)(patch)


@fault(TRUE_END, TD_TARGET, REFERENCE)
def iql_true_end_bootstraps(patch):
    patch.setattr(iql, "td_target", endless)


@fault(REFERENCE)
def iql_expectile_side_swapped(patch):
    healthy = iql.expectile_loss
    patch.setattr(iql, "expectile_loss", lambda error, level: healthy(error, 1 - level))


@fault(REFERENCE)
def iql_weight_not_clipped(patch):
    patch.setattr(iql, "advantage_weight", lambda advantage, temperature, limit: (temperature * advantage).exp())


@fault(REFERENCE)
def iql_weight_falls_with_the_advantage(patch):
    healthy = iql.advantage_weight
    patch.setattr(iql, "advantage_weight", lambda advantage, *rest: healthy(-advantage, *rest))


@fault(WEIGHTED, REFERENCE)
def iql_likelihood_minimised(patch):
    patch.setattr(iql, "weighted_density_loss", lambda log_prob, weight: (weight * log_prob).mean())


@fault(WEIGHTED, REFERENCE)
def iql_weights_normalised_over_the_batch(patch):
    patch.setattr(iql, "weighted_density_loss", lambda log_prob, weight: -(weight * log_prob).sum() / weight.sum())


@fault(GAUSSIAN, REFERENCE)
def iql_mean_not_squashed(patch):
    patch.setattr(policies.GaussianPolicy, "best", lambda self, s: self.network(s))


@fault(GAUSSIAN, REFERENCE)
def iql_density_of_the_squashed_gaussian(patch):
    healthy = policies.GaussianPolicy.log_prob

    def log_prob(self, observation, action):
        inner = action.clamp(-1 + 1e-6, 1 - 1e-6)
        return healthy(self, observation, inner.atanh()) - policies.log_tanh_slope(inner.atanh()).sum(dim=-1)

    patch.setattr(policies.GaussianPolicy, "log_prob", log_prob)


@fault(COSINE, REFERENCE_DECAY)
def iql_rate_falls_linearly(patch):
    patch.setattr(iql, "math", types.SimpleNamespace(pi=math.pi, inf=math.inf, cos=lambda x: 1 - 2 * x / math.pi))


@fault(COSINE)
def iql_rate_rises_again(patch):
    patch.setattr(iql, "min", lambda done, limit: done, raising=False)


@fault(IN_SAMPLE, REFERENCE)
def iql_critic_on_the_policys_next_action(patch):
    def fit(self, observation, action, batch):
        with torch.no_grad():
            following = self._input(batch.next_observation)
            next_value = self.target_critic.least(following, self.policy.best(following))
            target = iql.td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, action)
        loss = descend(iql.td_loss(first, target) + iql.td_loss(second, target), self.critic_optimizer)
        return loss, first.detach().mean()

    patch.setattr(iql.IQL, "_fit_critic", fit)


@fault(REFERENCE)
def iql_value_from_the_online_critics(patch):
    healthy = iql.IQL._fit_value

    def fit(self, observation, action):
        with patch.context() as inner:
            inner.setattr(self.target_critic, "forward", self.critic.forward)
            return healthy(self, observation, action)

    patch.setattr(iql.IQL, "_fit_value", fit)


@fault(POLYAK, REFERENCE)
def iql_target_rate_inverted(patch):
    inverted(iql, patch)


# Behaviour cloning


@fault(MEAN_SQUARE, REFERENCE, MEAN)
def bc_absolute_error(patch):
    """Clones the median."""
    patch.setattr(bc, "cloning_loss", lambda action, data: (action - data).abs().mean())


@fault(MEAN_SQUARE, REFERENCE)
def bc_error_broadcast_over_the_batch(patch):
    patch.setattr(bc, "cloning_loss", lambda action, data: (action.unsqueeze(1) - data).square().mean())


@fault(REFERENCE, MEAN)
def bc_targets_in_environment_units(patch):
    healthy = bc.BC.update

    def update(self, batch):
        with patch.context() as inner:
            inner.setattr(bc.BC, "_unit", lambda self, action: action)
            return healthy(self, batch)

    patch.setattr(bc.BC, "update", update)


@fault(REFERENCE)
def bc_normalizer_forgotten_in_update(patch):
    def update(self, batch):
        loss = bc.cloning_loss(self.policy(batch.observation), self._unit(batch.action))
        return {"loss": descend(loss, self.optimizer)}

    patch.setattr(bc.BC, "update", update)


@fault(BLIND, REFERENCE)
def bc_weighs_by_reward(patch):
    def update(self, batch):
        error = (self.policy(self._input(batch.observation)) - self._unit(batch.action)).square().mean(dim=1)
        return {"loss": descend((batch.reward * error).mean(), self.optimizer)}

    patch.setattr(bc.BC, "update", update)


@fault(UNITS)
def bc_acts_in_units_of_the_network(patch):
    patch.setattr(base.ContinuousAgent, "_environment", lambda self, unit: unit)
