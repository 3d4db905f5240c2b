"""Groups of finished runs against labels, which grouping does not see.

    python -m benchmarks.groups SET-DIGEST [...] [--data DIR] [--labels TABLE] [--show 20]

Reads the links and the image table that `kedro run` left below DIR. Precision is the share of pairs of
photos in one group that show one landmark, recall the share of all pairs of one landmark that are in one
group; pairs of two photos without a landmark count for neither. Connected components of the same links stand
beside it. For a run that was made without labels `--labels` gives a table with `path` and `landmark_id`; its
rows are found by the names of files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.collection.groups import GroupsConfig, group_photos


def count_pairs(parts: Sequence[Sequence[int]], labels: Sequence[str]) -> tuple[int, int]:
    """Return the pairs in one part of which a label is known, and how many of them carry one label."""
    known = right = 0
    for part in parts:
        for one, two in combinations((labels[row] for row in part), 2):
            known += bool(one or two)
            right += bool(one and one == two)
    return known, right


def line(name: str, parts: Sequence[Sequence[int]], labels: Sequence[str], compared: Sequence[int]) -> str:
    """Return precision and recall of a division in one line."""
    known, right = count_pairs(parts, labels)
    _, all_pairs = count_pairs([compared], labels)
    photos = sum(map(len, parts))
    return (
        f"  {name}: precision {right / max(known, 1):.3f} ({known - right} of {known} pairs wrong), "
        f"recall {right / max(all_pairs, 1):.3f} of {all_pairs}; "
        f"{len(parts)} groups, {photos} of {len(compared)} photos"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--show", type=int, default=20, help="wrong pairs of photos named at most")
    arguments = parser.parse_args()
    for name in arguments.sets:
        images = pd.read_csv(
            arguments.data / "02_intermediate" / name / "image_table.csv", dtype=str, keep_default_na=False
        )
        labels = images["landmark_id"].tolist()
        if arguments.labels:
            truth = pd.read_csv(arguments.labels, dtype=str, keep_default_na=False)
            of = {
                Path(path).name: label
                for path, label in zip(truth["path"], truth["landmark_id"], strict=True)
            }
            labels = [of.get(Path(path).name, "") for path in images["path"]]
        links = pd.read_parquet(arguments.data / "05_model_input" / name / "photo_links.parquet")
        compared = range(SplitRows.from_table(images).train.start)
        rows, p = links[["row_a", "row_b"]].to_numpy(np.int64), links["probability"].to_numpy(np.float32)
        config = GroupsConfig()
        strong = rows[p >= config.min_probability].tolist()
        components = [sorted(part) for part in nx.connected_components(nx.Graph(strong))]
        groups = group_photos(rows, p, len(images), config)
        parts = [members.tolist() for members in groups.members().values()]
        print(f"{name}: {len(strong)} of {len(links)} tried pairs are links")
        print(line("groups", parts, labels, compared))
        print(line("connected components", components, labels, compared))
        ids = images["image_id"].tolist()
        shown = [
            f"    {ids[a]} {ids[b]} {inliers} inliers, {probability:.3f}"
            for a, b, inliers, probability in zip(*rows.T.tolist(), links["inliers"], p.tolist(), strict=True)
            if probability >= config.min_probability
            and groups.group[a] == groups.group[b]
            and (labels[a] or labels[b])
            and labels[a] != labels[b]
        ]
        print(
            "\n".join([f"  {len(shown)} links inside groups join different labels", *shown[: arguments.show]])
        )


if __name__ == "__main__":
    main()
