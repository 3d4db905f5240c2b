"""Experiments: sweeps and tables that compare options on what a run has stored."""
