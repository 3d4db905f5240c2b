"""`kedro convert-checkpoint`: weights of other projects for the descriptors of this one."""

from __future__ import annotations

from pathlib import Path

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.output import check_output, force_option, writing


@click.command(name="convert-checkpoint")
@click.argument("checkpoint", type=click.Path(dir_okay=False))
@click.argument("output", type=click.Path(dir_okay=False, writable=True))
@click.option("--backbone", help="timm's name of the network, where the checkpoint does not say it.")
@force_option
@plain_errors
def convert_checkpoint(checkpoint: str, output: str, backbone: str | None, force: bool) -> None:
    """Convert a CHECKPOINT of another project to OUTPUT: GeM, DIR, SSCD or DELG (docs/backbones.md).

    OUTPUT (.safetensors) holds network, power of the pooling and whitening layer; use it with
    --params gem.trained=true,gem.trained_file=OUTPUT and the backbone that is printed.
    """
    from landmark_retrieval.descriptors.checkpoints import read_checkpoint
    from landmark_retrieval.descriptors.trained import save_trained

    file = check_output(output, [checkpoint], _is_converted, force)
    trained = read_checkpoint(checkpoint, backbone)
    with writing(file) as temporary:
        save_trained(trained, temporary)
    power = "none" if trained.power is None else f"{trained.power:.3f}"
    layer = "none" if trained.whitening is None else " x ".join(map(str, trained.whitening[0].shape))
    source, name = trained.facts["source"], trained.facts["backbone"]
    click.echo(f"{source}: {name}, power {power}, whitening layer {layer}")
    click.echo(
        f"use it with --params gem.trained=true,gem.trained_file={output} and "
        f"gem.backbone {{name: {name}, weights: random}}"
    )


def _is_converted(file: Path) -> bool:
    """Tell whether a file is a descriptor that this project has written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            return {"source", "backbone"} <= set(stored.metadata() or {})
    except SafetensorError:
        return False
