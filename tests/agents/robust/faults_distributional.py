"""Faults planted in the distributional agents, and the properties that must catch them: see ``planting.py``."""

from dataclasses import replace

import torch
from torch import Tensor

import ca14lib.agents.robust.c51 as c51
import ca14lib.agents.robust.iqn as iqn
import ca14lib.agents.robust.qr_dqn as qr_dqn
import ca14lib.agents.robust.risk_choice as risk_choice
from ca14lib.networks import quantiles
from tests.agents.offline.planting import Plant, end_at_cuts, endless, fault_table, sees

FAULTS, fault = fault_table()

REFERENCE = "three-updates-equal-the-reference"
RISKY = "updates-that-choose-by-risk-equal-the-reference"
DOUBLE = "updates-with-the-double-estimator-equal-the-reference"
TRUNCATION = "an-update-ignores-truncation"
TRUE_END = "an-update-ignores-what-follows-a-true-end"
MASK = "forbidden-next-actions-never-count"
NO_GRADIENT = "the-target-network-gets-no-gradient"
LEARNED = "a-one-step-task-teaches-the-distribution-of-its-reward"
PAIRWISE = "loss-and-gradient-equal-the-pairwise-formula"
CONSTANT = "a-target-gets-no-gradient"
LEAST = "the-loss-is-least-at-the-middle-quantiles"
KEPT = "the-projection-keeps-mass-and-mean"
OUTSIDE = "what-lies-outside-goes-to-the-nearest-end"
FRACTIONS = "fractions-come-from-the-generator-and-fill-the-tail"
TAIL_OF_FRACTIONS = "sampled-choice-has-the-mean-of-the-lower-tail"
TAIL = "the-lower-tail-mean-is-that-of-metrics"
ENTROPIC = "the-entropic-value-is-that-of-metrics"
MEAN = "the-mean-weighs-the-atoms"
ARMS = "an-averse-agent-takes-the-sure-arm"


# Pieces


def pairwise(prediction: Tensor, target: Tensor, fractions: Tensor | None, kappa: float, change: str = "") -> Tensor:
    """The loss pair by pair, with one thing wrong."""
    count = prediction.shape[1]
    if fractions is None:
        fractions = (torch.arange(count) + (0.0 if change == "left ends" else 0.5)) / count
    fractions = fractions.expand_as(prediction)
    detached = target if change == "target not detached" else target.detach()
    error = detached[:, None, :] - prediction[:, :, None]
    size = error.abs()
    huber = torch.where(size > kappa, kappa * (size - kappa / 2), error.square() / 2)
    weight = fractions[:, :, None]
    if change == "dimensions swapped":
        weight = torch.nn.functional.interpolate(fractions[:, None], detached.shape[1])
    under = error.detach() > 0 if change == "sign of the error" else error.detach() < 0
    pairs = (weight - under.to(error.dtype)).abs() * huber / (1 if change == "not divided" else kappa)
    if change == "mean over both":
        return pairs.mean()
    return pairs.mean(dim=2).sum(dim=1).mean()


def loses(change: str) -> Plant:
    """Another loss in QR-DQN."""
    return lambda patch: patch.setattr(
        qr_dqn,
        "quantile_huber_loss",
        lambda prediction, target, fractions=None, kappa=1.0: pairwise(prediction, target, fractions, kappa, change),
    )


def ends_at_cuts(cls: type) -> Plant:
    return sees(cls, end_at_cuts)


def without_masks(agent, batch):
    return replace(batch, next_action_mask=None)


def swapped_networks(cls: type) -> Plant:
    """The target network chooses where the online one should, and the other way round."""

    def plant(patch):
        healthy = cls._target

        def target(self, batch):
            config, self.config = self.config, replace(self.config, double=not self.config.double)
            try:
                return healthy(self, batch)
            finally:
                self.config = config

        patch.setattr(cls, "_target", target)

    return plant


def with_gradient(cls: type) -> Plant:
    """The target network is trained as well."""
    healthy = cls._build

    def build(self):
        healthy(self)
        self.target_network.requires_grad_(True)

    return lambda patch: patch.setattr(cls, "_build", build)


def neutral_target(cls: type) -> Plant:
    """The next action is always that of the best mean: the policy learned is not the one acted on."""
    return lambda patch: patch.setattr(cls, "target_risk", risk_choice.RiskChoice())


# Quantile regression


@fault(PAIRWISE)
def qrdqn_quantile_dimensions_swapped(patch):
    """The fractions weigh the targets in place of the predictions: every prediction learns the same."""
    loses("dimensions swapped")(patch)


@fault(PAIRWISE, LEAST, REFERENCE)
def qrdqn_sign_of_the_error(patch):
    """Quantiles in descending order: the lower tail is the upper one."""
    loses("sign of the error")(patch)


@fault(PAIRWISE, REFERENCE)
def qrdqn_huber_not_divided_by_its_threshold(patch):
    loses("not divided")(patch)


@fault(PAIRWISE, REFERENCE)
def qrdqn_mean_over_both_quantile_axes(patch):
    loses("mean over both")(patch)


@fault(PAIRWISE, REFERENCE, LEAST)
def qrdqn_left_ends_in_place_of_midpoints(patch):
    loses("left ends")(patch)


@fault(CONSTANT)
def qrdqn_target_not_detached(patch):
    loses("target not detached")(patch)


@fault(REFERENCE, DOUBLE)
def qrdqn_best_quantile_by_quantile(patch):
    """A maximum over actions for every quantile on its own: no policy has that distribution."""

    def target(self, batch):
        with torch.no_grad():
            best = self.target_network(self._input(batch.next_observation)).max(dim=1).values
            return qr_dqn.td_target(batch.reward[:, None], batch.terminated[:, None], best, self.config.discount)

    patch.setattr(qr_dqn.QRDQN, "_target", target)


@fault(TRUNCATION, REFERENCE)
def qrdqn_truncation_ends_bootstrap(patch):
    ends_at_cuts(qr_dqn.QRDQN)(patch)


@fault(TRUE_END, LEARNED)
def qrdqn_true_end_bootstraps(patch):
    patch.setattr(qr_dqn, "td_target", endless)


@fault(MASK)
def qrdqn_mask_ignored_in_the_target(patch):
    sees(qr_dqn.QRDQN, without_masks)(patch)


@fault(DOUBLE, REFERENCE)
def qrdqn_networks_swapped(patch):
    swapped_networks(qr_dqn.QRDQN)(patch)


@fault(NO_GRADIENT)
def qrdqn_target_network_asks_for_gradients(patch):
    with_gradient(qr_dqn.QRDQN)(patch)


@fault(RISKY)
def qrdqn_risk_left_out_of_the_target(patch):
    neutral_target(qr_dqn.QRDQN)(patch)


# Implicit quantile networks


@fault(REFERENCE, LEARNED)
def iqn_loss_with_midpoints_in_place_of_its_fractions(patch):
    healthy = iqn.quantile_huber_loss
    patch.setattr(iqn, "quantile_huber_loss", lambda q, y, fractions, kappa: healthy(q, y, None, kappa))


@fault(REFERENCE)
def iqn_cosines_from_one(patch):
    healthy = quantiles.CosineEmbedding.forward

    def forward(self, fractions):
        frequency = self.frequency
        self.frequency = frequency + torch.pi
        try:
            return healthy(self, fractions)
        finally:
            self.frequency = frequency

    patch.setattr(quantiles.CosineEmbedding, "forward", forward)


@fault(REFERENCE)
def iqn_merged_by_a_sum(patch):
    def forward(self, observation, fractions):
        merged = self.observation_body(observation).unsqueeze(1) + self.embedding(fractions)
        return self.head(merged.flatten(0, 1)).unflatten(0, fractions.shape).transpose(1, 2)

    patch.setattr(quantiles.ImplicitQuantileNetwork, "forward", forward)


@fault(FRACTIONS, REFERENCE)
def iqn_fractions_from_the_global_generator(patch):
    patch.setattr(iqn, "sampled_fractions", lambda rows, count, upper, generator: upper * torch.rand(rows, count))


@fault(FRACTIONS, TAIL_OF_FRACTIONS, RISKY)
def iqn_upper_tail(patch):
    healthy = iqn.sampled_fractions
    patch.setattr(iqn, "sampled_fractions", lambda *arguments: 1 - healthy(*arguments))


@fault(TAIL_OF_FRACTIONS, RISKY)
def iqn_tail_not_distorted(patch):
    """Mean of the whole distribution, whatever the tail."""
    patch.setattr(risk_choice.RiskChoice, "upper_fraction", 1.0)


@fault(TRUNCATION, REFERENCE)
def iqn_truncation_ends_bootstrap(patch):
    ends_at_cuts(iqn.IQN)(patch)


@fault(TRUE_END, LEARNED)
def iqn_true_end_bootstraps(patch):
    patch.setattr(iqn, "td_target", endless)


@fault(MASK)
def iqn_mask_ignored_in_the_target(patch):
    sees(iqn.IQN, without_masks)(patch)


@fault(DOUBLE, REFERENCE)
def iqn_networks_swapped(patch):
    swapped_networks(iqn.IQN)(patch)


# C51


@fault(KEPT, REFERENCE, LEARNED)
def c51_mass_lost_on_the_points(patch):
    """Where a value lies on a point, floor and ceiling agree and both weights are 0."""

    def projection(values, probabilities, support):
        last = len(support) - 1
        position = ((values - support[0]) * (last / (support[-1] - support[0]))).clamp(0, last)
        lower, upper = position.floor(), position.ceil()
        projected = probabilities.new_zeros(len(values), last + 1)
        projected.scatter_add_(1, lower.long(), probabilities * (upper - position))
        return projected.scatter_add_(1, upper.long(), probabilities * (position - lower))

    patch.setattr(c51, "categorical_projection", projection)


@fault(KEPT, REFERENCE)
def c51_all_mass_to_the_lower_neighbour(patch):
    def projection(values, probabilities, support):
        last = len(support) - 1
        position = ((values - support[0]) * (last / (support[-1] - support[0]))).clamp(0, last)
        return probabilities.new_zeros(len(values), last + 1).scatter_add_(1, position.long(), probabilities)

    patch.setattr(c51, "categorical_projection", projection)


@fault(OUTSIDE)
def c51_mass_outside_is_dropped(patch):
    healthy = c51.categorical_projection

    def projection(values, probabilities, support):
        inside = (values >= support[0]) & (values <= support[-1])
        return healthy(values, probabilities * inside, support)

    patch.setattr(c51, "categorical_projection", projection)


@fault(REFERENCE)
def c51_cross_entropy_the_wrong_way_round(patch):
    def loss(log_probabilities, target):
        return -(log_probabilities.exp() * target.clamp(min=1e-9).log()).sum(dim=1).mean()

    patch.setattr(c51, "categorical_loss", loss)


@fault(TRUNCATION, REFERENCE)
def c51_truncation_ends_bootstrap(patch):
    ends_at_cuts(c51.C51)(patch)


@fault(TRUE_END, LEARNED)
def c51_true_end_bootstraps(patch):
    patch.setattr(c51, "td_target", lambda reward, ended, value, discount: reward + discount * value + 0 * ended)


@fault(RISKY)
def c51_risk_left_out_of_the_target(patch):
    neutral_target(c51.C51)(patch)


# Choice


@fault(TAIL, ARMS)
def choice_upper_tail(patch):
    healthy = risk_choice.lower_tail_mean
    wrong = lambda values, tail, probabilities=None: -healthy(-values, tail, probabilities)  # noqa: E731
    patch.setattr(risk_choice, "lower_tail_mean", wrong)
    patch.setitem(risk_choice.RISKS, "cvar", wrong)
    patch.setattr(iqn, "mean_value", lambda values: values.max(dim=-1).values)


@fault(TAIL)
def choice_border_atom_counts_whole(patch):
    healthy = risk_choice.lower_tail_mean

    def whole(values, tail, probabilities=None):
        if probabilities is not None:
            return healthy(values, tail, probabilities)
        count = values.shape[-1]
        return values.sort(dim=-1).values[..., : max(round(tail * count + 0.5), 1)].mean(dim=-1)

    patch.setattr(risk_choice, "lower_tail_mean", whole)


@fault(TAIL)
def choice_atoms_not_sorted(patch):
    healthy = risk_choice.lower_tail_mean

    def unsorted(values, tail, probabilities=None):
        ranks = torch.arange(values.shape[-1]).expand_as(values).to(values.dtype)
        taken = (tail * values.shape[-1] - ranks).clamp(0, 1)
        if probabilities is not None:
            return healthy(values, tail, probabilities)
        return (taken * values).sum(dim=-1) / taken.sum(dim=-1)

    patch.setattr(risk_choice, "lower_tail_mean", unsorted)


@fault(ENTROPIC, ARMS)
def choice_seeks_risk(patch):
    healthy = risk_choice.entropic_value
    wrong = lambda values, beta, probabilities=None: -healthy(-values, beta, probabilities)  # noqa: E731
    patch.setattr(risk_choice, "entropic_value", wrong)
    patch.setitem(risk_choice.RISKS, "entropic", wrong)


@fault(MEAN)
def choice_probabilities_ignored(patch):
    patch.setattr(risk_choice, "mean_value", lambda values, probabilities=None: values.mean(dim=-1))
