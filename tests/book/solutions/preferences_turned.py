"""Answers coded the wrong way round: the same loss, the opposite reward."""

from ca14lib.agents.hybrid.preferences import PreferenceConfig, comparison_loss, fitted_reward
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.experiments.evaluation import preferences as experiment


def fits(seed: int = 0, count: int = 300) -> list[tuple[float, float]]:
    """Loss and share of the plan, with the answers as they are and turned round."""
    model, _, learner, data = experiment.compared(seed, 0, count, "sure", experiment.PRIOR)
    config = PreferenceConfig(inverse_temperature=4.0, ridge=experiment.PRIOR)
    difference, found = data["first"] - data["second"], []
    for answers in (data["preferred"], 1 - data["preferred"]):
        reward = fitted_reward(difference, answers, config)
        share = ExactEvaluation(model).of_policy(experiment.planned(learner, reward))["share"]
        found.append((comparison_loss(reward, difference, answers, config), share))
    return found


if __name__ == "__main__":
    print(fits())
