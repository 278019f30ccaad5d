"""Levers that pay the same and an odd one: what a convention, a coin, a leader and the odd lever are worth."""


def odd(same: int, pays: float, rounds: int) -> float:
    """Always the odd lever."""
    return pays * rounds


def leader(same: int, pays: float, rounds: int) -> float:
    """Both pull one of the levers that pay 1 at random; then the first stays and the second does what it saw."""
    return 1 / same + rounds - 1


def guess_then_odd(same: int, pays: float, rounds: int) -> float:
    """One guess; who matched stays, who did not pulls the odd lever from then on."""
    return (1 / same) * rounds + (1 - 1 / same) * pays * (rounds - 1)


def horizon_for_a_leader(same: int, pays: float) -> int:
    """The first number of rounds from which a leader is worth more than the odd lever."""
    rounds = 1
    while leader(same, pays, rounds) <= odd(same, pays, rounds):
        rounds += 1
    return rounds


if __name__ == "__main__":
    for rounds in (1, 5, 8):
        print(rounds, *(round(play(3, 0.9, rounds), 3) for play in (odd, leader, guess_then_odd)))
    print(horizon_for_a_leader(3, 0.9), horizon_for_a_leader(9, 0.9))
