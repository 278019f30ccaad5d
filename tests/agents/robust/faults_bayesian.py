"""Faults planted in PSRL, the planners beside it, bootstrapped DQN and the beliefs about dynamics.

Each names the properties of ``test_bayesian.py`` that must catch it.
"""

import math
from dataclasses import replace

import numpy as np
import torch

import ca14lib.agents.robust.bootstrapped_dqn as bootstrapped_dqn
import ca14lib.agents.robust.dynamics_posterior as dynamics
import ca14lib.agents.robust.planner as planner
import ca14lib.agents.robust.psrl as psrl
import ca14lib.agents.robust.tabular_baselines as baselines
from ca14lib.agents.robust.bootstrapped_dqn import BootstrappedDQN
from ca14lib.agents.robust.dynamics_posterior import CandidateModels, LinearDynamics
from ca14lib.agents.robust.planner import Planner
from ca14lib.agents.robust.psrl import PSRL
from ca14lib.data.bootstrap_replay import BootstrapReplay
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

GAMMA = "the-normal-gamma-posterior-is-that-of-a-grid"
LAWS = "draws-follow-their-laws"
PLAN = "the-plan-is-the-exact-optimum-of-several-models-at-once"
TIES = "ties-are-broken-evenly"
WHOLE = "one-model-is-followed-for-a-whole-episode"
OPTIMAL = "the-policy-is-optimal-in-the-model-that-was-drawn"
SETTLES = "the-posterior-settles-on-the-truth"
UNSURE = "what-is-never-tried-stays-uncertain"
ENDS = "the-end-of-the-horizon-is-no-terminal-state-and-a-true-end-is"
FIXED = "the-policy-of-q-learning-does-not-change-for-what-is-left-of-its-episode"
Q_OPTIMUM = "q-learning-learns-the-optimum-of-a-known-problem"
SHARE = "the-share-of-uniform-actions-halves-and-is-mixed-in"
WIDTH = "optimism-is-justified-at-the-width-of-the-theory"
CUT = "optimistic-values-are-cut-at-what-an-episode-can-still-pay"
OWN_TARGET = "targets-of-a-head-come-from-itself-alone"
ALLOWED = "a-mask-of-allowed-actions-holds-for-every-head"
LEFT_OUT = "a-head-learns-nothing-from-what-its-mask-leaves-out"
LOSS = "the-loss-sums-over-heads-and-averages-over-rows"
TRUNK = "the-trunk-gets-the-mean-of-the-heads-gradients-and-each-head-its-own"
STORED = "masks-are-drawn-once-and-stay-with-their-transitions"
PRIORS = "priors-differ-and-are-never-trained"
HEAD = "a-head-is-followed-for-a-whole-episode"
GREEDY = "what-it-does-is-greedy-for-the-active-head"
EVIDENCE = "evidence-is-the-product-of-the-predictive-densities"
SQUARES = "with-a-weak-prior-the-belief-is-that-of-least-squares"
COVERAGE = "credible-intervals-cover-what-was-drawn-from-the-prior"
MARGINALS = "drawn-weights-follow-the-marginals"
GRID = "candidates-on-a-fine-grid-give-the-normal-posterior"
NOISE = "candidates-with-different-noise-are-weighed-by-their-densities"
TRIES = "sampling-tries-what-the-average-never-does"


# Posterior sampling


@fault(WHOLE)
def psrl_one_model_per_step(patch):
    healthy = Planner.act

    def act(self, observation, *, deterministic=False):
        self.plan = self.plan[:0]
        return healthy(self, observation, deterministic=deterministic)

    patch.setattr(Planner, "act", act)


@fault(WHOLE)
def psrl_one_model_for_ever(patch):
    patch.setattr(Planner, "end_episode", lambda self: setattr(self, "step", 0))


@fault(SETTLES, UNSURE)
def psrl_posterior_never_updated(patch):
    def sampled(self):
        transition = psrl.sampled_rows(np.full(self.counts.shape, self.config.concentration), self.generator)
        return self._absorbing(transition, psrl.sampled_mean(self.reward_belief(), self.generator))

    patch.setattr(PSRL, "sampled_model", sampled)


@fault(UNSURE, WHOLE)
def psrl_posterior_mean_in_place_of_a_draw(patch):
    patch.setattr(PSRL, "sampled_model", PSRL.mean_model)


@fault(OPTIMAL)
def psrl_policy_of_another_draw(patch):
    healthy = PSRL._plan

    def plan(self):
        table = healthy(self)
        self.transition, self.reward = self.sampled_model()
        return table

    patch.setattr(PSRL, "_plan", plan)


@fault(TIES)
def psrl_first_of_equals(patch):
    for module in (planner, psrl, baselines):
        patch.setattr(module, "greedy_policy", lambda q: np.eye(q.shape[-1])[q.argmax(axis=-1)])


@fault(PLAN)
def psrl_plan_ignores_the_last_step(patch):
    healthy = planner.finite_horizon_values
    patch.setattr(planner, "finite_horizon_values", lambda p, r, h: healthy(p, np.where(h > 1, r, 0.0), h) - r.mean())


@fault(GAMMA)
def psrl_prior_and_data_disagree_for_nothing(patch):
    """The term that widens the noise when the data's mean is far from the prior's is left out."""
    healthy = psrl.normal_gamma_posterior

    def posterior(prior, number, total, squares):
        found = healthy(prior, number, total, squares)
        spread = np.asarray(squares) - np.asarray(total) ** 2 / np.maximum(number, 1)
        return found._replace(rate=prior.rate + spread / 2)

    patch.setattr(psrl, "normal_gamma_posterior", posterior)


@fault(LAWS)
def psrl_normal_in_place_of_student(patch):
    patch.setattr(
        psrl, "sampled_mean",
        lambda belief, generator: generator.normal(belief.mean, np.sqrt(belief.rate / belief.shape / belief.weight)),
    )  # fmt: skip


@fault(LAWS)
def psrl_rows_from_a_softmax(patch):
    def rows(concentration, generator):
        weight = np.exp(generator.normal(np.log(concentration), 1.0))
        return weight / weight.sum(axis=-1, keepdims=True)

    patch.setattr(psrl, "sampled_rows", rows)


@fault(ENDS)
def psrl_horizon_taken_for_an_end(patch):
    healthy = Planner.observe

    def observe(self, **step):
        healthy(self, **step)
        if step["terminated"][0] or step["truncated"][0]:
            self.terminal[step["next_observation"][0]] = True

    patch.setattr(Planner, "observe", observe)


# The planners beside it


@fault(FIXED, Q_OPTIMUM)
def qlearning_updates_the_step_to_come(patch):
    healthy = baselines.QLearning._learn

    def learn(self, state, action, reward, following):
        healthy(self, state, action, reward, following)
        self.q[:] = self.q[self.step - 1]

    patch.setattr(baselines.QLearning, "_learn", learn)


@fault(SHARE)
def epsilon_never_falls(patch):
    patch.setattr(baselines, "epsilon_schedule", lambda episode, exploration, halving: exploration / 2)


@fault(SHARE)
def epsilon_shared_among_the_others_alone(patch):
    patch.setattr(baselines, "epsilon_greedy", lambda policy, epsilon: (1 - epsilon) * policy + epsilon * (1 - policy))


@fault(WIDTH)
def ucbvi_bonus_of_untried_pairs_is_small(patch):
    healthy = baselines.exploration_bonus
    patch.setattr(
        baselines, "exploration_bonus", lambda visits, *rest: np.where(visits > 0, healthy(visits, *rest), 0.0)
    )


@fault(CUT)
def ucbvi_values_not_cut(patch):
    def plan(self):
        horizon, seen = self.config.horizon, np.maximum(self.visits, 1)
        bonus = baselines.exploration_bonus(self.visits, self.config, self.num_states, self.num_actions)
        q = planner.finite_horizon_values(self.counts / seen[..., None], self.reward_sum / seen + bonus, horizon)
        return planner.greedy_policy(q)

    patch.setattr(baselines.UCBVI, "_plan", plan)


# Bootstrapped DQN


@fault(OWN_TARGET)
def bootdqn_targets_from_the_next_head(patch):
    healthy = bootstrapped_dqn.head_targets
    patch.setattr(
        bootstrapped_dqn, "head_targets",
        lambda r, end, online, late, *rest: healthy(r, end, online, late.roll(1, dims=1), *rest),
    )  # fmt: skip


@fault(OWN_TARGET)
def bootdqn_targets_from_the_mean_of_heads(patch):
    healthy = bootstrapped_dqn.head_targets
    patch.setattr(
        bootstrapped_dqn, "head_targets",
        lambda r, end, online, late, *rest: healthy(r, end, online, late.mean(1, keepdim=True).expand_as(late), *rest),
    )  # fmt: skip


@fault(OWN_TARGET)
def bootdqn_targets_without_the_prior(patch):
    @torch.no_grad()
    def target(self, batch):
        following = self._input(batch.next_observation)
        online, late = self.q_network(following), self.target_network(following)
        return bootstrapped_dqn.head_targets(batch.reward, batch.terminated, online, late, self.config.discount)

    patch.setattr(BootstrappedDQN, "_target", target)


@fault(ALLOWED)
def bootdqn_allowed_actions_ignored(patch):
    healthy = bootstrapped_dqn.head_targets
    patch.setattr(bootstrapped_dqn, "head_targets", lambda *arguments: healthy(*arguments[:5]))


@fault(LEFT_OUT)
def bootdqn_mask_ignored(patch):
    healthy = bootstrapped_dqn.masked_loss
    patch.setattr(bootstrapped_dqn, "masked_loss", lambda q, target, mask: healthy(q, target, torch.ones_like(mask)))


@fault(LOSS)
def bootdqn_mean_over_heads(patch):
    patch.setattr(bootstrapped_dqn, "masked_loss", lambda q, target, mask: 0.5 * (mask * (q - target).square()).mean())


@fault(TRUNK)
def bootdqn_trunk_gets_the_sum(patch):
    patch.setattr(bootstrapped_dqn, "shared_gradient", lambda features, heads: features)


@fault(TRUNK)
def bootdqn_features_shrink_with_their_gradient(patch):
    patch.setattr(bootstrapped_dqn, "shared_gradient", lambda features, heads: features / heads)


@fault(STORED)
def bootdqn_mask_drawn_at_sampling(patch):
    healthy = BootstrapReplay.sample

    def sample(self, batch_size, generator):
        batch = healthy(self, batch_size, generator)
        mask = torch.rand(batch_size, self.heads, generator=generator) < self.probability
        return replace(batch, head_mask=mask)

    patch.setattr(BootstrapReplay, "sample", sample)


@fault(STORED)
def bootdqn_one_mask_for_all(patch):
    healthy = BootstrapReplay.masks
    patch.setattr(BootstrapReplay, "masks", lambda self, step: healthy(self, 0))


@fault(PRIORS)
def bootdqn_priors_trained(patch):
    healthy = BootstrappedDQN._build

    def build(self):
        healthy(self)
        self.prior.second.requires_grad_(True)
        self.optimizer = self._optimizer("q", self.q_network)
        self.optimizer.add_param_group({"params": [self.prior.second]})

    patch.setattr(BootstrappedDQN, "_build", build)


@fault(PRIORS)
def bootdqn_one_prior_for_all_heads(patch):
    healthy = BootstrappedDQN._build

    def build(self):
        healthy(self)
        for buffer in self.prior.buffers():
            buffer[:] = buffer[:1].clone()

    patch.setattr(BootstrappedDQN, "_build", build)


@fault(HEAD)
def bootdqn_head_changes_within_an_episode(patch):
    healthy = BootstrapReplay.add

    def add(self, **step):
        healthy(self, **step)
        self.on_end(np.ones(self.num_envs, dtype=bool))

    patch.setattr(BootstrapReplay, "add", add)


@fault(HEAD)
def bootdqn_head_never_changes(patch):
    patch.setattr(BootstrappedDQN, "end_episodes", lambda self, ended=None: None)


@fault(GREEDY)
def bootdqn_acts_on_the_mean(patch):
    patch.setattr(BootstrappedDQN, "_of_heads", staticmethod(lambda values, heads: values.mean(dim=1)))


# Beliefs about dynamics


@fault(SQUARES, EVIDENCE)
def linear_rate_without_residuals(patch):
    healthy = dynamics.linear_posterior
    patch.setattr(dynamics, "linear_posterior", lambda prior, x, y: healthy(prior, x, y)._replace(rate=prior.rate))


@fault(EVIDENCE)
def linear_prior_counted_with_every_batch(patch):
    healthy = dynamics.linear_posterior

    def posterior(prior, x, y):
        found = healthy(prior, x, y)
        return found._replace(precision=found.precision + 0.01 * np.eye(len(found.mean)))

    patch.setattr(dynamics, "linear_posterior", posterior)


@fault(EVIDENCE)
def linear_predictive_without_noise(patch):
    healthy = LinearDynamics.predictive

    def predictive(self, features):
        found = healthy(self, features)
        noise = self.belief.rate / self.belief.shape
        return found._replace(scale=np.sqrt(found.scale**2 - noise + 1e-9))

    patch.setattr(LinearDynamics, "predictive", predictive)


@fault(COVERAGE)
def linear_intervals_of_known_noise(patch):
    healthy = LinearDynamics.weights

    def weights(self):
        found = healthy(self)
        return found._replace(scale=found.scale * math.sqrt(0.5))

    patch.setattr(LinearDynamics, "weights", weights)


@fault(MARGINALS)
def linear_root_of_the_precision_in_place_of_its_inverse(patch):
    def sample(self, generator, number=1):
        variance = 1 / generator.gamma(self.belief.shape, 1 / self.belief.rate, size=number)
        normal = generator.standard_normal((number, len(self.belief.mean)))
        drawn = normal @ np.linalg.cholesky(self.belief.precision).T
        return self.belief.mean + np.sqrt(variance)[:, None] * drawn, np.sqrt(variance)

    patch.setattr(LinearDynamics, "sample", sample)


@fault(GRID)
def candidates_forget_the_prior(patch):
    healthy = CandidateModels.observe

    def observe(self, log_likelihood):
        self._log_weight = np.full_like(self._log_weight, -math.log(len(self._log_weight)))
        healthy(self, log_likelihood)

    patch.setattr(CandidateModels, "observe", observe)


@fault(NOISE)
def candidates_density_without_its_normaliser(patch):
    patch.setattr(
        dynamics, "gaussian_log_likelihood",
        lambda prediction, observed, deviation: (-0.5 * ((observed - prediction) / deviation) ** 2).sum(axis=(1, 2)),
    )  # fmt: skip


@fault(TRIES)
def candidates_the_most_probable_in_place_of_a_draw(patch):
    patch.setattr(CandidateModels, "sample", lambda self, generator: self.most_probable())
