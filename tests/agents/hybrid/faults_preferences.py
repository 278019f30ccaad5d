"""Faults planted in learning from comparisons, and the properties that must catch them: see ``planting.py``."""

import numpy as np

import ca14lib.agents.hybrid.preferences as preferences
from tests.agents.offline.planting import fault_table

FAULTS, fault = fault_table()

ODDS = "log-odds-are-the-difference-times-the-inverse-temperature"
COUNTS = "two-alternatives-are-fitted-to-their-log-odds"
NEWTON = "the-fit-has-no-slope-left"
SHIFT = "a-shift-is-not-seen-by-equal-lengths-and-not-counted-as-error"
DOUBT = "members-that-differ-by-a-shift-alone-are-in-no-doubt"
LOWER = "the-bound-is-under-the-mean-where-members-disagree"
TILT = "a-regularised-step-tilts-the-reference"
DISTANCE = "the-distance-of-one-step-is-its-divergence"
FREE = "a-cold-plan-is-the-optimum-and-a-hot-one-the-reference"


@fault(ODDS, COUNTS)
def preference_temperature_divides(patch):
    healthy = preferences.preference_probability
    patch.setattr(preferences, "preference_probability", lambda d, beta=1.0, e=0.0: healthy(d, 1 / beta, e))
    patch.setattr(preferences, "expit", lambda x, sigmoid=preferences.expit: sigmoid(x / 4))


@fault(ODDS)
def preference_coins_always_favour_the_first(patch):
    healthy = preferences.preference_probability
    patch.setattr(preferences, "preference_probability", lambda d, beta=1.0, e=0.0: healthy(d, beta, e) + 0.5 * e)


@fault(COUNTS)
def preference_answers_turned_round(patch):
    healthy = preferences.fitted_reward
    patch.setattr(preferences, "fitted_reward", lambda d, p, *rest, **more: healthy(d, 1 - p, *rest, **more))


@fault(NEWTON)
def preference_one_step_only(patch):
    healthy = preferences.fitted_reward
    patch.setattr(preferences, "fitted_reward", lambda d, p, c, weight=None: healthy(d, p, c, weight, steps=1))


@fault(SHIFT)
def preference_error_counts_the_shift(patch):
    def error(learnt, true, weight):
        return float(np.sqrt((np.asarray(weight) / np.sum(weight)) @ (np.asarray(learnt) - true) ** 2))

    patch.setattr(preferences, "reward_error", error)


@fault(DOUBT)
def preference_members_not_centred(patch):
    patch.setattr(preferences, "centred", lambda reward, weight: reward)


@fault(LOWER)
def preference_bound_is_optimistic(patch):
    healthy = preferences.pessimistic_reward
    patch.setattr(preferences, "pessimistic_reward", lambda ensemble, pessimism: healthy(ensemble, -pessimism))


@fault(TILT, FREE)
def preference_plan_forgets_the_reference(patch):
    healthy = preferences.regularised_policy
    patch.setattr(
        preferences,
        "regularised_policy",
        lambda m, reference, t: healthy(m, np.full_like(reference, 1 / reference.shape[1]), t),
    )


@fault(TILT, FREE)
def preference_temperature_of_the_plan_multiplies(patch):
    healthy = preferences.regularised_policy
    patch.setattr(preferences, "regularised_policy", lambda m, reference, t: healthy(m, reference, 1 / t))


@fault(DISTANCE)
def preference_distance_backwards(patch):
    healthy = preferences.policy_distance
    patch.setattr(preferences, "policy_distance", lambda m, policy, reference: healthy(m, reference[None], policy[0]))
