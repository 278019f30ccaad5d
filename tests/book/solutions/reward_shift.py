"""What subtracting the mean reward does: exactly solve the problem that the learner then sees."""

from dataclasses import replace

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import occupancy_measure, policy_return, value_iteration


def shifted_optimum(environment: str, behaviour: str) -> tuple[float, float, float, float]:
    """Best return, true return of the policy that is best after the shift, mean episode lengths of both."""
    model = tabular_model(environment)
    visits = occupancy_measure(model, behaviour_policy(environment, behaviour))
    mean = (visits * model.expected_reward).sum() / visits.sum()
    best = value_iteration(model)
    misled = value_iteration(replace(model, reward=model.expected_reward - mean)).policy
    lengths = [occupancy_measure(model, policy).sum() for policy in (best.policy, misled)]
    return best.optimal_return, policy_return(model, misled), *lengths


if __name__ == "__main__":
    for environment, behaviour in (("CA14/GridWorld-v0", "mixed"), ("CA14/ICUSepsis-v0", "clinician")):
        best, obtained, length, shorter = shifted_optimum(environment, behaviour)
        print(f"{environment}: {obtained:.4f} of {best:.4f}, mean length {shorter:.1f} instead of {length:.1f}")
