from types import SimpleNamespace
from typing import Any

import mlx.core as mx
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

from node.engine.cutting.trees import Attribute, get, is_cache, leaves, mutable_state, put

trees = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
        | st.builds(lambda value: SimpleNamespace(value=value), inner)
    ),
    max_leaves=12,
)


@given(trees)
def test_every_leaf_can_be_read_and_replaced_at_its_path(tree: Any) -> None:
    for path, value in list(leaves(tree)):
        assert get(tree, path) == value
        tree = put(tree, path, "new")
        assert get(tree, path) == "new"
    assert all(value == "new" for _, value in leaves(tree))


def test_replacing_keeps_lists_and_objects_and_makes_tuples_anew() -> None:
    box, state, fixed = [1], SimpleNamespace(h=1), (1, 2)
    tree = [box, state, fixed]
    put(tree, (0, 0), 5)
    put(tree, (1, Attribute("h")), 6)
    put(tree, (2, 1), 7)
    assert (box, state.h, fixed, tree[2]) == ([5], 6, (1, 2), (1, 7))


def test_caches_are_leaves() -> None:
    pair = CacheList(KVCache(), ArraysCache(2))
    assert is_cache(pair)
    assert not is_cache(mx.zeros(1))
    assert [value for _, value in leaves(({"cache": pair},))] == [pair]


def test_what_a_call_could_change_is_found_inside_lists_but_not_the_arguments_themselves() -> None:
    shared, state = {"h": 1}, SimpleNamespace(h=mx.zeros(1))
    found = mutable_state(((1, [shared]), {"state": state, "cache": KVCache()}))
    assert [(path, value) for path, value in found] == [((0, 1, 0), shared), ((1, "state"), state)]
