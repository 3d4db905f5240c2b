"""How pages are made of templates."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@lru_cache
def template(name: str) -> Template:
    """Return a template of this package; what it is given is escaped."""
    environment = Environment(
        loader=PackageLoader("landmark_retrieval.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)
