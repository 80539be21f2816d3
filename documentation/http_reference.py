"""The HTTP interface as a page, from openapi.yaml: every call, and every schema that one of them has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["http_page"]

METHODS = ("get", "post", "put", "patch", "delete")
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "characters, at least",
    "maxLength": "characters, at most",
    "minItems": "items, at least",
    "maxItems": "items, at most",
    "pattern": "matches",
}
HEAD = """\
# HTTP reference

Every call and every schema of the contract, [openapi.yaml](../openapi.yaml), from which this page is made.
[The HTTP interface](../docs/http.md) explains the calls, with examples; a running service has the same to try out, at
`/docs`. Every error is a [problem](../docs/problems.md).
"""

Json = Mapping[str, Any]


def http_page(contract: Path) -> str:
    """The page, as Markdown."""
    document = yaml.load(contract.read_text(), Loader=yaml.CSafeLoader)
    return "\n".join([HEAD, *_calls(document), *_schemas(document["components"]["schemas"])]) + "\n"


def _calls(document: Json) -> Iterator[str]:
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    for tag in document["tags"]:
        name = tag["name"]
        yield f"## {name[0].upper()}{name[1:]}\n\n{tag['description']}\n"
        for method, path, operation in operations:
            if name in operation["tags"]:
                yield from _call(method, path, operation)


def _call(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"### {operation['summary']} {{ #{operation['operationId']} }}\n"
    yield f"```http\n{method.upper()} {path}\n```\n"
    yield f"{operation.get('description', '')}\n"
    for scope in (scope for needed in operation["security"] for scope in needed["key"]):
        yield f"Needs a key with the scope `{scope}`, of a service that has keys.\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | meaning |\n|---|---|---|---|"
        for parameter in parameters:
            needed = ", required" if parameter.get("required") and parameter["in"] != "path" else ""
            meaning = _cell(parameter.get("description", parameter["schema"].get("description", "")))
            yield f"| `{parameter['name']}` | {parameter['in']}{needed} | {_type(parameter['schema'])} | {meaning} |"
        yield ""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        yield f"**Body**, `{media_type}`: {_type(schema)}\n" if "$ref" in schema else f"**Body**, `{media_type}`\n"
        yield from _examples(content.get("examples", {}))
    yield "| status | answer | body |\n|---|---|---|"
    for status, answer in operation["responses"].items():
        bodies = dict.fromkeys(_answered(answer))
        yield f"| {status} | {_cell(answer['description'])} | {', '.join(bodies)} |"
    yield ""


def _examples(examples: Json) -> Iterator[str]:
    """Requests as tabs."""
    for example in examples.values():
        body = json.dumps(example["value"], indent=2, ensure_ascii=False).replace("\n", "\n    ")
        yield f'=== "{example.get("summary", "Example")}"\n\n    ```json\n    {body}\n    ```\n'


def _answered(answer: Json) -> Iterator[str]:
    for media_type, content in answer.get("content", {}).items():
        schema = content.get("schema", {})
        yield _type(schema) if "$ref" in schema else f"`{media_type}`"


def _schemas(schemas: Json) -> Iterator[str]:
    yield "## Schemas\n"
    for name, schema in sorted(schemas.items()):
        yield f"### {name} {{ #{_anchor(name)} }}\n"
        yield f"{schema.get('description', '')}\n"
        if "properties" not in schema:
            yield f"{_type(schema)}\n"
            continue
        yield "| field | type | meaning |\n|---|---|---|"
        for field, of in schema["properties"].items():
            needed = "" if field not in schema.get("required", []) or "default" in of else ", required"
            yield f"| `{field}` | {_type(of)}{needed} | {_cell(of.get('description', ''))}{_default(of)} |"
        yield ""


def _type(schema: Json) -> str:
    """The type of a value in words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[choice]))
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        fixed = schema.get("prefixItems")
        items = ", ".join(map(_type, fixed)) if fixed else _type(schema.get("items", {}))
        return f"list of {items}{_bounds(schema)}"
    if "additionalProperties" in schema and schema["additionalProperties"] not in (True, False):
        return f"object of {_type(schema['additionalProperties'])}"
    kind = schema.get("type", "any value")
    return f"{'/'.join(kind) if isinstance(kind, list) else kind}{_bounds(schema)}"


def _bounds(schema: Json) -> str:
    bounds = [
        f"{words} `{_cell(str(schema[name]))}`" if name == "pattern" else f"{words} {schema[name]:,g}"
        for name, words in BOUNDS.items()
        if name in schema
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def _default(schema: Json) -> str:
    value = schema.get("default")
    return "" if value is None else f" Default: `{json.dumps(value, ensure_ascii=False)}`."


def _cell(text: str) -> str:
    """A text within a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return f"schema-{name.lower()}"
