import json
import subprocess
import sys
from typing import Any

import admit_architectures as admit
import mlx.core as mx
import pytest
from cutting_toys import Bypassed, LateSkip, Looped, Mixed, OpaqueResult, Repeated, Rewritten, TokensInHead, Toy

from node.engine.cutting import CutPlan, ModelStage, parameters
from tandem.errors import UnsupportedModelError


def build(config: dict[str, Any]) -> Any:
    model_class, arguments = admit.classes_of(config)
    return model_class(arguments.from_dict(config))


def test_one_tensor_crosses_the_cuts_of_a_plain_model(tiny: dict[str, dict[str, Any]]) -> None:
    plan = CutPlan(build(tiny["llama"]))
    assert (plan.n_layers, plan.n_calls) == (6, 6)
    assert plan.specs(0, 1, 1) == []
    for cut in range(1, 7):
        (slot,) = plan.slots(cut)
        assert (slot.batch_axis, slot.length_axis, slot.varies) == (0, 1, False)
        assert slot.shape(2, 9).shape == (2, 9, 64)
        assert plan.wire_bytes(cut, 2, 9) == 2 * 9 * 64 * 4
        assert plan.describe(cut) == [f"result of call {cut - 1}: BxLx64 float32"]


def test_shared_caches_and_values_from_the_tokens_cross_where_they_are_needed(tiny: dict[str, dict[str, Any]]) -> None:
    plan = CutPlan(build(tiny["gemma3n"]))
    names = {cut: [slot.name for slot in plan.slots(cut)] for cut in range(1, 7)}
    kv = ["new keys of cache 1.0", "new values of cache 1.0", "new keys of cache 2.0", "new values of cache 2.0"]
    assert names[6] == ["result of call 5"]
    assert names[4] == ["result of call 3", *kv, "argument 0.3 of call 4", "argument 0.3 of call 5"]
    assert names[2] == ["result of call 1", *kv[:2], *(f"argument 0.3 of call {t}" for t in (2, 3, 4, 5))]
    axes = {slot.name: (slot.batch_axis, slot.length_axis) for slot in plan.slots(4)}
    assert axes["result of call 3"] == (1, 2)  # streams first
    assert axes["new keys of cache 1.0"] == (0, 2)
    assert axes["argument 0.3 of call 5"] == (0, 1)


def test_sizes_of_the_trace_are_not_taken_for_the_models_own() -> None:
    class Wide(Toy):
        """Returns tensors with 3, 67 and 201 of the model's own: the batch and the length of the first trace."""

        def run(self, h: mx.array, cache: list[Any]) -> mx.array:
            own = mx.zeros((3, 67, 201))
            for layer, entry in zip(self.layers, cache, strict=True):
                h = layer(h + own.sum(), entry)
                own = mx.broadcast_to(h.sum(), (3, 67, 201))
            return h

    for slot in CutPlan(Wide()).slots(2):
        assert slot.shape(1, 1).shape == (1, 1, 8)


def test_the_plan_leaves_the_model_as_it_was(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["gemma3n"])
    before = parameters(model)
    CutPlan(model)
    after = parameters(model)
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())


def test_segments_follow_the_ranges() -> None:
    plan = CutPlan(Toy(5))
    assert plan.segments([(0, 2), (2, 3), (3, 5)]) == [(0, 0, 2), (1, 2, 3), (2, 3, 5)]


def test_a_model_that_loops_comes_back_to_each_node() -> None:
    plan = CutPlan(Looped(4))
    assert plan.n_calls == 8
    assert plan.segments([(0, 2), (2, 4)]) == [(0, 0, 2), (1, 2, 4), (0, 4, 6), (1, 6, 8)]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Bypassed, "never calls its layers"),
        (Repeated, "listed twice"),
        (Rewritten, r"cache \(0, 0\) is written by calls 0 and 1"),
        (TokensInHead, "head reads the tokens"),
        (LateSkip, "changes with the length"),
        (OpaqueResult, "returns a KVCache"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(model: type[Toy], why: str) -> None:
    with pytest.raises(UnsupportedModelError, match=why):
        CutPlan(model())


def test_only_the_cuts_that_a_mixed_value_forbids_are_refused() -> None:
    model = Mixed(5)
    plan = CutPlan(model)
    for cut in (2, 3, 4, 5):
        assert plan.specs(cut, 1, 1)
    with pytest.raises(UnsupportedModelError, match=r"no cut before call 1: argument 0\.2 of call 2 mixes"):
        plan.specs(1, 1, 1)
    with pytest.raises(UnsupportedModelError, match="no cut before call 1"):
        ModelStage(model, plan, 0, 1, tail=False)


def test_what_caches_cost(tiny: dict[str, dict[str, Any]]) -> None:
    plan = CutPlan(build(tiny["gemma3"]))  # two windows of 8, then a full one; 2 heads of 16, float32
    per_token = 2 * 2 * 16 * 4
    assert [(cost.per_token, cost.window) for cost in plan.cache_costs(0, 3)] == [
        (per_token, 8),
        (per_token, 8),
        (per_token, None),
    ]
    assert sum(cost.nbytes(100) for cost in plan.cache_costs(0, 3)) == (8 + 8 + 100) * per_token
    recurrent = CutPlan(build(tiny["qwen3_next"])).cache_costs(0, 1)[0]
    assert recurrent.per_token == 0
    assert recurrent.nbytes(1000) == recurrent.fixed > 0
    shared = CutPlan(build(tiny["gemma3n"]))
    assert len(shared.cache_costs(3, 6)) == 2  # copies of two caches that the layers before fill
    assert shared.own_costs(4) == []


def test_the_digest_is_the_same_in_another_process_and_another_for_another_model(
    tiny: dict[str, dict[str, Any]],
) -> None:
    script = (
        "import json, sys; from admit_architectures import classes_of; from node.engine.cutting import CutPlan;"
        "c = json.loads(sys.argv[1]); m, a = classes_of(c); print(CutPlan(m(a.from_dict(c))).digest())"
    )
    config = tiny["gemma3n"]
    scripts = str(admit.TINY_MODELS.parent)
    other = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config)],
        capture_output=True, text=True, check=True, cwd=scripts, timeout=120,
    )  # fmt: skip
    digest = CutPlan(build(config)).digest()
    assert other.stdout.split() == [digest]
    half = build(config)
    half.set_dtype(mx.float16)
    fewer = json.loads(json.dumps(config))
    fewer["text_config"]["num_kv_shared_layers"] = 2
    digests = {digest, CutPlan(half).digest(), CutPlan(build(fewer)).digest(), CutPlan(build(tiny["llama"])).digest()}
    assert len(digests) == 4
