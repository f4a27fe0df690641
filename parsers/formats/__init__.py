"""One module per format, each with one `FORMAT`. A module that is added here is known at once."""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import import_module
from pkgutil import iter_modules

from parsers.format import Format


class _Formats(Mapping[str, Format]):
    """Every format by its key, loaded when it is first asked for."""

    def __getitem__(self, key: str) -> Format:
        if key not in self._keys():
            raise KeyError(key)
        return self._load(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    @staticmethod
    @lru_cache(maxsize=1)
    def _keys() -> tuple[str, ...]:
        return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))

    @staticmethod
    @cache
    def _load(key: str) -> Format:
        found: Format = import_module(f"{__name__}.{key}").FORMAT
        return found


FORMATS: Mapping[str, Format] = _Formats()
