"""The registry holds facts that agree with each other, files are found, and downloads are whole or absent."""

import csv
import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tsattn.data import fetch
from tsattn.data.tables import read_table


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Make the registry expect a small file in place of ETTh1."""
    body = b"date,OT\n2016-07-01 00:00:00,1\n" * 1000
    sha256 = hashlib.sha256(body).hexdigest()
    known = replace(fetch.REGISTRY["etth1"], sha256=sha256, size=len(body), contents=(sha256,))
    monkeypatch.setitem(fetch.REGISTRY, "etth1", known)
    monkeypatch.setitem(fetch._BY_ANY_NAME, "etth1", known)
    return body


ADDRESS = "/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv"


# Facts -----------------------------------------------------------------------------------------------------------


def test_every_set_of_the_papers_is_known():
    assert set(fetch.names()) == {
        "etth1", "etth2", "ettm1", "ettm2", "weather", "electricity", "traffic", "exchange", "illness", "solar",
        "pems03", "pems04", "pems07", "pems08", "epf-np", "epf-pjm", "epf-be", "epf-fr", "epf-de",
    }  # fmt: skip
    for alias, name in {"ecl": "electricity", "exchange_rate": "exchange", "ili": "illness"}.items():
        assert fetch.benchmark(alias).name == name
    assert fetch.benchmark("ETTh1").name == "etth1"


@pytest.mark.parametrize("name", fetch.names())
def test_facts_are_complete(name: str):
    known = fetch.benchmark(name)
    assert len(known.sha256) == 64
    assert all(len(content) == 64 for content in known.contents)
    assert known.url.startswith("https://")
    assert known.licence
    assert sum(known.split) == pytest.approx(1) or sum(known.split) <= known.rows
    text = fetch.describe(name)
    assert f"{known.rows:,}" in text
    assert known.licence in text


def test_registry_agrees_with_the_manifest(benchmarks: Path):
    with (benchmarks / "MANIFEST.csv").open() as file:
        rows = {row["name"].lower().replace("_rate", "").replace("national_", ""): row for row in csv.DictReader(file)}
    for name in set(fetch.names()) & set(rows):
        known, row = fetch.benchmark(name), rows[name]
        assert row["content_sha256"] in known.contents
        assert (known.rows, known.variates) == (int(row["rows"]), int(row["variates"]))
    assert len(set(fetch.names()) & set(rows)) == 12


@pytest.mark.parametrize("name", ["etth1", "ettm2", "weather", "exchange", "illness", "epf-be"])
def test_real_files_are_what_the_registry_says(benchmarks: Path, name: str):
    path = fetch.find(name, benchmarks)
    known = fetch.benchmark(name)
    assert fetch.is_genuine(name, path)
    table = read_table(path, clock=known.clock)
    assert (table.sizes["time"], table.sizes["variate"]) == (known.rows, known.variates)
    assert table.attrs["frequency"] == known.frequency
    assert known.target in table["variate"].values


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean electricity"):
        fetch.benchmark("electrcity")
    with pytest.raises(ValueError, match="expected one of etth1"):
        fetch.benchmark("xyz")


# Finding ---------------------------------------------------------------------------------------------------------


def test_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("TSATTN_DATA", str(tmp_path / "named"))
    with pytest.raises(FileNotFoundError) as error:
        fetch.find("etth1")
    for word in ("named", "cache", "ETTh1.csv", "tsattn data fetch etth1", "`root=...`"):
        assert word in str(error.value)
    for folder in (tmp_path / "cache", tmp_path / "data" / "ETT-small", tmp_path / "named"):  # each before the last
        folder.mkdir(parents=True)
        (folder / "ETTh1.csv").touch()
        assert fetch.find("etth1").resolve() == folder / "ETTh1.csv"
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        fetch.find("etth1", tmp_path / "elsewhere")  # a root that is named is the only one


def test_a_users_own_copy_is_recognised_compressed_or_not(benchmarks: Path, tmp_path: Path):
    with gzip.open(benchmarks / "ETTh1.csv.gz") as file:
        (tmp_path / "ETTh1.csv").write_bytes(file.read())
    assert fetch.is_genuine("etth1", fetch.find("etth1", tmp_path))
    (tmp_path / "ETTh1.csv").write_bytes((tmp_path / "ETTh1.csv").read_bytes().replace(b"30.53", b"30.54", 1))
    assert not fetch.is_genuine("etth1", fetch.find("etth1", tmp_path))


def test_the_overview_says_what_is_here(tmp_path: Path):
    (tmp_path / "weather.csv.gz").touch()
    lines = dict(line.split(maxsplit=1) for line in fetch.overview(tmp_path).splitlines())
    assert lines["weather"].endswith("weather.csv.gz")
    assert lines["traffic"].endswith(" -")


# Fetching --------------------------------------------------------------------------------------------------------


def test_a_download_is_kept_and_not_repeated(server, tiny: bytes, tmp_path: Path):
    server.files[ADDRESS] = tiny
    path = fetch.fetch("etth1", tmp_path, progress=False)
    assert path == tmp_path / "ETTh1.csv"
    assert path.read_bytes() == tiny
    assert fetch.fetch("etth1", tmp_path, progress=False) == path
    assert len(server.asked) == 1
    path.write_bytes(b"")
    fetch.fetch("etth1", tmp_path, overwrite=True, progress=False)
    assert path.read_bytes() == tiny
    assert [each.name for each in tmp_path.iterdir()] == ["ETTh1.csv"]


def test_tsattn_data_is_the_default_place(server, tiny: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server.files[ADDRESS] = tiny
    monkeypatch.setenv("TSATTN_DATA", str(tmp_path / "new"))
    assert fetch.fetch("etth1", progress=False) == tmp_path / "new" / "ETTh1.csv"
    assert fetch.find("etth1") == tmp_path / "new" / "ETTh1.csv"


def test_a_wrong_checksum_names_both_and_leaves_nothing(server, tiny: bytes, tmp_path: Path):
    server.files[ADDRESS] = wrong = tiny + b"x"
    with pytest.raises(ValueError, match="nothing was written") as error:
        fetch.fetch("etth1", tmp_path, progress=False)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert hashlib.sha256(tiny).hexdigest() in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_connection_cut_in_the_middle_leaves_what_was_there(server, tiny: bytes, tmp_path: Path):
    server.files[ADDRESS] = tiny
    server.cut.add(ADDRESS)
    with pytest.raises(ConnectionError, match="nothing was written"):
        fetch.fetch("etth1", tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "ETTh1.csv").write_bytes(b"older")
    with pytest.raises(ConnectionError):
        fetch.fetch("etth1", tmp_path, overwrite=True, progress=False)
    assert (tmp_path / "ETTh1.csv").read_bytes() == b"older"


def test_an_absent_file_and_a_dead_server_are_said(server, tiny: bytes, tmp_path: Path, monkeypatch):
    with pytest.raises(ConnectionError, match="404"):
        fetch.fetch("etth1", tmp_path, progress=False)
    monkeypatch.setenv("TSATTN_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        fetch.fetch("etth1", tmp_path, progress=False)
