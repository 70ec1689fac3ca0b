"""Our forecasters against recorded inputs, outputs, gradients and training losses of the authors' code.

Fixtures: every `index_*.json` under TSATTN_PARITY (default: TSATTN_SHARED/parity, or ../shared/parity beside the
repository) whose cases have a kind known here; more may be dropped in. Random weights, synthetic inputs. The authors'
axis order is (batch, time, variate) and their targets come last: both are turned here and nowhere else.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tsattn.convert import convert, translate

ROOT = Path(__file__).parents[2]
FOLDER = Path(
    os.environ.get("TSATTN_PARITY") or Path(os.environ.get("TSATTN_SHARED") or ROOT.parent / "shared") / "parity"
)
KINDS = {  # kind: (source, arguments given by name, ours from theirs)
    "itr": ("itransformer", {"heads": "n_heads", "normalize": "use_norm", "activation": "activation"}),
    "tsl_it": ("tslib", {"heads": "n_heads", "activation": "activation"}),
    "tsl_pt": ("tslib", {"heads": "n_heads", "context": "seq_len", "stride": "stride", "activation": "activation"}),
    "tsl_tx": (
        "tslib",
        {"heads": "n_heads", "features": "features", "normalize": "use_norm", "activation": "activation"},
    ),
    "tx": (
        "timexer",
        {"heads": "n_heads", "features": "features", "normalize": "use_norm", "activation": "activation"},
    ),
    "gate": ("gateformer", {"heads": "n_heads", "stride": "stride"}),
    "pt": (
        "patchtst",
        {
            "context": "seq_len",
            "stride": "stride",
            "revin": "revin",
            "subtract_last": "subtract_last",
            "kernel_size": "kernel_size",
        },
    ),
}


class Case(NamedTuple):
    """One fixture."""

    path: Path
    entry: dict[str, Any]


def find_cases(recorded: str = "output/y") -> list[Any]:
    """Return every case that recorded such a tensor, with its name as test id; a skipped one if there is none."""
    cases = []
    for index in sorted(FOLDER.rglob("index_*.json")):
        for entry in json.loads(index.read_text()):
            if entry.get("kind") not in KINDS:
                reason = f"{index.name} lists kind {entry.get('kind')!r}, for which there is no converter"
                cases.append(pytest.param(None, id=str(entry.get("name")), marks=pytest.mark.skip(reason=reason)))
                continue
            with safe_open(index.parent / entry["file"], "pt") as file:
                found = recorded in file.keys()  # noqa: SIM118 (no mapping)
            if found:
                cases.append(pytest.param(Case(index.parent / entry["file"], entry), id=entry["name"]))
    reason = f"no fixtures: {FOLDER} is absent or empty; set TSATTN_PARITY"
    return cases or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def state_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict: parameters, running statistics and the head of the position buffers."""
    heads = {name.removeprefix("buffer_head/"): x for name, x in tensors.items() if name.startswith("buffer_head/")}
    return {name.removeprefix("param/"): x for name, x in tensors.items() if name.startswith("param/")} | heads


def arguments_of(entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the source's name and what no shape tells, by our names."""
    source, names = KINDS[entry["kind"]]
    given = {ours: entry["config"][theirs] for ours, theirs in names.items()}
    given |= {name: bool(given[name]) for name in ("normalize", "revin", "subtract_last") if name in given}
    return source, given


class Run(NamedTuple):
    """A converted network and one batch of its fixture, in our axis order."""

    network: Any
    past: Tensor
    known: Tensor | None
    target: Tensor
    tensors: dict[str, Tensor]
    entry: dict[str, Any]

    @property
    def last_first(self) -> bool:
        """Whether the authors' target is the last of several columns and ours the first."""
        return self.entry["kind"].endswith("tx") and self.entry["config"]["features"] == "MS"


def load(case: Case, **more: Any) -> Run:
    """Build our network of a fixture and turn the batch."""
    tensors = load_file(case.path)
    source, given = arguments_of(case.entry)
    network = convert(source, state_of(tensors), **given, **more).network
    past = tensors["input/x_enc"].transpose(1, 2)
    known = None
    if "input/x_mark_enc" in tensors:
        past_marks = tensors["input/x_mark_enc"].transpose(1, 2)
        future_marks = tensors["input/x_mark_dec"].transpose(1, 2)[..., -network.horizon :]
        known = torch.cat([past_marks, future_marks], dim=-1)
    run = Run(network, past, known, tensors["target"].transpose(1, 2), tensors, case.entry)
    return run._replace(past=past.roll(1, dims=1)) if run.last_first else run


@pytest.mark.parametrize("case", find_cases())
def test_forecast_and_attention_equal_the_authors(case: Case):
    run = load(case)
    with torch.no_grad():
        ours = run.network(run.past, run.known)
    torch.testing.assert_close(ours.transpose(1, 2), run.tensors["output/y"], atol=case.entry["atol"], rtol=0)
    theirs = {name: x for name, x in run.tensors.items() if name.startswith("output/attn_")}
    if theirs:
        with torch.no_grad():
            maps = run.network.attention_maps(run.past, run.known)
        for name, x in theirs.items():
            torch.testing.assert_close(
                maps[f"layer {name.removeprefix('output/attn_')}"], x, atol=case.entry["atol"], rtol=0
            )


@pytest.mark.parametrize("case", find_cases())
def test_every_key_of_the_authors_has_a_fate_and_counts_agree(case: Case):
    tensors = load_file(case.path)
    source, given = arguments_of(case.entry)
    converted = convert(source, state_of(tensors), **given)
    assert {entry.key for entry in converted.report} == set(state_of(tensors))
    assert sum(x.numel() for x in converted.network.parameters()) == case.entry["n_params"]


@pytest.mark.parametrize("case", find_cases("grad/x_enc"))
def test_gradients_equal_the_authors(case: Case):
    run = load(case)
    theirs = {name.removeprefix("grad_param/"): x for name, x in run.tensors.items() if name.startswith("grad_param/")}
    assert theirs
    past = run.past.clone().requires_grad_()
    (run.network(past, run.known) - run.target).square().mean().backward()
    atol = case.entry["atol"]
    toward = past.grad.roll(-1, dims=1) if run.last_first else past.grad
    torch.testing.assert_close(toward.transpose(1, 2), run.tensors["grad/x_enc"], atol=atol, rtol=0)
    source, given = arguments_of(case.entry)
    # What turns their weights into ours is linear, so it turns their gradients into ours, too.
    expected = translate(source, state_of(run.tensors) | theirs, **given).state
    for name, parameter in run.network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


LR, STEPS, NOISE = 1e-3, 6, 1e-6


@pytest.mark.parametrize("case", find_cases("output/y_after_6_adam_steps"))
def test_six_training_steps_equal_the_authors(case: Case):
    """Losses and the forecast afterwards.

    A bias that only batch normalisation reads has no gradient in training but for float32 noise (here below 1e-6,
    others are above), and Adam makes steps of full size out of noise. Training does not feel it, running means do, and
    with them the forecast. Such elements stand still in ours, and for networks with batch normalisation the authors'
    forecast may differ by no more than the drift, at most 6 steps of 1e-3, can do through them.
    """
    expected = case.entry["train_losses_adam1e-3_dropout0"]
    run = load(case, dropout=0.0)
    running = {name.removeprefix("after6/"): x for name, x in run.tensors.items() if name.startswith("after6/")}
    network = run.network.train()
    adam = torch.optim.Adam(network.parameters(), lr=LR)
    losses, idle = [], {}
    for _ in expected:
        adam.zero_grad()
        loss = (network(run.past, run.known) - run.target).square().mean()
        loss.backward()
        if running:
            idle = idle or {name: x.grad.abs() < NOISE for name, x in network.named_parameters()}
            for name, x in network.named_parameters():
                x.grad.masked_fill_(idle[name], 0.0)
        adam.step()
        losses.append(loss.item())
    atol = case.entry["atol"]
    assert losses == pytest.approx(expected, rel=atol, abs=0)

    network.eval()
    ours = network(run.past, run.known)
    theirs = run.tensors["output/y_after_6_adam_steps"].transpose(1, 2)
    allowed = torch.full_like(ours, atol)
    if running:
        names, parameters = zip(*network.named_parameters(), strict=True)
        for index in range(ours.numel()):
            slopes = torch.autograd.grad(ours.flatten()[index], parameters, retain_graph=True)
            reach = sum((slope.abs() * idle[name]).sum() for name, slope in zip(names, slopes, strict=True))
            allowed.view(-1)[index] += LR * STEPS * reach
    assert ((ours - theirs).abs() <= allowed).all(), f"{(ours - theirs).abs().max():.2g} > {allowed.min():.2g}"

    source, given = arguments_of(case.entry)
    after = translate(source, state_of(run.tensors) | running, **given).state
    drift = sum(0.1 * 0.9 ** (STEPS - 1 - step) * step * LR for step in range(STEPS))  # of an average with momentum 0.1
    for name, buffer in network.named_buffers():
        # Twice: where layer normalisation stands in front, batch normalisation undoes its weight as well as its bias.
        if name.endswith("running_mean"):
            torch.testing.assert_close(buffer, after[name], atol=atol + 2 * drift, rtol=0)
        if name.endswith("running_var"):
            torch.testing.assert_close(buffer, after[name], atol=atol, rtol=2 * drift)
