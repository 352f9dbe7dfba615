"""What autocast does not see by itself: the precision it wants, for the pieces that choose their own."""

import torch
from torch import Tensor


def as_autocast(tensor: Tensor) -> Tensor:
    """In the precision that autocast would give a matrix product; as it is where autocast is off."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
