"""Readers: what a data set is on disk becomes one image table."""
