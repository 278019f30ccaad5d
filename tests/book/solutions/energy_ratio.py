"""Two days, two ways to average a share."""

import numpy as np

idle, bound, bill = np.array([10.0, 30.0]), np.array([9.9, 20.0]), np.array([10.1, 21.0])
ratio_of_means = (idle.mean() - bill.mean()) / (idle.mean() - bound.mean())
mean_of_ratios = ((idle - bill) / (idle - bound)).mean()
