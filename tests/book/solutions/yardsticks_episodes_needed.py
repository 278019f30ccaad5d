from ca14lib.environments import behaviour_policy, tabular_model, uniform_policy
from ca14lib.solvers import policy_return

model = tabular_model("CA14/ICUSepsis-v0")
clinicians = policy_return(model, behaviour_policy("CA14/ICUSepsis-v0", "clinician"))
uniform = policy_return(model, uniform_policy(model))
variance = clinicians * (1 - clinicians) + uniform * (1 - uniform)
episodes = variance * (2 / (clinicians - uniform)) ** 2
assert 430_000 < episodes < 440_000
