"""The documentation runs as printed, is whole, and says what the code does.

Blocks of one page share a namespace and a folder, which holds the table that every page assumes. `python` and `sh`
blocks run; of `console` blocks every command and option must exist.
"""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import ROOT

from tsattn import Forecaster, cli, parsing, shipped
from tsattn.contracts import ForecastNetwork

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One piece of code of a page."""

    language: str
    text: str
    line: int


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the blocks of a page in some languages, in their order."""
    found = (Block(m[1], m[2], PAGES[page].count("\n", 0, m.start()) + 2) for m in BLOCK.finditer(PAGES[page]))
    return [block for block in found if block.language in languages]


def commands(block: Block) -> list[list[str]]:
    """Return the command lines of a block that are ours, without the program's name."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line[1:] for line in split if line[:1] == ["tsattn"]]


@pytest.fixture
def here(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `my.csv`: 1000 hours of `date`, `driver`, `load 1`, `load 2` and `load 3`."""
    lines = table.read_text().splitlines(keepends=True)
    (tmp_path / "my.csv").write_text("".join(lines[:1001]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUNNING = [page for page in PAGES if blocks(page, "python", "sh")]


@pytest.mark.parametrize("page", RUNNING)
def test_the_code_of_a_page_runs_in_order(page: str, here: Path):
    makes_its_own = any(line[:2] == ["data", "simulate"] for block in blocks(page, "sh") for line in commands(block))
    if makes_its_own:
        (here / "my.csv").unlink()
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python", "sh"):
        if block.language == "sh":
            for line in commands(block):
                cli.main(line)
        else:
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, f"docs/{page}", "exec"), namespace)


def test_most_pages_have_code_that_runs():
    without = {"results.md", "jobs/errors.md", *(page for page in PAGES if page.startswith("api/"))}
    assert without == set(PAGES) - set(RUNNING) - {"jobs/command-line.md"}
    assert blocks("jobs/command-line.md", "sh")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")])
def test_commands_that_are_only_shown_exist_with_all_their_options(page: str, here: Path, capsys):
    for block in blocks(page, "console"):
        for line in commands(block):
            check_command(line, here)


def check_command(line: list[str], folder: Path) -> None:
    """Fail unless the command line would take every option of it."""
    command, rest = line[0], line[1:]
    if command in ("fit", "validate", "test"):
        for at, word in enumerate(rest):  # configurations that a step before would have written
            if rest[at - 1] in ("-c", "--config") and not word.startswith(
                ("forecast/", "data/", "paper/", "pre", "det")
            ):
                written = folder / word
                written.parent.mkdir(parents=True, exist_ok=True)
                written.write_text((ROOT / "configs/forecast/itransformer.yaml").read_text())
        if "--ckpt_path" in rest:
            rest = ["-c", "forecast/itransformer.yaml", "--data.table", "my.csv", *rest]
        with pytest.raises(SystemExit) as stopped:
            cli.main([command, *rest, *([] if "--print_config" in rest else ["--print_config"])])
        assert stopped.value.code in (None, 0), f"tsattn {shlex.join(line)}: {stopped.value.code}"
        return
    where, members = cli.FUNCTIONS[command]
    if not isinstance(members, str):
        members, rest = members[rest[0]], rest[1:]
    function = getattr(__import__(f"tsattn.commands.{where}", fromlist=[members]), members)
    parsing.parse(parsing.options_of(function), rest, command)


@pytest.mark.parametrize(
    "line", ["forecast --checkpoint a --tabel b --out c", "fit -c forecast/timexer.yaml --data.tabel x"]
)
def test_a_misspelt_option_would_be_found(line: str, here: Path, capsys):
    with pytest.raises(BaseException, match="tabel"):
        check_command(shlex.split(line), here)


def test_the_site_builds_without_a_warning(tmp_path: Path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'tsattn[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")
    assert not [page.name for page in pages if fetched.search(page.read_text())], (
        "a page loads something from elsewhere"
    )


def test_every_page_is_in_the_navigation():
    named = re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    assert sorted(named) == sorted(PAGES)


# ---- what the pages say is so

MODELS = sorted(path.stem for path in (ROOT / "configs/forecast").glob("*.yaml"))
FLAGS = {"yes": True, "no": False}


@pytest.mark.parametrize("model", MODELS)
def test_every_shipped_model_has_a_row_and_a_page_that_names_its_configuration(model: str):
    row = next(line for line in PAGES["models/index.md"].splitlines() if line.startswith(f"| [`{model}`]"))
    page = re.search(r"\]\((\S+\.md)\)", row)[1]  # type: ignore[index]
    assert f"forecast/{model}.yaml" in PAGES[f"models/{page}"]


@pytest.mark.parametrize("model", MODELS)
def test_the_table_of_models_says_what_each_network_reads(model: str, table: Path):
    import pandas as pd

    row = next(line for line in PAGES["models/index.md"].splitlines() if line.startswith(f"| [`{model}`]"))
    others, past, static, known, calendar, missing, number = [cell.strip() for cell in row.split("|")[2:-1]]
    sizes: dict[str, Any] = {} if "around" in model else {"d_model": 8, "d_ff": 8, "heads": 2}
    frame = pd.read_csv(table)[:60].assign(kind=["a", "b"] * 30, shop="x")
    untrained = Forecaster(model, context=12, horizon=4, **sizes)

    def takes(**roles: str) -> bool:
        try:
            untrained.fit(frame, target="load 1", max_epochs=1, val_size=0, **roles)
        except ValueError as refusal:
            if re.search("leave it out|pass it by past_covariates", str(refusal)):
                return False
            raise
        return True

    network = untrained.fit(frame, max_epochs=1, val_size=0).network
    assert isinstance(network, ForecastNetwork)
    assert network.reads_covariates is FLAGS[others]
    assert network.reads_known is FLAGS[calendar]
    assert network.reads_missing is FLAGS[missing]
    assert (network.variates is None) is (number == "any")
    assert takes(past_covariates="load 2") is ("numbers" in past)
    assert takes(past_covariates="kind") is ("categories" in past)
    assert takes(static_covariates="shop") is FLAGS[static]
    assert takes(known_covariates="driver") is FLAGS[known]


def test_every_kind_of_attention_is_on_its_page(table: Path):
    import pandas as pd

    frame = pd.read_csv(table)[:60]
    rows = [line.split("|")[1:3] for line in PAGES["jobs/explain.md"].splitlines() if line.startswith("|")]
    told: dict[str, list[str]] = {}
    names: list[str] = []
    for models, kinds in rows:
        names = [name.strip() for name in models.split(",")] if models.strip() else names
        for name in names:
            told.setdefault(name, []).extend(re.findall(r'`"(\w*)"`', kinds))
    for model in MODELS:
        if "around" in model:
            continue
        forecaster = Forecaster(model, context=12, horizon=4, d_model=8, d_ff=8, heads=2)
        attention = forecaster.fit(frame, max_epochs=1, val_size=0).attention(frame)
        assert [f"'{kind}'" for kind in told[model]] == attention.attrs["kinds"].split(", "), model


def test_every_public_method_of_a_forecaster_is_told_of():
    own = {name for name, value in vars(Forecaster).items() if not name.startswith("_") and callable(value)}
    own |= {name for name, value in vars(Forecaster).items() if isinstance(value, classmethod | property)}
    own = {name for name in own if not name.startswith("_")} - INSIDE
    told = "\n".join(text for page, text in PAGES.items() if not page.startswith("api/"))
    assert not [name for name in sorted(own) if not re.search(rf"\b{name}\b", told)]
    assert "::: tsattn.forecasting.forecaster.Forecaster" in PAGES["api/forecaster.md"]


# Of use to the rooms beside it: in the reference alone.
INSIDE = {"of", "history", "last_windows", "test_windows", "unit"}


def messages() -> str:
    """Return all texts of the package, `…` where a value stands, a line each."""
    found = []
    for path in sorted((ROOT / "tsattn").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
    return "\n".join(" ".join(text.split()) for text in found)


def test_every_message_on_the_page_of_errors_is_one_of_ours():
    ours = messages()
    rows = [line for line in PAGES["jobs/errors.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    lost = []
    for row in rows:
        message = row.split("`")[1]
        # A place holder of the page may stand for several words of the message.
        pattern = r"[^\n]*?".join(re.escape(part.strip()) for part in message.split("…"))
        if not re.search(pattern, ours):
            lost.append(message)
    assert not lost


def test_every_name_of_the_package_in_the_pages_exists():
    import importlib

    for page, text in PAGES.items():
        if page == "results.md":
            continue
        for dotted in sorted(set(re.findall(r"\btsattn(?:\.\w+)+", text))):
            parts = dotted.split(".")
            for length in range(len(parts), 0, -1):
                try:
                    found: Any = importlib.import_module(".".join(parts[:length]))
                except ImportError:
                    continue
                for name in parts[length:]:
                    found = getattr(found, name)
                break


def test_every_configuration_and_test_that_a_page_names_exists():
    for page, text in PAGES.items():
        for name in re.findall(r"(?:forecast|detect|pretrain)/[\w-]+\.yaml", text):
            assert shipped.resolve(name), page
        for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"


def test_the_program_of_the_pages_is_installed():
    assert shutil.which("tsattn", path=str(Path(sys.executable).parent)), "the package is not installed"
