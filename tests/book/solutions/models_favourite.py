"""Choose a policy by its estimate on the data it was made from, then look at the truth and at fresh data."""

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.evaluation import fitted_q_evaluation
from ca14lib.solvers import pessimistic_plan, policy_return
from ca14lib.training import collect

SEPSIS = "CA14/ICUSepsis-v0"
MIN_COUNTS = (1, 3, 10, 30, 100)


def favourite(episodes: int, seed: int) -> dict[str, float]:
    """The plan of highest estimate: its least count, its estimates on old and fresh stays, and its exact survival."""
    model = tabular_model(SEPSIS)
    own, fresh = (collect(SEPSIS, "clinician", episodes, seed + shift) for shift in (0, 1_000))
    counts, rewards = own.empirical_counts(model)
    clinician = behaviour_policy(SEPSIS, "clinician")
    found = []
    for least in MIN_COUNTS:
        plan = pessimistic_plan(counts, rewards, model.terminal, min_count=least).policy
        policy = 0.9 * plan + 0.1 * clinician  # so that every course of treatment ends
        estimates = [fitted_q_evaluation(data, policy, model=model, resamples=2) for data in (own, fresh)]
        found.append(
            {
                "least count": least,
                "same stays": estimates[0].value,
                "fresh stays": estimates[1].value,
                "unseen in fresh": estimates[1].unseen_share,
                "exact": policy_return(model, policy),
            }
        )
    return max(found, key=lambda row: row["same stays"])


if __name__ == "__main__":
    for seed in range(3):
        print({name: round(value, 3) for name, value in favourite(1_000, seed).items()})
