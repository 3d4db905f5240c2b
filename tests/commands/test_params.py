"""The option `--params`: lists and mappings on the command line, and what is said of bad spellings."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from landmark_retrieval.cli import cli
from landmark_retrieval.commands.params import parse_params


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("knn.k=7", {"knn": {"k": 7}}),
        (" knn.k=7 , gem.trained=true,", {"knn": {"k": 7}, "gem": {"trained": True}}),
        ("blend.weights=[0.5,0.5]", {"blend": {"weights": [0.5, 0.5]}}),
        ("blend.weights=[0.5;0.5],seed=5", {"blend": {"weights": [0.5, 0.5]}, "seed": 5}),
        ("a.votes=[[3,3];[3,5]]", {"a": {"votes": [[3, 3], [3, 5]]}}),
        (
            "verification.candidates={blend: 20, aggregated: 10}",
            {"verification": {"candidates": {"blend": 20, "aggregated": 10}}},
        ),
        ("image_root=/photos [2020], b=1", {"image_root": "/photos [2020]", "b": 1}),
        ("label_bridge.min_similarity=-.inf", {"label_bridge": {"min_similarity": float("-inf")}}),
        ("gem.backbone.weights_file=a=b.pth", {"gem": {"backbone": {"weights_file": "a=b.pth"}}}),
        ("variants=null", {"variants": None}),
    ],
)
def test_values(text: str, expected: dict[str, Any]) -> None:
    assert parse_params(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knn.k", "'knn.k' is no name=value; give parameters as"),
        ("knn.k=3,0.5]", "'0.5]' is no name=value"),
        ("=3", "'=3' is no name=value"),
        ("blend.weights=[0.5,0.5", "has a bracket without its ']'"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("search", "photo.jpg"), ("store", "size")])
def test_bad_spellings_name_the_right_one(text: str, message: str, command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*command, "--params", text])
    assert result.exit_code == 2
    assert message in result.output
    assert "name=[1,2] or name=[1;2]" in " ".join(result.output.split())
