"""How pages are made of templates."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


@lru_cache
def template(name: str, package: str = "reporting") -> Template:
    """Return a template of a package; what it is given is escaped.

    Args:
        name: file in the package's folder `templates`.
        package: package of this project; the style sheets of `reporting` are there for all.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader(f"landmark_retrieval.{owner}") for owner in dict.fromkeys((package, "reporting"))]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)
