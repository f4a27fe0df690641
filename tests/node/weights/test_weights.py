"""Fetching from a hub that works, that breaks, and that lies."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hub_server import MODEL, HubServer, Repo, safetensors, some_model
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, try_to_load_from_cache

from node.cluster import transfer as transfer_module
from node.cluster.catalog import Catalog, LocalModel
from node.cluster.local_model import headers_file
from node.cluster.transfer import partial_path
from node.cluster.weights import Weights
from tandem.errors import (
    CheckpointError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    UnavailableError,
    UnsupportedModelError,
)

FILES = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def weights_of(server: HubServer, cache: Path) -> Weights:
    return Weights(Catalog(hub_cache=cache), cache, endpoint=server.url, retry_seconds=0.001)


def size(server: HubServer, *names: str) -> int:
    return sum(len(server.repos[MODEL].files[name]) for name in names)


def assert_right(server: HubServer, model: LocalModel, *names: str) -> None:
    for name in names:
        assert (model.folder / name).read_bytes() == server.repos[MODEL].files[name]


def partials(cache: Path) -> list[Path]:
    return list(cache.rglob("*.incomplete"))


# -- what is brought


async def test_settings_and_headers_come_without_weights(server: HubServer, cache: Path) -> None:
    model = await weights_of(server, cache).prepare(MODEL)
    assert {str(path.relative_to(model.folder)) for path in model.folder.rglob("*") if path.is_file()} == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "templates/other.jinja",
    }
    assert_right(server, model, "config.json", "chat_template.jinja")
    assert (model.revision, model.context_tokens, model.complete) == (server.repos[MODEL].commit, 2048, False)
    headers = model.headers()
    assert {name: (t.nbytes, t.file) for name, t in headers.tensors.items()} == {
        "layers.0.w": (900_000, FILES[0]),
        "layers.1.w": (1_100_000, FILES[1]),
        "layers.2.w": (1_000_000, FILES[2]),
    }
    assert server.weight_bytes < size(server, *FILES) / 3  # a first read of each file, cut short by the client
    assert Catalog(hub_cache=cache).find(MODEL) == model


async def test_only_the_files_asked_for_are_fetched(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.sent.clear()
    steps: list[tuple[int, int]] = []
    await weights.fetch(model, FILES[1:], progress=lambda done, total: steps.append((done, total)))
    assert_right(server, model, *FILES[1:])
    assert not (model.folder / FILES[0]).exists()
    total = size(server, *FILES[1:])
    assert server.sent == {name: size(server, name) for name in FILES[1:]}
    assert steps[0] == (0, total)
    assert steps[-1] == (total, total)
    assert len(steps) > 3
    assert steps == sorted(steps)
    assert partials(cache) == []


async def test_what_is_here_is_not_fetched_again(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    await weights.fetch(model, FILES[:1])
    server.sent.clear()
    steps: list[tuple[int, int]] = []
    await weights.fetch(model, FILES[:2], progress=lambda done, total: steps.append((done, total)))
    assert set(server.sent) == {FILES[1]}
    assert steps[0] == (size(server, FILES[0]), size(server, *FILES[:2]))
    server.seen.clear()
    await weights.fetch(model, FILES[:2], progress=lambda done, total: steps.append((done, total)))
    assert server.seen == []
    assert steps[-1] == (size(server, *FILES[:2]), size(server, *FILES[:2]))


async def test_a_known_commit_needs_no_network(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.seen.clear()
    assert await weights.prepare(MODEL, revision=model.revision) == model
    assert server.seen == []


async def test_a_new_commit_shares_the_blobs_that_are_equal(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    old = await weights.prepare(MODEL)
    await weights.fetch(old, FILES)
    changed = some_model() | {"config.json": b'{"model_type": "llama"}', FILES[1]: some_model(1)[FILES[1]]}
    server.repos[MODEL] = Repo(changed, commit="e" * 40)
    server.sent.clear()
    new = await weights.prepare(MODEL)
    assert new.revision == "e" * 40
    await weights.fetch(new, FILES)
    assert server.sent[FILES[0]] < size(server, FILES[0]) / 2  # its header alone
    assert_right(server, new, *FILES)
    assert Catalog(hub_cache=cache).find(MODEL) == await weights.prepare(MODEL)
    assert Catalog(hub_cache=cache).find(MODEL, revision=old.revision) is not None


async def test_the_hubs_own_programs_read_the_cache(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    await weights.fetch(model, FILES)
    assert try_to_load_from_cache(MODEL, FILES[0], cache) == str(model.folder / FILES[0])
    found = await asyncio.to_thread(scan_cache_dir, cache)
    assert found.warnings == []
    assert [(repo.repo_id, repo.nb_files) for repo in found.repos] == [(MODEL, 9)]
    server.sent.clear()
    path = await asyncio.to_thread(hf_hub_download, MODEL, FILES[1], cache_dir=cache, endpoint=server.url)
    assert path == str(model.folder / FILES[1])
    assert server.weight_bytes == 0


async def test_the_cache_of_the_hubs_own_programs_is_read(server: HubServer, cache: Path) -> None:
    for name in [*FILES, "config.json"]:
        await asyncio.to_thread(hf_hub_download, MODEL, name, cache_dir=cache, endpoint=server.url)
    model = Catalog(hub_cache=cache).find(MODEL)
    assert model is not None
    assert (model.revision, model.complete) == (server.repos[MODEL].commit, True)
    await server.stop()
    assert await weights_of(server, cache).prepare(MODEL) == model
    await weights_of(server, cache).fetch(model, FILES)


async def test_the_token_goes_to_the_hub_and_nowhere_else(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    weights = weights_of(server, cache)
    await weights.fetch(await weights.prepare(MODEL), FILES[:1])
    assert {token for path, token in server.seen if not path.startswith("/cdn/")} == {"Bearer hf_secret"}
    assert {token for path, token in server.seen if path.startswith("/cdn/")} == {None}


# -- what breaks


async def test_a_transfer_cut_at_40_percent_goes_on_in_the_next_run(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    total = size(server, *FILES)
    server.allowance = int(total * 0.4)
    with pytest.raises(UnavailableError, match=r"model-0000\d.* is cut off at [\d,]+ of [\d,]+ bytes, which are kept"):
        await weights.fetch(model, FILES)
    assert partials(cache)
    server.allowance = None
    server.sent.clear()
    steps: list[tuple[int, int]] = []
    await weights_of(server, cache).fetch(model, FILES, progress=lambda done, total: steps.append((done, total)))
    assert server.weight_bytes <= 0.65 * total
    assert steps[-1] == (total, total)
    assert_right(server, model, *FILES)
    assert partials(cache) == []


async def test_a_transfer_that_breaks_off_is_taken_up_in_the_same_run(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.sent.clear()

    async def now_and_then() -> None:
        while True:
            server.allowance = 300_000
            await asyncio.sleep(0.002)

    breaks = asyncio.create_task(now_and_then())
    try:
        await weights.fetch(model, FILES)
    finally:
        breaks.cancel()
    assert_right(server, model, *FILES)


async def test_a_server_that_is_busy_for_a_moment(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.failures = 3
    await weights.fetch(model, FILES[:1])
    assert_right(server, model, FILES[0])


async def test_a_server_without_ranges(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    server.no_ranges = True
    model = await weights.prepare(MODEL)
    server.allowance = 400_000
    with pytest.raises(UnavailableError):
        await weights.fetch(model, FILES[:1])
    server.allowance = None
    steps: list[tuple[int, int]] = []
    await weights.fetch(model, FILES[:1], progress=lambda done, total: steps.append((done, total)))
    assert_right(server, model, FILES[0])
    assert steps[-1] == (size(server, FILES[0]), size(server, FILES[0]))


async def test_cancelling_ends_a_transfer_that_stalls_and_keeps_what_came(server: HubServer, cache: Path) -> None:
    server.repos[MODEL] = Repo(some_model(sizes=(4_500_000,)))
    name = "model-00001-of-00001.safetensors"
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.stall_at = 3_500_000
    arrived = asyncio.Event()
    fetching = asyncio.create_task(
        weights.fetch(model, [name], progress=lambda done, _: arrived.set() if done >= 2_000_000 else None)
    )
    async with asyncio.timeout(10):
        await arrived.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    server.stall_at = None
    server.sent.clear()
    await weights.fetch(model, [name])
    assert server.sent[name] <= 2_500_000
    assert_right(server, model, name)


async def test_two_at_once_share_the_work(server: HubServer, cache: Path) -> None:
    model = await weights_of(server, cache).prepare(MODEL)
    server.sent.clear()
    ends: list[tuple[int, int]] = []

    async def fetch() -> None:
        last = (0, 0)

        def note(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)

        await weights_of(server, cache).fetch(model, FILES, progress=note)
        ends.append(last)

    await asyncio.gather(fetch(), fetch(), fetch())
    assert server.sent == {name: size(server, name) for name in FILES}
    assert set(ends) == {(size(server, *FILES), size(server, *FILES))}
    assert partials(cache) == []


async def test_another_process_that_does_not_get_on(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    monkeypatch.setattr(transfer_module, "_OTHER_STALLS_SECONDS", 0.2)
    held = partial_path(model.folder.parent.parent / "blobs" / server.repos[MODEL].etag(FILES[0]))
    with held.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another process holds"):
            await weights.fetch(model, FILES[:1])
    await weights.fetch(model, FILES[:1])
    assert_right(server, model, FILES[0])


async def test_a_disk_that_is_too_full_is_said_before(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.sent.clear()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2_000_000, 2_000_000))
    with pytest.raises(OverloadedError, match=r"3\.0 MB are to be fetched .* 2\.0 MB are free") as caught:
        await weights.fetch(model, FILES)
    assert caught.value.code == "insufficient_storage"
    assert server.weight_bytes == 0


async def test_an_error_of_the_disk_is_told(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    partial = partial_path(model.folder.parent.parent / "blobs" / server.repos[MODEL].etag(FILES[0]))
    partial.mkdir()
    with pytest.raises(CheckpointError, match=f"{FILES[0]} cannot be written"):
        await weights.fetch(model, FILES[:1])


# -- what lies


async def test_a_wrong_digest_names_the_file_and_removes_it(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.corrupt = {FILES[1]}
    with pytest.raises(CheckpointError, match=f"{FILES[1]} came damaged"):
        await weights.fetch(model, FILES[1:2])
    assert not (model.folder / FILES[1]).exists()
    assert partials(cache) == []
    server.corrupt = set()
    await weights.fetch(model, FILES[1:2])
    assert_right(server, model, FILES[1])


async def test_a_wrong_digest_of_a_small_file(server: HubServer, cache: Path) -> None:
    server.corrupt = {"tokenizer.json"}
    with pytest.raises(CheckpointError, match=r"tokenizer\.json came damaged"):
        await weights_of(server, cache).prepare(MODEL)
    server.corrupt = set()
    await weights_of(server, cache).prepare(MODEL)


async def test_more_bytes_than_announced(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.replace[FILES[0]] = server.repos[MODEL].files[FILES[0]] + b"more"
    with pytest.raises(CheckpointError, match=f"{FILES[0]} is longer"):
        await weights.fetch(model, FILES[:1])
    server.replace.clear()
    await weights.fetch(model, FILES[:1])
    assert_right(server, model, FILES[0])


async def test_fewer_bytes_than_announced(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    server.no_ranges = True
    server.replace[FILES[0]] = server.repos[MODEL].files[FILES[0]][:-1]
    with pytest.raises(UnavailableError, match="ended the transfer of"):
        await weights.fetch(model, FILES[:1])


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 100, b"not safetensors at all"])
async def test_a_weight_file_that_is_none(server: HubServer, cache: Path, data: bytes) -> None:
    server.repos[MODEL].files[FILES[0]] = data
    with pytest.raises(CheckpointError, match=FILES[0]):
        await weights_of(server, cache).prepare(MODEL)


async def test_a_header_longer_than_the_first_read(server: HubServer, cache: Path) -> None:
    tensors = {f"layers.0.some.long.name.of.a.tensor.number.{i}": b"x" for i in range(3000)}
    server.repos[MODEL].files[FILES[0]] = safetensors(tensors)
    model = await weights_of(server, cache).prepare(MODEL)
    assert set(tensors) < set(model.headers().tensors)


async def test_a_damaged_file_on_disk_is_fetched_again(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    await weights.fetch(model, FILES)
    os.truncate(model.folder / FILES[2], 1000)
    server.sent.clear()
    await weights.fetch(model, FILES)
    assert set(server.sent) == {FILES[2]}
    assert_right(server, model, *FILES)


async def test_damaged_kept_headers_are_read_anew(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    model = await weights.prepare(MODEL)
    headers = model.headers()
    headers_file(model.folder).write_bytes(b"junk")
    assert (await weights.prepare(MODEL)).headers() == headers


async def test_a_repository_of_another_format(server: HubServer, cache: Path) -> None:
    server.repos["a/gguf"] = Repo({"config.json": b"{}", "model.gguf": b"x"})
    server.repos["a/bare"] = Repo({"model.safetensors": b"x"})
    for name, lack in (("a/gguf", r"no model\*\.safetensors"), ("a/bare", r"no config\.json")):
        with pytest.raises(UnsupportedModelError, match=lack):
            await weights_of(server, cache).prepare(name)


# -- what is not there


async def test_an_unknown_id_has_near_matches_of_disk_and_hub(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    await weights.fetch(await weights.prepare(MODEL), FILES)
    server.repos = {"other/some-modern-thing": server.repos[MODEL]}
    with pytest.raises(NotFoundError, match="near: owner/some-model, other/some-modern-thing") as caught:
        await weights.prepare("some-model2")
    assert caught.value.code == "model_not_found"
    server.broken_search = True
    with pytest.raises(NotFoundError, match=r"near: owner/some-model$"):
        await weights.prepare("owner/some-model2")


@pytest.mark.parametrize("name", ["a/b/c", "", "ä/ö", "--", "../etc"])
async def test_an_impossible_id_is_unknown(server: HubServer, cache: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        await weights_of(server, cache).prepare(name)
    assert not any(path.startswith("/api/models/") for path, _ in server.seen)


async def test_an_unknown_revision_and_a_gated_model(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    with pytest.raises(NotFoundError, match="revision"):
        await weights.prepare(MODEL, revision="v9")
    server.repos[MODEL].gated = True
    with pytest.raises(PreconditionError, match=r"gated.*HF_TOKEN"):
        await weights.prepare(MODEL)


async def test_without_network_what_is_here_serves(server: HubServer, cache: Path) -> None:
    weights = weights_of(server, cache)
    await server.stop()
    with pytest.raises(UnavailableError, match="does not answer"):
        await weights.prepare(MODEL)
    await server.start()
    model = await weights.prepare(MODEL)
    await weights.fetch(model, FILES[:2])
    await server.stop()
    again = await weights.prepare(MODEL)
    assert again.headers() == model.headers()
    await weights.fetch(again, FILES[:2])
    with pytest.raises(UnavailableError, match="does not answer"):
        await weights.fetch(again, FILES)


async def test_offline_mode_is_named(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE"):
        await weights_of(server, cache).prepare(MODEL)
    assert server.seen == []


async def test_a_local_folder_is_never_fetched(server: HubServer, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in some_model().items():
        if "/" not in name:
            (folder / name).write_bytes(data)
    model = Catalog().find(str(folder))
    assert model is not None
    weights = weights_of(server, cache)
    await weights.fetch(model, FILES)
    (folder / FILES[1]).unlink()
    with pytest.raises(CheckpointError, match=FILES[1]):
        await weights.fetch(model, FILES)
    assert server.seen == []


async def test_the_environment_counts(server: HubServer, tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from huggingface_hub import constants
from node.cluster.catalog import Catalog
from node.cluster.weights import Weights

async def main():
    cache = Path(constants.HF_HUB_CACHE)
    weights = Weights(Catalog(hub_cache=cache), cache)
    model = await weights.prepare({MODEL!r})
    await weights.fetch(model, {FILES!r})
    print(model.folder)

asyncio.run(main())
"""
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_mine"}
    environment.pop("HF_HUB_CACHE", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        env=environment,
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert errors == b""
    folder = Path(output.decode().strip())
    assert tmp_path / "home" in folder.parents
    for name in FILES:
        assert (folder / name).read_bytes() == server.repos[MODEL].files[name]
    assert "Bearer hf_mine" in {token for _, token in server.seen}
