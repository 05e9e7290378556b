"""Fixtures shared with the tests of characters."""

from tests.retarget.conftest import body, motion  # noqa: F401
