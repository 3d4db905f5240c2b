"""What Prometheus reads: requests, their seconds, work at hand, photos."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landmark_retrieval.serving.work import Work

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one service.

    Args:
        work: whose load is shown.
        photos: gives the number of photos in the collection.
    """

    def __init__(self, work: Work, photos: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("landmark_requests", "Answered requests", names, registry=self.registry)
        self.seconds = Histogram(
            "landmark_request_seconds",
            "From request to answer",
            ("route",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._gauge("landmark_work_running", "Searches and additions at work", lambda: work.running)
        self._gauge("landmark_work_waiting", "Requests that wait", lambda: work.admitted - work.running)
        self._gauge("landmark_photos", "Photos in the collection", photos)
        ProcessCollector(registry=self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)


class Measured:
    """Middleware that counts answers.

    Args:
        app: whose answers are counted.
        metrics: that keep the counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            # The pattern of an address, not the address: ids would make a series each.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(scope["method"], route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
