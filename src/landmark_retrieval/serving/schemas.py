"""What the service answers, as pydantic models: the source of `/openapi.json` and of `/docs`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PHOTO = {
    "id": "sacre_coeur_02",
    "picture": "/api/photos/sacre_coeur_02",
    "thumbnail": "/api/photos/sacre_coeur_02/thumbnail",
}
"""An example of a photo."""

MATCH = {
    **PHOTO,
    "rank": 1,
    "landmark": "sacre_coeur",
    "probability": 0.998,
    "evidence": "verified",
    "why": "verified: 84 matched points agree",
    "inliers": 84,
    "region": {"photo": [12.0, 40.5, 600.0, 431.0], "match": [30.5, 22.0, 580.0, 402.0]},
    "through": [],
    "similarity": 0.71,
}


def example(**values: Any) -> ConfigDict:
    """Return the settings of a model that shows an example in `/docs`."""
    return ConfigDict(frozen=True, json_schema_extra={"examples": [values]})


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    model_config = example(detail="the photo is larger than 16 MiB")

    detail: str


class Photo(BaseModel):
    """A photo of the collection and the addresses of its pictures, relative to the service."""

    model_config = example(**PHOTO)

    id: str
    picture: str = Field(description="address of the whole picture")
    thumbnail: str = Field(description="address of a JPEG of at most 400 pixels a side")


class Region(BaseModel):
    """Where two photos agree: left, top, right, bottom of what the inliers of their match cover."""

    photo: tuple[float, float, float, float] = Field(description="pixels of the photo that was sent")
    match: tuple[float, float, float, float] = Field(description="pixels of the photo that was found")


class Match(Photo):
    """A photo that was found, what it is worth and why."""

    model_config = example(**MATCH)

    rank: int = Field(ge=1)
    landmark: str = Field(description="name of its landmark, empty where not known")
    probability: float = Field(ge=0, le=1, description="P(same place); 0 where only similarity speaks for it")
    evidence: Literal["verified", "path", "label", "none"]
    why: str = Field(description="the evidence in words")
    inliers: int | None = Field(description="points that agree; null where the two were not compared")
    region: Region | None = Field(description="where the two agree; null without a verified match")
    through: list[Photo] = Field(description="the photos between, for evidence by a path or a label")
    similarity: float | None = Field(description="inner product of descriptors, where it is a neighbour")


class Named(BaseModel):
    """The landmark that labels name."""

    model_config = example(name="sacre_coeur", probability=0.998)

    name: str
    probability: float = Field(ge=0, le=1)


class Answer(BaseModel):
    """What was found for a photo."""

    model_config = example(
        found=True,
        probability=0.998,
        landmark={"name": "sacre_coeur", "probability": 0.998},
        turn=0,
        seconds=1.42,
        results=[MATCH],
    )

    found: bool = Field(description="whether anything here shows the place of the photo")
    probability: float = Field(ge=0, le=1, description="that at least one of the results shows it")
    landmark: Named | None = Field(description="null where labels name none")
    turn: int = Field(description="degrees by which the photo was turned to be like the collection")
    seconds: float = Field(ge=0, description="that the search took")
    results: list[Match] = Field(description="best first")


class Added(BaseModel):
    """The photos that were added, in the order in which they were sent."""

    model_config = example(added=[PHOTO])

    added: list[Photo]


class Group(BaseModel):
    """Photos of one place."""

    model_config = example(size=2, photos=[PHOTO, {**PHOTO, "id": "sacre_coeur_03"}])

    size: int = Field(ge=1)
    photos: list[Photo] = Field(description="at most as many as were asked for")


class Groups(BaseModel):
    """Groups of photos of one place, the largest first; photos without a partner are in none."""

    model_config = example(total=7, groups=[{"size": 1, "photos": [PHOTO]}])

    total: int = Field(ge=0, description="number of all groups")
    groups: list[Group]


class Health(BaseModel):
    """The process answers."""

    model_config = example(status="ok")

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The collection is open and can be searched."""

    model_config = example(status="ready", collection="demo", photos=31)

    status: Literal["ready"] = "ready"
    collection: str
    photos: int = Field(ge=0)
