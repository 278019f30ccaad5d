from ca14lib.metrics import interquartile_mean, optimality_gap, performance_profile, probability_of_improvement

steady = [0.5] * 8
split = [0.0] * 4 + [0.9] * 4
levels = [0.0, 0.25, 0.49, 0.5, 0.89, 0.9]
profiles = [performance_profile(scores, levels).share for scores in (steady, split)]
middles = [interquartile_mean(scores) for scores in (steady, split)]
gaps = [optimality_gap(scores).estimate for scores in (steady, split)]
improvement = probability_of_improvement(steady, split).estimate
