import copy
import weakref
from collections.abc import Sequence
from typing import Any

import admit_architectures as admit
import mlx.core as mx
import pytest
from cutting_toys import Layer, Looped, Toy
from mlx_lm.models.cache import ArraysCache, KVCache, RotatingKVCache, make_prompt_cache

from node.engine.cutting import CutPlan, ModelStage, WholeModel, make_ghosts, parameters


def build(config: dict[str, Any]) -> Any:
    model_class, arguments = admit.classes_of(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    model.eval()
    mx.eval(model.parameters())
    return model


def run(stages: Sequence[ModelStage], tokens: mx.array, caches: Sequence[list[Any]]) -> mx.array:
    wire: list[mx.array | None] = []
    for stage, cache in zip(stages, caches, strict=True):
        wire = stage(tokens, wire, cache)
    assert wire[0] is not None
    return wire[0]


def test_a_hooked_model_still_runs_by_itself(tiny: dict[str, dict[str, Any]]) -> None:
    model, tokens = build(tiny["gemma3n"]), mx.array([[1, 2, 3]])
    before = model(tokens, cache=make_prompt_cache(model))
    plan = CutPlan(model)
    ModelStage(model, plan, 2, 4, tail=False).needed()
    assert mx.array_equal(before, model(tokens, cache=make_prompt_cache(model)))
    assert type(model.layers[0]).__name__ == "Gemma3nDecoderLayer"


def test_a_stage_needs_its_layers_and_the_head_what_is_around_them(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["llama"])
    plan = CutPlan(model)

    def needed(first: int, end: int, *, tail: bool) -> set[str]:
        return ModelStage(model, plan, first, end, tail=tail).needed()

    def layers(*numbers: int) -> set[str]:
        return {name for name in parameters(model) if name.startswith(tuple(f"model.layers.{i}." for i in numbers))}

    assert needed(2, 4, tail=False) == layers(2, 3)
    assert needed(4, 6, tail=False) == layers(4, 5)
    assert needed(0, 2, tail=False) == layers(0, 1) | {"model.embed_tokens.weight"}
    assert needed(6, 6, tail=True) == {"model.norm.weight", "lm_head.weight"}
    assert needed(0, 6, tail=True) == set(parameters(model))


def test_tied_embeddings_are_needed_on_the_head_alone(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["qwen3"])
    plan = CutPlan(model)
    epilogue = ModelStage(model, plan, 6, 6, tail=True)
    assert epilogue.needed() == {"model.norm.weight", "model.embed_tokens.weight"}
    assert "model.embed_tokens.weight" not in ModelStage(model, plan, 3, 6, tail=False).needed()


def test_the_epilogue_has_no_caches_and_takes_any_rows(tiny: dict[str, dict[str, Any]]) -> None:
    model, tokens = build(tiny["gemma3"]), mx.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    plan = CutPlan(model)
    body = ModelStage(model, plan, 0, 6, tail=False)
    epilogue = ModelStage(model, plan, 6, 6, tail=True)
    assert body.closes
    assert not epilogue.closes
    assert epilogue.is_epilogue
    assert epilogue.make_cache() == []
    out = body(tokens, [], body.make_cache())
    whole = model(tokens, cache=make_prompt_cache(model))
    picked = [
        None if array is None else slot.last_positions(slot.take_rows(array, [1]), 2)
        for slot, array in zip(body.output_slots, out, strict=True)
    ]
    (rows,) = epilogue(mx.zeros((1, 2), mx.int32), picked, [])
    assert rows is not None
    assert mx.allclose(rows[0], whole[1, 2:], atol=1e-5)


def test_a_stage_keeps_its_own_caches_and_one_phantom_per_other_kind(tiny: dict[str, dict[str, Any]]) -> None:
    plan = CutPlan(build(tiny["gemma3"]))  # two windowed layers, then a full one, twice
    model = build(tiny["gemma3"])

    def kinds(first: int, end: int) -> list[type]:
        return [type(cache) for cache in ModelStage(model, plan, first, end, tail=False).make_cache()]

    assert kinds(0, 6) == [RotatingKVCache, RotatingKVCache, KVCache] * 2
    assert kinds(0, 2) == [RotatingKVCache, RotatingKVCache, KVCache]
    assert kinds(2, 3) == [KVCache, RotatingKVCache]
    phantom = ModelStage(model, plan, 2, 3, tail=False)
    cache = phantom.make_cache()
    wire = [mx.zeros(spec.shape, spec.dtype) for spec in plan.specs(2, 1, 50)]
    phantom(mx.zeros((1, 50), mx.int32), wire, cache)
    assert (cache[0].offset, cache[1].offset) == (50, 50)
    assert cache[1].nbytes * 8 <= cache[0].nbytes


@pytest.mark.parametrize(
    ("model_type", "trims"),
    [("llama", True), ("deepseek_v3", True), ("gemma3", False), ("gpt_oss", False), ("qwen3_next", False)],
)
def test_what_can_be_trimmed_and_batched(tiny: dict[str, dict[str, Any]], model_type: str, trims: bool) -> None:
    model = build(tiny[model_type])
    plan = CutPlan(model)
    stage = ModelStage(model, plan, 0, 6, tail=True)
    assert (stage.trimmable, stage.batchable) == (trims, True)


def test_chunked_caches_can_be_neither_trimmed_at_will_nor_batched() -> None:
    config = admit.model_configurations()["llama4"]
    model = build(config)
    stage = WholeModel(model)
    assert (stage.trimmable, stage.batchable) == (False, False)


def test_trimming_every_stage_forgets_the_trimmed_positions(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["llama"])
    plan = CutPlan(model)
    stages = [
        ModelStage(model, plan, 0, 3, tail=False),
        ModelStage(model, plan, 3, 6, tail=False),
        ModelStage(model, plan, 6, 6, tail=True),
    ]
    caches = [stage.make_cache() for stage in stages]
    run(stages, mx.array([[1, 2, 3, 4, 5]]), caches)
    mx.eval([entry.state for cache in caches for entry in cache])
    straight = copy.deepcopy(caches)
    expected = run(stages, mx.array([[9]]), straight)
    run(stages, mx.array([[6, 7, 8]]), caches)
    for cache in caches:
        for entry in cache:
            assert entry.trim(3) == 3
    assert mx.array_equal(run(stages, mx.array([[9]]), caches), expected)


def test_a_looped_model_runs_in_segments() -> None:
    mx.random.seed(0)
    model = Looped(4)
    plan = CutPlan(model)
    tokens = mx.array([[1, 2, 3], [4, 5, 6]])
    expected = model(tokens, make_prompt_cache(model))
    segments = plan.segments([(0, 2), (2, 4)])
    stages = [ModelStage(model, plan, first, end, tail=False) for _, first, end in segments]
    stages.append(ModelStage(model, plan, 8, 8, tail=True))
    assert mx.array_equal(run(stages, tokens, [stage.make_cache() for stage in stages]), expected)


def test_an_error_in_a_layer_comes_out_and_the_next_step_works(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Toy(3)
    plan = CutPlan(model)
    stage = ModelStage(model, plan, 0, 3, tail=True)
    tokens = mx.array([[1, 2]])
    with monkeypatch.context() as patch:
        patch.setattr(Layer, "__call__", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage(tokens, [], stage.make_cache())
    (again,) = stage(tokens, [], stage.make_cache())
    assert again is not None
    assert mx.array_equal(again, model(tokens, make_prompt_cache(model)))


def test_the_wrong_number_of_tensors_is_an_error() -> None:
    model = Toy(3)
    stage = ModelStage(model, CutPlan(model), 1, 2, tail=False)
    for wire in ([], [mx.zeros((1, 1, 8)), mx.zeros((1, 1, 8))]):
        with pytest.raises(ValueError, match="1 tensors cross"):
            stage(mx.array([[1]]), wire, stage.make_cache())


def test_a_model_that_nobody_holds_is_freed_at_once(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["gemma3n"])
    stage = ModelStage(model, CutPlan(model), 0, 3, tail=False)
    stage(mx.array([[1, 2]]), [], stage.make_cache())
    stage.needed()
    gone = weakref.ref(model.layers[0])
    del model, stage
    assert gone() is None


def test_a_phantom_of_a_recurrent_kind_survives_every_operation_on_batches() -> None:
    config = admit.model_configurations()["qwen3_next"]
    model = build(config)
    plan = CutPlan(model)
    stage = ModelStage(model, plan, 2, 3, tail=False)  # full attention alone
    assert [type(cache) for cache in stage.make_cache()] == [KVCache, ArraysCache]

    def step(rows: int, length: int, caches: list[Any]) -> None:
        wire = [mx.zeros(spec.shape, spec.dtype) for spec in plan.specs(2, rows, length)]
        stage(mx.zeros((rows, length), mx.int32), wire, caches)

    singles = [stage.make_cache() for _ in range(2)]
    for length, caches in zip((3, 5), singles, strict=True):
        step(1, length, caches)
    batch = [column[0].merge(list(column)) for column in zip(*singles, strict=True)]
    step(2, 1, batch)
    for cache, other in zip(batch, [c.merge([c]) for c in stage.make_cache()], strict=True):
        cache.extend(other)
    step(3, 1, batch)
    for cache in batch:
        cache.filter([2, 0])
    step(2, 1, batch)
    alone = [cache.extract(1) for cache in batch]
    step(1, 1, alone)
    assert alone[0].offset == 3 + 4


def test_ghosts_take_no_memory(tiny: dict[str, dict[str, Any]]) -> None:
    model = build(tiny["llama"])
    make_ghosts(model, keep={"model.norm.weight"})
    sizes = {name: value.nbytes for name, value in parameters(model).items()}
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.eval(model.parameters())
    assert sum(sizes.values()) > 1_000_000
    assert mx.get_active_memory() - before < 10_000
