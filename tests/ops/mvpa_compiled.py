"""Compile the Triton kernels of MVPA for GPUs that are not here, and read what the compiler made of them.

Run as a script, in a process of its own: `python tests/ops/mvpa_compiled.py` compiles for compute capabilities 8.0, 9.0
and 10.0 what `make test` has time for, `--all` everything (a quarter of an hour), `--all 90` that of 9.0. It prints one
line per kernel and exits with 1 if one breaks a promise:

- it compiles for 8.0, 9.0 and 10.0 with the shipped tiles and fits the shared memory;
- ptxas spills at most SPILL_BYTES, and SPILLS_IN_LOOPS instructions in the loops that hold the matrix products;
- on 9.0, ptxas does not serialise wgmma (its message C7515);
- there is no atomic operation on global memory in what ptxas is given.

No GPU is needed: Triton brings ptxas and cuobjdump along. Reading the machine code takes a third of the time: it is
read where ptxas says that it uses local memory (elsewhere nothing can be spilled), and with `--all`.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any, NamedTuple

# Bytes of shared memory a block may have (CUDA programming guide, technical specifications per compute capability); for
# 8.0 that of 8.6, 8.9 and 12.0, which run the same kernels. Head sizes above 128 may have all of 8.0.
SHARED_MEMORY = {80: 101_376, 90: 232_448, 100: 232_448}
SHARED_MEMORY_80 = 166_912
# Per thread. What is spilled before a loop costs a few microseconds a program at most. Promised neither for head sizes
# above 128, nor for float32 above 64, nor for few channels: those compile, but nobody has tuned them.
SPILL_BYTES = 300
SPILLS_IN_LOOPS = 20

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
FLOATS = {"qk_scale", "scale"}
IN_DTYPE = {"Q", "K", "V", "OUT", "GRAD", "E", "DQ", "TIME_KEY", "CHANNEL_KEY"}
IN_BYTES = {"CHANNEL_MASK", "TIME_MASK"}
MULTIPLES_OF_16 = {"C", "stride_t", "time_stride", "channel_stride"}
ATOMICS = r"\b(?:atom|red)\.(?!shared)"  # those in shared memory are Triton's own
PRODUCTS = r"\b(?:HGMMA|UTC\w*MMA|HMMA)\b"


class Compiled(NamedTuple):
    """One kernel, compiled."""

    registers: int
    spill: int  # bytes
    spills_in_loops: int  # instructions, in the innermost loops around matrix products
    shared: int  # bytes
    products: str  # matrix instructions in the machine code, by name; "" if it was not read
    serialised: bool
    atomics: int
    seconds: float


class Job(NamedTuple):
    """What to compile."""

    kernel: str
    stage: str
    arch: int
    dtype: str
    head_size: int
    flags: tuple[tuple[str, Any], ...] = ()


# Kernel -> stage of the tile table, and the flags of its variants
KERNELS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "time_bias_kernel": ("bias", [{}, {"masked": True}]),
    "channel_bias_kernel": ("bias", [{}, {"masked": True}]),
    "far_forward_channels_first_kernel": ("far_forward_channels_first", [{}, {"CAUSAL": False}, {"NEAR": False}]),
    "far_forward_time_first_kernel": ("far_forward_time_first", [{}, {"CAUSAL": False}]),
    "near_forward_kernel": ("near_forward", [{}, {"ALIGNED": False}, {"ALIGNED": False, "CAUSAL": False}]),
    "far_backward_query_kernel": ("far_backward_query", [{}, {"CAUSAL": False}]),
    "near_backward_query_kernel": ("near_backward_query", [{}, {"ALIGNED": False}]),
    "near_backward_key_kernel": ("near_backward_key", [{}, {"CAUSAL": False}]),
    "far_backward_key_kernel": ("far_backward_key", [{}, {"CAUSAL": False}]),
    "bias_backward_query_kernel": ("bias_backward", [{}, {"CAUSAL": False}]),
    "bias_backward_time_key_kernel": ("bias_backward", [{}, {"CAUSAL": False}]),
    "bias_backward_channel_key_kernel": ("bias_backward", [{}]),
}


def compiled(job: Job, tile: Any = None, read: bool = True) -> Compiled:
    """Compile one kernel with its shipped tile, or with `tile`; `read` its machine code even if nothing is spilled."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tsattn.ops.mvpa import kernel as module

    start = time.perf_counter()
    kernel = getattr(module, job.kernel)
    tile = tile or module.tile(job.stage, getattr(torch, DTYPES[job.dtype]), job.head_size, job.arch)
    flags = dict(job.flags)
    tile = tile._replace(keys=flags.pop("keys", tile.keys))
    constants = dict(
        D=job.head_size, BLOCK_D=triton.next_power_of_2(job.head_size),
        BLOCK_M=tile.rows, BLOCK_C=tile.keys, BLOCK_T=tile.keys,
        CAUSAL=True, FULL_LAST=True, NEAR=True, ALIGNED=True, MERGE=True, ROWS=module.TABLE_GRADIENT_ROWS,
        PRECISION="tf32x3" if job.dtype == "fp32" else "tf32",
    )  # fmt: skip
    if job.stage == "far_forward_time_first":
        constants["BLOCK_C"] = module.NARROW
    if job.stage == "far_forward_channels_first":
        constants["BLOCK_T"] = module.NARROW
    if not flags.pop("masked", False):
        constants.update(CHANNEL_MASK=None, TIME_MASK=None)
    constants.update(flags)

    signature: dict[str, str] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in IN_BYTES:
            signature[name] = "*u8"
        elif name == "LAST":
            signature[name] = "*i32"
        elif name.isupper() and name not in ("H", "G", "T", "C"):
            signature[name] = "*" + (job.dtype if name in IN_DTYPE else "fp32")
        else:
            signature[name] = "fp32" if name in FLOATS else "i32"
        if signature[name].startswith("*") or name in MULTIPLES_OF_16:
            attributes[(i,)] = [["tt.divisibility", 16]]
    used = {(kernel.arg_names.index(name),): x for name, x in constants.items() if name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=used, attrs=attributes)
    options = dict(num_warps=tile.warps, num_stages=tile.stages)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        binary = triton.compile(source, target=GPUTarget("cuda", job.arch, 32), options=options)
    messages = said.getvalue()
    registers = re.search(r"Used (\d+) registers", messages)
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", messages)
    assert registers is not None, f"ptxas said {messages!r}"
    assert spills is not None, f"ptxas said {messages!r}"
    code = ""
    if read or any(map(int, spills.groups())):
        code = machine_code(binary.asm["cubin"])
    return Compiled(
        registers=int(registers[1]),
        spill=max(int(spills[2]), int(spills[3])),
        spills_in_loops=spills_in_loops(code),
        shared=binary.metadata.shared,
        products=" ".join(f"{n} {name}" for name, n in Counter(re.findall(PRODUCTS, code)).items()),
        serialised="are serialized" in messages,
        atomics=len(re.findall(ATOMICS, binary.asm["ptx"])),
        seconds=time.perf_counter() - start,
    )


def machine_code(cubin: bytes) -> str:
    """Disassemble."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def spills_in_loops(code: str) -> int:
    """How many instructions move registers from or to local memory in the innermost loops around matrix products."""
    lines = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)]
    branches = [(int(m[1], 16), at) for at, text in lines if (m := re.search(r"\bBRA.* 0x([0-9a-f]+)", text))]
    loops = [(first, last) for first, last in branches if first < last]
    inner = set()
    for at, text in lines:
        around = [loop for loop in loops if loop[0] <= at <= loop[1]]
        if around and re.search(PRODUCTS, text):
            inner.add(min(around, key=lambda loop: loop[1] - loop[0]))
    moves = [at for at, text in lines if re.search(r"\b(?:LDL|STL)\b", text)]
    return sum(any(first <= at <= last for first, last in inner) for at in moves)


def jobs(arch: int, everything: bool) -> list[Job]:
    """The whole matrix of a chip, or the part of it that `make test` has time for.

    That part holds every kernel for every chip, every variant for 8.0 (which compiles fastest), and for 9.0, where
    registers are scarcest, float32, the narrower head and few channels.
    """
    if everything:
        types = [("bf16", 64), ("bf16", 128), ("bf16", 256), ("fp16", 64), ("fp32", 64), ("fp32", 128)]
        found = [
            Job(name, stage, arch, dtype, size, tuple(flags.items()))
            for name, (stage, variants) in KERNELS.items()
            for dtype, size in types
            for flags in variants
        ]
        few = [{"keys": 16, "C": 1}, {"keys": 16}, {"keys": 32}]  # few channels
        few_jobs = [(name, stage, size) for name, (stage, _) in KERNELS.items() for size in (16, 64)]
        return found + [Job(*job[:2], arch, "bf16", job[2], tuple(flags.items())) for job in few_jobs for flags in few]
    variants = [(name, stage, flags) for name, (stage, some) in KERNELS.items() for flags in some[1:] or some]
    if arch == 80:
        return [Job(name, stage, arch, "bf16", 128, tuple(flags.items())) for name, stage, flags in variants]
    found = [Job(name, stage, arch, "bf16", 128) for name, (stage, _) in KERNELS.items()]
    if arch == 90:
        attention = [(name, stage) for name, (stage, _) in KERNELS.items() if name.startswith(("near", "far"))]
        found += [Job(name, stage, arch, "fp32", 64) for name, stage in attention]
        found += [
            Job(
                "far_forward_channels_first_kernel", "far_forward_channels_first", arch, "bf16", 64, (("NEAR", False),)
            ),
            Job("far_forward_time_first_kernel", "far_forward_time_first", arch, "bf16", 64, (("CAUSAL", False),)),
            Job("near_forward_kernel", "near_forward", arch, "fp16", 64, (("ALIGNED", False),)),
            Job("near_backward_query_kernel", "near_backward_query", arch, "bf16", 64, (("ALIGNED", False),)),
        ]
        found += [Job(name, stage, arch, "bf16", 64, (("keys", 16), ("C", 1))) for name, stage in attention]
    return found


def broken(job: Job, found: Compiled) -> list[str]:
    """The promises that a kernel does not keep."""
    problems = []
    tuned = job.head_size <= (64 if job.dtype == "fp32" else 128) and "keys" not in dict(job.flags)
    room = SHARED_MEMORY[job.arch] if tuned or job.arch > 80 else SHARED_MEMORY_80
    if found.shared > room:
        problems.append(f"{found.shared} bytes of shared memory, there are {room}")
    if tuned and found.spill > SPILL_BYTES:
        problems.append(f"spills {found.spill} bytes, allowed {SPILL_BYTES}")
    if tuned and found.spills_in_loops > SPILLS_IN_LOOPS:
        problems.append(f"{found.spills_in_loops} spills in inner loops, allowed {SPILLS_IN_LOOPS}")
    if tuned and found.serialised:
        problems.append("wgmma is serialised")
    if found.atomics:
        problems.append(f"{found.atomics} atomic operations")
    return problems


def main() -> int:
    """Compile, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arch", type=int, nargs="*", default=[80, 90, 100])
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(TRITON_CACHE_DIR=cache, TRITON_DUMP_PTXAS_LOG="1", TRITON_ALWAYS_COMPILE="1")
        import triton

        print(f"Triton {triton.__version__}")
        columns = "kernel arch dtype d registers spill in_loops shared products serialised atomics seconds"
        print(*columns.split(), "variant", sep=",")
        for job in [job for arch in arguments.arch for job in jobs(arch, arguments.all)]:
            variant = " ".join(f"{name}={x}" for name, x in job.flags)
            try:
                found = compiled(job, read=arguments.all)
                problems = broken(job, found)
                row = [*job[:1], *job[2:5], *found[:-1], f"{found.seconds:.1f}", variant]
            except Exception as error:  # whatever the compiler raises is what we came to see
                row, problems = [*job], [f"{type(error).__name__}: {error}"]
            failed += bool(problems)
            print(*row, *(f"BROKEN: {problem}" for problem in problems), sep=",", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
