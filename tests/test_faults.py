"""Whatever goes wrong in a command ends in one sentence; a fault of ours says that it is one."""

import struct
import zlib
from pathlib import Path

import pytest

from tsattn import cli, faults


def ended(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> SystemExit:
    def run(command: str, args: list[str]) -> None:
        raise problem

    monkeypatch.delenv("TSATTN_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "run", run)
    with pytest.raises(SystemExit) as end:
        cli.main(["forecast"])
    return end.value


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."), "not enough memory (CUDA out of memory)"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate"), "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (zlib.error("Error -3 while decompressing data"), "damaged or cut short (error: Error -3"),
        (struct.error("unpack requires a buffer of 4 bytes"), "damaged or cut short"),
        (EOFError(), "it ends too early"),
        (RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"), "is the disk full"),
        (OSError(28, "No space left on device", "out.csv"), "No space left on device: out.csv"),
        (FileNotFoundError("nowhere.csv is not there."), "nowhere.csv is not there."),
        (ModuleNotFoundError("No module named 'quux'", name="quux"), "pip install quux"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not in the encoding"),
        (ValueError("table is \x1b[31mred"), "table is \\x1b[31mred"),
        (KeyError("variates"), "This is a fault of tsattn's, not yours: KeyError: 'variates'. TSATTN_TRACEBACK=1"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_an_exception_is_one_sentence(monkeypatch: pytest.MonkeyPatch, problem: Exception, said: str):
    end = ended(monkeypatch, problem)
    assert isinstance(end.code, str)
    assert end.code.startswith("tsattn forecast: ")
    assert said in end.code
    assert "Traceback" not in end.code
    assert "\x1b" not in end.code


def test_an_interrupt_is_status_130_and_says_what_was_kept(monkeypatch: pytest.MonkeyPatch, capsys):
    assert ended(monkeypatch, KeyboardInterrupt()).code == 130
    assert capsys.readouterr().err == "tsattn forecast: interrupted\n"
    assert ended(monkeypatch, KeyboardInterrupt("3 recordings are in store.zarr")).code == 130
    assert capsys.readouterr().err == "tsattn forecast: interrupted; 3 recordings are in store.zarr\n"


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch):
    def run(command: str, args: list[str]) -> None:
        raise KeyError("variates")

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setenv("TSATTN_TRACEBACK", "1")
    with pytest.raises(KeyError):
        cli.main(["forecast"])


def test_a_package_of_an_extra_is_named_with_its_extra():
    told = faults.sentence(ModuleNotFoundError("No module named 'zarr'", name="zarr"))
    assert told == "The package zarr is not installed: pip install 'tsattn[neuro]'."


def test_notes_of_an_exception_are_said(tmp_path: Path):
    problem = ValueError("The file is not whole.")
    problem.add_note("Nothing was written.")
    assert faults.sentence(problem) == "The file is not whole. Nothing was written."
