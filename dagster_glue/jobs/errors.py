"""Errors a user can mend, and what a failed job raises."""

from __future__ import annotations


class PayloadError(ValueError):
    """The payload cannot be run as asked; nothing was submitted."""


class JobRefused(RuntimeError):
    """Ray refused the job; it was not started."""
