"""One file that forecasts without tsattn: network and statistics of the table, by torch.export or AOTInductor.

Ours. The batch size is free; everything else is fixed. What comes in and goes out is in the table's units.
"""

import copy
import io
import shutil
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn import files
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.panel import hidden_rows
from tsattn.layers.mvpa import MVPAttention


class InUnits(nn.Module):
    """A network that reads and forecasts values in its table's units.

    Args:
        network: In eval mode.
        spec: Of its table.
    """

    mean: Tensor
    scale: Tensor
    known_mean: Tensor
    known_scale: Tensor
    hidden: Tensor

    def __init__(self, network: ForecastNetwork, spec: TableSpec) -> None:
        super().__init__()
        self.network, self.targets = network, spec.targets
        for name, values in (
            ("mean", spec.mean),
            ("scale", spec.scale),
            ("known_mean", [mean for mean, _ in spec.known_statistics]),
            ("known_scale", [scale for _, scale in spec.known_statistics]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64)[:, None])
        hidden = torch.zeros(len(spec.known_rows), network.context + network.horizon, dtype=torch.bool)
        hidden[hidden_rows(spec), network.context :] = True  # what is not known ahead
        self.register_buffer("hidden", hidden)

    def forward(
        self, past: Float[Tensor, "batch variate context"], known: Float[Tensor, "batch known total"] | None = None
    ) -> Float[Tensor, "batch target horizon *level"]:
        """Forecast; NaN is missing."""
        scaled = ((past - self.mean) / self.scale).to(past.dtype)
        if known is not None:
            known = ((known - self.known_mean) / self.known_scale).to(past.dtype).masked_fill(self.hidden, 0.0)
        observed = ~scaled.isnan() if self.network.reads_missing else None
        forecast = self.network(scaled, known, observed)[:, : self.targets]
        mean, scale = self.mean[: self.targets], self.scale[: self.targets]
        if forecast.ndim == 4:
            mean, scale = mean[..., None], scale[..., None]
        return (forecast.double() * scale + mean).to(past.dtype)


def export(
    network: ForecastNetwork, spec: TableSpec, path: str | Path, *, compile: bool = False, overwrite: bool = False
) -> Path:
    """Write a `.pt2` file; see `Forecaster.export`.

    Raises:
        ValueError: If the name has another ending.
        FileExistsError: If it is there already and `overwrite` is False.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"path is {path}, expected a name that ends in .pt2.")
    files.refuse_existing(path, overwrite)
    network = copy.deepcopy(network)
    for part in network.modules():
        if isinstance(part, MVPAttention):
            part.backend = "reference"  # plain torch: an operator of ours would not be there
    module = InUnits(network, spec).eval()
    variates = network.variates or len(spec.variates)
    device = next(network.parameters()).device
    past = torch.randn(2, variates, network.context, device=device)
    total = network.context + network.horizon
    rows = len(spec.known_rows) if network.reads_known else 0
    known = torch.randn(2, rows, total, device=device) if rows else None
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    program = torch.export.export(
        module,
        (past, known) if known is not None else (past,),
        dynamic_shapes={"past": {0: batch}} | ({"known": {0: batch}} if known is not None else {}),
    )
    if compile:
        with tempfile.TemporaryDirectory() as folder:
            made = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / path.name))
            with open(made, "rb") as source:
                files.write_atomically(path, lambda file: shutil.copyfileobj(source, file))
        return path
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    files.write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path
