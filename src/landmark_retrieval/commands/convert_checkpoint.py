"""`kedro convert-checkpoint`: weights of other projects for the descriptors of this one."""

from __future__ import annotations

import click

from landmark_retrieval.commands.errors import plain_errors


@click.command(name="convert-checkpoint")
@click.argument("checkpoint", type=click.Path(dir_okay=False))
@click.argument("output", type=click.Path(dir_okay=False, writable=True))
@click.option("--backbone", help="timm's name of the network, where the checkpoint does not say it.")
@plain_errors
def convert_checkpoint(checkpoint: str, output: str, backbone: str | None) -> None:
    """Convert a CHECKPOINT of another project to OUTPUT: GeM, DIR, SSCD or DELG (docs/backbones.md).

    OUTPUT (.safetensors) holds network, power of the pooling and whitening layer; use it with
    --params gem.trained=true,gem.trained_file=OUTPUT and the backbone that is printed.
    """
    from landmark_retrieval.descriptors.checkpoints import read_checkpoint
    from landmark_retrieval.descriptors.trained import save_trained

    trained = read_checkpoint(checkpoint, backbone)
    save_trained(trained, output)
    power = "none" if trained.power is None else f"{trained.power:.3f}"
    layer = "none" if trained.whitening is None else " x ".join(map(str, trained.whitening[0].shape))
    source, name = trained.facts["source"], trained.facts["backbone"]
    click.echo(f"{source}: {name}, power {power}, whitening layer {layer}")
    click.echo(
        f"use it with --params gem.trained=true,gem.trained_file={output} and "
        f"gem.backbone {{name: {name}, weights: random}}"
    )
