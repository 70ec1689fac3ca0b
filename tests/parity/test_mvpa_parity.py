"""Our MVPA against recorded outputs, attention maps and gradients of the authors' code, and against 17 near misses.

Fixtures: every entry `mvpa_*` of the `manifest.json` under TSATTN_PARITY (default: TSATTN_SHARED/parity, or
../shared/parity beside the repository). Random weights, synthetic inputs. `sensitivity.json` beside the manifest says
how far 17 misreadings of the published code land from it: a test that cannot tell them apart would be too loose.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tsattn.layers.convert import Foreign
from tsattn.layers.mvpa import MVPAttention, take_attention
from tsattn.ops import mvpa
from tsattn.ops.mvpa import MVPAMaps

ROOT = Path(__file__).parents[2]
FOLDER = Path(
    os.environ.get("TSATTN_PARITY") or Path(os.environ.get("TSATTN_SHARED") or ROOT.parent / "shared") / "parity"
)
EXPECTED = {f"mvpa_{i:02}" for i in range(1, 14)}  # numbers of the fixtures that this file was written for
WRONG = (
    "gqa_interleaved bias_order no_bias channel_major time_index_d time_index_from_table_end channel_index_d "
    "channel_signed window9 window11 no_last_exception no_window window_hard no_scale scale_by_E token_causal "
    "not_causal"
).split()
CLEAR = 100  # tolerances by which a wrong variant must miss some fixture
ROUNDING = 1e-12  # of float64, in numbers of the order of 1


class Case(NamedTuple):
    """One fixture."""

    path: Path
    entry: dict[str, Any]

    @property
    def arrays(self) -> dict[str, Tensor]:
        with np.load(self.path) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}

    @property
    def heads(self) -> tuple[int, int]:
        return self.entry["config"]["H"], self.entry["config"]["Hkv"]

    @property
    def content(self) -> bool:
        return self.entry["config"].get("global_att", True)

    @property
    def scale(self) -> float:
        config = self.entry["config"]
        scale = (config["E"] // config["H"]) ** -0.5 if config.get("scale_attn_weights", True) else 1.0
        return scale / (config["layer_idx"] + 1) if config.get("scale_attn_by_inverse_layer_idx") else scale


def manifests() -> list[Path]:
    """Return the manifests that list attention fixtures."""
    return [path for path in sorted(FOLDER.rglob("manifest.json")) if '"mvpa_' in path.read_text()]


def find_cases(recorded: str = "out") -> list[Any]:
    """Return every case that recorded such an array, its name as test id; a skipped one if there is none."""
    cases = []
    for manifest in manifests():
        for name, entry in json.loads(manifest.read_text())["fixtures"].items():
            if name.startswith("mvpa_") and recorded in entry["arrays"]:
                cases.append(pytest.param(Case(manifest.parent / entry["file"], entry), id=name))
    reason = f"no fixtures: {FOLDER} is absent or empty; set TSATTN_PARITY"
    return cases or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


INTERPRETED = ["triton"] if "TRITON_INTERPRET" in os.environ else []  # see tests/ops/test_mvpa_kernel.py
forms = pytest.mark.parametrize("backend", ["reference", "torch", *INTERPRETED])
types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


# ------------------------------------------------------------------------------------------------ running a case
class Adapter(nn.Module):
    """A low-rank addition to a weight, as loralib's."""

    def __init__(self, down: Tensor, up: Tensor, scaling: float) -> None:
        super().__init__()
        self.down, self.up, self.scaling = nn.Parameter(down), nn.Parameter(up), scaling

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with what was learnt on top."""
        return weight + self.scaling * self.up @ self.down


def translate(case: Case, theirs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return our state dict of theirs, or of their gradients: what turns one into the other is linear."""
    foreign = Foreign({name: x.to(dtype) for name, x in theirs.items()}, "mvpformer", {})
    take_attention(foreign, "", "", case.heads[1], case.content)
    return foreign.finish("tsattn.layers.mvpa.MVPAttention", {}).state


def starting(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def build(case: Case, arrays: dict[str, Tensor], backend: str, dtype: torch.dtype) -> MVPAttention:
    """Return our module with their weights, in training if they dropped something."""
    config, (heads, kv_heads) = case.entry["config"], case.heads
    p = config.get("p", 0.0)
    layer = MVPAttention(
        config["E"], heads, kv_heads, window=config["window"], content=case.content, scale=case.scale,
        dropout=p, dropout_kind="call", backend=backend, index="current",
    )  # fmt: skip
    theirs = {name: x for name, x in starting(arrays, "param.").items() if ".lora_" not in name}
    layer.to(dtype).load_state_dict(translate(case, theirs, dtype), strict=True)
    for ours, name in (("query", "q_attn"), ("value", "c_attn")) if config.get("lora") else ():
        down, up = (arrays[f"param.{name}.{x}"].to(dtype) for x in ("lora_A", "lora_B"))
        parametrize.register_parametrization(
            getattr(layer, ours), "weight", Adapter(down, up, config["lora"]["scaling"])
        )
    return layer.train(p > 0)


def call(
    case: Case,
    backend: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    maps: list[MVPAMaps] | None = None,
) -> tuple[MVPAttention, dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Run our module; return it, the fixture's arrays, our leaf inputs by name, and the output."""
    arrays, config = case.arrays, case.entry["config"]
    layer = build(case, arrays, backend, dtype)
    if "keep_time" in arrays:  # what their generator drew
        keep_time, keep_channel = arrays["keep_time"].view(-1, 1, 1), arrays["keep_channel"].view(-1, 1)
        monkeypatch.setattr(
            mvpa, "structured_dropout", lambda value, p, *_: mvpa.drop(value, keep_time, keep_channel, p)
        )
    leaves = {name: arrays[name].to(dtype).requires_grad_() for name in ("x", "position_table", "channel_table")}
    key_mask = arrays["key_keep"].view(config["B"], config["T"], config["C"]) if "key_keep" in arrays else None
    return layer, arrays, leaves, layer(*leaves.values(), key_mask=key_mask, maps=maps)


def tolerance_of(case: Case, dtype: torch.dtype) -> float:
    return case.entry["suggested_atol_fp32" if dtype == torch.float32 else "suggested_atol_fp64"]


# ------------------------------------------------------------------------------------------------ ours is theirs
def test_every_attention_fixture_of_the_manifest_is_found_and_has_a_test():
    if not manifests():
        pytest.skip(f"no fixtures: {FOLDER} is absent or empty; set TSATTN_PARITY")
    files = {path.name for manifest in manifests() for path in manifest.parent.glob("mvpa_*.npz")}
    tested = {case.values[0].path.name for case in find_cases()}
    assert tested == files
    assert {name[:7] for name in tested} >= EXPECTED
    for case in find_cases():  # and every array of a fixture is read by some test
        arrays = set(case.values[0].arrays)
        assert arrays == set(case.values[0].entry["arrays"])
        assert {name.partition(".")[0] for name in arrays} <= {
            "x", "position_table", "channel_table", "param", "out", "out64", "attn_probs", "grad_out", "grad",
            "key_keep", "keep_time", "keep_channel",
        }  # fmt: skip


@forms
@pytest.mark.parametrize("case", find_cases())
def test_the_output_equals_the_authors(case: Case, backend: str, monkeypatch: pytest.MonkeyPatch):
    _, arrays, _, out = call(case, backend, torch.float32, monkeypatch)
    torch.testing.assert_close(out, arrays["out"], atol=tolerance_of(case, torch.float32), rtol=0)


@forms
@pytest.mark.parametrize("case", find_cases("out64"))
def test_the_output_in_float64_equals_the_authors(case: Case, backend: str, monkeypatch: pytest.MonkeyPatch):
    _, arrays, _, out = call(case, backend, torch.float64, monkeypatch)
    torch.testing.assert_close(out, arrays["out64"], atol=tolerance_of(case, torch.float64), rtol=0)


@types
@pytest.mark.parametrize("case", find_cases("attn_probs"))
def test_the_attention_map_equals_the_authors(case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """They recorded it in float32, so float64 can only agree to that."""
    maps: list[MVPAMaps] = []
    _, arrays, _, _ = call(case, "reference", dtype, monkeypatch, maps)
    weights = maps[0].weights.flatten(4, 5).flatten(2, 3)
    torch.testing.assert_close(weights, arrays["attn_probs"].to(dtype), atol=tolerance_of(case, torch.float32), rtol=0)


@forms
@types
@pytest.mark.parametrize("case", find_cases("grad_out"))
def test_gradients_of_inputs_tables_and_parameters_equal_the_authors(
    case: Case, dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
):
    """All are from a float32 run (those stored as float64 hold float32 numbers, which this test checks), so the
    tolerance in either type is the manifest's for float32, relative to the largest element if that is above 1."""
    layer, arrays, leaves, out = call(case, backend, dtype, monkeypatch)
    out.backward(arrays["grad_out"].to(dtype))
    theirs = starting(arrays, "grad.")
    assert all(torch.equal(x.float().to(x.dtype), x) for x in theirs.values())
    atol = tolerance_of(case, torch.float32)

    pairs = {name: (leaf.grad, theirs.pop(name)) for name, leaf in leaves.items()}
    named = {name.removeprefix("param."): x for name, x in theirs.items()}
    if case.entry["config"].get("lora"):
        for ours, name in (("query", "q_attn"), ("value", "c_attn")):
            adapter = layer.get_submodule(f"{ours}.parametrizations.weight.0")
            pairs[f"{name}.lora_A"] = adapter.down.grad, named.pop(f"{name}.lora_A")
            pairs[f"{name}.lora_B"] = adapter.up.grad, named.pop(f"{name}.lora_B")
        frozen = {f"{name}.weight": arrays[f"param.{name}.weight"] for name in ("q_attn", "c_attn")}
        expected = translate(case, named | frozen, dtype)  # theirs have no gradient
        for name in ("query", "key", "value"):
            del expected[f"{name}.weight"]
    else:
        expected = translate(case, named, dtype)
        assert set(expected) == {name for name, _ in layer.named_parameters()}
    pairs |= {name: (layer.get_parameter(name).grad, x) for name, x in expected.items()}
    for name, (our, their) in pairs.items():
        allowed = atol * max(1.0, their.abs().max().item())
        torch.testing.assert_close(our, their.to(dtype), atol=allowed, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


# ------------------------------------------------------------------------------------------------ and nothing else is
def dense(case: Case, wrong: str = "") -> Tensor:
    """Return the output in float64, with one thing misread: written from the description, sharing nothing with ours."""
    a = {name: x.double() if x.is_floating_point() else x for name, x in case.arrays.items()}
    config, (heads, kv_heads) = case.entry["config"], case.heads
    batch, time, channels, width = a["x"].shape
    tokens, size = time * channels, width // heads

    to_query, (to_key, to_value) = a["param.q_attn.weight"], a["param.c_attn.weight"].chunk(2)
    if config.get("lora"):
        to_query = to_query + config["lora"]["scaling"] * a["param.q_attn.lora_B"] @ a["param.q_attn.lora_A"]
        to_value = to_value + config["lora"]["scaling"] * a["param.c_attn.lora_B"] @ a["param.c_attn.lora_A"]
    number = torch.arange(tokens)
    t, c = number // channels, number % channels
    kept = a["keep_time"][t] & a["keep_channel"][c] if "keep_time" in a else None
    if wrong == "channel_major":
        t, c = number % time, number // time
    of_head = torch.arange(heads) // (heads // kv_heads)
    if wrong == "gqa_interleaved":
        of_head = torch.arange(heads) % kv_heads

    x = a["x"].flatten(1, 2)
    query = (x @ to_query.T).view(batch, tokens, heads, size).transpose(1, 2)
    key, value = ((x @ w.T).view(batch, tokens, kv_heads, size).transpose(1, 2)[:, of_head] for w in (to_key, to_value))
    by_time, by_channel = (
        (a[f"{table}_table"] @ a[f"param.{table}_net.weight"].T).view(-1, kv_heads, size).transpose(0, 1)[of_head]
        for table in ("position", "channel")
    )
    u, v, w = a["param.attn_bias"].view(3, kv_heads, 1, size)[:, of_head]
    if wrong == "bias_order":
        u, v, w = v, w, u
    if wrong == "no_bias":
        u = v = w = torch.zeros_like(u)

    elapsed, apart = t[:, None] - t, c[:, None] - c
    inside = elapsed <= {"window9": 9, "window11": 11, "no_window": time}.get(wrong, config["window"])
    if wrong != "no_last_exception":
        inside = inside | (t[:, None] == time - 1)
    time_row = time - 1 - elapsed.clamp(min=0)
    if wrong == "time_index_d":
        time_row = elapsed.clamp(min=0)
    if wrong == "time_index_from_table_end":
        time_row = by_time.shape[1] - 1 - elapsed.clamp(min=0)
    channel_row = channels - 1 - apart.abs()
    if wrong == "channel_index_d":
        channel_row = apart.abs()
    if wrong == "channel_signed":
        channel_row = channels - 1 - apart.clamp(min=0)
    square = (batch, heads, tokens, tokens)
    logits = ((query + v) @ by_time.mT).gather(-1, time_row.expand(square))
    logits += ((query + w) @ by_channel.mT).gather(-1, channel_row.expand(square))
    if case.content:
        logits += (query + u) @ key.mT * inside
    if wrong == "no_scale":
        scale = case.scale * (size**0.5 if config.get("scale_attn_weights", True) else 1.0)
    else:
        scale = case.scale * ((size / width) ** 0.5 if wrong == "scale_by_E" else 1.0)

    read = elapsed >= 0
    if wrong == "token_causal":
        read = number[:, None] >= number
    if wrong == "not_causal":
        read = torch.ones_like(read)
    if wrong == "window_hard":
        read = read & inside
    read = read & a["key_keep"][:, None, None] if "key_keep" in a else read
    weights = (logits * scale).masked_fill(~read, float("-inf")).softmax(-1).nan_to_num(0)
    if kept is not None:
        weights = weights * kept / (1 - config["p"])
    return (weights @ value).transpose(1, 2).reshape(a["x"].shape) @ a["param.c_proj.weight"].T


@pytest.mark.parametrize("case", find_cases())
def test_the_dense_function_with_nothing_misread_is_theirs(case: Case):
    recorded, kind = ("out64", torch.float64) if "out64" in case.arrays else ("out", torch.float32)
    expected = case.arrays[recorded].double()
    torch.testing.assert_close(dense(case), expected, atol=tolerance_of(case, kind), rtol=0)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_misreading_misses_a_fixture_by_more_than_a_hundred_tolerances(wrong: str):
    """And by as much as was recorded for each of them: the largest absolute difference, in float64."""
    if not manifests():
        pytest.skip(f"no fixtures: {FOLDER} is absent or empty; set TSATTN_PARITY")
    clear = []
    for case in (parameters.values[0] for parameters in find_cases()):
        file = case.path.parent / "sensitivity.json"
        recorded = json.loads(file.read_text())[case.path.stem]
        assert set(recorded) == set(WRONG)
        distance = (dense(case, wrong) - dense(case)).abs().max().item()
        assert distance == pytest.approx(recorded[wrong], abs=ROUNDING, rel=ROUNDING), case.path.stem
        clear.append(distance > CLEAR * tolerance_of(case, torch.float32))
    assert any(clear)
