from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError


class Small(Configuration):
    name: Literal["small"]
    size: int = Field(default=1, ge=1)


class Large(Configuration):
    name: Literal["large"]
    size: float = 1.0


class Options(Configuration):
    images: int = 10
    scales: tuple[float, ...] = (1.0,)
    limit: int | Literal["auto"] = "auto"
    kind: Annotated[Small | Large, Field(discriminator="name")] = Small(name="small")
    group: Large = Large(name="large")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "many"}, "option 'images' should be a valid integer, got \"many\""),
        ({"scales": 1.5}, "option 'scales' should be a list, got 1.5"),
        ({"scales": [1, "x"]}, "option 'scales.1' should be a valid number, got \"x\""),
        ({"limit": "x"}, "option 'limit' should be a valid integer or 'auto', got \"x\""),
        ({"kind": {"name": "tiny"}}, "option 'kind.name' should be one of 'small', 'large', got \"tiny\""),
        (
            {"kind": {"name": "small", "size": 0}},
            "option 'kind.size' should be greater than or equal to 1, got 0",
        ),
        ({"group": 3}, "option 'group' should be a group of options, got 3"),
        ({"group": {}}, "option 'group.name': Field required"),
        (3, "should be a group of options, got 3"),
        (
            {"images": "a", "scales": 2},
            "option 'images' should be a valid integer, got \"a\"; option 'scales' should be a list, got 2",
        ),
    ],
)
def test_bad_values_are_named_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(LandmarkRetrievalError) as caught:
        Options.model_validate(values)
    assert str(caught.value) == message


def test_good_values() -> None:
    assert Options.model_validate({"images": 3, "kind": {"name": "large"}}).kind == Large(name="large")
