from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# Machines that run these tests are shared: how long one example takes says nothing.
settings.register_profile("tandem", settings.get_profile("ci" if os.environ.get("CI") else "default"), deadline=None)
settings.load_profile("tandem")
if os.environ.get("CI"):
    # Hypothesis also draws constants of whatever modules are loaded by then. With tests shared out to processes as they
    # come that differs from run to run, and two runs of one tree would not say the same, in spite of all seeds.
    assert callable(providers._get_local_constants)
    vars(providers)["_get_local_constants"] = Constants

NOTHING_SKIPPED = "NOTHING_SKIPPED"
"""Set where everything is there that a test could want: what is skipped then is a failure."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests run what faster ones run, more of it: to count covered lines once more would double their time."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(NOTHING_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"skipped although {NOTHING_SKIPPED} is set: {report.longrepr}"
    return report
