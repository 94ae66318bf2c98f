"""Packages that are installed on request."""

from __future__ import annotations

from camcli.errors import CamcliError


def require_matplotlib(use: str) -> None:
    """Raise CamcliError if matplotlib, which `use` needs, is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CamcliError(
            f"{use} needs matplotlib, which is not installed: pip install 'camcli[figure]'"
        ) from None
