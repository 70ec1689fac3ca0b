"""Converting the authors' state dicts: what is said when something does not fit. (That it fits: tests/parity.)"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tsattn.convert import convert, read_state


def authors_itransformer() -> dict[str, Tensor]:
    """A tiny state dict under the names of thuml/iTransformer."""
    shapes = {"enc_embedding.value_embedding": (4, 6), "projector": (3, 4)}
    layer = "encoder.attn_layers.0"
    shapes |= {f"{layer}.attention.{x}_projection": (4, 4) for x in ("query", "key", "value", "out")}
    shapes |= {f"{layer}.conv1": (8, 4, 1), f"{layer}.conv2": (4, 8, 1)}
    shapes |= dict.fromkeys((f"{layer}.norm1", f"{layer}.norm2", "encoder.norm"), (4,))
    weights = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return weights | {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}


GIVEN = {"heads": 2, "normalize": True, "activation": "gelu"}


def test_shapes_tell_the_rest_and_every_key_is_used():
    converted = convert("itransformer", authors_itransformer(), **GIVEN)
    init = converted.network.recipe["init_args"]
    assert {name: init[name] for name in ("context", "horizon", "d_model", "layers", "d_ff")} == {
        "context": 6,
        "horizon": 3,
        "d_model": 4,
        "layers": 1,
        "d_ff": 8,
    }
    assert {entry.fate for entry in converted.report} == {"used"}
    assert not converted.network.training


def test_a_data_parallel_prefix_is_stripped_and_said():
    state = authors_itransformer()
    plain = convert("itransformer", state, **GIVEN)
    parallel = convert("itransformer", {f"module.{key}": x for key, x in state.items()}, **GIVEN)
    past = torch.randn(1, 2, 6)
    assert torch.equal(parallel.network(past), plain.network(past))
    assert all("module." in entry.detail for entry in parallel.report)


def test_what_no_shape_tells_must_be_given():
    with pytest.raises(ValueError, match="itransformer: heads, activation, normalize not given"):
        convert("itransformer", authors_itransformer())


def test_what_contradicts_a_shape_is_refused():
    with pytest.raises(ValueError, match="d_model=5 given, expected 4 from the shapes"):
        convert("itransformer", authors_itransformer(), **GIVEN, d_model=5)


def test_all_missing_keys_are_named():
    state = authors_itransformer()
    del state["encoder.norm.bias"], state["encoder.attn_layers.0.attention.key_projection.weight"]
    with pytest.raises(ValueError, match=r"2 keys missing: .*key_projection\.weight, encoder\.norm\.bias"):
        convert("itransformer", state, **GIVEN)


def test_unknown_keys_are_named():
    with pytest.raises(ValueError, match=r"1 unknown keys: extra\.weight"):
        convert("itransformer", authors_itransformer() | {"extra.weight": torch.ones(1)}, **GIVEN)


def test_a_foreign_state_dict_and_an_unknown_source_are_refused():
    with pytest.raises(ValueError, match="expected a state dict of gateformer"):
        convert("gateformer", authors_itransformer(), heads=2, stride=4)
    with pytest.raises(ValueError, match='source is "informer", expected one of itransformer'):
        convert("informer", {})
    with pytest.raises(ValueError, match="tslib: 1 keys, none of"):
        convert("tslib", {"a": torch.ones(1)})


def test_other_positions_than_sinusoids_are_refused():
    from tsattn.layers.convert import Foreign
    from tsattn.layers.patch import sinusoids

    foreign = Foreign({"pe": sinusoids(50, 8)[None], "other": torch.randn(1, 50, 8)}, "tslib", {})
    foreign.drop_positions("pe", sinusoids(5, 8))
    assert foreign.report["pe"].fate == "dropped"
    with pytest.raises(ValueError, match='"other" holds other positions than sinusoids'):
        foreign.drop_positions("other", sinusoids(5, 8))


@pytest.mark.parametrize("form", ["checkpoint.pth", "wrapped.pt", "weights.safetensors"])
def test_a_file_is_read_in_each_form(form: str, tmp_path: Path):
    state = authors_itransformer()
    if form.endswith("safetensors"):
        save_file(state, tmp_path / form)
    else:
        torch.save({"state_dict": state} if "wrapped" in form else state, tmp_path / form)
    read = read_state(tmp_path / form)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], x) for name, x in state.items())


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds list with more than tensors, expected a state dict"):
        read_state(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError, match="is no file, expected an authors' state dict"):
        read_state(tmp_path / "absent.pt")


def test_the_report_reads_as_a_table():
    lines = str(convert("itransformer", authors_itransformer(), **GIVEN).report).splitlines()
    assert lines[0].split() == ["used", "enc_embedding.value_embedding.weight", "embedding.weight"]
    assert lines[-1] == "22 keys: 22 used, 0 dropped, 0 missing"
