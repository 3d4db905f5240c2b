"""Kedro datasets of figures, written whole; apart from the others, as they load what draws."""

from __future__ import annotations

from kedro_datasets import matplotlib, plotly

from landmark_retrieval.io.whole import WrittenWhole


class MatplotlibDataset(WrittenWhole, matplotlib.MatplotlibDataset):
    """A figure as a picture."""


class PlotlyDataset(WrittenWhole, plotly.JSONDataset):
    """An interactive figure."""
