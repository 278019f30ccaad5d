"""What two actors learn if the loss of each lets its gradient run into the other one."""

import torch

TEAM = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # both are paid this
PENNIES = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # the second pays the first


def gradients(first_payoff: torch.Tensor, second_payoff: torch.Tensor, leak: bool) -> list[float]:
    """Ascent directions of the two logits, of probabilities 0.6 and 0.3 of the first action."""
    logits = torch.logit(torch.tensor([0.6, 0.3])).requires_grad_()
    own = [torch.stack([probability, 1 - probability]) for probability in torch.sigmoid(logits)]
    other = own if leak else [policy.detach() for policy in own]
    (own[0] @ first_payoff @ other[1] + other[0] @ second_payoff @ own[1]).backward()
    return logits.grad.tolist()


if __name__ == "__main__":
    for name, payoffs in (("team", (TEAM, TEAM)), ("matching pennies", (PENNIES, -PENNIES))):
        for leak in (False, True):
            print(f"{name}, leak {leak}:", [round(value, 3) for value in gradients(*payoffs, leak)])
