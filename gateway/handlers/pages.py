"""``GET /`` for people and ``GET /health`` for machines."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template
from typing import Final

from aiohttp import web

from gateway.handlers.answering import CLUSTER
from tandem.errors import TandemError
from tandem.version import __version__

_PAGE: Final = Template(resources.files("gateway").joinpath("page.html").read_text("utf-8"))


async def health(request: web.Request) -> web.Response:
    """200 as soon as a model answers; before that 503 with what is missing."""
    missing = await request.app[CLUSTER].missing()
    body = {"status": "unavailable", "missing": missing} if missing else {"status": "ok"}
    headers = {"retry-after": "2"} if missing else {}
    return web.Response(
        status=503 if missing else 200, text=json.dumps(body), content_type="application/json", headers=headers
    )


async def page(request: web.Request) -> web.Response:
    """A page that says where one is and how a client is pointed here."""
    try:
        names = [model.name for model in await request.app[CLUSTER].models()]
        state = "These models answer:" if names else "No model is loaded."
    except TandemError as error:
        names, state = [], f"No model answers: {error.message}."
    items = "".join(f"<li><code>{html.escape(name)}</code></li>" for name in names)
    text = _PAGE.substitute(
        version=__version__,
        base=html.escape(f"{request.scheme}://{request.host}/v1"),
        state=html.escape(state),
        models=f"<ul>{items}</ul>" if items else "",
        model=html.escape(names[0] if names else "MODEL"),
    )
    return web.Response(text=text, content_type="text/html", charset="utf-8")
