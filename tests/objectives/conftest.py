import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    """Heads draw their initial weights from the global generator."""
    torch.manual_seed(0)
