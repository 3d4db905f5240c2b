"""The page on which photos are dropped, and what is found for them."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from landmark_retrieval.reporting.templating import template
from landmark_retrieval.serving import schemas
from landmark_retrieval.serving.api import Results, found_in, served
from landmark_retrieval.serving.collection import Holder, answer_of
from landmark_retrieval.serving.work import Work


def render_answer(name: str, answer: schemas.Answer) -> str:
    """Return what was found for one photo as a piece of HTML; the browser puts its own picture of it in.

    Args:
        name: of the photo.
        answer: what was found.
    """
    return template("answer.html.j2", "serving").render(name=name, answer=answer)


def render_upload_page(data_set: str, photos: int, max_mib: float) -> str:
    """Return the page where photos are dropped.

    Args:
        data_set: name of the collection.
        photos: that it has.
        max_mib: largest photo in MiB.
    """
    return template("upload.html.j2", "serving").render(data_set=data_set, photos=photos, max_mib=max_mib)


def add_page(app: FastAPI, holder: Holder, work: Work, max_mib: float) -> None:
    """Add the page on which photos are dropped, and what it is made of.

    Args:
        app: the application.
        holder: of the collection.
        work: runs searches.
        max_mib: largest photo in MiB.
    """

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        collection = served(holder)
        return render_upload_page(collection.name, len(collection), max_mib)

    @app.get("/page.css", include_in_schema=False)
    def style() -> Response:
        return Response(_asset("report.css", "reporting") + _asset("search.css"), media_type="text/css")

    @app.get("/page.js", include_in_schema=False)
    def script() -> Response:
        return Response(_asset("page.js"), media_type="text/javascript")

    @app.get("/icon.svg", include_in_schema=False)
    def icon() -> Response:
        return Response(_asset("icon.svg"), media_type="image/svg+xml")

    @app.post("/search", response_class=HTMLResponse, include_in_schema=False)
    async def results_as_page(request: Request, name: str = "photo", results: Results = 20) -> str:
        found = await found_in(request, holder, work, int(max_mib * 2**20), results)
        return render_answer(name[:200], answer_of(found))


def _asset(name: str, package: str = "serving") -> str:
    return (resources.files(f"landmark_retrieval.{package}") / "templates" / name).read_text(encoding="utf-8")
