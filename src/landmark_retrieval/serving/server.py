"""The service: a collection that is searched, grown and looked at over HTTP, and its page."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

import landmark_retrieval
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.serving.access import Guard
from landmark_retrieval.serving.api import add_api
from landmark_retrieval.serving.collection import Collection, Holder
from landmark_retrieval.serving.metrics import Measured, Metrics
from landmark_retrieval.serving.schemas import Problem
from landmark_retrieval.serving.site import add_page
from landmark_retrieval.serving.uploads import drain
from landmark_retrieval.serving.work import BusyError, Work

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "Given a photo, finds every photo of the same place in a collection, says how probable each result is "
    "and why, and says so when there is none. Every refusal is one JSON line with `detail`."
)

PROBLEMS = {
    400: "The request cannot be read",
    401: "The token is missing or wrong",
    403: "The request comes from another site",
    404: "There is no such photo",
    405: "There is no such method here",
    408: "The photo did not arrive in time",
    413: "The photo is too large",
    422: "There is no photo that can be read, or a parameter is out of its range",
    429: "Too much is waiting; `Retry-After` says when to come back",
    503: "The collection is being opened; `Retry-After` says when to come back",
}


@dataclass(frozen=True)
class Options:
    """How a service behaves.

    Attributes:
        max_mib: largest photo in MiB.
        hosts: names by which requests may call it (against DNS rebinding); `*` for any.
        token: that requests must carry; None for none.
        workers: searches at once; 0 for one a core.
        waiting: requests that may wait.
        threads: of the numerical libraries for each search.
    """

    max_mib: float = 16.0
    hosts: tuple[str, ...] = ("*",)
    token: str | None = None
    workers: int = 0
    waiting: int = 32
    threads: int = 1


def create_app(
    opened: Callable[[], Collection],
    options: Options | None = None,
    failed: Callable[[Exception], None] | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        opened: opens the collection; called in a thread when the application starts, which answers `/health`
            and `/ready` meanwhile.
        options: how it behaves.
        failed: told why the collection could not be opened.
    """
    options = options or Options()
    holder = Holder()
    work = Work(options.workers, options.waiting, options.threads)

    def open_collection() -> None:
        try:
            holder.open(opened())
        except Exception as error:
            holder.failure = error
            if failed is not None:
                failed(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=open_collection, name="open", daemon=True).start()
        yield
        work.close()

    app = FastAPI(
        title="Landmark retrieval",
        version=landmark_retrieval.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={code: {"model": Problem, "description": text} for code, text in PROBLEMS.items()},
    )
    metrics = Metrics(work, lambda: 0 if holder.collection is None else len(holder.collection))
    add_api(app, holder, work, metrics, int(options.max_mib * 2**20))
    add_page(app, holder, work, options.max_mib)
    _add_docs(app)
    _add_refusals(app)
    app.add_middleware(Guard, token=options.token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(options.hosts))
    app.add_middleware(Measured, metrics=metrics)
    return app


def _add_docs(app: FastAPI) -> None:
    """Add the documentation of the interface, whose script comes from here and not from the internet."""
    from fastapi.openapi.docs import get_swagger_ui_html

    folder = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/assets", StaticFiles(directory=folder))

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{app.title}: the interface",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )


def _add_refusals(app: FastAPI) -> None:
    """Say every problem in one JSON line."""

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        await drain(request)
        return JSONResponse({"detail": str(error)}, 429, {"retry-after": str(error.seconds)})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        await drain(request)
        problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    @app.exception_handler(405)
    async def no_such_method(request: Request, error: Exception) -> Response:
        matching = [
            route
            for route in app.routes
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        ]
        same = [route for route in matching if route.path_format == matching[0].path_format]
        allowed = sorted({method for route in same for method in route.methods or ()})
        return JSONResponse({"detail": "there is no such method here"}, 405, {"allow": ", ".join(allowed)})

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody is there to read it

    @app.exception_handler(LandmarkRetrievalError)
    async def unusable(request: Request, error: LandmarkRetrievalError) -> Response:
        logger.warning("a request was refused: %s", " ".join(str(error).split()))  # it may name files
        return JSONResponse({"detail": "this cannot be done; the log of the service says why"}, 422)
