"""The pieces of a model compute what the whole does, bit for bit; the data file says for which that holds."""

import json
from typing import Any

import admit_architectures as admit
import mlx.core as mx
import pytest

from node.engine.admission import ADMITTED_FILE
from node.engine.cutting import stage as stage_module
from node.engine.cutting.stage import ModelStage

FIRST_TEN = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma3",
    "gemma3n",
    "gpt_oss",
    "qwen3_next",
    "deepseek_v3",
)
COMMITTED: dict[str, Any] = json.loads(ADMITTED_FILE.read_text("utf-8"))
CONFIGURATIONS = admit.model_configurations()
SOME = list(CONFIGURATIONS)[::6]
"""The others were proven when the file was written, with the same sources."""


@pytest.mark.parametrize("model_type", FIRST_TEN)
def test_the_ten_are_proven(model_type: str) -> None:
    assert admit.prove(CONFIGURATIONS[model_type]) == COMMITTED["admitted"][model_type]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SOME)
def test_the_file_says_what_the_proof_finds(model_type: str) -> None:
    kind, entry = admit.verdict(CONFIGURATIONS[model_type])
    assert COMMITTED[kind].get(model_type) == entry


def test_the_file_is_whole_and_for_these_versions_and_sources() -> None:
    """Where it is not, scripts/admit_architectures.py writes it anew."""
    for key, value in admit.what_is_proven().items():
        assert COMMITTED[key] == value, "what cuts has changed: run scripts/admit_architectures.py"
    assert COMMITTED["admitted"].keys() | COMMITTED["refused"].keys() == CONFIGURATIONS.keys()
    assert set(FIRST_TEN) <= COMMITTED["admitted"].keys()


def test_a_million_parameters_are_enough(tiny: dict[str, dict[str, Any]]) -> None:
    for config in tiny.values():
        model_class, arguments = admit.classes_of(config)
        model = model_class(arguments.from_dict(config))
        assert sum(value.size for value in admit.parameters(model).values()) <= 1_000_000


def test_the_proof_notices_a_phantom_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "tick", lambda *_: None)
    # Its recurrent layers take their positions from the cache of an attention layer, which another node may have.
    with pytest.raises(admit.NotProvenError):
        admit.prove(CONFIGURATIONS["bailing_moe_linear"], every_layer=True)


def test_the_proof_notices_a_parameter_too_few(
    tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = ModelStage.needed
    monkeypatch.setattr(ModelStage, "needed", lambda self: {n for n in needed(self) if "layers.5.mlp.down" not in n})
    with pytest.raises(admit.NotProvenError):
        admit.prove(tiny["llama"])


def test_the_proof_notices_a_tensor_that_does_not_cross(
    tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ModelStage.__call__

    def forgetful(self: ModelStage, tokens: Any, wire: Any, cache: Any) -> Any:
        return call(self, tokens, [*wire[:-1], mx.zeros_like(wire[-1])] if len(wire) > 1 else wire, cache)

    monkeypatch.setattr(ModelStage, "__call__", forgetful)
    with pytest.raises(admit.NotProvenError):
        admit.prove(tiny["gemma3n"])
