"""Ask somebody before a decoder layer runs, without a wrapper around it.

The class of each layer is swapped for a subclass of the same name, so that ``isinstance``, attributes, parameter
paths, quantisation and weight loading see what they always saw. While nobody listens, the layers run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import mlx.nn as nn

from tandem.errors import UnsupportedModelError

_HOOKED: dict[type, type] = {}
_SITE = "_tandem_site"
_SWITCH = "_tandem_switch"


class Listener(Protocol):
    """Decides what a call of a layer does while it listens."""

    def on_call(
        self, layer: int, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # pragma: no cover
        """Return what layer number ``layer`` shall return; ``run(*args, **kwargs)`` is the layer itself."""


class Switch:
    """One per model: who listens to the calls of its layers."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def listen(self, listener: Listener, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run with the listener in place, and without it again at the end, error or not."""
        self.listener = listener
        try:
            return run(*args, **kwargs)
        finally:
            self.listener = None


def switch_of(model: nn.Module) -> Switch:
    """The model's switch; the first time, its layers are hooked.

    Raises UnsupportedModelError when a layer object stands in the list twice.
    """
    switch: Switch | None = vars(model).get(_SWITCH)
    if switch is None:
        switch = Switch()
        for i, layer in enumerate(model.layers):
            if _SITE in vars(layer):
                raise UnsupportedModelError("a layer of the model is listed twice")
            layer.__class__ = _hooked_class(type(layer))
            # Past nn.Module's own __setattr__: neither a parameter nor a module, and no cycle back to the model.
            object.__setattr__(layer, _SITE, (switch, i))
        object.__setattr__(model, _SWITCH, switch)
    return switch


def _hooked_class(cls: type) -> type:
    if cls not in _HOOKED:
        _HOOKED[cls] = type(cls.__name__, (cls,), {"__call__": _call, "__module__": cls.__module__})
    return _HOOKED[cls]


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    switch, index = vars(self)[_SITE]
    run = type(self).__mro__[1].__call__
    if switch.listener is None:
        return run(self, *args, **kwargs)
    return switch.listener.on_call(index, lambda *a, **k: run(self, *a, **k), args, kwargs)
