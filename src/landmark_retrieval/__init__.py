"""Landmark Retrieval: given a photo, find every photo of the same landmark."""

__version__ = "0.1.0"
