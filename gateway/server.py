"""The gateway's server: routes, start and stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.auth import ApiKeys
from gateway.cluster.client import ClusterClient
from gateway.cluster.watcher import Browse
from gateway.connection import Runner
from gateway.handlers.answering import CLUSTER, KEYS, LIMITS
from gateway.handlers.chat import chat_completions
from gateway.handlers.completions import completions
from gateway.handlers.models import STARTED, get_model, list_models
from gateway.handlers.pages import health, page
from gateway.limits import Limits
from gateway.middleware import add_headers, identify, require_key, shape_errors
from tandem import daemon, discovery, rpc
from tandem.settings import GatewaySettings, join_address, split_address

logger = logging.getLogger(__name__)

DEFAULT_LIMITS: Final = Limits()


def make_app(settings: GatewaySettings, cluster: ClusterClient, limits: Limits = DEFAULT_LIMITS) -> web.Application:
    """The application over a cluster that the caller keeps entered."""
    keys = ApiKeys(settings.api_keys)
    app = web.Application(client_max_size=limits.body_bytes, middlewares=[identify, shape_errors, require_key(keys)])
    app[CLUSTER] = cluster
    app[LIMITS] = limits
    app[KEYS] = keys
    app[STARTED] = int(time.time())
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", page)
    app.router.add_get("/health", health)
    app.router.add_get("/v1/models", list_models)
    app.router.add_get("/v1/models/{id:.+}", get_model)
    app.router.add_post("/v1/chat/completions", chat_completions)
    app.router.add_post("/v1/completions", completions)
    return app


async def serve(
    settings: GatewaySettings,
    limits: Limits = DEFAULT_LIMITS,
    *,
    ready: Callable[[str], None] | None = None,
    browse: Browse = discovery.browse,
) -> None:
    """Serves until cancelled; ``ready`` is called with the base address (``http://host:port``) once it listens.

    Raises ``ConflictError`` when the port is taken and ``SettingsError`` for an address that this machine has not.
    Cancellation lets running requests end for ``limits.shutdown`` seconds, then ends them and everything else.
    """
    host, port = split_address(settings.listen)
    async with ClusterClient(settings, limits, browse) as cluster:
        runner = Runner(
            make_app(settings, cluster, limits), handler_cancellation=True, shutdown_timeout=limits.shutdown
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise daemon.listen_error(settings.listen, error) from None
            bound = runner.addresses[0][1]
            address = f"http://{join_address(host, bound)}"
            logger.info("gateway listens on %s", address)
            if ready is not None:
                ready(address)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def run(settings: GatewaySettings) -> None:
    """Serves until SIGINT or SIGTERM, on an event loop of its own; says on stdout when it listens, and where.

    Raises what ``serve`` raises.
    """
    rpc.tune_process()
    rpc.run(_serve_until_signalled(settings))


async def _serve_until_signalled(settings: GatewaySettings) -> None:
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(serve(settings, ready=_say_ready))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        logger.info("gateway stops")


def _say_ready(base: str) -> None:
    daemon.say_ready(f"gateway listen={base.removeprefix('http://')}")
