"""The API's description as an OpenAPI 3.1 document, made from the table of operations and the models of the bodies.

Theory of operation
-------------------
OpenAPI 3.1 uses JSON Schema as it is, which is what the models generate. Every status that an operation can answer is
written down with its problem types, because a client that meets an undocumented status does not know whether it may
send the request again. The document depends on nothing but code and is made once.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from impl.http import bodies, wire
from impl.http.limits import PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS
from impl.http.parse import CONSISTENCIES
from impl.http.problems import METHOD_NOT_ALLOWED, Kind
from impl.http.routes import OPERATIONS, Operation

PATH = "/v1/openapi.json"

_CONVERTOR = re.compile(r":\w+\}")
_REF = "#/components/schemas/{model}"


@functools.cache
def document() -> bytes:
    """The document, as JSON."""
    models = {m for o in OPERATIONS for m in (*o.responses, *([o.request] if o.request else []))}
    ordered = sorted(models | {bodies.ProblemDetails}, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "serialization") for model in ordered], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(template(operation.path), {})[operation.method.lower()] = _operation(operation)
    paths[PATH] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document.",
            "responses": {
                "200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}
            },
        }
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Telegraft",
                "version": "1",
                "description": (
                    "A replicated chat service. 503 means certainly not done, 504 means that the outcome is unknown: "
                    "send the request again with the same transaction id, and the first answer comes back. "
                    f"A method that a path does not know is answered 405 with Allow ({METHOD_NOT_ALLOWED.type})."
                ),
            },
            "paths": paths,
            "components": {"schemas": schemas["$defs"]},
        },
        indent=2,
    ).encode()


def template(path: str) -> str:
    """A router's path as OpenAPI writes it: without convertors."""
    return _CONVERTOR.sub("}", path)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.endpoint,
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(operation.request)}},
        }
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters = [
        _parameter("path", name, _txn_schema() if name == "txn_id" else {"type": "string"}, required=True)
        for name in re.findall(r"\{(\w+)\}", template(operation.path))
    ]
    if operation.identified:
        parameters.append(_parameter("header", wire.USER_HEADER, {"type": "string"}, required=True))
    if operation.idempotency_key:
        parameters.append(_parameter("header", wire.TXN_HEADER, _txn_schema(), required=False))
    if operation.paged:
        after = {"type": "integer", "minimum": 0, "default": 0}
        limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX_ITEMS, "default": PAGE_DEFAULT_ITEMS}
        parameters.append(_parameter("query", "after", after, required=False))
        parameters.append(_parameter("query", "limit", limit, required=False))
    if operation.consistent:
        schema = {"type": "string", "enum": list(CONSISTENCIES), "default": "linearizable"}
        parameters.append(_parameter("query", "consistency", schema, required=False))
    for name in operation.parameters:
        parameters.append(_parameter("query", name, {"type": "boolean", "default": False}, required=False))
    return parameters


def _parameter(where: str, name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"in": where, "name": name, "required": required, "schema": schema}


def _txn_schema() -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{wire.TXN_ID_PATTERN}$"}


def _responses(operation: Operation) -> dict[str, Any]:
    refs = [_ref(model) for model in operation.responses]
    schema: dict[str, Any] = refs[0] if len(refs) == 1 else {"anyOf": refs}
    if not refs:
        schema = {"type": "string"}
    responses: dict[str, Any] = {
        str(operation.status): {"description": "Done.", "content": {operation.media_type: {"schema": schema}}}
    }
    by_status: dict[int, list[Kind]] = {}
    for kind in operation.problems:
        by_status.setdefault(kind.status, []).append(kind)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(f"{kind.title} ({kind.type})" for kind in kinds),
            "content": {wire.PROBLEM_MEDIA_TYPE: {"schema": _ref(bodies.ProblemDetails)}},
        }
    return responses


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
