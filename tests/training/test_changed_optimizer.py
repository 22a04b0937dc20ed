"""Options that are changed at a resume are those that train; moments and the step are those of before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sp_hf.training.changed_optimizer import load_optimizer, load_schedule


def halving(rate: float, decay: float = 0.1) -> tuple[nn.Linear, torch.optim.Optimizer, LambdaLR]:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias]}], lr=rate, weight_decay=decay)
    return model, optimizer, LambdaLR(optimizer, lambda step: 0.5**step)


def advance(model: nn.Linear, optimizer: torch.optim.Optimizer, schedule: LambdaLR) -> None:
    optimizer.zero_grad()
    model(torch.ones(3, 2)).pow(2).sum().backward()
    optimizer.step()
    schedule.step()


def test_new_rates_on_old_moments() -> None:
    before = halving(0.1)
    for _ in range(2):
        advance(*before)
    states = copy.deepcopy([part.state_dict() for part in before])
    model, optimizer, schedule = halving(0.4, decay=0.3)
    load_optimizer(optimizer, states[1], same_kind=True)
    load_schedule(schedule, states[2])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1])  # 0.4 halved twice
    assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3]
    assert torch.equal(optimizer.state[model.weight]["exp_avg"], before[1].state[before[0].weight]["exp_avg"])
    advance(model, optimizer, schedule)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_another_optimizer_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    before = halving(0.1)
    advance(*before)
    model, optimizer, _ = halving(0.4)
    load_optimizer(optimizer, before[1].state_dict(), same_kind=False)
    regrouped = torch.optim.AdamW(model.parameters(), lr=0.4)
    load_optimizer(regrouped, before[1].state_dict(), same_kind=True)
    assert not optimizer.state and not regrouped.state
    assert caplog.text.count("moments start anew") == 2
