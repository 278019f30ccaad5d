"""How often a policy that keeps its limit exactly is found guilty, and one that breaks it acquitted."""

from scipy.stats import binom

LIMIT, STAYS, GOES = 0.5, 0.1, 0.6  # the cost of an episode is one of two numbers


def found_guilty(share_that_goes: float, episodes: int, tolerance: float) -> float:
    """Probability that the mean cost of some episodes exceeds the limit by more than the tolerance."""
    allowed = (LIMIT + tolerance - STAYS) / (GOES - STAYS) * episodes  # episodes that may go
    return float(binom.sf(int(allowed + 1e-9), episodes, share_that_goes))


if __name__ == "__main__":
    for episodes in (20, 100, 500, 2_500):
        keeps, breaks = (found_guilty(share, episodes, 0.01) for share in (0.8, 0.84))
        print(f"{episodes} episodes: cost 0.50 found guilty {keeps:.2f}, cost 0.52 found guilty {breaks:.2f}")
