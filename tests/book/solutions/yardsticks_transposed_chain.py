import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model, uniform_policy
from ca14lib.solvers import occupancy_measure, policy_return


def average_return(model, policy, discount, transpose):
    chain = np.einsum("sa,sat->st", policy, model.transition)
    matrix = chain.T if transpose else chain
    visits = np.linalg.solve(np.eye(len(chain)) - discount * matrix, model.initial)
    return (visits[:, None] * policy * model.expected_reward).sum()


grid, river = tabular_model("CA14/GridWorld-v0"), tabular_model("CA14/RiverSwim-v0")
uniform, expert = uniform_policy(grid), behaviour_policy("CA14/GridWorld-v0", "expert")

for model, policy, looks_right in (
    (grid, uniform, True),  # what the author saw
    (grid, expert, False),  # another policy shows the fault
    (river, uniform_policy(river), False),  # and so does another problem
):
    truth = policy_return(model, policy, discount=0.9)
    assert np.isclose(average_return(model, policy, 0.9, transpose=True), truth)
    assert np.isclose(average_return(model, policy, 0.9, transpose=False), truth) == looks_right

# the reference points of the table: without a limit, and over 50 steps
assert np.isclose(policy_return(grid, uniform), -9.58, atol=0.005)
assert np.isclose(policy_return(grid, uniform, horizon=50), -4.06, atol=0.005)
assert np.isclose(occupancy_measure(grid, uniform).sum(), 107, atol=0.5)
