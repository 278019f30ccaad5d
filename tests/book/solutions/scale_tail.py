def finished_after(runs, workers):
    """Minutes until the last run ends, when every free worker takes the next run of the list."""
    free = [0.0] * workers
    for minutes in runs:
        earliest = free.index(min(free))
        free[earliest] += minutes
    return max(free)


equal = finished_after([2] * 400, 8)
long_last = finished_after([2] * 399 + [40], 8)
long_first = finished_after([40] + [2] * 399, 8)
deaths = 400 * 2 / 60 / 10
