"""Draws from a categorical distribution that gradients flow through (Jang et al., 2017). Book: multi_agent/maddpg."""

import torch
from torch import Tensor


def allowed_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits ``[…, A]`` with −∞ at forbidden actions; where nothing is allowed, nothing is forbidden.

    Args:
        logits: ``[…, A]``.
        mask: ``[…, A]`` bool, true where an action is allowed, or None for all. Agents that have left a game may be
            allowed nothing at all.
    """
    if mask is None:
        return logits
    return logits.masked_fill(~mask & mask.any(dim=-1, keepdim=True), -torch.inf)


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent standard Gumbel numbers, −log of an exponential one, in the shape of a tensor."""
    return -torch.empty_like(like).exponential_(generator=generator).clamp_min_(1e-30).log_()


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    r"""One-hot draws whose gradient is that of a softmax of the same noise (book eq. gumbel-softmax).

    The value is exactly one-hot, of the action with the largest :math:`\ell_b + g_b`, which has the probability
    softmax(ℓ) at every temperature. The gradient is that of :math:`\mathrm{softmax}((\ell + g) / \tau)`.

    Args:
        logits: ℓ ``[…, A]``, −∞ at forbidden actions.
        temperature: τ > 0.
        generator: Where the noise g comes from.
    Returns:
        ``[…, A]``.
    """
    perturbed = logits + gumbel_noise(logits, generator)
    hard = torch.nn.functional.one_hot(perturbed.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    if not logits.requires_grad:
        return hard
    soft = (perturbed / temperature).softmax(dim=-1)
    return hard + (soft - soft.detach())  # in brackets: adding 0 keeps the value one-hot to the last bit
