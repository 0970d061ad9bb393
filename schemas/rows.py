"""
The recipients of a callback: a list of rows, each checked by itself.

A row is what its marshmallow schema says. As a push may have thousands of them, they take a shorter way through the
same fields; so do whole messages, of which each callback is one.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, missing

from schemas.fields import InvalidRow, ProviderField, flatten


class Rows(ProviderField):
    """
    A list of rows, each loaded by its own schema: the loaded row, or an ``InvalidRow`` in its place.

    An absent or empty list is refused, and so is one without a single valid row.
    """

    expected = "a list with at least one entry"
    json: ClassVar[Mapping[str, Any]] = {"type": "array", "minItems": 1}

    def __init__(self, row: Schema, **kwargs: Any) -> None:
        self.row = row
        self._load = shortened(row)
        super().__init__(required=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self.refuse()
        rows: list[Any] = []
        refused = {}
        for index, row in enumerate(value):
            try:
                rows.append(self._load(row))
            except ValidationError as error:
                refused[index] = error.messages
                rows.append(InvalidRow(index, flatten(error.messages)))
        if len(refused) == len(rows):
            raise ValidationError(refused)
        return rows


@cache
def shortened(schema: Schema) -> Callable[[Any], Any]:
    """
    ``schema.load``, by a shorter way through the schema's own fields.

    Raises what that raises, with the same messages. Schemas with more than fields (hooks, validators) have no shorter
    way, and what is no dict is refused by marshmallow itself.
    """
    fields = [(field.data_key or name, name, field) for name, field in schema.load_fields.items()]
    if schema.many or schema.partial or schema.unknown != EXCLUDE or any(schema._hooks.values()):
        return schema.load
    if any(_has_more(field) for _, _, field in fields):
        return schema.load
    steps = [(key, name, field.deserialize, field._deserialize) for key, name, field in fields]

    def load(row: Any) -> Any:
        if type(row) is not dict:
            return schema.load(row)
        loaded = {}
        refused = {}
        for key, name, deserialize, read in steps:
            value = row.get(key, missing)
            try:
                # Of a field without validators, all that marshmallow does with a value that is there is to read it.
                loaded[name] = (deserialize if value is None or value is missing else read)(value, key, row)
            except ValidationError as error:
                refused[key] = error.messages
        if refused:
            raise ValidationError(refused)
        return loaded

    return load


def _has_more(field: Any) -> bool:
    is_left_out = field.load_default is missing and not field.required
    is_elsewhere = field.attribute is not None
    return bool(is_left_out or is_elsewhere or field.validators or field.pre_load or field.post_load)
