"""The description of the API: complete, consistent in itself, and the same as what is served."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from impl.http import openapi, problems
from impl.http.app import create_app
from impl.http.routes import OPERATIONS
from impl.http.tests.asgi import call
from impl.http.tests.fake_service import STATUS, FakeService

DOCUMENT: dict[str, Any] = json.loads(openapi.document())


def undescribed(app: Starlette) -> set[tuple[str, str]]:
    """(method, path) of everything that is served and not described."""
    served = {
        (method, openapi.template(route.path))
        for route in app.router.routes
        if isinstance(route, Route)
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described <= served
    return served - described


async def test_the_document_is_served() -> None:
    answer = await call(create_app(FakeService()), "GET", openapi.PATH, user=None)
    assert answer.json == DOCUMENT
    assert answer.json["openapi"] == "3.1.0"


def test_every_route_is_described() -> None:
    assert undescribed(create_app(FakeService())) == set()


def test_a_route_beside_the_table_would_be_noticed() -> None:
    app = create_app(FakeService())

    async def hidden(request: object) -> Response:
        return Response()

    app.router.routes.append(Route("/v1/hidden", hidden))
    assert undescribed(app) == {("GET", "/v1/hidden")}


def test_every_reference_leads_somewhere() -> None:
    references: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            references.extend([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                collect(item)

    collect(DOCUMENT)
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references
    assert set(references) <= schemas


def test_every_problem_is_described_or_sent_before_there_is_an_operation() -> None:
    described = {kind for operation in OPERATIONS for kind in operation.problems}
    elsewhere = {
        problems.MALFORMED_REQUEST,
        problems.HEADERS_TOO_LARGE,
        problems.NOT_FOUND,
        problems.METHOD_NOT_ALLOWED,
    }
    assert described | elsewhere == set(problems.KINDS)
    assert len({kind.type for kind in problems.KINDS}) == len(problems.KINDS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.endpoint)
def test_statuses_bodies_and_parameters_are_written_down(operation: Any) -> None:
    described = DOCUMENT["paths"][openapi.template(operation.path)][operation.method.lower()]
    assert set(described["responses"]) == {str(operation.status), *(str(kind.status) for kind in operation.problems)}
    assert ("requestBody" in described) == (operation.request is not None)
    in_path = {p["name"] for p in described["parameters"] if p["in"] == "path"}
    assert all(f"{{{name}}}" in openapi.template(operation.path) for name in in_path)
    assert operation.path.count("{") == len(in_path)


def test_bounds_are_in_the_schemas() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["NewMessage"]["properties"]["text"]["maxLength"] == 4_000
    assert schemas["NewMessage"]["additionalProperties"] is False
    assert set(schemas["Status"]["properties"]) == set(STATUS.__struct_fields__)
