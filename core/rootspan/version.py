"""The version, where everything that tells it can read it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
