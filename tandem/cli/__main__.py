"""``python -m tandem.cli``: the ``tandem`` command by another way in."""

from __future__ import annotations

import sys

from tandem.cli import main

sys.exit(main())
