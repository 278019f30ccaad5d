"""How long a target network takes to cover half the distance to a network that stands still."""

import torch
from torch import nn

from ca14lib.networks import polyak_update


def updates_to_half_way(rate: float, every: int = 1) -> int:
    """Gradient updates until half of the distance is covered, if the target moves after every ``every`` of them."""
    network, target = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    nn.init.zeros_(target.weight)
    update = 0
    while target.weight.item() < 0.5:
        update += 1
        if update % every == 0:
            polyak_update(target, network, rate)
    return update


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("0.005 after every update:          ", updates_to_half_way(0.005))
    print("0.005 after every hundredth update:", updates_to_half_way(0.005, every=100))
