def original(rewards):
    """The first episode at four fifths of the best reward; the number of episodes if there is none."""
    level = 0.8 * max(rewards)
    return next((index for index, reward in enumerate(rewards) if reward >= level), len(rewards))


def mended(rewards, zero, one):
    """The first episode at four fifths of the way from zero to one; None if there is none."""
    level = zero + 0.8 * (one - zero)
    return next((index for index, reward in enumerate(rewards) if reward >= level), None)
