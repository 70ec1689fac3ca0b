"""CPU time per training step and per evaluation against the authors' code, same hyperparameters, one thread, paired.

    OMP_NUM_THREADS=1 python tests/bench/against_authors.py --tslib DIR --itransformer DIR --etth1 ETTh1.csv

`DIR` are checkouts of thuml/Time-Series-Library and thuml/iTransformer, which this project neither holds nor needs.
Both sides train on the same windows of ETTh1 (96 -> 96) with their own optimiser: theirs Adam as in their scripts,
ours fused. The evaluation is theirs at batch 1 with their loader (without workers), decoder input and metrics, but
without its pictures, and ours as `tsattn test` does it.
"""

import argparse
import statistics
import sys
import time
import types
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from tsattn.data.modules import TableData
from tsattn.metrics import ForecastErrors
from tsattn.models.itransformer import ITransformer
from tsattn.models.patchtst import PatchTST
from tsattn.models.timexer import TimeXer

THEIRS = dict(
    task_name="long_term_forecast", features="M", seq_len=96, label_len=48, pred_len=96, enc_in=7, dec_in=7, c_out=7,
    dropout=0.1, factor=3, embed="timeF", freq="h", activation="gelu", output_attention=False, use_norm=True,
    class_strategy="projection", patch_len=16, d_layers=1, top_k=5, num_kernels=6, moving_avg=25, num_class=1,
)  # fmt: skip
STEPS = {
    "PatchTST (TSLib form), batch 32": (
        "PatchTST", dict(d_model=512, d_ff=2048, n_heads=2, e_layers=1), 32,
        lambda: PatchTST(96, 96, d_model=512, d_ff=2048, heads=2, layers=1),
    ),
    "TimeXer, batch 4": (
        "TimeXer", dict(d_model=256, d_ff=2048, n_heads=8, e_layers=1), 4,
        lambda: TimeXer(96, 96, variates=7, d_model=256, d_ff=2048, heads=8, layers=1),
    ),
    "iTransformer, batch 32": (
        "iTransformer", dict(d_model=256, d_ff=256, n_heads=8, e_layers=2), 32,
        lambda: ITransformer(96, 96, d_model=256, d_ff=256, heads=8, layers=2),
    ),
}  # fmt: skip


def load_authors(folder: Path, name: str):
    """Import `Model` of one of the authors' files; a package that it imports and does not use is stubbed."""
    stub = types.ModuleType("reformer_pytorch")
    stub.LSHSelfAttention = object
    sys.modules["reformer_pytorch"] = stub
    for module in [
        m for m in sys.modules if m.partition(".")[0] in ("layers", "utils", "models", "model", "data_provider")
    ]:
        del sys.modules[module]
    sys.path.insert(0, str(folder))
    try:
        return __import__(name, fromlist=["x"])
    finally:
        sys.path.remove(str(folder))


def train_theirs(model: torch.nn.Module, batches: list) -> float:
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-4), torch.nn.MSELoss()
    model.train()
    started = time.process_time()
    for past, marks, future in batches:
        optimizer.zero_grad()
        loss = criterion(model(past, marks, None, None), future)
        loss.backward()
        optimizer.step()
    return (time.process_time() - started) / len(batches)


def train_ours(network: torch.nn.Module, batches: list) -> float:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    network.train()
    started = time.process_time()
    for batch in batches:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(batch.past, batch.known), batch.future).backward()
        optimizer.step()
    return (time.process_time() - started) / len(batches)


def steps(options: argparse.Namespace) -> None:
    for label, (name, sizes, batch_size, make) in STEPS.items():
        data = TableData(table=options.etth1, split=[8640, 2880, 2880], marks="benchmark", batch_size=batch_size)
        data.prepare()
        loader = iter(data.train_dataloader())
        ours = [next(loader) for _ in range(options.steps if batch_size > 4 else 4 * options.steps)]
        theirs = [
            (b.past.transpose(1, 2).contiguous(), b.known[:, :, :96].transpose(1, 2).contiguous(),
             b.future.transpose(1, 2).contiguous()) for b in ours
        ]  # fmt: skip
        model_class = load_authors(options.tslib, f"models.{name}").Model
        ratios, times = [], []
        for _ in range(options.rounds):
            a, b = train_theirs(model_class(Namespace(**{**THEIRS, **sizes})), theirs), train_ours(make(), ours)
            ratios.append(a / b)
            times.append((a, b))
        a, b = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
        print(f"training step, {label}: authors {a:.1f} ms, ours {b:.1f} ms, ratio {statistics.median(ratios):.2f}")


def course(options: argparse.Namespace) -> None:
    """Print validation and test scores of the authors' PatchTST after each epoch: their module, Adam and schedule."""
    torch.manual_seed(2021)
    model_class = load_authors(options.tslib, "models.PatchTST").Model
    model = model_class(Namespace(**{**THEIRS, "d_model": 512, "d_ff": 2048, "n_heads": 2, "e_layers": 1}))
    data = TableData(table=options.etth1, split=[8640, 2880, 2880], marks="benchmark", batch_size=32, seed=2021)
    data.prepare()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def forecast(batch):
        return model(batch.past.transpose(1, 2).contiguous(), None, None, None).transpose(1, 2)

    def scores(loader) -> str:
        errors = ForecastErrors(7)
        with torch.no_grad():
            for batch in loader:
                errors.update(forecast(batch), batch.future)
        return " / ".join(f"{float(value):.4f}" for value in errors.compute().values())

    for epoch in range(options.course):
        optimizer.param_groups[0]["lr"] = 1e-4 * 0.5 ** max(0, epoch - 1)  # their type1
        loader = data.train_dataloader()
        loader.set_epoch(epoch)
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(forecast(batch), batch.future).backward()
            optimizer.step()
        model.eval()
        print(
            f"epoch {epoch + 1}: val {scores(data.val_dataloader())}, test {scores(data.test_dataloader())}", flush=True
        )


def evaluation(options: argparse.Namespace) -> None:
    module = load_authors(options.itransformer, "data_provider.data_loader")
    metrics = load_authors(options.itransformer, "utils.metrics")
    model_class = load_authors(options.itransformer, "model.iTransformer").Model
    theirs = model_class(Namespace(**{**THEIRS, "d_model": 256, "d_ff": 256, "n_heads": 8, "e_layers": 2})).eval()
    ours = ITransformer(96, 96, d_model=256, d_ff=256, heads=8, layers=2).eval()
    table = Path(options.etth1)
    dataset = module.Dataset_ETT_hour(str(table.parent), "test", [96, 48, 96], "M", table.name, timeenc=1, freq="h")
    data = TableData(table=table, split=[8640, 2880, 2880], marks="benchmark")
    data.prepare()
    ratios, times = [], []
    for _ in range(options.rounds):
        started = time.process_time()
        preds, trues = [], []
        with torch.no_grad():
            for past, future, marks, future_marks in torch.utils.data.DataLoader(dataset, batch_size=1):
                past, future, marks, future_marks = (t.float() for t in (past, future, marks, future_marks))
                decoder = torch.cat([future[:, :48], torch.zeros_like(future[:, -96:])], dim=1)  # built and not used
                preds.append(theirs(past, marks, decoder, future_marks).numpy())
                trues.append(future[:, -96:].numpy())
        metrics.metric(np.concatenate(preds), np.concatenate(trues))
        middle = time.process_time()
        errors = ForecastErrors(7)
        with torch.inference_mode():
            for batch in data.test_dataloader():
                errors.update(ours(batch.past, batch.known), batch.future)
        errors.compute()
        done = time.process_time()
        assert len(preds) == int(errors.windows) == 2785
        ratios.append((middle - started) / (done - middle))
        times.append((middle - started, done - middle))
    a, b = (statistics.median(t) for t in zip(*times, strict=True))
    print(
        f"all 2785 test windows, iTransformer: authors {a:.2f} s, ours {b:.2f} s, ratio {statistics.median(ratios):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tslib", type=Path, required=True)
    parser.add_argument("--itransformer", type=Path, required=True)
    parser.add_argument("--etth1", type=Path, required=True, help="ETTh1.csv, not compressed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--course", type=int, default=0, help="only train the authors' PatchTST for so many epochs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.course:
        course(options)
        return
    evaluation(options)
    steps(options)


if __name__ == "__main__":
    main()
