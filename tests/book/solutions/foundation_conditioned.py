import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import policy_evaluation, policy_return

MODEL = tabular_model("CA14/ICUSepsis-v0")
CLINICIANS = behaviour_policy("CA14/ICUSepsis-v0", "clinician")
HELD = policy_evaluation(MODEL, CLINICIANS)


def conditioned() -> np.ndarray:
    """What clinicians did in stays that ended well, from endless data: their policy times Q / V."""
    value = np.where(MODEL.terminal, 1.0, HELD.value)[:, None]
    return np.where(MODEL.terminal[:, None], CLINICIANS, CLINICIANS * HELD.q / value)


def survival() -> dict[str, float]:
    greedy = np.eye(MODEL.num_actions)[HELD.q.argmax(axis=1)]
    policies = {"clinicians": CLINICIANS, "conditioned": conditioned(), "one step of improvement": greedy}
    return {name: policy_return(MODEL, policy) for name, policy in policies.items()}
