"""Every number of every configuration model has a range, and takes neither NaN nor infinity by accident."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import ConfigDict, create_model

import landmark_retrieval
from landmark_retrieval.configuration import Configuration, OpenConfiguration
from landmark_retrieval.errors import LandmarkRetrievalError

INFINITE = {("EgtConfig", "t"), ("SweepConfig", "t")}
"""Thresholds in the unit of any edge weight."""

NO_FLOOR = INFINITE | {("LabelBridgeConfig", "min_similarity"), ("SweepConfig", "min_similarity")}
"""Floors that may be -.inf for none."""


def models() -> list[type[Configuration]]:
    for module in pkgutil.walk_packages(landmark_retrieval.__path__, "landmark_retrieval."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    waiting, found = [Configuration], []
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.startswith("landmark_retrieval") and model not in (
            Configuration,
            OpenConfiguration,
        ):
            found.append(model)
    return sorted(found, key=lambda model: model.__name__)


def shapes(annotation: Any) -> Iterator[Any]:
    """Yield for every place of a number in an annotation a function that puts a number there."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        yield lambda number: number
    elif origin is Annotated:
        yield from shapes(arguments[0])
    elif origin in (Union, UnionType):
        for part in arguments:
            yield from shapes(part)
    elif origin is tuple:
        length = 1 if arguments[-1] is Ellipsis else len(arguments)
        for inner in shapes(arguments[0]):
            yield lambda number, inner=inner: [inner(number)] * length
    elif origin is dict:
        for inner in shapes(arguments[1]):
            yield lambda number, inner=inner: {"blend": inner(number)}
    elif origin is not Literal and not isinstance(annotation, type):
        raise AssertionError(f"{annotation}: say here where its numbers are")


NUMBERS = [
    pytest.param(model, name, put, id=f"{model.__name__}.{name}-{place}")
    for model in models()
    for name, field in model.model_fields.items()
    for place, put in enumerate(shapes(field.rebuild_annotation()))
]


def refused(model: type[Configuration], name: str, value: Any) -> bool:
    """Tell whether a field alone refuses a value."""
    field = model.model_fields[name]
    alone = create_model(
        "Alone", __config__=ConfigDict(allow_inf_nan=False), **{name: (field.annotation, field)}
    )
    try:
        alone.model_validate({name: value})
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(("model", "name", "put"), NUMBERS)
def test_numbers_have_a_range(model: type[Configuration], name: str, put: Any) -> None:
    field = (model.__name__, name)
    assert refused(model, name, put(math.nan))
    assert refused(model, name, put(-math.inf)) == (field not in NO_FLOOR)
    assert refused(model, name, put(math.inf)) == (field not in INFINITE)
    if field not in NO_FLOOR:
        assert refused(model, name, put(-(10**12)))
    if field not in INFINITE:
        assert refused(model, name, put(10**12))


@pytest.mark.parametrize(
    ("model", "name"),
    sorted({(param.values[0], param.values[1]) for param in NUMBERS if param.values[1] == "seed"}, key=str),
)
def test_seeds_are_what_every_library_takes(model: type[Configuration], name: str) -> None:
    assert refused(model, name, -1)
    assert refused(model, name, 2**32)
    assert not refused(model, name, 2**32 - 1)


def test_many_models_are_looked_at() -> None:
    assert len({param.values[0] for param in NUMBERS}) > 25


def test_all_faults_of_a_model_are_named_at_once() -> None:
    from landmark_retrieval.verification import VerificationConfig

    values = {
        "min_inliers": -1,
        "seed": -1,
        "ransac": {"treshold": 3, "threshold": 0, "confidence": math.nan},
        "matching": {"ratio": 2},
        "candidates": {"blnd": 10},
        "turn": True,
    }
    with pytest.raises(LandmarkRetrievalError) as caught:
        VerificationConfig.model_validate(values)
    message = str(caught.value)
    for part in (
        "option 'min_inliers' should be greater than or equal to 4",
        "option 'seed' should be greater than or equal to 0",
        "unknown option 'treshold': did you mean 'threshold'? options here are method, ",
        "option 'ransac.threshold' should be greater than 0",
        "option 'ransac.confidence' should be a finite number",
        "option 'matching.ratio' should be less than or equal to 1",
        "unknown list 'blnd': did you mean 'blend'?",
        "unknown option 'turn': did you mean 'turns'?",
    ):
        assert part in message, part
    assert message.count("; ") == 7
