"""Benchmark tables: a registry of facts, where to find them on this machine, and how to download them through pooch.

Splits, seasons and marks are those of the published protocols. Checksums are those of the authors' own bytes where we
had them in hand, else (`held=False`) as others published them for the same address. Line endings differ between copies,
so several contents may be accepted. No file is shipped with tsattn.
"""

import difflib
import gzip
import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pooch

from tsattn import messages
from tsattn.contracts import Fill
from tsattn.data.calendar import Marks
from tsattn.data.tables import Clock

log = logging.getLogger(__name__)

_ETT = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/"
_TSLIB = "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve/2b66e59ee19dac8f6f19fb5d4997f289fdfea357/"
_TIMEXER = "https://raw.githubusercontent.com/thuml/TimeXer/76011909357972bd55a27adba2e1be994d81b327/dataset/EPF/"
_LAI = (
    "https://raw.githubusercontent.com/laiguokun/multivariate-time-series-data/"
    "7f402f185cc2435b5e66aed13a3b560ed142e023/"
)
_PEMS = "https://huggingface.co/datasets/pkr7098/time-series-forecasting-datasets/resolve/main/"

_ETT_LICENCE = "CC BY-ND 4.0 (zhouhaoyi/ETDataset): credit, and pass on unmodified only"
_EPF_LICENCE = "none stated by TimeXer; the original is the epftoolbox data set (Lago et al., 2021)"
_PEMS_LICENCE = "none stated; Caltrans PeMS, prepared by Guo et al. (2019) and Song et al. (2020)"

Split3 = tuple[int, int, int] | tuple[float, float, float]
Rounding = Literal["rest to validation", "cumulative"]
"""How fractions of n rows become rows. "rest to validation": int(train n), int(test n), the rest (TSLib's custom; with
Solar's 52,560 rows iTransformer's rule gives the same). "cumulative": borders at int(train n) and int((train + val) n)
(PEMS).
"""


@dataclass(frozen=True)
class Benchmark:
    """What is known of one benchmark table.

    Attributes:
        name: How it is asked for.
        files: File names that are accepted, relative to the root; the first one is written by `fetch`.
        url: Where `fetch` gets it.
        sha256: Of the bytes at `url`.
        size: Of the same, in bytes; 0 if unknown.
        contents: sha256 of the decompressed contents that are known to hold these values.
        licence: As far as known.
        rows: Time steps.
        variates: Columns beside the times.
        frequency: pandas alias; for a file without times it is what the source declares.
        season: Steps of one season, for the seasonal-naive score.
        target: Column of univariate scores; "" if there is none.
        split: Rows of train, validation and test from the first row on; or their fractions of the rows.
        rounding: How fractions become rows, see `Rounding`.
        reach_back: Whether the context of the first validation and test window lies in the part before.
        marks: Calendar features that the published scripts feed ("benchmark": the hourly ones for every step).
        clock: "ignore" where the file's times are broken and the papers take rows as equally spaced.
        fill: "forward" where the papers fill missing values (last observed value; the first one before it).
        aliases: Other names.
        held: Whether we have had the file in hand. If not, its checksum is one that others published.
        note: What may surprise.
    """

    name: str
    files: tuple[str, ...]
    url: str
    sha256: str
    size: int
    contents: tuple[str, ...]
    licence: str
    rows: int
    variates: int
    frequency: str
    season: int
    target: str
    split: Split3
    rounding: Rounding = "rest to validation"
    reach_back: bool = True
    marks: Marks = "benchmark"
    clock: Clock = "strict"
    fill: Fill = "none"
    aliases: tuple[str, ...] = ()
    held: bool = True
    note: str = ""


def _forms(*names: str) -> tuple[str, ...]:
    return tuple(form for name in names for form in (name, f"{name}.gz"))


def _ett(name: str, sha256: str, size: int, step: int) -> Benchmark:
    """ETT: 12, 4 and 4 months of 30 days; the rows after these are not used by anybody."""
    return Benchmark(
        name=name.lower(),
        files=_forms(f"{name}.csv", f"ETT-small/{name}.csv", f"ETT/{name}.csv"),
        url=f"{_ETT}{name}.csv",
        sha256=sha256,
        size=size,
        contents=(sha256,),
        licence=_ETT_LICENCE,
        rows=17_420 * step,
        variates=7,
        frequency="h" if step == 1 else "15min",
        season=24 * step,
        target="OT",
        split=(8_640 * step, 2_880 * step, 2_880 * step),
        note="The papers use 20 months of 30 days; the last 3,020 hours are left.",
    )


def _epf(name: str, sha256: str, size: int, exogenous: str) -> Benchmark:
    return Benchmark(
        name=f"epf-{name.lower()}",
        files=_forms(f"{name}.csv", f"epf/{name}.csv", f"EPF/{name}.csv"),
        url=f"{_TIMEXER}{name}.csv",
        sha256=sha256,
        size=size,
        contents=(sha256,),
        licence=_EPF_LICENCE,
        rows=52_416,
        variates=3,
        frequency="h",
        season=24,
        target="OT",
        split=(0.7, 0.1, 0.2),
        note=f"OT is the price; {exogenous} are forecasts of the day before, so their future would be known."
        + (" BE and FR ship identical exogenous columns." if name in ("BE", "FR") else ""),
    )


def _pems(number: str, sha256: str, rows: int, sensors: int) -> Benchmark:
    name = f"PEMS{number}"
    return Benchmark(
        name=name.lower(),
        files=(f"{name}.npz", f"PEMS/{name}.npz", f"{name.lower()}.npz", f"{name}/{name.lower()}.npz"),
        url=f"{_PEMS}{name}.npz",
        sha256=sha256,
        size=0,
        contents=(sha256,),
        licence=_PEMS_LICENCE,
        rows=rows,
        variates=sensors,
        frequency="5min",
        season=288,
        target="",
        split=(0.6, 0.2, 0.2),
        rounding="cumulative",
        reach_back=False,
        marks="none",
        fill="forward",
        held=False,
        note="No times in the file; feature 0 (flow) only; the address is a branch, the checksum holds it fast.",
    )


_BENCHMARKS = (
    _ett("ETTh1", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", 2_589_657, 1),
    _ett("ETTh2", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", 2_417_960, 1),
    _ett("ETTm1", "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e", 10_360_719, 4),
    _ett("ETTm2", "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd", 9_677_236, 4),
    Benchmark(
        name="weather",
        files=_forms("weather.csv", "weather/weather.csv"),
        url=f"{_TSLIB}weather/weather.csv",
        sha256="34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",
        size=7_235_425,
        contents=("34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",),
        licence="Max Planck Institute for Biogeochemistry, Jena: free use with credit",
        rows=52_696,
        variates=21,
        frequency="10min",
        season=144,
        target="OT",
        split=(0.7, 0.1, 0.2),
        clock="ignore",
        note="One repeated time, one gap of 100 minutes, 81 cells of -9999; the papers leave all of them in.",
    ),
    Benchmark(
        name="electricity",
        aliases=("ecl",),
        files=_forms("electricity.csv", "electricity/electricity.csv", "ECL.csv"),
        url=f"{_TSLIB}electricity/electricity.csv",
        sha256="7e45845d54c5219bad0ae6bc1b5316cf8ff9cead5d33fa998a5a51c2e4a497ad",
        size=95_581_762,
        contents=("7e45845d54c5219bad0ae6bc1b5316cf8ff9cead5d33fa998a5a51c2e4a497ad",),
        licence="CC BY 4.0 (UCI ElectricityLoadDiagrams20112014)",
        rows=26_304,
        variates=321,
        frequency="h",
        season=24,
        target="OT",
        split=(0.7, 0.1, 0.2),
        held=False,
        note="The dates are labels of Autoformer: 2016-07-01 02:00 stands for 2012-01-01 00:00.",
    ),
    Benchmark(
        name="traffic",
        files=_forms("traffic.csv", "traffic/traffic.csv"),
        url=f"{_TSLIB}traffic/traffic.csv",
        sha256="cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16",
        size=136_478_119,
        contents=("cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16",),
        held=False,
        licence="none stated; Caltrans PeMS, prepared by Lai et al. (2018)",
        rows=17_544,
        variates=862,
        frequency="h",
        season=24,
        target="OT",
        split=(0.7, 0.1, 0.2),
    ),
    Benchmark(
        name="exchange",
        aliases=("exchange_rate",),
        files=_forms("exchange_rate.csv", "exchange_rate/exchange_rate.csv"),
        url=f"{_TSLIB}exchange_rate/exchange_rate.csv",
        sha256="48b4d9d3d508f5104162e85b9a6042e3557fde11aa9f2944eba8c0d0efc89842",
        size=637_800,
        contents=(
            "48b4d9d3d508f5104162e85b9a6042e3557fde11aa9f2944eba8c0d0efc89842",  # CRLF, as at the address
            "d55e7aa2641009814a18ba3279431b13f6d413b0eab195b9ff21988d8cf94e97",  # the same with LF
        ),
        licence="none stated; Lai et al. (2018), laiguokun/multivariate-time-series-data",
        rows=7_588,
        variates=8,
        frequency="D",
        season=1,
        target="OT",
        split=(0.7, 0.1, 0.2),
        note="The dates are labels (consecutive days for trading days), so no week can be a season: 1, the last value. "
        "Its last two columns are those of exchange_rate.txt swapped.",
    ),
    Benchmark(
        name="illness",
        aliases=("ili", "national_illness"),
        files=_forms("national_illness.csv", "illness/national_illness.csv"),
        url=f"{_TSLIB}illness/national_illness.csv",
        sha256="93601f64d2566dc796ca4305adad8b8560c2db1a1ff04543c3bd813a7263570a",
        size=67_620,
        contents=(
            "93601f64d2566dc796ca4305adad8b8560c2db1a1ff04543c3bd813a7263570a",  # CRLF, as at the address
            "8594cecb98c6f2f9dc014eca11c4d5d1e38ad5ce6ed0592d4abe65b146fce395",  # the same with LF
        ),
        licence="public domain (CDC FluView, work of the US government)",
        rows=966,
        variates=7,
        frequency="W-TUE",
        season=52,
        target="OT",
        split=(0.7, 0.1, 0.2),
    ),
    Benchmark(
        name="solar",
        aliases=("solar_al",),
        files=_forms("solar_AL.txt", "Solar/solar_AL.txt", "solar/solar_AL.txt", "solar-energy/solar_AL.txt"),
        url=f"{_LAI}solar-energy/solar_AL.txt.gz",
        sha256="1ae9329c3e1032acbb8dd080bfc397c44507006812a715d2788f172820489a1c",
        size=0,
        contents=("230327ef72d2abb387939d4a35d6fd34f1066071bc7c40ce7ecf5531a0122ac2",),
        licence="none stated; NREL, prepared by Lai et al. (2018)",
        rows=52_560,
        variates=137,
        frequency="10min",
        season=144,
        target="",
        split=(0.7, 0.1, 0.2),
        marks="none",
        held=False,
        note="No times in the file.",
    ),
    _pems("03", "34859517425eded66a0014db63de54b95d0428c38890741a1710ed4d3b043de8", 26_208, 358),
    _pems("04", "95a3c9b720fffdb85f0330d09bfab41b0b3cad0ca86c0d7d5f3accacb4ac999a", 16_992, 307),
    _pems("07", "a07887e610aa986276209bc9384d14ed7858fdcad1ded67f53dca19eb828600b", 28_224, 883),
    _pems("08", "e1d03ce74e9fb79149e6e7c37c680214822c4a285baa2f42278cacabcd25c075", 17_856, 170),
    _epf(
        "NP",
        "cbba6af8cf505d6d1fcadf87e86b6651abdae4a1adf616ee4956f6c1cd039fb8",
        1_674_177,
        "Grid load forecast and Wind power forecast",
    ),
    _epf(
        "PJM",
        "58cc0ad32e22e61d9e183b0dc8201747f8c2ef822e469832c5beea8d88251cc0",
        1_960_359,
        "System load forecast and Zonal COMED load foecast",
    ),
    _epf(
        "BE",
        "93ca5ab6614adef1e93e561d5fd6868588c035ea68a676c9423462113303e8ab",
        1_793_351,
        "Generation forecast and System load forecast",
    ),
    _epf(
        "FR",
        "ac400691243cc3aac32a4680d5f428f720da61385277813083b9fe61e642bd0c",
        1_763_250,
        "Generation forecast and System load forecast",
    ),
    _epf(
        "DE",
        "8cdf1e3f52a9c3530bb36432d5f956a287f951cff696f20478e5be069505388c",
        1_862_211,
        "Wind power forecast and Ampirion zonal load forecast",
    ),
)

REGISTRY: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _BENCHMARKS}
_BY_ANY_NAME = {alias: benchmark for benchmark in _BENCHMARKS for alias in (benchmark.name, *benchmark.aliases)}


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return list(REGISTRY)


def benchmark(name: str) -> Benchmark:
    """Return what is known of a benchmark.

    Args:
        name: Its name or an alias, in any case.

    Raises:
        ValueError: If there is none of this name; the nearest ones are offered.
    """
    found = _BY_ANY_NAME.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), _BY_ANY_NAME, n=3, cutoff=0.5)
        own = messages.hint("name your own file by {table}") if messages.on_command_line() else ""
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(REGISTRY)}."
        raise ValueError(f"No benchmark is called {name!r}; {hint}{own}")
    return found


def roots(root: str | Path | None = None) -> list[Path]:
    """Return the folders in which benchmarks are looked for: `root` alone, or TSATTN_DATA, ./data and the cache."""
    if root is not None:
        return [Path(root).expanduser()]
    named = os.environ.get("TSATTN_DATA")
    found = [Path(named).expanduser()] if named else []
    if Path("data").is_dir():
        found.append(Path("data"))
    return [*found, _cache()]


def find(name: str, root: str | Path | None = None) -> Path:
    """Find the file of a benchmark on this machine.

    Args:
        name: Its name or an alias.
        root: The only folder to look in; None: TSATTN_DATA, ./data, the cache, in this order.

    Raises:
        FileNotFoundError: If it lies in none of them; says where it was looked for and how to fetch it.
        ValueError: If there is no benchmark of this name.
    """
    known = benchmark(name)
    for folder in roots(root):
        for file in known.files:
            if (folder / file).is_file():
                return folder / file
    looked = ", ".join(str(folder.absolute()) for folder in roots(root))
    where = "" if root is None else f" --root {root}"
    raise FileNotFoundError(
        f"{known.files[0]} of the benchmark {known.name} is not in {looked}; download it by "
        f"`tsattn data fetch {known.name}{where}`, or "
        + (messages.advice("name the folder that holds it by {root}") or "name the folder that holds it")
        + " or TSATTN_DATA."
    )


def content_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, decompressed if it ends in `.gz`."""
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_genuine(name: str, path: Path) -> bool:
    """Say whether a file holds exactly a content that is known for this benchmark."""
    return content_sha256(path) in benchmark(name).contents


def describe(name: str, root: str | Path | None = None) -> str:
    """Say in a few lines what a benchmark is and where it lies on this machine.

    Args:
        name: Its name or an alias.
        root: As in `find`.

    Raises:
        ValueError: If there is no benchmark of this name.
    """
    known = benchmark(name)
    if isinstance(known.split[0], float):
        split = " / ".join(f"{fraction:.0%}" for fraction in known.split)
    else:
        split = " / ".join(f"{rows:,} rows" for rows in known.split)
    try:
        place = str(find(name, root))
    except FileNotFoundError:
        place = f"not on this machine; `tsattn data fetch {known.name}`"
    lines = {
        "name": ", also ".join((known.name, *known.aliases)),
        "rows": f"{known.rows:,}, one per {known.frequency}",
        "variates": f"{known.variates:,}" + (f", univariate target {known.target}" if known.target else ""),
        "split": f"{split} (train / validation / test, in this order)"
        + ("" if known.reach_back else "; no context from the part before"),
        "season": f"{known.season} steps",
        "marks": known.marks,
        "clock": known.clock,
        "licence": known.licence,
        "source": known.url,
        "sha256": known.sha256 + ("" if known.held else " (as others published it; we have not held this file)"),
        "note": known.note,
        "found": place,
    }
    return "\n".join(f"{key:10}{value}" for key, value in lines.items() if value)


def overview(root: str | Path | None = None) -> str:
    """List all benchmarks, one line each: size, step, and whether it lies on this machine."""
    lines = [f"{'name':13}{'rows':>8}{'variates':>10}{'step':>8}  found"]
    for known in REGISTRY.values():
        try:
            place = str(find(known.name, root))
        except FileNotFoundError:
            place = "-"
        lines.append(f"{known.name:13}{known.rows:>8,}{known.variates:>10,}{known.frequency:>8}  {place}")
    return "\n".join(lines)


def fetch(name: str, root: str | Path | None = None, overwrite: bool = False, progress: bool = True) -> Path:
    """Download a benchmark unless it is there already, and check it.

    The file appears under its name only when it is complete and its checksum is right.

    Args:
        name: Its name or an alias.
        root: Folder to write to; None: TSATTN_DATA if set, else the cache.
        overwrite: Download even if a file of this name is there.
        progress: Show a bar.

    Returns:
        Where the file is.

    Raises:
        ValueError: If there is no such benchmark, or if the checksum is wrong (names both).
        ConnectionError: If the download fails.
    """
    known = benchmark(name)
    folder = (
        Path(root).expanduser() if root is not None else Path(os.environ.get("TSATTN_DATA") or _cache()).expanduser()
    )
    if not overwrite:
        try:
            there = find(known.name, folder)
        except FileNotFoundError:
            pass  # that is why we are here
        else:
            if not is_genuine(known.name, there):
                raise ValueError(
                    f"{there} is there already with the sha256 {content_sha256(there)}, expected {known.contents[0]}; "
                    + messages.advice("replace it by {overwrite}", "move it away", overwrite=True)
                    + "."
                )
            return there
    url = _mirrored(known.url)
    file = known.files[0] + (".gz" if url.endswith(".gz") and not known.files[0].endswith(".gz") else "")
    folder.mkdir(parents=True, exist_ok=True)
    log.info("%s: downloading %s. Licence: %s.", known.name, url, known.licence)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as workshop:
        got = Path(workshop) / "download"
        try:
            pooch.HTTPDownloader(progressbar=progress, chunk_size=2**20)(url, str(got), None)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise ConnectionError(
                f"{url} could not be downloaded ({type(error).__name__}: {error}); nothing was written, try again."
            ) from error
        found = pooch.file_hash(str(got))
        if found != known.sha256:
            raise ValueError(
                f"{url} has the sha256 {found}, expected {known.sha256}; nothing was written. The connection or "
                "the source changed the file: try again, or get it elsewhere and name its folder by TSATTN_DATA."
            )
        os.replace(got, folder / file)
    return folder / file


def _cache() -> Path:
    return Path(pooch.os_cache("tsattn"))


def _mirrored(url: str) -> str:
    """Replace the host by TSATTN_MIRROR, if set; the path stays."""
    base = os.environ.get("TSATTN_MIRROR")
    return url if not base else base.rstrip("/") + urlsplit(url).path
