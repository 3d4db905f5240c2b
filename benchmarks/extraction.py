"""Speed of global extraction: as a share of the bare network, and against a plain timm loop.

    python benchmarks/extraction.py [--images FOLDER] [--backbone NAME] [--max-side 480] [--multi-scale]

Prints images per second of (a) the same model on tensors already in memory, in the same batches, (b) the
whole extraction from files, (c) a loop as one writes it: open, timm's transform, one image at a time.
Without a folder, synthetic JPEGs of mixed shapes are written to a temporary one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from landmark_retrieval.descriptors import BackboneConfig, GlobalDescriptorConfig, PoolingConfig
from landmark_retrieval.descriptors.extraction import build_model, describe_images, to_input
from landmark_retrieval.descriptors.forward import forward_of
from landmark_retrieval.descriptors.loading import ImageBatch, iterate_batches, loader_threads
from landmark_retrieval.runtime.devices import choose_device
from landmark_retrieval.runtime.heap import retained_heap

SHAPES = ((640, 480), (480, 640), (1600, 1200), (1024, 683), (800, 800))


def write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        coarse.resize(SHAPES[i % len(SHAPES)], Image.Resampling.BICUBIC).save(
            folder / f"{i:05d}.jpg", quality=90
        )


def seconds(function: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_loop(paths: list[str], config: GlobalDescriptorConfig, device: torch.device) -> None:
    """Describe images as a first script would: one by one, at one scale."""
    network = timm.create_model(config.backbone.name, num_classes=0).eval().to(device)
    normalise = timm.data.create_transform(**timm.data.resolve_model_data_config(network)).transforms[-1]
    with torch.no_grad():
        for path in paths:
            image = Image.open(path).convert("RGB")
            image.thumbnail((config.max_side, config.max_side))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
            features = network.forward_features(normalise(pixels)[None].to(device))
            features.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of JPEGs, read recursively")
    parser.add_argument("--count", type=int, default=60, help="images to describe")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--pooling", choices=["gem", "rmac"], default="gem")
    parser.add_argument("--max-side", type=int, default=480)
    parser.add_argument("--multi-scale", action="store_true", help="three scales instead of one")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["auto", "float32", "float16", "bfloat16"], default="auto")
    arguments = parser.parse_args()
    options = {} if arguments.multi_scale else {"scales": (1.0,)}
    config = GlobalDescriptorConfig(
        backbone=BackboneConfig(name=arguments.backbone, weights="random"),
        pooling=PoolingConfig(kind=arguments.pooling),
        max_side=arguments.max_side,
        batch_size=arguments.batch_size,
        device=arguments.device,
        precision=arguments.precision,
        **options,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.images
        if folder is None:
            folder = Path(temporary)
            write_images(folder, arguments.count)
        paths = [str(path) for path in sorted(folder.rglob("*.jp*g"))][: arguments.count]
        measure(paths, config, arguments.repeats)


def measure(paths: list[str], config: GlobalDescriptorConfig, repeats: int) -> None:
    device = choose_device(config.device)
    model = build_model(config, None)
    batches = [item for item in iterate_batches(paths, config) if isinstance(item, ImageBatch)]
    tensors = [to_input(pixels, model.backbone, device) for batch in batches for pixels in batch.scales]

    forward = forward_of(model.backbone, config.precision, device)

    def bare() -> None:
        with retained_heap(), torch.inference_mode():
            for tensor in tensors:
                model.pooling.regions(forward(tensor))

    ways: dict[str, Callable[[], object]] = {
        "bare network": bare,
        "extraction": lambda: describe_images(paths, config, model=model),
    }
    if len(config.scales) == 1:
        ways["plain timm loop"] = lambda: plain_loop(paths, config, device)
    for function in ways.values():
        function()  # kernels, caches and the file cache are warm
    rounds = [{name: seconds(way, device) for name, way in ways.items()} for _ in range(repeats)]
    times = {name: statistics.median(times[name] for times in rounds) for name in ways}
    print(
        f"{config.backbone.name}, {config.pooling.kind}, {config.max_side} px, {len(config.scales)} scales, "
        f"{len(paths)} images in {len(batches)} batches, {device}, {torch.get_num_threads()} torch threads, "
        f"{loader_threads(config)} loader threads"
    )
    for name, duration in times.items():
        print(f"{name:16s} {len(paths) / duration:8.1f} images/s")
    print(f"extraction / bare network:    {times['bare network'] / times['extraction']:.2f}")
    if "plain timm loop" in times:
        print(f"extraction / plain timm loop: {times['plain timm loop'] / times['extraction']:.2f}")


if __name__ == "__main__":
    main()
