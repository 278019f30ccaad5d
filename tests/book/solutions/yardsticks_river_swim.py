import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import value_iteration

model = tabular_model("CA14/RiverSwim-v0")
discounts = np.arange(0.02, 0.99, 0.01)
swims_right = np.array([value_iteration(model, discount).policy[:, 1] for discount in discounts])
first_discount = [discounts[swims_right[:, state] == 1].min() for state in range(model.num_states)]

assert (swims_right[:, 3:] == 1).all()  # the three states nearest to the large reward, at every discount
np.testing.assert_allclose(first_discount[:3], [0.62, 0.47, 0.10], atol=1e-9)
