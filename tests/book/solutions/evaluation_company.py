def relative(returns):
    """Scores between the lowest and the highest return of a task."""
    return [(value - min(returns)) / (max(returns) - min(returns)) for value in returns]


def means(first, second):
    """Mean relative score of every agent over two tasks."""
    return [(a + b) / 2 for a, b in zip(relative(first), relative(second))]


alone = means([-4, -5, -8], [10, 14, 6])
joined = means([-4, -5, -8, -40], [10, 14, 6, 5])
overtaken = means([-4, -5, -8, -6], [10, 14, 6, 90])
