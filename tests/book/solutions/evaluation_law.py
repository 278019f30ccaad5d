def lead(others, weight=0.2, rest=0.7):
    """How far the agent that keeps the limit is ahead of the one that breaks it."""
    reckless = rest / (weight + rest)
    careful = (weight + rest * others) / (weight + rest)
    return careful - reckless
