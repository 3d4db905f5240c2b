"""What one MLflow run of a variant holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class VariantRun:
    """One variant of one `kedro run`, ready to be logged.

    Attributes:
        name: name of the variant and of its MLflow run.
        parameters: nested parameters, logged flat.
        metrics: logged under the names that `evaluation.gld` gives them.
        tags: searchable facts (data set, versions).
        tables: file name to table, logged as CSV.
        figures: file name to matplotlib or plotly figure.
        texts: file name to text.
        inputs: data sets it was measured on, by name: the image table, logged with its digest.
        models: models it was measured with, by name, and what they depend on (nested).
    """

    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
