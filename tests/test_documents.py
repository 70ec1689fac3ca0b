"""Plain data that others wrote become ours with every type checked; a refusal names file, field, and what is right."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tsattn import checkpoint, documents
from tsattn.contracts import Covariate, SignalSpec, TableSpec
from tsattn.events.detect import PostProcessing
from tsattn.models.itransformer import ITransformer
from tsattn.recordings.preparation.preset import PRESETS, Preset

TABLE = TableSpec(
    ("load", "wind"), 1, (0.0, 1.0), (1.0, 2.0), "h", marks=("hour",), zone="",
    covariates=(Covariate("promo", "known", ("no", "yes")), Covariate("price", "past", None, 1.0, 2.0)),
)  # fmt: skip
SIGNAL = SignalSpec(PRESETS["swec"].to_json(), trained_on=("sub-1",), postprocessing=PostProcessing().to_dict())
SPECS = {
    "table": (TABLE.to_dict(), TableSpec.from_dict),
    "signal": (SIGNAL.to_dict(), SignalSpec.from_dict),
    "preset": (PRESETS["swec"].to_json(), Preset.from_json),
    "post-processing": (PostProcessing().to_dict(), PostProcessing.from_dict),
}
BAD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    1e400,
    2**70,
    "x",
    "",
    [],
    {},
    [None],
    [[1]],
    ["a", 1],
    {"a": 1},
]


@pytest.mark.parametrize("name", SPECS)
def test_what_was_written_is_read_through_json_and_without(name: str):
    plain, read = SPECS[name]
    assert read(json.loads(json.dumps(plain))) == read(plain)


@pytest.mark.parametrize("name", SPECS)
def test_no_single_change_of_a_field_ends_in_anything_but_a_sentence(name: str):
    plain, read = SPECS[name]
    plain = json.loads(json.dumps(plain))
    refused = 0
    for field in plain:
        for value in BAD:
            changed = copy.deepcopy(plain) | {field: value}
            try:
                read(changed)
            except ValueError as error:
                refused += 1
                if "\n" in str(error) or not str(error):
                    pytest.fail(f"{field} {value}: {error}")
    assert refused > 4 * len(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mean": [0.0, "a"]},
            r"the specification of the table is damaged: mean\[1\] is 'a', expected a finite number",
        ),
        ({"variates": "load"}, "variates is 'load', expected a list, each item a text"),
        ({"targets": 1.5}, "targets is 1.5, expected a whole number"),
        ({"fill": "cubic"}, "fill is 'cubic', expected one of 'forward', 'linear', 'none'"),
        ({"covariates": [{"name": 3, "role": "known"}]}, r"covariates\[0\].name is 3, expected a text"),
        ({"covariates": [{"name": "a", "role": "odd"}]}, r"covariates\[0\].role is 'odd'"),
        ({"units": ["kW"]}, "There are 1 units of 2 variates"),
        ({"new": 1}, "has 'new', which this tsattn does not know"),
    ],
)
def test_a_checkpoint_names_its_file_and_the_field(change: dict[str, Any], message: str, tmp_path: Path):
    checkpoint.export(tmp_path / "out", ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8), TABLE)
    config = tmp_path / "out" / "config.json"
    entry = json.loads(config.read_text())
    entry["spec"] |= change
    config.write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)


def test_a_field_that_is_missing_is_named():
    plain = TABLE.to_dict()
    del plain["scale"]
    with pytest.raises(ValueError, match="it has no scale, expected a list, each item a finite number"):
        TableSpec.from_dict(plain)


def test_alternatives_and_tables_of_any_names():
    documents.check({"a": 1.0, "b": None}, {str: (float, None)}, "it")
    with pytest.raises(ValueError, match="it is damaged: b is 'x', expected a finite number or null"):
        documents.check({"a": 1.0, "b": "x"}, {str: (float, None)}, "it")
