"""Jobs of `joblib.Parallel` on a Dask cluster, with the errors that joblib's backend keeps to itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from joblib import Parallel, parallel_config

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.threads import thread_count

logger = logging.getLogger(__name__)


class JobsKilledError(Exception):
    """The worker died each time that these jobs were tried.

    Attributes:
        jobs: function, arguments and named arguments of each, in the order in which they ran.
    """

    def __init__(self, jobs: Sequence[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> None:
        super().__init__(f"workers died of {len(jobs)} jobs")
        self.jobs = jobs


def run_on_dask(
    jobs: Iterator[Any], workers: int | None, scheduler: str | None, count: int, attempts: int
) -> Iterator[Any]:
    """Run jobs on a Dask cluster; yield the result of each as it ends.

    Args:
        jobs: made by `joblib.delayed`.
        workers: number of workers; None takes all.
        scheduler: address of a running scheduler; None starts a cluster on this machine.
        count: number of jobs.
        attempts: times a job is tried when its worker dies; a running scheduler has its own number (its
            option `distributed.scheduler.allowed-failures` and once more).

    Raises:
        JobsKilledError: the workers of a job died in all attempts.
        LandmarkRetrievalError: Dask is not installed, or no scheduler answers (any more).
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise LandmarkRetrievalError(
            "executor backend 'dask' is not installed: `pip install 'landmark_retrieval[cluster]'`"
        ) from None
    if scheduler is None:
        client = _local_cluster(min(thread_count(workers or 0), count), attempts)
    else:
        client = _connect(scheduler)
    with client:
        logger.info("Dask dashboard: %s", client.dashboard_link)
        backend = _backend(client, wait_for_workers_timeout=60, retries=attempts - 1)
        try:
            with parallel_config(backend=backend):
                yield from Parallel(n_jobs=workers or -1, return_as="generator_unordered")(jobs)
        except CancelledError:
            raise LandmarkRetrievalError(
                f"the Dask scheduler{f' at {scheduler}' if scheduler else ''} no longer answers; see that it "
                "runs and start the same command again (what is done stays)"
            ) from None


def _backend(client: Any, **options: Any) -> Any:
    from distributed import KilledWorker
    from joblib._dask import DaskDistributedBackend

    # joblib's backend calls back with results and with exceptions inside jobs. Errors of Dask itself (killed
    # workers, jobs that cannot be unpickled) stay in its futures, and the generator waits for ever.
    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int = 1) -> int:
            # For one worker joblib would take this process instead.
            workers: int = super().effective_n_jobs(n_jobs)
            return max(2, workers)

        def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
            def hand_back(job: Future[Any]) -> None:
                error = job.exception()
                if error is not None and callback is not None:
                    callback(JobsKilledError(func.items) if isinstance(error, KilledWorker) else error)

            job = super().submit(func, callback)
            job.add_done_callback(hand_back)
            return job

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

    return Backend(client=client, **options)


def _local_cluster(workers: int, attempts: int) -> Any:
    import dask
    from distributed import Client

    with dask.config.set({"distributed.scheduler.allowed-failures": attempts - 1}):
        # One thread a worker: the robust estimators hold the interpreter's lock.
        return Client(n_workers=workers, threads_per_worker=1)  # type: ignore[no-untyped-call]


def _connect(scheduler: str) -> Any:
    from distributed import Client

    try:
        return Client(scheduler, timeout=30)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise LandmarkRetrievalError(
            f"executor.scheduler: no Dask scheduler answers at '{scheduler}' ({error}); "
            "start one with `dask scheduler` or leave the option out"
        ) from None
