"""Converting MVPFormer's files: what is said when something does not fit. (That they fit: tests/parity.)"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tsattn.convert import convert, read_state
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.wavelet import coefficient_count
from tsattn.models.mvpformer import MVPFormer

SAMPLES = 32
GIVEN: dict[str, Any] = {
    "heads": 4, "segments": 3, "sfreq": 32.0, "window": 10, "activation": "silu", "global_attention": True,
}  # fmt: skip


def base(prefix: str = "mvpformer") -> dict[str, Tensor]:
    """A tiny state dict under the authors' names: width 8, 4 heads, 2 key/value heads, one layer."""
    torch.manual_seed(0)
    size = coefficient_count(SAMPLES)
    shapes = {
        "encoder.ln.weight": (size,), "encoder.proj.weight": (8, size), "seizure_embeddings": (3, SAMPLES),
        "head.head.weight": (8, 8), f"{prefix}.ln_f.weight": (8,),
        f"{prefix}.positional_embedding.weight": (5, 8), f"{prefix}.channel_embedding.weight": (6, 8),
    }  # fmt: skip
    layer = f"{prefix}.h.0"
    shapes |= {f"{layer}.ln_1.weight": (8,), f"{layer}.ln_2.weight": (8,), f"{layer}.attn.attn_bias": (3, 2, 1, 2)}
    shapes |= {f"{layer}.attn.{x}.weight": (4, 8) for x in ("position_net", "channel_net")}
    shapes |= {f"{layer}.attn.{x}.weight": (8, 8) for x in ("q_attn", "c_attn", "c_proj")}
    shapes |= {f"{layer}.mlp.{x}_proj.weight": (12, 8) for x in ("gate", "up")}
    shapes |= {f"{layer}.mlp.down_proj.weight": (8, 12)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def second(prefix: str = "mvpformer", rows: int = 4) -> dict[str, Tensor]:
    """The authors' second file: adapters and head."""
    torch.manual_seed(1)
    attn = f"{prefix}.h.0.attn"
    shapes = {
        f"{attn}.q_attn.lora_A": (2, 8), f"{attn}.q_attn.lora_B": (8, 2), f"{attn}.c_attn.lora_A": (2, 8),
        f"{attn}.c_attn.lora_B": (rows, 2), "head.head.weight": (2, 8),
    }  # fmt: skip
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def without(state: dict[str, Tensor], *keys: str) -> dict[str, Tensor]:
    assert set(keys) <= set(state)
    return {key: value for key, value in state.items() if key not in keys}


def test_shapes_tell_the_rest_and_each_key_has_its_fate():
    converted = convert("mvpformer", base(), **GIVEN)
    assert isinstance(converted.network, MVPFormer)
    expected = dict(
        sfreq=32.0, segment_seconds=1.0, segments=3, d_model=8, layers=1, heads=4, kv_heads=2, d_ff=12, positions=5,
        max_channels=6, generative=True,
    )  # fmt: skip
    arguments = converted.network.recipe["init_args"]
    assert {name: arguments[name] for name in expected} == expected
    fates = {entry.key: entry.fate for entry in converted.report}
    assert fates.keys() == base().keys()
    dropped = {key for key, fate in fates.items() if fate == "dropped"}
    assert dropped == {"seizure_embeddings", "mvpformer.h.0.ln_2.weight"}
    assert not converted.network.training


def test_both_names_of_the_backbone_give_the_same_network_in_any_combination():
    signal = torch.randn(1, 3, 2, SAMPLES)
    found = [
        convert("mvpformer", base(first), head=second(other), **GIVEN).network(signal)
        for first in ("mvpformer", "genie")
        for other in ("mvpformer", "genie")
    ]
    assert all(torch.equal(one, found[0]) for one in found)


def test_adapters_sit_on_query_and_value_or_on_keys_too_by_the_height_of_the_authors():
    low, high = (convert("mvpformer", base(), head=second(rows=rows), **GIVEN).network for rows in (4, 8))
    assert isinstance(low, SegmentClassifier)
    assert low.recipe["init_args"]["lora_targets"] == ["query", "value"]
    assert high.recipe["init_args"]["lora_targets"] == ["query", "key", "value"]
    whole = second(rows=8)["mvpformer.h.0.attn.c_attn.lora_B"]
    attention = high.network.layers[0].attention
    assert torch.equal(torch.cat([attention.key.lora_B, attention.value.lora_B]), whole)


def test_a_second_file_with_a_head_alone_makes_a_classifier_without_adapters():
    head = {"head.head.weight": torch.randn(3, 8)}
    made = convert("mvpformer", base(), head=head, **GIVEN).network
    assert {name: made.recipe["init_args"][name] for name in ("outputs", "lora_rank")} == {"outputs": 3, "lora_rank": 0}
    assert torch.equal(made.head.weight, head["head.head.weight"])
    assert torch.equal(made.network.head.weight, base()["head.head.weight"])


# Files that are something else -----------------------------------------------------------------------------------


def test_a_layout_that_is_not_known_is_refused_with_what_was_looked_for_and_what_was_there():
    state = {"model.layers.0.weight": torch.ones(1), "model.norm.weight": torch.ones(1)}
    with pytest.raises(
        ValueError,
        match=r"none of mvpformer\.ln_f\.weight, genie\.ln_f\.weight is among 2 keys \(model\.layers\.0\.weight, "
        r"model\.norm\.weight, \.\.\.\), expected IBM's base file first",
    ):
        convert("mvpformer", state)
    with pytest.raises(ValueError, match="is among 0 keys, expected IBM's base file"):
        convert("mvpformer", {})
    with pytest.raises(ValueError, match=r"none of mvpformer\.ln_f\.weight"):
        convert("mvpformer", second())  # the second file in the place of the first
    with pytest.raises(ValueError, match=r"no patch_embed\.ln\.weight among .* keys.*expected braindecode's MVPFormer"):
        convert("braindecode", base())


def test_a_second_file_with_neither_adapters_nor_head_is_refused():
    for head in ({}, {"class_loss.weight": torch.ones(2)}, {"encoder.ln.weight": torch.ones(2)}):
        with pytest.raises(ValueError, match=r"the second file has neither adapters \(lora_\*\) nor head.head.weight"):
            convert("mvpformer", base(), head=head, **GIVEN)


# What shapes do not tell, or deny --------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [3, 16, 0, 1])
def test_heads_that_contradict_the_shapes_are_refused(heads: int):
    # 1: a head as wide as the model, of which four numbers cannot be a multiple
    with pytest.raises(ValueError, match=rf"heads={heads} given, expected a divisor of 8, the quotient one of 4"):
        convert("mvpformer", base(), **GIVEN | {"heads": heads})


@pytest.mark.parametrize("name", list(GIVEN))
def test_what_no_shape_tells_must_be_given(name: str):
    given = {key: value for key, value in GIVEN.items() if key != name}
    with pytest.raises(ValueError, match=f"mvpformer: {name} not given, and no shape in the state dict tells"):
        convert("mvpformer", base(), **given)


def test_the_length_of_a_segment_must_be_known_and_fit_the_encoder():
    state = without(base(), "seizure_embeddings")
    with pytest.raises(ValueError, match="segment_seconds not given"):
        convert("mvpformer", state, **GIVEN)
    made = convert("mvpformer", state, **GIVEN, segment_seconds=1.0).network
    assert (made.samples, made.segment_seconds) == (32, 1.0)
    with pytest.raises(ValueError, match=r"reads \d+ coefficients, a segment of 64 samples has \d+: give the sfreq"):
        convert("mvpformer", state, **GIVEN, segment_seconds=2.0)


@pytest.mark.parametrize(("name", "value"), [("d_model", 16), ("layers", 2), ("kv_heads", 4), ("segment_seconds", 2.0)])
def test_what_contradicts_a_shape_is_refused(name: str, value: float):
    with pytest.raises(ValueError, match=rf"{name}={value} given, expected .* from the shapes"):
        convert("mvpformer", base(), **GIVEN, **{name: value})


# Keys ------------------------------------------------------------------------------------------------------------


def test_unknown_keys_are_refused_in_either_file_unless_allowed():
    with pytest.raises(ValueError, match=r"2 unknown keys: mvpformer\.h\.0\.attn\.new, extra"):
        convert("mvpformer", base() | {"mvpformer.h.0.attn.new": torch.ones(1), "extra": torch.ones(1)}, **GIVEN)
    with pytest.raises(ValueError, match=r"1 unknown keys: head file: head\.head\.bias"):
        convert("mvpformer", base(), head=second() | {"head.head.bias": torch.ones(2)}, **GIVEN)
    made = convert("mvpformer", base() | {"extra": torch.ones(1)}, allow=("extra",), **GIVEN)
    (entry,) = (entry for entry in made.report if entry.key == "extra")
    assert (entry.fate, entry.detail) == ("dropped", "has no place here, as allowed")


def test_missing_keys_are_refused_in_either_file():
    with pytest.raises(ValueError, match=r"1 keys missing: mvpformer\.h\.0\.mlp\.up_proj\.weight"):
        convert("mvpformer", without(base(), "mvpformer.h.0.mlp.up_proj.weight"), **GIVEN)
    with pytest.raises(ValueError, match=r"1 keys missing: head file: mvpformer\.h\.0\.attn\.q_attn\.lora_B"):
        convert("mvpformer", base(), head=without(second(), "mvpformer.h.0.attn.q_attn.lora_B"), **GIVEN)
    with pytest.raises(ValueError, match=r'no key "head file: head\.head\.weight"'):
        convert("mvpformer", base(), head=without(second(), "head.head.weight"), **GIVEN)


def test_an_allowed_key_may_be_missing_and_is_reported_so():
    key = "mvpformer.h.0.ln_1.weight"
    made = convert("mvpformer", without(base(), key), allow=(key,), **GIVEN)
    (entry,) = (entry for entry in made.report if entry.fate == "missing")
    assert entry.key == key
    assert entry.detail == "layers.0.norm.weight stays as it was initialised, as allowed"
    assert made.network.layers[0].norm.weight.eq(1).all()
    assert torch.equal(made.network.norm.weight, base()["mvpformer.ln_f.weight"])
    assert str(made.report).splitlines()[-1] == f"{len(base()) - 1} keys: {len(base()) - 3} used, 2 dropped, 1 missing"
    with pytest.raises(ValueError, match=r'no key "encoder\.ln\.weight"'):
        convert("mvpformer", without(base(), key, "encoder.ln.weight"), allow=(key,), **GIVEN)


def test_a_weight_of_another_shape_is_refused_with_what_was_given_by_hand():
    state = base() | {"mvpformer.h.0.attn.c_proj.weight": torch.ones(8, 4)}
    with pytest.raises(ValueError, match=r"The weights do not fit MVPFormer\(.*check what was given by hand: heads=4"):
        convert("mvpformer", state, **GIVEN)
    with pytest.raises(ValueError, match=r"The weights do not fit SegmentClassifier"):
        convert("mvpformer", base(), head=second(rows=6), **GIVEN)


# Files -----------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_code_in_a_file_is_not_run(tmp_path: Path):
    torch.save({**base(), "bomb": Bomb(tmp_path / "exploded")}, tmp_path / "base.pt")
    with pytest.raises(ValueError, match=r"base\.pt \(\d+ bytes\) is cut short, or holds more than tensors"):
        read_state(tmp_path / "base.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["base.pt", "base.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_short_is_refused_with_its_length(name: str, share: float, tmp_path: Path):
    path = tmp_path / name
    save_file(base(), path) if name.endswith("safetensors") else torch.save(base(), path)
    assert read_state(path).keys() == base().keys()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} \({int(share * len(whole))} bytes\) is cut short"):
        read_state(path)
