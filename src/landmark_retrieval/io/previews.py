"""What datasets show in kedro-viz: it chooses how by the names of these types."""

from typing import Any, NewType

TablePreview = NewType("TablePreview", dict[str, Any])
"""`index`, `columns` and `data`, as `DataFrame.to_dict("split")` gives them."""

JSONPreview = NewType("JSONPreview", str)
"""JSON text."""

HTMLPreview = NewType("HTMLPreview", str)
"""A whole page."""
