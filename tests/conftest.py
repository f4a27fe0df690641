from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# Machines that run these tests are shared: how long one example takes says nothing.
settings.register_profile("tandem", settings.get_profile("ci" if os.environ.get("CI") else "default"), deadline=None)
settings.load_profile("tandem")

NOTHING_SKIPPED = "NOTHING_SKIPPED"
"""Set where everything is there that a test could want: what is skipped then is a failure."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(NOTHING_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"skipped although {NOTHING_SKIPPED} is set: {report.longrepr}"
    return report
