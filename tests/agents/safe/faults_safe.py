"""Faults planted in the on-policy agents, and the properties that must catch them."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import ca14lib.agents.on_policy as on_policy
import ca14lib.agents.ppo as ppo
import ca14lib.agents.safe.cpo as cpo
import ca14lib.agents.safe.cvar_policy_gradient as cvar
import ca14lib.agents.safe.fixed_penalty as fixed_penalty
import ca14lib.agents.safe.pid_lagrangian as pid_lagrangian
import ca14lib.agents.safe.ppo_lagrangian as ppo_lagrangian
import ca14lib.agents.safe.risk_sensitive as risk_sensitive
import ca14lib.agents.safe.safe_policy_gradient as safe_policy_gradient
import ca14lib.training.on_policy as training
from ca14lib.data import Rollout
from tests.agents.offline.planting import Plant, end_at_cuts, fault_table, sees

FAULTS, fault = fault_table()

REFERENCE = "three-updates-equal-the-reference"
ADVANTAGES = "advantages-equal-brute-force"
CUT = "a-cut-stands-for-the-value-of-what-was-seen"
NO_EPISODE = "without-a-completed-episode-nothing-is-known-of-the-cost"
CLIP = "the-surrogate-is-flat-beyond-the-clip-and-only-on-the-side-of-gain"
MASKED = "what-is-stored-is-the-probability-of-the-masked-draw"
RATE = "the-step-shrinks-by-its-share-with-every-update"
STOP = "passes-stop-once-the-policy-has-moved-too-far"
ARM = "the-better-arm-wins"
VIOLATION = "the-multiplier-follows-the-violation-and-stays-at-least-zero"
BEFORE = "the-multiplier-moves-before-the-policy"
UNIT = "the-unit-of-the-cost-is-kept"
PRICE = "a-price-above-the-gain-makes-the-cheap-arm-win"
EPISODES = "only-episodes-that-ended-count-and-they-count-whole"
CONTROLLER = "the-controller-is-proportional-integral-and-derivative"
INTEGRAL = "the-integral-forgets-no-violation-and-stores-no-credit"
GRADIENT = "the-gradient-is-that-of-the-lagrangian"
TAIL = "quantile-and-utility-make-up-the-conditional-value-at-risk"
TAIL_GRADIENT = "the-gradient-is-that-of-the-tail-mean"
ANNEALED = "the-tail-shrinks-from-all-to-its-share"
RISKY = "the-tail-decides-between-a-safe-and-a-risky-arm"
RISK_GRADIENT = "the-gradient-is-that-of-mean-return-minus-weighted-risk"
FIRST = "only-the-first-episode-of-every-copy-counts"
REFUSED = "an-episode-that-did-not-end-is-refused"
DUAL = "the-dual-is-that-of-an-exact-convex-solver"
STEPS = "steps-equal-the-reference-in-every-case"
CONJUGATE = "conjugate-gradients-solve-the-system"
FISHER = "the-fisher-product-is-that-of-the-hessian-of-the-divergence"
DIVERGENCE = "after-a-step-the-divergence-is-within-the-trust-region"
RESTORED = "a-search-that-fails-leaves-the-policy-as-it-was"
RECOVERY = "recovery-lowers-the-cost"
LIMIT = "the-reward-is-climbed-up-to-the-limit-and-no-further"
PER_STEP = "the-violation-is-that-of-a-step"
SHARE = "an-update-answers-a-share-of-the-violation"


# Pieces


def ends_at_cuts(cls: type) -> Plant:
    """Advantages that treat a cut as a true end."""
    healthy = cls._advantages

    def plant(patch):
        patch.setattr(cls, "_advantages", lambda self, rollout: healthy(self, end_at_cuts(self, rollout)))

    return plant


def estimates(change: Callable) -> Plant:
    """Generalised advantages from changed arguments."""
    healthy = on_policy.generalised_advantage
    return lambda patch: patch.setattr(on_policy, "generalised_advantage", lambda *a: healthy(*change(*a)))


def first_discount_for_all(signal, value, next_value, terminated, last, discount, decay):
    return signal, value, next_value, terminated, last, discount[:1].expand_as(discount), decay


def sums_on_through_cuts(signal, value, next_value, terminated, last, discount, decay):
    only_ends = terminated.clone()
    only_ends[-1] = True
    return signal, value, next_value, terminated, only_ends, discount, decay


def mixes(module, change: Callable) -> Plant:
    """Another advantage of the Lagrangian."""
    return lambda patch: patch.setattr(module, "lagrangian_advantage", change)


def over_its_spread(advantage, cost_advantage, multiplier):
    centred = (cost_advantage - cost_advantage.mean(dim=0)) / (cost_advantage.std(dim=0) + 1e-8)
    return (advantage - advantage.mean() - centred @ multiplier) / (1 + multiplier.sum())


def rewards_the_cost(advantage, cost_advantage, multiplier):
    centred = cost_advantage - cost_advantage.mean(dim=0)
    return (advantage - advantage.mean() + centred @ multiplier) / (1 + multiplier.sum())


def down(multiplier, episode_cost, limit, learning_rate):
    return (multiplier - learning_rate * (episode_cost - limit)).clamp(min=0.0)


def late(cls: type) -> Plant:
    """The multiplier's step is taken when the update is over."""
    healthy, step = cls.update, cls._update_multiplier

    def update(self, rollout):
        patched, type(self)._update_multiplier = type(self)._update_multiplier, lambda self, rollout: None
        try:
            logs = healthy(self, rollout)
        finally:
            type(self)._update_multiplier = patched
        step(self, rollout)
        return logs

    return lambda patch: patch.setattr(cls, "update", update)


def zero_where_there_are_no_episodes(patch):
    """A violation of minus the limit is made up where nothing was measured."""
    patch.setattr(
        Rollout, "mean_episode_cost", lambda self: self.episode_cost.sum(dim=0) / max(len(self.episode_cost), 1)
    )


# Proximal policy optimisation


@fault(CLIP, REFERENCE)
def ppo_clip_ignored(patch):
    patch.setattr(ppo, "clipped_loss", lambda new, old, a, clip: -((new - old).exp() * a).mean())


@fault(CLIP, REFERENCE)
def ppo_clip_on_both_sides(patch):
    """Without the minimum a step that made things worse is not undone."""
    patch.setattr(
        ppo, "clipped_loss", lambda new, old, a, clip: -((new - old).exp().clamp(1 - clip, 1 + clip) * a).mean()
    )


@fault(CLIP, REFERENCE, ARM)
def ppo_surrogate_sign(patch):
    healthy = ppo.clipped_loss
    patch.setattr(ppo, "clipped_loss", lambda new, old, a, clip: healthy(new, old, -a, clip))


@fault(MASKED)
def ppo_masked_log_probability_not_stored(patch):
    healthy = ppo.PPO.sample

    def sample(self, observation, mask=None):
        action, _ = healthy(self, observation, mask)
        return action, self.policy.log_prob(self._distribution(observation, None), action).detach()

    patch.setattr(ppo.PPO, "sample", sample)


@fault(REFERENCE)
def ppo_mask_ignored_in_the_update(patch):
    sees(ppo.PPO, lambda agent, rollout: replace(rollout, action_mask=None))(patch)


@fault(ADVANTAGES, CUT, REFERENCE)
def ppo_cut_ends_in_nothing(patch):
    ends_at_cuts(ppo.PPO)(patch)


@fault(ADVANTAGES, REFERENCE)
def ppo_cut_takes_the_value_of_the_next_row(patch):
    """The first observation of the next episode in place of the last one of this."""

    def last_of_path(self):
        last = self.terminated.clone()
        last[-1] = True
        return last

    patch.setattr(Rollout, "last_of_path", last_of_path)


@fault(ADVANTAGES, REFERENCE)
def ppo_sum_goes_on_through_cuts(patch):
    estimates(sums_on_through_cuts)(patch)


@fault(ADVANTAGES, REFERENCE)
def ppo_last_row_ends_in_nothing(patch):
    """Where the rollout ends, the value of what follows is left out."""
    patch.setattr(Rollout, "last_of_path", lambda self: self.terminated | self.truncated)


@fault(STOP)
def ppo_divergence_not_checked(patch):
    healthy = ppo.PPO._passes

    def passes(self, *arguments):
        self.config = replace(self.config, max_kl=None)
        return healthy(self, *arguments)

    patch.setattr(ppo.PPO, "_passes", passes)


def rates(rate: Callable) -> Plant:
    """Another step size of the policy."""

    def set_rate(self):
        for group in self.policy_optimizer.param_groups:
            group["lr"] = rate(self, group["lr"])

    return lambda patch: patch.setattr(ppo.PPO, "_set_learning_rate", set_rate)


@fault(RATE, REFERENCE)
def ppo_rate_does_not_fall(patch):
    rates(lambda self, rate: self.config.learning_rate)(patch)


@fault(RATE, REFERENCE)
def ppo_rate_falls_before_the_first_step(patch):
    rates(lambda self, rate: self.config.learning_rate * self.config.learning_rate_decay ** (self.updates + 1))(patch)


@fault(RATE)
def ppo_rate_falls_from_where_it_is(patch):
    """Right as long as nothing is restored: a new optimiser begins at the first rate."""
    rates(lambda self, rate: rate * self.config.learning_rate_decay if self.updates else rate)(patch)


@fault(RATE, REFERENCE)
def spg_rate_does_not_fall(patch):
    rates(lambda self, rate: self.config.learning_rate)(patch)


@fault(REFERENCE)
def ppo_entropy_lowered(patch):
    patch.setattr(ppo.PPO, "_entropy_weight", lambda self: -0.05)


@fault(REFERENCE)
def ppo_actions_in_environment_units(patch):
    patch.setattr(ppo.PPO, "_unit", lambda self, action: action)


# PPO on a Lagrangian


@fault(VIOLATION, REFERENCE, BEFORE)
def lagrangian_multiplier_sign(patch):
    patch.setattr(ppo_lagrangian, "multiplier_step", down)


@fault(VIOLATION)
def lagrangian_multiplier_below_zero(patch):
    patch.setattr(ppo_lagrangian, "multiplier_step", lambda m, cost, limit, rate: m + rate * (cost - limit))


@fault(BEFORE, REFERENCE)
def lagrangian_multiplier_after_the_policy(patch):
    late(ppo_lagrangian.PPOLagrangian)(patch)


@fault(UNIT, REFERENCE)
def lagrangian_cost_advantage_over_its_spread(patch):
    mixes(ppo_lagrangian, over_its_spread)(patch)


@fault(PRICE, REFERENCE)
def lagrangian_cost_is_rewarded(patch):
    mixes(ppo_lagrangian, rewards_the_cost)(patch)


@fault(ADVANTAGES, REFERENCE)
def lagrangian_cost_discounted_as_the_reward(patch):
    estimates(first_discount_for_all)(patch)


@fault(CUT, ADVANTAGES, REFERENCE)
def lagrangian_cut_ends_in_nothing(patch):
    ends_at_cuts(ppo_lagrangian.PPOLagrangian)(patch)


@fault(EPISODES)
def lagrangian_unfinished_episode_counted_as_complete(patch):
    """What the rollout's last row cuts off counts as an episode, and the next one begins with it."""
    healthy = training._Collector.rollout

    def rollout(self, steps):
        found = healthy(self, steps)
        cost = torch.as_tensor(self.running_cost).float()
        self._forget()
        return replace(
            found,
            episode_return=torch.cat([found.episode_return, torch.zeros(len(cost))]),
            episode_cost=torch.cat([found.episode_cost, cost]),
            episode_length=torch.cat([found.episode_length, torch.ones(len(cost))]),
        )

    patch.setattr(training._Collector, "rollout", rollout)


@fault(EPISODES)
def lagrangian_episode_begins_with_its_rollout(patch):
    """Of an episode that spans two rollouts only the costs of the second count."""
    healthy = training._Collector.rollout

    def rollout(self, steps):
        self._forget()
        return healthy(self, steps)

    patch.setattr(training._Collector, "rollout", rollout)


@fault(NO_EPISODE)
def lagrangian_no_episode_costs_nothing(patch):
    zero_where_there_are_no_episodes(patch)


# PID control


def controls(change: Callable) -> Plant:
    """Another controller."""
    return lambda patch: patch.setattr(pid_lagrangian, "pid_multiplier", change)


@fault(CONTROLLER, REFERENCE)
def pid_violation_sign(patch):
    healthy = pid_lagrangian.pid_multiplier
    controls(lambda error, smoothed, *rest: healthy(-error, -smoothed, *rest))(patch)


@fault(CONTROLLER, INTEGRAL)
def pid_integral_below_zero(patch):
    def controller(error, smoothed, rise, integral, proportional, integral_gain, derivative):
        integral = integral + integral_gain * error
        return (proportional * smoothed + integral + derivative * rise).clamp(min=0.0), integral

    controls(controller)(patch)


@fault(CONTROLLER, INTEGRAL)
def pid_integral_not_kept(patch):
    healthy = pid_lagrangian.pid_multiplier
    controls(lambda e, s, rise, integral, *gains: healthy(e, s, rise, 0 * integral, *gains))(patch)


@fault(CONTROLLER)
def pid_derivative_of_the_violation_now(patch):
    """The jump of a single rollout's cost in place of the rise of its average over the delay."""
    healthy = pid_lagrangian.pid_multiplier
    controls(lambda e, s, rise, *rest: healthy(e, s, (e - s).clamp(min=0.0), *rest))(patch)


@fault(CONTROLLER, REFERENCE)
def pid_proportional_to_the_noisy_violation(patch):
    healthy = pid_lagrangian.pid_multiplier
    controls(lambda error, smoothed, *rest: healthy(error, error, *rest))(patch)


@fault(NO_EPISODE)
def pid_no_episode_costs_nothing(patch):
    zero_where_there_are_no_episodes(patch)


# A fixed price


@fault(PRICE, REFERENCE)
def penalty_cost_is_rewarded(patch):
    mixes(fixed_penalty, rewards_the_cost)(patch)


@fault(UNIT, REFERENCE)
def penalty_cost_advantage_over_its_spread(patch):
    mixes(fixed_penalty, over_its_spread)(patch)


@fault(PRICE, REFERENCE, UNIT)
def penalty_price_ignored(patch):
    mixes(fixed_penalty, lambda advantage, cost_advantage, price: advantage - advantage.mean())(patch)


@fault(REFERENCE)
def penalty_cost_discounted_as_the_reward(patch):
    estimates(first_discount_for_all)(patch)


# The policy gradient of the Lagrangian


@fault(GRADIENT, REFERENCE)
def spg_loss_sign(patch):
    patch.setattr(safe_policy_gradient, "policy_gradient_loss", lambda log_prob, a: (log_prob * a).mean())


@fault(GRADIENT, REFERENCE)
def spg_probability_without_logarithm(patch):
    patch.setattr(safe_policy_gradient, "policy_gradient_loss", lambda log_prob, a: -(log_prob.exp() * a).mean())


@fault(GRADIENT, REFERENCE, BEFORE)
def spg_cost_is_rewarded(patch):
    mixes(safe_policy_gradient, rewards_the_cost)(patch)


@fault(BEFORE, REFERENCE)
def spg_multiplier_after_the_policy(patch):
    late(safe_policy_gradient.SafePolicyGradient)(patch)


@fault(CUT, REFERENCE)
def spg_cut_ends_in_nothing(patch):
    ends_at_cuts(safe_policy_gradient.SafePolicyGradient)(patch)


@fault(NO_EPISODE)
def spg_no_episode_costs_nothing(patch):
    zero_where_there_are_no_episodes(patch)


# Conditional value at risk


@fault(TAIL, TAIL_GRADIENT, REFERENCE, RISKY)
def cvar_quantile_of_the_upper_tail(patch):
    def lower_tail(returns, tail):
        ordered = returns.sort(descending=True).values
        quantile = ordered[math.ceil(tail * len(ordered) * (1 - 1e-6)) - 1]
        return quantile, (returns - quantile).clamp(min=0.0) / tail

    patch.setattr(cvar, "lower_tail", lower_tail)


@fault(TAIL, TAIL_GRADIENT)
def cvar_mass_of_the_tail_not_divided_by(patch):
    healthy = cvar.lower_tail

    def lower_tail(returns, tail):
        quantile, utility = healthy(returns, tail)
        return quantile, tail * utility

    patch.setattr(cvar, "lower_tail", lower_tail)


@fault(TAIL, TAIL_GRADIENT)
def cvar_quantile_is_no_baseline(patch):
    """The whole return of the tail's episodes: the gradient has another expectation where the tail cuts an atom."""
    healthy = cvar.lower_tail

    def lower_tail(returns, tail):
        quantile, _ = healthy(returns, tail)
        return quantile, torch.where(returns <= quantile, returns, 0.0) / tail

    patch.setattr(cvar, "lower_tail", lower_tail)


@fault(ANNEALED, REFERENCE)
def cvar_tail_not_annealed(patch):
    patch.setattr(cvar.CVaRPolicyGradient, "tail", lambda self: self.config.tail)


@fault(TAIL, REFERENCE)
def cvar_lower_tail_of_the_costs(patch):
    patch.setattr(cvar, "upper_tail", lambda costs, tail: cvar.lower_tail(costs, tail))


@fault(BEFORE, REFERENCE)
def cvar_multiplier_sign(patch):
    patch.setattr(cvar, "multiplier_step", down)


def counts_every_episode(patch):
    """Sums run over the whole rollout, over the first episode's end."""
    healthy = Rollout.first_episodes
    patch.setattr(Rollout, "first_episodes", lambda self: (torch.ones_like(self.terminated), healthy(self)[1]))


@fault(FIRST, REFERENCE)
def cvar_later_episodes_counted(patch):
    counts_every_episode(patch)


def learns_from_parts(patch):
    """Episodes that did not end count as if they had."""
    healthy = Rollout.first_episodes
    patch.setattr(Rollout, "first_episodes", lambda self: (healthy(self)[0], torch.ones_like(healthy(self)[1])))


@fault(REFUSED)
def cvar_learns_from_parts_of_episodes(patch):
    learns_from_parts(patch)


# Other measures of risk


@fault(RISK_GRADIENT, REFERENCE, RISKY)
def risk_is_sought(patch):
    healthy = risk_sensitive.risk_influence
    patch.setattr(risk_sensitive, "risk_influence", lambda *arguments: -healthy(*arguments))


@fault(RISK_GRADIENT, REFERENCE, RISKY)
def risk_of_returns_in_place_of_losses(patch):
    healthy = risk_sensitive.risk_influence
    patch.setattr(risk_sensitive, "risk_influence", lambda losses, *rest: healthy(-losses, *rest))


@fault(RISK_GRADIENT, REFERENCE, RISKY)
def risk_ignored(patch):
    patch.setattr(risk_sensitive, "risk_influence", lambda losses, *rest: np.zeros_like(losses))


@fault(RISK_GRADIENT)
def risk_of_another_measure(patch):
    healthy = risk_sensitive.risk_influence
    patch.setattr(risk_sensitive, "risk_influence", lambda losses, measure, at: healthy(losses, "mean", at))


@fault(FIRST, REFERENCE)
def risk_later_episodes_counted(patch):
    counts_every_episode(patch)


@fault(REFUSED)
def risk_learns_from_parts_of_episodes(patch):
    learns_from_parts(patch)


# Constrained policy optimisation


@fault(DUAL, STEPS)
def cpo_dual_of_the_ascent_gradient(patch):
    """r of the return's gradient with the multiplier of the descent problem."""
    healthy = cpo.trust_region_dual
    dual = lambda q, r, s, c, delta: healthy(q, -r, s, c, delta)  # noqa: E731
    patch.setattr(cpo, "trust_region_dual", dual)
    patch.setattr("benchmarks.cpo_dual.trust_region_dual", dual)


@fault(DUAL)
def cpo_constraint_left_out_of_the_dual(patch):
    def dual(q, r, s, c, delta):
        return cpo.Dual(3, math.sqrt(q / (2 * delta)), 0.0)

    patch.setattr("benchmarks.cpo_dual.trust_region_dual", dual)


@fault(STEPS, LIMIT)
def cpo_constraint_left_out_of_the_step(patch):
    patch.setattr(cpo, "trust_region_dual", lambda q, r, s, c, d: cpo.Dual(4, math.sqrt(q / (2 * d)), 0.0))


@fault(STEPS)
def cpo_cost_advantage_over_its_spread(patch):
    healthy = cpo.CPO._policy_step

    def step(self, rollout, advantage, cost_advantage):
        return healthy(self, rollout, advantage, cost_advantage / cost_advantage.std())

    patch.setattr(cpo.CPO, "_policy_step", step)


@fault(ADVANTAGES, STEPS)
def cpo_cost_discounted_as_the_reward(patch):
    estimates(first_discount_for_all)(patch)


@fault(CUT, ADVANTAGES, STEPS)
def cpo_cut_ends_in_nothing(patch):
    ends_at_cuts(cpo.CPO)(patch)


def searches(change: Callable) -> Plant:
    """A line search with other arguments."""
    healthy = cpo.CPO._line_search
    return lambda patch: patch.setattr(cpo.CPO, "_line_search", lambda self, *a: healthy(self, *change(*a)))


@fault(DIVERGENCE, RESTORED)
def cpo_divergence_not_checked(patch):
    searches(lambda step, case, c, loss, cost, kl: (step, case, c, loss, cost, lambda: torch.zeros(())))(patch)


@fault(RECOVERY, STEPS)
def cpo_recovery_step_sign(patch):
    """Away from the limit; the search, which would refuse the step, sees no cost."""
    healthy = cpo.CPO._line_search

    def search(self, step, case, c, loss, cost, kl):
        zero = lambda: torch.zeros(())  # noqa: E731
        return healthy(self, -step if case == 0 else step, case, c, loss, zero if case == 0 else cost, kl)

    patch.setattr(cpo.CPO, "_line_search", search)


@fault(RESTORED)
def cpo_cost_not_checked(patch):
    searches(lambda step, case, c, loss, cost, kl: (step, case, c, loss, lambda: torch.zeros(()), kl))(patch)


@fault(RESTORED)
def cpo_failed_search_keeps_its_last_try(patch):
    def search(self, step, case, c, loss_of, cost_of, kl_of):
        with torch.no_grad():
            start = torch.nn.utils.parameters_to_vector(self.policy_parameters)
            loss, cost, share = float(loss_of()), float(cost_of()), 1.0
            for _ in range(self.config.backtracks):
                torch.nn.utils.vector_to_parameters(start + share * step, self.policy_parameters)
                affordable = float(cost_of()) - cost <= max(-c, 0.0)
                if (case <= 1 or float(loss_of()) <= loss) and affordable and float(kl_of()) <= self.trust_region():
                    return share
                share *= self.config.backtrack_factor
        return 0.0

    patch.setattr(cpo.CPO, "_line_search", search)


@fault(FISHER, STEPS)
def cpo_fisher_matrix_without_damping(patch):
    healthy = cpo.CPO._surrogates

    def surrogates(self, *arguments):
        *others, fisher = healthy(self, *arguments)
        return *others, lambda vector: fisher(vector) - self.config.damping * vector

    patch.setattr(cpo.CPO, "_surrogates", surrogates)


@fault(CONJUGATE, STEPS)
def cpo_steepest_descent_in_place_of_conjugate_gradients(patch):
    def one_step(product, target, steps, tolerance=1e-10):
        return (target @ target) / (target @ product(target) + 1e-30) * target

    patch.setattr(cpo, "conjugate_gradient", one_step)


@fault(PER_STEP, STEPS)
def cpo_violation_of_an_episode(patch):
    patch.setattr(
        cpo.CPO, "_excess", lambda self, rollout: float(rollout.episode_cost.mean()) - self.config.cost_limits[0]
    )


@fault(SHARE)
def cpo_share_of_the_excess_left_out(patch):
    patch.setattr(cpo.CPO, "excess_share", lambda self: 1.0)


@fault(SHARE, STEPS)
def cpo_share_of_the_cost_instead_of_the_excess(patch):
    """The limit is moved instead of the speed at which it is approached."""

    def excess(self, rollout):
        cost = self.excess_share() * float(rollout.episode_cost.mean()) - self.config.cost_limits[0]
        return cost / float(rollout.episode_length.mean())

    patch.setattr(cpo.CPO, "_excess", excess)


@fault(SHARE)
def cpo_share_without_its_floor(patch):
    patch.setattr(cpo.CPO, "excess_share", lambda self: self.config.excess_share_decay**self.updates)


@fault(NO_EPISODE)
def cpo_no_episode_costs_nothing(patch):
    healthy = cpo.CPO._excess

    def excess(self, rollout):
        return healthy(self, rollout) if len(rollout.episode_cost) else -self.config.cost_limits[0]

    patch.setattr(cpo.CPO, "_excess", excess)
