"""Faults planted in AWR and BCQ with continuous actions, and the properties that must catch them."""

from dataclasses import replace

import torch

import ca14lib.agents.offline.awr as awr
import ca14lib.agents.offline.bcq as bcq
from tests.agents.offline.planting import descend, end_at_cuts, endless, fault_table, sees

FAULTS, fault = fault_table()

REFERENCE = "three-updates-equal-the-reference"
TRUNCATION = "an-update-ignores-truncation"
TRUE_END = "an-update-ignores-what-follows-a-true-end"
LABELLED = "labelled-updates-equal-the-reference"
LABELS = "labels-are-the-returns-of-the-recorded-episodes"
GAUSSIAN = "mean-and-deviation-of-the-policy-are-those-of-the-weighted-actions"
GENERATOR = "generator-loss-is-squared-error-plus-divergence-from-a-standard-normal"
SOFT_CLIPPED = "soft-clipped-value-lies-between-the-critics-nearer-the-lesser"
PERTURBATION = "perturbations-are-small-and-stay-inside"
CODES = "codes-of-new-actions-are-clipped-standard-normals"
WIDTH = "the-width-of-the-code-is-clamped"
POLYAK = "both-targets-follow-by-polyak-and-get-no-gradient"
ACTS = "the-action-taken-is-the-best-by-the-first-critic"
WITHIN = "learned-actions-stay-within-the-data"


# Advantage-weighted regression


@fault(REFERENCE, LABELLED, GAUSSIAN)
def awr_weight_ignored(patch):
    patch.setattr(awr, "weighted_density_loss", lambda log_prob, weight: -log_prob.mean())


@fault(REFERENCE, LABELLED, GAUSSIAN)
def awr_likelihood_minimised(patch):
    patch.setattr(awr, "weighted_density_loss", lambda log_prob, weight: (weight * log_prob).mean())


@fault(REFERENCE, LABELLED)
def awr_loss_broadcast_over_the_batch(patch):
    """[B, 1] times [B] is [B, B]: every weight meets every action."""
    patch.setattr(awr, "weighted_density_loss", lambda log_prob, weight: -(weight.unsqueeze(1) * log_prob).mean())


@fault(REFERENCE, LABELLED)
def awr_actions_in_environment_units(patch):
    patch.setattr(awr.AWR, "_unit", lambda self, action: action)


@fault(REFERENCE, LABELLED, GAUSSIAN)
def awr_advantage_sign(patch):
    healthy = awr.normalized_advantage
    patch.setattr(awr, "normalized_advantage", lambda target, value: healthy(value, target))


@fault(LABELLED)
def awr_labels_ignored(patch):
    sees(awr.AWR, lambda agent, batch: replace(batch, value_target=None))(patch)


@fault(LABELS)
def awr_cut_episodes_end_in_nothing(patch):
    healthy = awr.lambda_return

    def returns(reward, terminated, truncated, next_value, discount, decay):
        return healthy(reward, terminated | truncated, truncated, next_value, discount, decay)

    patch.setattr(awr, "lambda_return", returns)


@fault(TRUNCATION, REFERENCE)
def awr_truncation_ends_bootstrap(patch):
    sees(awr.AWR, end_at_cuts)(patch)


@fault(TRUE_END, REFERENCE)
def awr_true_end_bootstraps(patch):
    patch.setattr(awr, "td_target", endless)


# Batch-constrained Q-learning


@fault(GENERATOR, REFERENCE)
def bcq_divergence_sign(patch):
    healthy = bcq.generator_loss
    patch.setattr(bcq, "generator_loss", lambda decoded, a, mean, log_std, w: healthy(decoded, a, mean, log_std, -w))


@fault(GENERATOR, REFERENCE)
def bcq_variance_for_deviation(patch):
    healthy = bcq.generator_loss
    patch.setattr(bcq, "generator_loss", lambda decoded, a, mean, log_std, w: healthy(decoded, a, mean, log_std / 2, w))


@fault(SOFT_CLIPPED, REFERENCE)
def bcq_least_and_greatest_swapped(patch):
    healthy = bcq.soft_clipped_value
    patch.setattr(bcq, "soft_clipped_value", lambda first, second, weight: healthy(first, second, 1 - weight))


@fault(PERTURBATION, REFERENCE)
def bcq_perturbation_unbounded(patch):
    patch.setattr(bcq, "perturbed_action", lambda a, direction, most: (a + direction).clamp(-1, 1))


@fault(PERTURBATION)
def bcq_perturbation_leaves_the_box(patch):
    patch.setattr(bcq, "perturbed_action", lambda a, direction, most: a + most * direction.tanh())


@fault(CODES, REFERENCE)
def bcq_codes_unclipped(patch):
    def generate(self, observation):
        shape = (*observation.shape[:-1], self.behaviour.code_dimension)
        code = torch.randn(shape, generator=self.generator, dtype=observation.dtype)
        return self.behaviour.decode(observation, code)

    patch.setattr(bcq.BCQ, "_generate", generate)


@fault(WIDTH)
def bcq_width_unclamped(patch):
    patch.setattr(bcq.ActionGenerator, "LOG_STD_RANGE", (-torch.inf, torch.inf))


@fault(REFERENCE)
def bcq_one_code_for_all_samples(patch):
    """Ten copies of one action: the maximum compares nothing."""
    healthy = bcq.BCQ._generate

    def generate(self, observation):
        found = healthy(self, observation)
        return found if found.ndim == 2 else found[:, :1].expand_as(found)

    patch.setattr(bcq.BCQ, "_generate", generate)


def fit_critic(network="target_perturbation", critic="target_critic", best=lambda values: values.amax(dim=1)):
    """BCQ._fit_critic with one part changed."""

    def fit(self, observation, action, batch):
        with torch.no_grad():
            following = bcq._repeated(self._input(batch.next_observation), self.config.target_samples)
            next_action = self._perturb(following, self._generate(following), getattr(self, network))
            first, second = getattr(self, critic)(following, next_action)
            next_value = best(bcq.soft_clipped_value(first, second, self.config.min_weight))
            target = bcq.td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, action)
        loss = bcq.td_loss(first, target) + bcq.td_loss(second, target)
        return descend(loss, self.critic_optimizer), first.detach().mean()

    return fit


@fault(REFERENCE)
def bcq_target_perturbed_by_the_online_network(patch):
    patch.setattr(bcq.BCQ, "_fit_critic", fit_critic(network="perturbation"))


@fault(REFERENCE)
def bcq_target_from_online_critics(patch):
    patch.setattr(bcq.BCQ, "_fit_critic", fit_critic(critic="critic"))


@fault(REFERENCE)
def bcq_mean_over_samples(patch):
    patch.setattr(bcq.BCQ, "_fit_critic", fit_critic(best=lambda values: values.mean(dim=1)))


@fault(REFERENCE)
def bcq_maximum_over_the_batch(patch):
    """Dimension 0 is the batch: one number for all."""
    patch.setattr(bcq.BCQ, "_fit_critic", fit_critic(best=lambda values: values.amax(dim=0).amax().expand(len(values))))


@fault(REFERENCE)
def bcq_perturbation_moves_the_critic(patch):
    """The perturbation's loss also trains the critic, which learns to like what it is shown."""

    def fit(self, observation):
        with torch.no_grad():
            generated = self._generate(observation)
        moved = self._perturb(observation, generated, self.perturbation)
        loss = -self.critic.first(torch.cat([observation, moved], dim=-1)).mean()
        return descend(loss, self.perturbation_optimizer, self.critic_optimizer)

    patch.setattr(bcq.BCQ, "_fit_perturbation", fit)


@fault(REFERENCE)
def bcq_perturbation_down_the_critic(patch):
    def fit(self, observation):
        with torch.no_grad():
            generated = self._generate(observation)
        moved = self._perturb(observation, generated, self.perturbation)
        loss = self.critic.first(torch.cat([observation, moved], dim=-1)).mean()
        self.critic_optimizer.zero_grad()
        return descend(loss, self.perturbation_optimizer)

    patch.setattr(bcq.BCQ, "_fit_perturbation", fit)


@fault(ACTS)
def bcq_acts_by_the_second_critic(patch):
    healthy = bcq.BCQ._unit_action

    def act(self, observation, deterministic):
        first, second = self.critic.first, self.critic.second
        self.critic.first, self.critic.second = second, first
        try:
            return healthy(self, observation, deterministic)
        finally:
            self.critic.first, self.critic.second = first, second

    patch.setattr(bcq.BCQ, "_unit_action", act)


@fault(ACTS, WITHIN)
def bcq_acts_without_comparing(patch):
    """The perturbed action of one code: the behaviour once more."""

    def act(self, observation, deterministic):
        inputs = self._input(observation)
        action = self.behaviour.decode(inputs, torch.zeros(len(inputs), self.behaviour.code_dimension).to(inputs))
        return self._perturb(inputs, action, self.perturbation)

    patch.setattr(bcq.BCQ, "_unit_action", act)


@fault(WITHIN, REFERENCE)
def bcq_actions_not_from_the_data(patch):
    """Uniform actions instead of generated ones."""

    def generate(self, observation):
        shape = (*observation.shape[:-1], self.action_dimension)
        return 2 * torch.rand(shape, generator=self.generator, dtype=observation.dtype) - 1

    patch.setattr(bcq.BCQ, "_generate", generate)


@fault(POLYAK, REFERENCE)
def bcq_target_perturbation_never_moves(patch):
    healthy = bcq.polyak_update

    def polyak(target, source, rate):
        if isinstance(target, bcq.TwinCritic):
            healthy(target, source, rate)

    patch.setattr(bcq, "polyak_update", polyak)


@fault(TRUNCATION, REFERENCE)
def bcq_truncation_ends_bootstrap(patch):
    sees(bcq.BCQ, end_at_cuts)(patch)


@fault(TRUE_END, REFERENCE)
def bcq_true_end_bootstraps(patch):
    patch.setattr(bcq, "td_target", endless)
