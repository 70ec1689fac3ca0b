"""Optimisers and learning rates: of forecasters epoch by epoch, of recording tasks step by step.

Forecasters: the schedules of the papers' training scripts (thuml/Time-Series-Library and yuqinie98/PatchTST) and half a
cosine. Recordings: AdamW, a linear warm-up, then half a cosine, as MVPFormer's authors train, but for two things:
weight decay leaves norms, tables and biases alone unless asked, and past the end the rate stays 0 instead of rising.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

Decay = Literal["matrices", "all"]
Loss = Literal["mse", "mae", "huber"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "constant-patchtst", "type1", "type3", "type3-patchtst", "cosine", "onecycle"]


def epoch_factors(schedule: Schedule, epochs: int) -> list[float]:
    """Return the factor on the learning rate during each epoch.

    - `constant`: 1.
    - `type1`: epochs 1 and 2 at 1, then halved every epoch.
    - `type3`: epochs 1 to 4 at 1, then times 0.9 every epoch.
    - `constant-patchtst`, `type3-patchtst`: the same with 1/25 in the first epoch. The official PatchTST code always
      constructs a one-cycle schedule, which leaves its start value behind; it also leaves Adam's first beta at 0.95.
    - `cosine`: half a cosine from 1 to 0 over all epochs.

    Source:
        `adjust_learning_rate` of the papers' repositories; pinned by the parity fixture `data_protocol.json`.
    """
    return [epoch_factor(schedule, epoch, epochs) for epoch in range(epochs)]


def epoch_factor(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate during one epoch; only that of `cosine` depends on how many there are.

    Args:
        schedule: As in `epoch_factors`.
        epoch: From 0; it may lie past the end, where a run that goes on with more epochs begins.
        epochs: Of the whole run.
    """
    if schedule in ("constant-patchtst", "type3-patchtst"):
        return 1 / 25 if epoch == 0 else epoch_factor("constant" if schedule[0] == "c" else "type3", epoch, epochs)
    if schedule == "constant":
        return 1.0
    if schedule == "type1":
        return float(0.5 ** max(0, epoch - 1))
    if schedule == "type3":
        return float(0.9 ** max(0, epoch - 3))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(epoch, epochs) / epochs))
    raise ValueError(f"schedule {schedule!r} is not stepped by epochs.")


def adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    schedule: Schedule,
    optimizer: Optimizer,
    weight_decay: float,
    betas: tuple[float, float],
    onecycle_start: float,
    epochs: int,
    steps: int | None,
) -> dict[str, Any]:
    """Return the optimiser and the schedule of a forecaster, as Lightning's `configure_optimizers` returns them.

    Args:
        parameters: Are trained.
        lr: Largest learning rate.
        schedule: How it changes: see `epoch_factors`, and torch's OneCycleLR (per step) for `onecycle`.
        optimizer: Fused where torch has it.
        weight_decay: Decoupled with `adamw`.
        betas: Of Adam.
        onecycle_start: Share of the steps in which `onecycle` rises.
        epochs: Of the whole training; only `cosine` needs it.
        steps: Of the whole training; only `onecycle` needs it.
    """
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    made = kind(list(parameters), lr=lr, betas=tuple(betas), weight_decay=weight_decay, fused=True)
    scheduler: LRScheduler
    if schedule == "onecycle":
        assert steps is not None
        scheduler = OneCycleLR(made, max_lr=lr, total_steps=steps, pct_start=onecycle_start)
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    scheduler = LambdaLR(made, lambda epoch: epoch_factor(schedule, epoch, epochs))
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


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
