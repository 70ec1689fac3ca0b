"""Commands on weights: import-checkpoint, export."""

from pathlib import Path
from typing import Any, Literal

Source = Literal["itransformer", "patchtst", "timexer", "gateformer", "tslib", "mvpformer", "braindecode"]


def import_checkpoint(
    files: list[Path],
    source: Source,
    out: Path,
    given: dict[str, Any] | None = None,
    config: Path | Literal["none"] | None = None,
    overwrite: bool = False,
) -> None:
    """Convert weights of a model's authors into an exported folder, and account for every key.

    Args:
        files: The authors' state dict (.pth, .pt or .safetensors), or a folder with it; of MVPFormer, its base file,
            then, if wanted, that with adapters and head.
        source: Whose code wrote it.
        out: Folder for config.json and model.safetensors.
        given: What neither shapes nor the configuration tell, by name: `--given.heads 8 --given.context 96`. Of
            MVPFormer also `--given.allow "[key, ...]"`: keys that may be missing, or have no place.
        config: The authors' settings by their names (JSON or YAML); `config.json` beside the weights if not given, or
            none.
        overwrite: Write over files that exist already.

    Raises:
        ValueError: If a key that the model needs is missing, or a setting that no shape tells is not known; nothing is
            written.
    """
    from tsattn import checkpoint, shipped
    from tsattn.contracts import ForecastNetwork, SegmentNetwork, SignalSpec
    from tsattn.convert import convert, find_config, find_weights, read_config, read_state, settings_of
    from tsattn.files import refuse_existing, write_atomically
    from tsattn.layers.classifier import SegmentClassifier

    if len(files) > (2 if source == "mvpformer" else 1):
        raise ValueError(f"{len(files)} files were given, expected one{' or two' * (source == 'mvpformer')}.")
    for name in ("config.json", "model.safetensors", "config.yaml"):
        refuse_existing(out / name, overwrite)
    files = [find_weights(file) for file in files]
    first, *second = (read_state(file) for file in files)
    arguments = dict(given or {})
    place = find_config(files[0]) if config is None else None if str(config) == "none" else Path(config)
    settings = read_config(place) if place is not None else {}
    if second:
        arguments["head"] = second[0]
    converted = convert(source, first, config=settings, **arguments)
    print(converted.report)
    if told := settings_of(source, settings):
        print(f"settings of {place}: {', '.join(f'{name}={value}' for name, value in told.items())}")
    about = {"imported_from": source, "files": [checkpoint.digest(file) for file in files]}
    network = converted.network
    if isinstance(network, ForecastNetwork):
        checkpoint.export(out, network, about=about, overwrite=overwrite)
        text = shipped.config_of(network.recipe, out).encode()
        write_atomically(out / "config.yaml", lambda stream: stream.write(text))
        print(f"written to {out}; score it on a table with: tsattn test -c {out / 'config.yaml'} -c data/etth1.yaml")
        return
    body = network.network if isinstance(network, SegmentClassifier) else network
    assert isinstance(body, SegmentNetwork)
    from tsattn.recordings.preparation.preset import make_preset

    # The authors' recordings: 0.5-120 Hz, median reference, 512 Hz (see the preset).
    preset = make_preset("swec", sfreq=body.sfreq)
    low, high = preset.band or (None, None)
    if high is not None and high >= body.sfreq / 2:
        preset = make_preset("swec", sfreq=body.sfreq, band=(low, None))
    checkpoint.export(out, network, SignalSpec(preset.to_json()), about, overwrite=overwrite)
    band = f"{low:g}-{high:g} Hz" if preset.band == (low, high) else f"from {low:g} Hz on"
    print(
        f"written to {out}; its contract: {body.sfreq:g} Hz, {band}, median reference, microvolts. Fine-tune it with: "
        f"tsattn fit -c detect/mvpformer.yaml --data.store STORE --model.checkpoint {out}"
    )


def export(
    checkpoint: Path,
    out: Path,
    form: Literal["as-is", "merged", "adapter"] = "as-is",
    overwrite: bool = False,
) -> None:
    """Write a trained network as a folder: config.json and model.safetensors, or a patient's adapters alone.

    Args:
        checkpoint: A run's best.ckpt, or an exported folder.
        out: The folder.
        form: as-is; merged (adapters added into the weights); adapter (in the form of peft, for `tsattn detect
            --adapter`: the adapters, the post-processing and, where it was trained beside them, the head).
        overwrite: Write over files that exist already.
    """
    from tsattn import checkpoint as written
    from tsattn.contracts import Network
    from tsattn.layers.classifier import SegmentClassifier
    from tsattn.layers.lora import norms, save_adapters

    loaded: written.Loaded[Network] = written.load(checkpoint)
    network = loaded.network
    about = {**loaded.about, "exported_from": written.digest(checkpoint)}
    if form == "adapter":
        kept = about.get("adapt") == "subject" or not isinstance(network, SegmentClassifier)
        parts = [] if kept else ["head", *(["pool"] if network.pool is not None else [])]
        signal = None if loaded.spec is None else loaded.spec.to_dict()
        base = norms(network.network) if isinstance(network, SegmentClassifier) else None
        save_adapters(out, network, also=parts, overwrite=overwrite, **about, signal=signal, base=base)
    else:
        if form == "merged":
            if not isinstance(network, SegmentClassifier):
                raise ValueError(f"{checkpoint} holds {type(network).__name__}, which has no adapters to merge.")
            network = network.merged()
        written.export(out, network, loaded.spec, about, overwrite=overwrite)
    print(f"written to {out}")
