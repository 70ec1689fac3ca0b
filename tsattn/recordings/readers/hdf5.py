"""Open HDF5 files that others made, with care: in each process anew, and never a zero where nothing was written.

HDF5 returns zeros without an error for a virtual source whose file is absent, for a chunk that was never written and
for raw storage that is missing; each of them is refused here before a sample is read. A link may point at any file of
the machine; what leaves the folder is refused. Facts: HDF5 User's Guide (chapter Datasets, "Virtual Dataset" and
"External Storage"); seen with h5py 3.16 and HDF5 2.0.
"""

import contextlib
import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsattn import extras
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import version

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {32001: "Blosc (lz4)", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}  # registered HDF5 filters
KEEP_BYTES = 256 * 2**20  # decoded chunks that open files of one process may hold together
KEEP_FILES = 64
HDF5_CACHE = 8 * 2**20  # what HDF5 itself keeps for a data set at most

_open: OrderedDict[tuple[str, int, tuple[int, int]], tuple[Any, dict[str, Any]]] = OrderedDict()
_process = os.getpid()


def is_hdf5(path: Path) -> bool:
    """Return whether a file begins as HDF5 does (MATLAB 7.3 puts 512 bytes before it)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == SIGNATURE or (file.seek(512) == 512 and file.read(8) == SIGNATURE)


def open_file(path: Path, cache: int = 0) -> Any:
    """Open an HDF5 file for reading; without a lock where the disk has none (network disks, read-only ones).

    Args:
        path: The file.
        cache: Bytes of decoded chunks kept for each data set; 0 leaves it to HDF5.

    Raises:
        ValueError: If h5py is not there, or the file is not HDF5 or damaged.
    """
    h5py = extras.need_file("h5py", "HDF5")
    if not is_hdf5(path):
        raise ValueError(
            f"{label(path)} is not an HDF5 file, whatever its ending says: "
            "its first bytes are others. Download it again, or give it the ending of its format."
        )
    tuned = {"rdcc_nbytes": cache, "rdcc_nslots": 10_007} if cache else {}
    try:
        try:
            return h5py.File(path, "r", **tuned)
        except OSError as error:
            if "unable to lock file" not in str(error):
                raise
            if "errno = 11" in str(error):
                raise ValueError(f"{label(path)} is open for writing in another program. Close it there.") from None
            return h5py.File(path, "r", locking=False, **tuned)
    except OSError as error:
        raise ValueError(
            f"{label(path)} is a damaged HDF5 file ({reason_of(error)}): "
            "it was cut short or is still being written. Copy or download it again."
        ) from None


def reason_of(error: OSError) -> str:
    """Return what HDF5 says went wrong, without file names."""
    text = str(error)
    for known in ("truncated file", "file signature not found", "bad object header", "wrong fractal heap"):
        if known in text:
            return known
    return "it cannot be opened"


def kept_open(path: Path, name: str, cache: int = 0) -> Any:
    """Return a data set that this process keeps open, with the chunks decoded last; a forked process opens its own.

    A closed data set loses its decoded chunks, so that the set is kept, not the file alone. The least recently used
    files are closed beyond `KEEP_BYTES`.

    Args:
        path: The file.
        name: Of the data set.
        cache: Bytes of decoded chunks to keep for each data set of the file.
    """
    global _process
    if _process != os.getpid():
        _open.clear()
        _process = os.getpid()
    key = (str(path), cache, version(path))
    if key not in _open:
        _open[key] = (open_file(path, cache), {})
    _open.move_to_end(key)
    file, sets = _open[key]
    if name not in sets:
        sets[name] = file[name]
    while (
        len(_open) > 2
        and sum(max(each, HDF5_CACHE) * len(held) for (_, each, _), (_, held) in _open.items()) > KEEP_BYTES
    ):
        _open.popitem(last=False)[1][0].close()
    while len(_open) > KEEP_FILES:
        _open.popitem(last=False)[1][0].close()
    return sets[name]


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Say in one sentence that samples cannot be unpacked."""
    try:
        yield
    except OSError:
        raise ValueError(f"{label(path)} is damaged: HDF5 cannot unpack samples. Copy or download it again.") from None


@dataclass(frozen=True)
class Mapped:
    """A block of a virtual data set: where it lies there, and where its samples are."""

    file: str
    dataset: str
    begin: tuple[int, ...]
    shape: tuple[int, ...]
    source_begin: tuple[int, ...]


def blocks(dataset: Any) -> list[Mapped]:
    """Return the blocks of a virtual data set.

    Raises:
        ValueError: If a block is not a plain rectangle.
    """
    import h5py

    found = []
    for source in dataset.virtual_sources():
        begin, shape = _box(source.vspace)
        if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:  # stored without an extent
            source_begin = (0,) * len(begin)
        else:
            source_begin, source_shape = _box(source.src_space)
            if source_shape != shape:
                raise ValueError("A virtual data set maps blocks of unlike shape, expected parts one after another.")
        found.append(Mapped(source.file_name, source.dset_name, begin, shape, source_begin))
    return sorted(found, key=lambda block: block.begin[::-1])


def _box(space: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    low, high = space.get_select_bounds()
    shape = tuple(int(b) - int(a) + 1 for a, b in zip(low, high, strict=True))
    if math.prod(shape) != space.get_select_npoints():
        raise ValueError("A virtual data set takes every n-th sample of a part, expected whole blocks.")
    return tuple(int(a) for a in low), shape


def inside(folder: Path, name: str) -> Path | None:
    """Return the file that a link of this name means, or None if it lies outside the folder, links followed.

    Args:
        folder: Of the file that holds the link.
        name: As it stands in the link.
    """
    if Path(name).is_absolute() or "\\" in name:
        return None
    target = (folder / name).resolve()
    return target if target.is_relative_to(folder.resolve()) else None


def refuse_links(file: Any, folder: Path, virtual: bool = True) -> None:
    """Refuse links that leave the folder, and raw storage beside the file.

    Args:
        file: Open HDF5 file; what its links lead to inside the folder is looked into as well.
        folder: Nothing outside it may be read.
        virtual: Whether the sources of virtual data sets are looked at; a reader that checks them itself says no.

    Raises:
        ValueError: If one is there.
    """
    import h5py

    seen: set[Path] = set()

    def look(open_: Any) -> None:
        for kind, name in _links(open_["/"], h5py):
            if kind == "virtual data set" and not virtual:
                continue
            target = inside(folder, name) if kind != "raw file" else None
            if target is None:
                raise ValueError(
                    f"{label(open_.filename)} holds a {kind} that leaves its folder, which is refused: "
                    "a file from elsewhere could read any file here. Put all its files into one folder."
                )
            if target not in seen and target != Path(open_.filename).resolve():
                seen.add(target)
                if not target.exists():
                    raise ValueError(
                        f"{label(open_.filename)} holds a {kind} to a file that is not in its folder. Put it there."
                    )
                with open_file(target) as other:
                    look(other)

    look(file)


def _links(group: Any, h5py: Any, met: set[int] | None = None) -> Iterator[tuple[str, str]]:
    met = set() if met is None else met
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            yield "link", link.filename
            continue
        if isinstance(link, h5py.SoftLink):
            continue  # stays in the file; what it means is met under its own name
        thing = group[name]
        place = h5py.h5o.get_info(thing.id).addr
        if place in met:  # groups may hold each other
            continue
        met.add(place)
        if isinstance(thing, h5py.Group):
            yield from _links(thing, h5py, met)
        elif isinstance(thing, h5py.Dataset):
            yield from (("raw file", entry[0]) for entry in thing.external or ())
            if thing.is_virtual:
                yield from (("virtual data set", s.file_name) for s in thing.virtual_sources() if s.file_name != ".")


def need_written(dataset: Any, what: str) -> None:
    """Refuse a data set of which something was never written, and load the filter it is packed with.

    Args:
        dataset: Not virtual.
        what: How to call it in an error.

    Raises:
        ValueError: If chunks are missing, or the filter is.
    """
    made = dataset.id.get_create_plist()
    if dataset.external:
        raise ValueError(f"{what} keeps its samples in a raw file beside it, which is refused.")
    for i in range(made.get_nfilters()):
        need_filter(made.get_filter(i)[0], what)
    if 0 in dataset.shape:
        return
    if dataset.chunks is None:
        if dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize and dataset.id.get_offset() is None:
            raise ValueError(f"{what} was made but never written: HDF5 would give zeros. Download it again.")
        return
    expected = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    found = dataset.id.get_num_chunks()
    if found < expected:
        raise ValueError(
            f"{what} is half written: {expected - found} of {expected} chunks are not there, for which HDF5 would "
            "give zeros. Download it again."
        )


def need_filter(code: int, what: str) -> None:
    """Make sure that HDF5 can unpack a filter.

    Raises:
        ValueError: If it cannot.
    """
    import h5py

    if h5py.h5z.filter_avail(code):
        return
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers its filters)
    if not h5py.h5z.filter_avail(code):
        packed = FILTERS.get(code, f"filter {code}")
        raise ValueError(extras.missing("hdf5plugin", f"{what} is packed with {packed}, which"))
