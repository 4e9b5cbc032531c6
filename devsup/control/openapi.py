"""The OpenAPI document of the control API."""

from __future__ import annotations

from typing import Any

import msgspec

import devsup
from devsup.control.operations import OPERATIONS, Operation


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    types = [each.returns for each in OPERATIONS if each.returns is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        schema = next(found) if each.returns is not None else {"type": "string"}
        paths.setdefault(each.path, {})[each.method.lower()] = _described(each, schema)
    info = {"title": "devsup", "version": devsup.__version__, "description": "Control of the services that devsup runs."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}}


def _described(operation: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "description": why, "schema": text} for name, why in operation.query
    ]
    if "{name}" in operation.path:
        parameters.append({"name": "name", "in": "path", "required": True, "description": "The service.", "schema": text})
    problem = {"description": "Why not.", "content": {"application/problem+json": {"schema": {"type": "object"}}}}
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__.strip("_"),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": operation.summary, "content": {operation.gives: {"schema": schema}}},
            "default": problem,
        },
    }
    if operation.takes:
        described["requestBody"] = {"required": True, "content": {operation.takes: {"schema": text}}}
    return described
