"""Shafts from names, and references against their definitions."""

import numpy as np
import pandas as pd
import pytest

from tsattn.recordings.preparation.reference import make_montage
from tsattn.recordings.recording import make_channels
from tsattn.recordings.shafts import contact, neighbours, shafts

NAMES = ["A1", "A2", "A3", "A4", "B'1", "B'2", "B'4", "Fz", "X"]


def table(names: list[str], **columns: object) -> pd.DataFrame:
    return make_channels(names, 512.0, **columns)


def samples(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3000)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LA1", ("LA", 1)),
        ("A'1", ("A'", 1)),
        ("A1'", ("A'", 1)),
        ("POL A12", ("A", 12)),
        ("EEG A1-Ref", ("A", 1)),
        ("LA_01", ("LA", 1)),
        ("LA 10", ("LA", 10)),
        ("LA-3", ("LA", 3)),
        ("L_AMY_3", ("L_AMY", 3)),
        ("G64", ("G", 64)),
        ("T3a1", ("T3a", 1)),
        ("A1-A2", None),
        ("ECG", None),
        ("12", None),
    ],
)
def test_a_contact_is_a_shaft_and_a_number(name, expected):
    assert contact(name) == expected


def test_shafts_hold_their_channels_by_number():
    assert shafts(["POL B2", "A10", "A9", "B1", "ECG"]) == {"B": {1: "B1", 2: "POL B2"}, "A": {9: "A9", 10: "A10"}}
    with pytest.raises(ValueError, match="'A1' and 'POL A01' are both contact 1 of shaft 'A'"):
        shafts(["A1", "POL A01"])


def test_only_consecutive_contacts_are_neighbours_and_a_grid_ends_its_rows_at_eight():
    assert neighbours(["A1", "A3", "A4", "B5", "A5"]) == [("A3", "A4"), ("A4", "A5")]
    grid = neighbours([f"G{k}" for k in range(1, 65)])
    assert len(grid) == 56
    assert ("G8", "G9") not in grid
    assert ("G9", "G10") in grid
    assert neighbours([f"G{k}" for k in range(1, 22)]) == []  # 21 contacts: nobody knows the rows


@pytest.mark.parametrize("count", [5, 6, 64])
def test_the_median_is_numpys_and_bad_channels_have_no_part_in_it(count):
    names = [f"A{k}" for k in range(1, count + 1)]
    channels = table(names, status=["bad", *["good"] * (count - 1)])
    x = samples(count)
    x[2, 100:900] = np.nan
    x[:, 2000:2010] = np.nan
    x[1:, 2500] = np.nan
    expected = x - np.nanmedian(np.where(np.isnan(x[1:]).all(0), 0, x[1:]), axis=0)
    expected[0, 2500] = np.nan  # nothing good is left there
    found = make_montage(channels, "median").apply(x.copy())
    np.testing.assert_allclose(found[:, :2500], expected[:, :2500], atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_average_is_the_mean_of_what_is_there():
    channels = table(["A1", "A2", "A3"])
    x = samples(3)
    x[0, :10] = np.nan
    found = make_montage(channels, "average").apply(x.copy())
    np.testing.assert_allclose(found, x - np.nanmean(x, axis=0), atol=1e-6)


def test_scalp_and_intracranial_channels_have_references_of_their_own():
    channels = table(["A1", "A2", "Fz", "Cz", "Pz"], type=["seeg", "ecog", "eeg", "eeg", "eeg"])
    x = samples(5)
    found = make_montage(channels, "average").apply(x.copy())
    np.testing.assert_allclose(found[:2], x[:2] - x[:2].mean(0), atol=1e-6)
    np.testing.assert_allclose(found[2:], x[2:] - x[2:].mean(0), atol=1e-6)


def test_a_lone_channel_of_its_kind_is_left_out_with_a_note():
    channels = table(["Fz", "A1", "A2", "A3"], type=["eeg", "seeg", "seeg", "seeg"])
    montage = make_montage(channels, "median")
    x = samples(4)
    found = montage.apply(x.copy())
    assert montage.channels["name"].tolist() == ["A1", "A2", "A3"]
    np.testing.assert_allclose(found, x[1:] - np.median(x[1:], axis=0), atol=1e-6)
    assert "1 channels are left out (Fz)" in montage.notes[0].text


def test_one_good_channel_has_no_median():
    with pytest.raises(ValueError, match="at least two good channels of a kind, found 1 good ones of 2"):
        make_montage(table(["A1", "A2"], status=["good", "bad"]), "median")


def test_bipolar_is_a_contact_minus_the_next_at_the_middle_between_them():
    position = np.arange(27.0).reshape(9, 3) / 1000
    kind = ["seeg"] * 7 + ["eeg", "seeg"]
    montage = make_montage(table(NAMES, type=kind, position=position), "bipolar")
    x = samples(9)
    x[8] = np.nan  # has no part in any
    found = montage.apply(x)
    assert montage.channels["name"].tolist() == ["A1-A2", "A2-A3", "A3-A4", "B'1-B'2"]
    np.testing.assert_allclose(found, x[[0, 1, 2, 4]] - x[[1, 2, 3, 5]])
    np.testing.assert_allclose(montage.channels[["x", "y", "z"]], (position[[0, 1, 2, 4]] + position[[1, 2, 3, 5]]) / 2)
    assert "3 channels are left out (B'4, Fz, X)" in montage.notes[0].text


def test_laplacian_is_a_contact_minus_the_mean_of_its_neighbours():
    montage = make_montage(table(NAMES[:7]), "laplacian")
    x = samples(7)
    expected = [
        x[0] - x[1],
        x[1] - (x[0] + x[2]) / 2,
        x[2] - (x[1] + x[3]) / 2,
        x[3] - x[2],
        x[4] - x[5],
        x[5] - x[4],
    ]
    assert montage.channels["name"].tolist() == NAMES[:6]
    np.testing.assert_allclose(montage.apply(x), expected, atol=1e-6)


def test_a_bad_contact_makes_no_laplacian_and_marks_its_pairs():
    channels = table(["A1", "A2", "A3", "A4"], status=["good", "bad", "good", "good"], reason=["", "flat", "", ""])
    x = samples(4)
    laplacian = make_montage(channels, "laplacian")
    np.testing.assert_allclose(
        laplacian.apply(x), [x[1] - (x[0] + x[2]) / 2, x[2] - x[3], x[3] - x[2]], atol=1e-6
    )  # A1 has no good neighbour
    assert laplacian.channels["status"].tolist() == ["bad", "good", "good"]
    bipolar = make_montage(channels, "bipolar").channels
    assert bipolar["status"].tolist() == ["bad", "bad", "good"]
    assert bipolar["reason"].tolist() == ["flat", "flat", ""]


def test_names_without_shafts_are_refused_for_bipolar():
    with pytest.raises(ValueError, match=r"contacts side by side on a shaft.*among 2 channels there are none"):
        make_montage(table(["left", "right"]), "bipolar")


def test_a_contact_that_is_left_out_does_not_change_what_a_grid_is():
    grid = [f"G{k}" for k in range(1, 65)]
    montage = make_montage(table(grid[:-1]), "bipolar", names=grid)
    assert len(montage.channels) == 55
    assert [note.text for note in montage.notes] == ["G is taken for a grid with rows of 8 contacts."]
