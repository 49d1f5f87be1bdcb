"""One thread, see ``tests.threads``."""

from __future__ import annotations

from tests.threads import one_thread  # noqa: F401
