"""Faults planted in the hybrids of offline learning, and the properties that must catch them: see ``planting.py``."""

from dataclasses import replace

import torch

import ca14lib.agents.hybrid.cal_ql as cal_ql
import ca14lib.agents.hybrid.constrained_bcq as constrained_bcq
import ca14lib.data.symmetric_replay as symmetric_replay
from tests.agents.offline.planting import end_at_cuts, endless, fault_table, sees

FAULTS, fault = fault_table()

REFERENCE = "three-updates-equal-the-reference"
TRUNCATION = "an-update-ignores-truncation"
TRUE_END = "an-update-ignores-what-follows-a-true-end"
PESSIMISM = "rewards-are-pressed-down-and-costs-up"
PRICE = "costs-are-subtracted-at-their-price"
SUPPORT = "an-action-outside-the-support-is-never-taken"
STARTS = "only-first-steps-count-for-the-price"
ASCENT = "the-price-rises-over-the-limit-and-falls-under-it"
LP = "with-full-coverage-the-table-reaches-the-linear-programme"
CQL = "without-a-reference-it-is-the-penalty-of-cql"
FLOOR = "nothing-under-the-reference-is-pushed-down"
RETURNS = "labels-are-the-returns-of-the-log"
FROZEN = "a-batch-without-labels-leaves-the-reference-alone"
HALF = "half-of-every-batch-is-the-log"
HANDED = "handed-over-networks-give-the-same-values-and-stay-apart"


# Constrained BCQ


@fault(PESSIMISM, REFERENCE)
def constrained_cost_critics_by_their_minimum(patch):
    """One sign for rewards and costs: what is unsure looks cheap."""

    def lower(first, second, pessimism):
        return (first + second) / 2 - pessimism * (first - second).abs() / 2

    patch.setattr(constrained_bcq, "pessimistic_values", lower)


@fault(PRICE, REFERENCE, LP)
def constrained_costs_added(patch):
    patch.setattr(
        constrained_bcq,
        "lagrangian_values",
        lambda v, m: v[..., 0, :] + torch.einsum("...ka,k->...a", v[..., 1:, :], m),
    )


@fault(STARTS, REFERENCE)
def constrained_price_from_all_states_of_the_log(patch):
    """What is still to be paid, averaged over the middle of episodes as well, is less than an episode costs."""
    healthy = constrained_bcq.start_cost
    patch.setattr(constrained_bcq, "start_cost", lambda v, start, d: healthy(v, torch.ones_like(start), d))


@fault(ASCENT, REFERENCE)
def constrained_price_falls_over_the_limit(patch):
    healthy = constrained_bcq.multiplier_step
    patch.setattr(constrained_bcq, "multiplier_step", lambda m, cost, limit, rate: healthy(m, limit, cost, rate))


@fault(REFERENCE, LP)
def constrained_temperature_multiplies(patch):
    def softmax(scores, supported, temperature):
        return (scores.masked_fill(~supported, -torch.inf) * temperature).softmax(dim=-1)

    patch.setattr(constrained_bcq, "supported_softmax", softmax)


@fault(SUPPORT)
def constrained_support_forgotten(patch):
    healthy = constrained_bcq.supported_softmax
    patch.setattr(constrained_bcq, "supported_softmax", lambda s, ok, t: healthy(s, torch.ones_like(ok), t))


@fault(REFERENCE)
def constrained_costs_discounted_like_rewards(patch):
    healthy = constrained_bcq.ConstrainedBCQ._target

    def target(self, batch):
        self.discounts.fill_(self.config.discount)
        return healthy(self, batch)

    patch.setattr(constrained_bcq.ConstrainedBCQ, "_target", target)


@fault(TRUE_END, REFERENCE)
def constrained_true_end_bootstraps(patch):
    patch.setattr(constrained_bcq, "td_target", endless)


@fault(TRUNCATION, REFERENCE)
def constrained_truncation_ends_bootstrap(patch):
    sees(constrained_bcq.ConstrainedBCQ, end_at_cuts)(patch)


# Cal-QL


@fault(FLOOR, REFERENCE)
def calibrated_reference_forgotten(patch):
    healthy = cal_ql.calibrated_penalty
    patch.setattr(
        cal_ql, "calibrated_penalty", lambda q, a, reference: healthy(q, a, torch.full_like(reference, -torch.inf))
    )


@fault(CQL, FLOOR)
def calibrated_by_the_minimum(patch):
    def penalty(q, action, reference):
        lowered = torch.minimum(q, reference.unsqueeze(1))
        return (lowered.logsumexp(dim=1) - q.gather(1, action.unsqueeze(1)).squeeze(1)).mean()

    patch.setattr(cal_ql, "calibrated_penalty", penalty)


@fault(REFERENCE)
def calibrated_recorded_action_lifted_too(patch):
    def penalty(q, action, reference):
        lifted = torch.maximum(q, reference.unsqueeze(1))
        return (lifted.logsumexp(dim=1) - lifted.gather(1, action.unsqueeze(1)).squeeze(1)).mean()

    patch.setattr(cal_ql, "calibrated_penalty", penalty)


@fault(RETURNS)
def calibrated_labels_of_one_step(patch):
    healthy = cal_ql.lambda_return
    patch.setattr(cal_ql, "lambda_return", lambda *arguments: healthy(*arguments[:-1], 0.0))


@fault(FROZEN)
def calibrated_reference_follows_rewards_without_labels(patch):
    healthy = cal_ql.DiscreteCalQL.update

    def update(self, batch):
        return healthy(self, replace(batch, value_target=batch.reward) if batch.value_target is None else batch)

    patch.setattr(cal_ql.DiscreteCalQL, "update", update)


@fault(HANDED)
def calibrated_target_network_not_handed_over(patch):
    def hand_over(source, target):
        target.q_network.load_state_dict(source.q_network.state_dict())

    patch.setattr(cal_ql, "hand_over", hand_over)


@fault(HANDED)
def calibrated_networks_shared_in_place_of_copied(patch):
    def hand_over(source, target):
        target.q_network, target.target_network = source.q_network, source.target_network

    patch.setattr(cal_ql, "hand_over", hand_over)


# Symmetric replay


@fault(HALF)
def symmetric_batches_by_size_of_the_sources(patch):
    """Log and new experience in one heap: at first nearly every row is the log's."""
    patch.setattr(symmetric_replay, "log_rows", lambda batch_size, share: round(0.9 * batch_size))


@fault(HALF)
def symmetric_log_never_drawn(patch):
    patch.setattr(symmetric_replay, "log_rows", lambda batch_size, share: 0)


@fault(HALF)
def symmetric_new_experience_never_drawn(patch):
    patch.setattr(symmetric_replay, "log_rows", lambda batch_size, share: batch_size)
