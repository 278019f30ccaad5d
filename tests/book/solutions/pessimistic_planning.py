"""Plan from counts, trusting only pairs that were seen at least m times."""

from ca14lib.data import OfflineDataset
from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return
from ca14lib.solvers.pessimism import pessimistic_plan
from ca14lib.training import collect

SEPSIS = "CA14/ICUSepsis-v0"


def gaps_closed(data: OfflineDataset, least_counts: list[int]) -> dict[int, float]:
    """Exact share of the gap between clinicians and optimum that each plan closes."""
    model = tabular_model(SEPSIS)
    counts, rewards = data.empirical_counts(model)
    clinicians, optimum = 0.7818, 0.8751
    gaps = {}
    for least_count in least_counts:
        plan = pessimistic_plan(counts, rewards, model.terminal, min_count=least_count)
        gaps[least_count] = (policy_return(model, plan.policy) - clinicians) / (optimum - clinicians)
    return gaps


if __name__ == "__main__":
    data = collect(SEPSIS, "clinician", episodes=20_000, seed=0)
    for least_count, gap in gaps_closed(data, [1, 3, 10, 30, 100, 300]).items():
        print(f"m = {least_count:3d}: gap closed {gap:5.2f}")
