"""Intervals for a forecaster that is trained: offsets of its forecasts, from what it got wrong lately.

Split conformal prediction, Vovk et al. (2005); around quantiles, Romano et al. (2019), arXiv:1905.03222; scaled errors,
Lei et al. (2018), arXiv:1604.04173. The offsets themselves are in `layers/probabilistic.py`, so that they are saved and
exported with the network.
"""

import copy
import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsattn.data import panel as panels
from tsattn.data.panel import Panel
from tsattn.forecasting.learning import part_starts, rows_of
from tsattn.forecasting.predictor import Predictor, check_answer, inputs_of
from tsattn.layers.probabilistic import CalibratedForecaster, intervals_loss

log = logging.getLogger(__name__)

USUAL = (0.05, 0.1, 0.5, 0.9, 0.95)


@torch.no_grad()
def calibrate(
    predictor: Predictor, panel: Panel, levels: tuple[float, ...] | None, size: int | float, local: bool | None
) -> tuple[CalibratedForecaster, dict[str, Any]]:
    """Give a trained network intervals by its errors in the last windows of a table.

    Args:
        predictor: The network at work; it is copied.
        panel: The table.
        levels: None: those of the network, or of a point `USUAL`.
        size: Last rows of each item, or their share of it, whose windows count.
        local: As in `Forecaster.calibrate`.

    Returns:
        A network around the copy, in eval mode on the same device, and how it was made, in plain data.

    Raises:
        ValueError: If there are fewer windows than the outermost level needs.
    """
    spec, context, horizon = predictor.spec, predictor.context, predictor.horizon
    network = predictor.network
    network = copy.deepcopy(network.network if isinstance(network, CalibratedForecaster) else network)
    levels = levels if levels is not None else network.levels or USUAL
    ends, rows = panel.begins[1:], rows_of(size, panel.lengths)
    starts = part_starts(panel.begins, ends - rows, ends, context, horizon, reach_back=True)
    if not len(starts):
        raise ValueError(
            f"The last {int(rows.max())} rows hold no window of {context} + {horizon} steps, expected some to "
            "calibrate with; pass a longer table or a larger `size`."
        )
    starts = starts[torch.from_numpy(np.argsort(np.asarray(panel.times[starts.numpy()]), kind="stable"))]
    forecasts, futures, pasts = [], [], []
    for batch in predictor.batches(panels.make_windows(panel, spec, context, horizon), starts):
        forecast = network(*inputs_of(batch))[:, : spec.targets]
        check_answer(forecast, spec, network, batch.past)
        forecasts.append(forecast)
        futures.append(batch.future)
        pasts.append((batch.past, batch.observed))
    forecast, future = torch.cat(forecasts), torch.cat(futures)

    def wrapped(local: bool) -> tuple[CalibratedForecaster, Tensor]:
        made = CalibratedForecaster(network, levels, targets=spec.targets, local=local).eval()
        return made.to(predictor.device), torch.cat([made.spread(*past) for past in pasts])

    if local is None:
        own, alike = (intervals_loss(forecast, future, wrapped(each)[1], levels) for each in (True, False))
        local = own <= alike
        if not math.isfinite(min(own, alike)):
            log.warning("%d windows are too few to compare both kinds of intervals: they are `local`.", len(starts))
            local = True
    made, spread = wrapped(local)
    made.fit_offsets(forecast, future, spread)
    return made, {"windows": len(starts), "levels": list(levels), "local": made.local}
