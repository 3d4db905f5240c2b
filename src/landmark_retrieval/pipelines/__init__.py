"""The stages of the paper as Kedro pipelines: declarations and thin nodes; the work is in the packages."""
