"""Optimiser and learning rate of the recording tasks: AdamW, a linear warm-up, then half a cosine, step by step.

As MVPFormer's authors train, but for two things: weight decay leaves norms, tables and biases alone unless asked, and
past the end the rate stays 0 instead of rising again.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["matrices", "all"]


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor on the learning rate at a step: 0 to 1 over `warmup` steps, then down to 0 at `total`.

    Args:
        step: From 0.
        warmup: Steps; 0 for none.
        total: Steps.
    """
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def decay_groups(module: nn.Module, weight_decay: float, decay: Decay = "matrices") -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: with weight decay and without.

    Args:
        module: Whose parameters are trained.
        weight_decay: Of the first group.
        decay: "matrices": only weights of linear maps decay. "all": everything does, as the authors' optimiser has it.
    """
    matrices = {
        id(p)
        for owner in module.modules()
        if isinstance(owner, nn.Linear)
        for name, p in owner.named_parameters(recurse=False)
        if name != "bias"
    }
    trained = [p for p in module.parameters() if p.requires_grad]
    heavy = [p for p in trained if decay == "all" or id(p) in matrices]
    light = [p for p in trained if decay != "all" and id(p) not in matrices]
    groups = [{"params": heavy, "weight_decay": weight_decay}, {"params": light, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(groups: Iterable[dict[str, Any]], lr: float, warmup: int, total: int, fused: bool = True) -> dict[str, Any]:
    """Return what Lightning's `configure_optimizers` returns."""
    optimizer = torch.optim.AdamW(list(groups), lr=lr, fused=fused)
    scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
