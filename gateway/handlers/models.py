"""``GET /v1/models`` and ``GET /v1/models/{id}``."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway.cluster.client import ServedModel
from gateway.handlers.answering import CLUSTER, json_response

STARTED: Final = web.AppKey("started", int)


async def list_models(request: web.Request) -> web.Response:
    """What can be called now: served models, and those on disk, which are loaded when asked for."""
    models = await request.app[CLUSTER].models()
    return json_response({"object": "list", "data": [_to_json(request, model) for model in models]})


async def get_model(request: web.Request) -> web.Response:
    """One model; its id may contain slashes."""
    model = await request.app[CLUSTER].model(request.match_info["id"])
    return json_response(_to_json(request, model))


def _to_json(request: web.Request, model: ServedModel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": request.app[STARTED],
        "owned_by": "tandem",
        "loaded": model.loaded,
    }
    if model.context_tokens:
        found["context_length"] = found["max_model_len"] = model.context_tokens
    return found
