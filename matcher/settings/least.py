"""What a number of the settings may be at least."""

from __future__ import annotations

from typing import Any

from matcher.errors import UsageError


def at_least(settings: Any, **least: float) -> None:
    """UsageError if a number of the settings is smaller than it may be; null is as it was."""
    for name, number in least.items():
        if (value := getattr(settings, name)) is not None and not value >= number:  # nor is nan
            raise UsageError(f"{name} must be at least {number}, not {value}")
