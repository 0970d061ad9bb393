"""What requests hold, as JSON Schema: made by apispec of the schemas that read them."""

from collections.abc import Iterable, Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from receiver.providers import Provider
from receiver.providers.shared.contract import BodyKind
from schemas.fields import Generous, StatusWord
from schemas.job import JOB
from schemas.rows import Rows

OPENAPI = "3.1.1"
MEDIA_TYPES = {
    BodyKind.FORM: ("application/x-www-form-urlencoded", "multipart/form-data"),
    BodyKind.XML: ("application/xml", "text/xml"),
    BodyKind.JSON: ("application/json",),
}


class Bodies:
    """
    The request bodies of these providers and of ``POST /jobs``.

    content: media type -> schema. query: of the fields that may come in the query string. components: the schemas that
    both refer to.
    """

    def __init__(self, providers: Iterable[Provider]) -> None:
        self._spec, self._converter = _spec()
        self._found: dict[str, list[dict[str, Any]]] = {}
        self.query: list[dict[str, Any]] = []
        for provider in providers:
            if provider.callback is not None:
                self._add(provider)
        self.job = self._component("JobToExpect", JOB)

    @property
    def content(self) -> dict[str, Any]:
        return {kind: {"schema": {"anyOf": found}} for kind, found in sorted(self._found.items())}

    @property
    def components(self) -> dict[str, Any]:
        schemas: dict[str, Any] = self._spec.to_dict()["components"]["schemas"]
        return {name: _nested(schema) for name, schema in sorted(schemas.items())}

    def _add(self, provider: Provider) -> None:
        callback = provider.push
        schema = self._component(_name(callback.schema), callback.schema)
        if callback.within is not None:
            document = {"type": "string", "contentMediaType": "application/xml", "contentSchema": schema}
            schema = {"type": "object", "required": [callback.within], "properties": {callback.within: document}}
        for kind in sorted(callback.kinds):
            for media_type in MEDIA_TYPES[kind]:
                self._found.setdefault(media_type, []).append(schema)
        if callback.batch is not None:
            rows = self._converter.field2property(callback.schema.fields[_attribute(callback.schema, callback.batch)])
            self._found["application/json"].append(rows)
        if callback.query:
            self.query.append(schema)

    def _component(self, name: str, schema: Schema) -> dict[str, Any]:
        self._spec.components.schema(name, schema=schema)
        return {"$ref": f"#/components/schemas/{name}"}


def _attribute(schema: Schema, wire_name: str) -> str:
    return next(name for name, field in schema.fields.items() if field.data_key == wire_name)


def _spec() -> tuple[APISpec, Any]:
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec("", "", OPENAPI, plugins=[plugin])
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_understood)
    return spec, plugin.converter


def _name(schema: Any) -> str:
    """Of a row or part: with the module's name, as several have a Recipient. One within another is ``_Private``."""
    module = type(schema).__module__.rpartition(".")[2].replace("_", " ").title().replace(" ", "")
    return f"{module}{type(schema).__name__.strip('_')}"


def _understood(converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """What a field of ours takes, which apispec cannot know."""
    known: Mapping[str, Any] | None = getattr(field, "json", None)
    if known is None:
        return {}
    said = dict(known)
    if isinstance(field, Rows):
        said["items"] = converter.resolve_nested_schema(field.row)
    if isinstance(field, StatusWord) and field.words:
        said = {"type": "string", "enum": sorted(field.words)}
    if isinstance(field, Generous):
        return {"description": f"{field.expected}; anything else is no reason to refuse, and counts as not stated"}
    if field.allow_none:
        said.pop("minLength", None)  # blank says as much as nothing
        types = said.get("type", [])
        said["type"] = [*([types] if isinstance(types, str) else types), "null"]
    said["description"] = str(getattr(field, "expected", ""))
    return said


def _nested(schema: dict[str, Any]) -> dict[str, Any]:
    """Fields with dotted names stand in a part of that name; those that begin with # are made here and never sent."""
    properties: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        part, dot, own = name.partition(".")
        if dot:
            properties.setdefault(part, {"type": "object", "properties": {}})["properties"][own] = field
        elif not name.startswith("#"):
            properties[name] = field
    required = [name for name in schema.get("required", ()) if name in properties]
    return {**schema, "properties": properties, **({"required": required} if required else {})}
