"""``python -m node`` with an MLX thread that hangs on demand: SIGUSR1 blocks it, SIGUSR2 lets it go on."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

from node import __main__, daemon
from node.engine.worker import Worker


class HangingWorker(Worker):
    """What the daemon makes in its event loop instead of its own."""

    def __init__(self) -> None:
        super().__init__()
        go_on = threading.Event()

        def hang() -> None:
            go_on.clear()
            self.submit(go_on.wait, step=1)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, hang)
        loop.add_signal_handler(signal.SIGUSR2, go_on.set)


if __name__ == "__main__":
    daemon.Worker = HangingWorker
    sys.exit(__main__.main())
