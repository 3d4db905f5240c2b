"""What runs the work: shards, Dask, threads, devices, compiled loops, progress."""
