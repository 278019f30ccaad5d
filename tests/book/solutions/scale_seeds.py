import zlib

import numpy as np


def generator(agent, seed):
    """The same numbers in every process, other ones for every agent and seed."""
    return np.random.default_rng(np.random.SeedSequence([zlib.crc32(agent.encode()), seed]))
