import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_model as maker
import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, quantize_model, save_model

from node.engine.checkpoint import Checkpoint, LoadedStage, Progress
from node.engine.cutting import ModelStage, WholeModel, parameters
from node.engine.headers import Headers, read_headers
from tandem.errors import CheckpointError, UnsupportedModelError

MakeFolder = Callable[..., Path]
RANGES = [(0, 2), (2, 4), (4, 6)]
TOKENS = mx.array([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])


def load_stage(
    folder: Path,
    first: int,
    end: int,
    *,
    headers: Headers | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> LoadedStage:
    return Checkpoint(folder, headers=headers, dtype=dtype).load(first, end, progress=progress)


def logits_of(folder: Path) -> mx.array:
    model, _ = load_model(folder)
    return model(TOKENS, cache=make_prompt_cache(model))


def ring_logits(parts: list[LoadedStage]) -> mx.array:
    wire: list[mx.array | None] = []
    for part in parts:
        (stage,) = part.segments
        wire = stage(TOKENS, wire, stage.make_cache())
    epilogue = parts[0].epilogue
    assert epilogue is not None
    (logits,) = epilogue(TOKENS, wire, [])
    assert logits is not None
    return logits


def only(folder: Path, files: list[str], to: Path) -> Path:
    """A copy of the folder with these weight files and no others."""
    to.mkdir()
    for name in ["config.json", *files]:
        shutil.copyfile(folder / name, to / name)
    return to


def weights_of(folder: Path) -> dict[str, mx.array]:
    found: dict[str, mx.array] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= mx.load(str(path))
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3n", "qwen3_next", "deepseek_v3"])
def test_stages_serve_with_every_other_file_deleted(
    architecture: str, model_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = model_folder(architecture, shards=6)
    headers = read_headers(folder)
    expected = logits_of(folder)
    parts = []
    for first, end in RANGES:
        files = Checkpoint(folder, headers=headers).needed_files(first, end)
        alone = only(folder, files, tmp_path / f"{first}")
        parts.append(load_stage(alone, first, end, headers=headers))
        if first:
            assert len(files) < 6
    assert mx.array_equal(ring_logits(parts), expected)


def test_a_stage_holds_what_the_sizes_promise_and_nothing_else(model_folder: MakeFolder) -> None:
    checkpoint = Checkpoint(model_folder("llama"))
    sizes = checkpoint.sizes()
    assert checkpoint.n_layers == len(sizes.layers) == 6
    assert sizes.total == sum(tensor.nbytes for tensor in checkpoint.headers.tensors.values())
    assert sizes.kv_per_token == (2 * 2 * 16 * 4,) * 6
    assert sizes.kv(0, 6, 1000) == 1000 * sum(sizes.kv_per_token)
    for first, end in [*RANGES, (0, 6)]:
        part = checkpoint.load(first, end)
        assert part.nbytes == sizes.stage(first, end)
    assert sizes.stage(0, 6) == sizes.total
    untied = 2 * 2048 * 64 * 4 + 64 * 4
    assert sizes.head == untied


def test_copies_of_shared_caches_are_counted_where_they_are(model_folder: MakeFolder) -> None:
    checkpoint = Checkpoint(model_folder("gemma3n"))  # layers 3, 4 and 5 read the caches of 1 and 2
    per_token = 2 * 2 * 16 * 4
    assert checkpoint.sizes().kv_per_token == (per_token,) * 3 + (0,) * 3
    assert sum(cost.per_token for cost in checkpoint.load(3, 6).cache_costs) == 2 * per_token
    assert sum(cost.per_token for cost in checkpoint.load(0, 6).cache_costs) == 3 * per_token


def test_a_whole_model_is_one_segment_that_ends_in_logits(model_folder: MakeFolder) -> None:
    folder = model_folder("gemma3")
    part = load_stage(folder, 0, 6)
    (stage,) = part.segments
    assert (part.epilogue, stage.tail, type(stage)) == (None, True, ModelStage)
    (logits,) = stage(TOKENS, [], stage.make_cache())
    assert mx.array_equal(logits, logits_of(folder))


def test_nodes_with_different_parts_agree_on_the_plan(model_folder: MakeFolder) -> None:
    folder = model_folder("gemma3n")
    digests = {load_stage(folder, first, end).plan.digest() for first, end in RANGES}
    assert len(digests) == 1
    assert load_stage(folder, 0, 2, dtype="float16").plan.digest() not in digests


@pytest.mark.parametrize(("stored", "wanted"), [("float16", "float32"), ("float32", "bfloat16"), ("float16", None)])
def test_floating_parameters_are_cast(model_folder: MakeFolder, stored: str, wanted: str | None) -> None:
    folder = model_folder("llama", dtype=stored)
    part = load_stage(folder, 0, 3, dtype=wanted)
    dtype = getattr(mx, wanted or stored)
    values = parameters(part.model)
    assert {value.dtype for value in values.values()} == {dtype}
    original = weights_of(folder)["model.layers.1.mlp.up_proj.weight"]
    assert mx.array_equal(values["model.layers.1.mlp.up_proj.weight"], original.astype(dtype))
    (slot,) = part.segments[0].output_slots
    assert slot.dtype == dtype
    sizes = Checkpoint(folder, dtype=wanted).sizes()
    assert part.nbytes == sizes.stage(0, 3) == sum(v.nbytes for n, v in values.items() if n in needed(part))


def needed(part: LoadedStage) -> set[str]:
    names = {name for stage in part.segments for name in stage.needed()}
    return names | (part.epilogue.needed() if part.epilogue else set())


def test_what_a_model_wants_in_full_precision_is_not_narrowed(model_folder: MakeFolder) -> None:
    part = load_stage(model_folder("deepseek_v3"), 1, 3, dtype="float16")
    values = parameters(part.model)
    assert values["model.layers.2.mlp.gate.e_score_correction_bias"].dtype == mx.float32
    assert values["model.layers.2.mlp.gate.weight"].dtype == mx.float16


def test_a_quantised_checkpoint_loads_in_parts(
    model_folder: MakeFolder, tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    model, config = load_model(model_folder("llama"))
    model, config = quantize_model(model, config, group_size=32, bits=4)
    folder = tmp_path / "quantised"
    folder.mkdir()
    save_model(folder, model)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    parts = [load_stage(folder, first, end) for first, end in RANGES]
    assert mx.array_equal(ring_logits(parts), logits_of(folder))
    assert parts[1].nbytes < 0.4 * Checkpoint(model_folder("llama", seed=1)).sizes().stage(2, 4)


def test_a_checkpoint_in_its_authors_layout_is_stacked_from_parts(
    model_folder: MakeFolder, tmp_path: Path, tiny: dict[str, dict[str, Any]]
) -> None:
    stacked = model_folder("qwen3_moe")
    expected = logits_of(stacked)
    weights: dict[str, mx.array] = {}
    for name, value in weights_of(stacked).items():
        if ".switch_mlp." in name:
            for i, expert in enumerate(value):
                weights[name.replace("switch_mlp", f"experts.{i}")] = expert
        else:
            weights[name] = value
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copyfile(stacked / "config.json", folder / "config.json")
    maker.save_sharded(folder, maker.in_layer_order(weights), 6)
    headers = read_headers(folder)
    checkpoint = Checkpoint(folder)
    assert "model.layers.3.mlp.experts.2.up_proj.weight" in checkpoint.needed_tensors(2, 4)
    assert "model.layers.4.mlp.experts.2.up_proj.weight" not in checkpoint.needed_tensors(2, 4)
    parts = []
    for first, end in RANGES:
        alone = only(folder, checkpoint.needed_files(first, end), tmp_path / f"{first}")
        parts.append(load_stage(alone, first, end, headers=headers))
    assert mx.array_equal(ring_logits(parts), expected)


def test_progress_counts_the_stages_own_bytes(model_folder: MakeFolder) -> None:
    seen: list[tuple[int, int]] = []
    part = load_stage(model_folder("llama"), 2, 4, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (part.nbytes, part.nbytes)
    assert {total for _, total in seen} == {part.nbytes}


def test_loading_ends_when_progress_raises(model_folder: MakeFolder) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        load_stage(model_folder("llama"), 2, 4, progress=stop)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scramble_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"shape"', b'"sharp"'))


@pytest.mark.parametrize(
    ("harm", "why"), [(cut_off, "100 bytes too few"), (scramble_header, "header"), (Path.unlink, "No such")]
)
def test_a_bad_file_is_named_where_it_is_needed_and_only_there(
    model_folder: MakeFolder, harm: Callable[[Path], None], why: str
) -> None:
    folder = model_folder("llama", shards=6)
    headers = read_headers(folder)
    checkpoint = Checkpoint(folder, headers=headers)
    victim = (set(checkpoint.needed_files(4, 6)) - set(checkpoint.needed_files(2, 4))).pop()
    harm(folder / victim)
    load_stage(folder, 2, 4, headers=headers)
    with pytest.raises(CheckpointError, match=f"{victim}.*{why}"):
        load_stage(folder, 4, 6, headers=headers)
    with pytest.raises(CheckpointError, match=victim):
        load_stage(folder, 2, 4)


def test_a_file_of_another_checkpoint_is_noticed(model_folder: MakeFolder) -> None:
    folder, other = model_folder("llama"), model_folder("qwen3_moe")
    headers = read_headers(folder)
    shutil.copyfile(other / "model-00002-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is not the file"):
        load_stage(folder, 2, 4, headers=headers)


def test_tensors_that_do_not_make_the_model_are_an_error(model_folder: MakeFolder) -> None:
    folder = model_folder("llama")
    whole = read_headers(folder)
    lacking = Headers({name: t for name, t in whole.tensors.items() if "layers.3.mlp.up" not in name})
    with pytest.raises(CheckpointError, match=r"does not make a llama: .*layers\.3\.mlp\.up"):
        Checkpoint(folder, headers=lacking)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def test_what_is_wrong_with_the_configuration_is_said(model_folder: MakeFolder) -> None:
    folder = model_folder("llama")
    change_config(folder, model_type="klingon")
    with pytest.raises(UnsupportedModelError, match="klingon"):
        Checkpoint(folder)
    change_config(folder, model_type="llama", hidden_size="wide")
    with pytest.raises(CheckpointError, match="does not make a llama"):
        Checkpoint(folder)
    (folder / "config.json").write_text("{}", "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        Checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        Checkpoint(folder)


def test_code_that_comes_with_a_checkpoint_is_never_run(model_folder: MakeFolder) -> None:
    folder = model_folder("llama")
    (folder / "own.py").write_text("raise SystemExit('it ran')", "utf-8")
    change_config(folder, model_file="own.py")
    with pytest.raises(CheckpointError, match="custom"):
        Checkpoint(folder)


def test_layers_that_are_not_there_are_an_error(model_folder: MakeFolder) -> None:
    checkpoint = Checkpoint(model_folder("llama"))
    for first, end in [(0, 7), (3, 3), (-1, 2), (4, 2)]:
        with pytest.raises(ValueError, match="of 6"):
            checkpoint.load(first, end)


def test_a_model_that_cannot_be_cut_loads_whole_and_only_whole(
    model_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder("llama")

    def refuse(*_: Any) -> None:
        raise UnsupportedModelError("no cut in it")

    monkeypatch.setattr("node.engine.checkpoint.CutPlan", refuse)
    checkpoint = Checkpoint(folder)
    with pytest.raises(UnsupportedModelError, match="no cut in it"):
        checkpoint.load(0, 3)
    part = checkpoint.load(0, 6)
    (stage,) = part.segments
    assert isinstance(stage, WholeModel)
    (logits,) = stage(TOKENS, [], stage.make_cache())
    assert mx.array_equal(logits, logits_of(folder))
    sizes = checkpoint.sizes()
    assert sizes.stage(0, 6) == part.nbytes
    assert sizes.kv(0, 6, 256) == 256 * 6 * (2 * 2 * 16 * 4)
