"""``GET /`` for people and ``GET /health`` for machines. Neither needs a key, but names and reasons do."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Final

from aiohttp import web

from gateway.cluster.client import ServedModel
from gateway.handlers.answering import CLUSTER, KEYS
from tandem.errors import UnavailableError
from tandem.version import __version__

_PAGE: Final = Template(resources.files("gateway").joinpath("page.html").read_text("utf-8"))
_NO_DETAILS: Final = ["no model answers"]


async def health(request: web.Request) -> web.Response:
    """200 as soon as a model answers; before that 503 with what is missing."""
    missing = await request.app[CLUSTER].missing()
    if missing and not request.app[KEYS].admits(request.headers):
        missing = _NO_DETAILS
    body = {"status": "unavailable", "missing": missing} if missing else {"status": "ok"}
    headers = {"retry-after": "2"} if missing else {}
    return web.Response(
        status=503 if missing else 200, text=json.dumps(body), content_type="application/json", headers=headers
    )


async def page(request: web.Request) -> web.Response:
    """A page that says where one is, what ``/health`` says, and how a client is pointed here."""
    missing = await request.app[CLUSTER].missing()
    if request.app[KEYS].admits(request.headers):
        models = await _models(request)
        text = _describe(missing, models)
    else:
        models = []
        text = _paragraph("No model answers now." if missing else "A model answers.")
        text += _paragraph("Its name is for those who have a key, at /v1/models.")
    page = _PAGE.substitute(
        version=__version__,
        base=html.escape(f"{request.scheme}://{request.host}/v1"),
        models=text,
        model=html.escape(models[0].name if models else "MODEL"),
    )
    return web.Response(text=page, content_type="text/html", charset="utf-8")


async def _models(request: web.Request) -> list[ServedModel]:
    """What may be asked for; nothing when no node says, which is what is missing then."""
    try:
        return await request.app[CLUSTER].models()
    except UnavailableError:
        return []


def _describe(missing: Sequence[str], models: Sequence[ServedModel]) -> str:
    text = f"{_paragraph('No model answers now:')}{_list(missing, '{}')}" if missing else ""
    loaded = "These models are loaded:" if missing else "These models answer:"
    for is_loaded, title in ((True, loaded), (False, "These lie on disk, and are loaded when asked for:")):
        names = [model.name for model in models if model.loaded is is_loaded]
        if names:
            text += f"{_paragraph(title)}{_list(names, '<code>{}</code>')}"
    return text


def _list(items: Sequence[str], form: str) -> str:
    return "<ul>" + "".join(f"<li>{form.format(html.escape(item))}</li>" for item in items) + "</ul>\n"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>\n"
