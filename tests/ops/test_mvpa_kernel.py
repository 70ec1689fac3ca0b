"""The Triton kernels of MVPA, without a GPU: run in Triton's interpreter, and compiled for GPUs that are not here.

Both need a process of their own: whether a kernel is interpreted is settled when it is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mvpa_interpreted import CASES
from support import ROOT

from tsattn.ops.mvpa.problem import Inputs, Options

pytest.importorskip("triton", reason="Triton is only made for Linux")


def succeeds(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("group", CASES)
def test_output_and_gradients_are_as_exact_as_those_of_plain_torch(group: str):
    succeeds("mvpa_interpreted.py", group)


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_what_the_authors_kernel_recorded_comes_out_of_ours():
    """The two fixtures that their Triton kernel made; the other heads are smaller than the 16 that ours take.

    Without the output of the first, which takes long: that of the second is compared, and all gradients of both.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/parity/test_mvpa_parity.py",
         "-k", "triton and not float64 and (mvpa_13 or mvpa_12 and gradients)"],
        cwd=ROOT, text=True, capture_output=True, check=False,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.slow
def test_every_kernel_compiles_without_spills_in_its_loops_and_without_atomics():
    """Nor does ptxas serialise wgmma: each of these costs a factor that no test on a CPU would show."""
    succeeds("mvpa_compiled.py")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_size", [16, 64, 80, 128, 256])
@pytest.mark.parametrize("arch", [80, 90, 100])
def test_far_and_near_launches_divide_the_steps_alike(dtype: torch.dtype, head_size: int, arch: int):
    """Or a key step would be read by both, or by neither."""
    from tsattn.ops.mvpa.kernel import tile

    def rows(stage: str) -> int:
        return tile(stage, dtype, head_size, arch).rows

    assert rows("near_forward") == rows("far_forward_channels_first") == rows("far_forward_time_first")
    assert rows("near_backward_query") == rows("far_backward_query")


@pytest.mark.parametrize("budget", [1, 5_000, 20_000, 2**28])
def test_chunks_hold_every_query_once_and_keep_to_the_budget(budget: int, monkeypatch: pytest.MonkeyPatch):
    from tsattn.ops.mvpa import kernel

    spans = []
    monkeypatch.setattr(kernel, "SCRATCH_BYTES", budget)
    monkeypatch.setattr(kernel, "_Chunk", lambda _, *span: spans.append(span) or span)
    batch, heads, steps, channels = 3, 2, 4, 70
    tokens, table = torch.zeros(batch, heads, steps, channels, 16), torch.zeros(1, heads, 70, 16)
    inputs = Inputs(tokens, tokens, tokens, table[:, :, :steps], table, *torch.zeros(3, heads, 16))
    problem = kernel._Problem(inputs, Options(window=1, causal=True, full_last=True, scale=1.0))
    assert list(problem.chunks(bytes_per_query=10)) == spans
    seen = torch.zeros(batch, steps * channels)
    for b_begin, b_end, n_begin, n_end in spans:
        seen[b_begin:b_end, n_begin:n_end] += 1
        size = (b_end - b_begin) * (n_end - n_begin)
        assert size * heads * 10 <= budget or size <= 64
    assert (seen == 1).all()


@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="TRITON_INTERPRET is set: the kernels run on a CPU")
def test_what_the_kernels_cannot_do_is_said_in_words():
    from tsattn.ops.mvpa.kernel import unsupported

    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert unsupported(torch.float64, 64, cuda) == (
        "the Triton kernels compute in float32, float16 or bfloat16, not in torch.float64"
    )
    assert unsupported(torch.bfloat16, 8, cuda) == "the Triton kernels take head sizes 16 to 256, not 8"
    assert unsupported(torch.bfloat16, 64, cpu) == "the Triton kernels need a CUDA device, the tensors are on cpu"


def test_kernels_are_bare_functions_where_the_tests_check_types():
    """The check of types at run time wraps every function; Triton would look for `tl` where the wrapper was written."""
    from tsattn.ops.mvpa import kernel

    assert kernel.near_forward_kernel.fn.__globals__ is vars(kernel)
