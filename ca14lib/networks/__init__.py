"""Network builders shared by all agents."""

from ca14lib.networks.mlp import OneHotLinear, mlp, polyak_update

__all__ = ["OneHotLinear", "mlp", "polyak_update"]
