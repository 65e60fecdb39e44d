"""The one way to tell a user of a mistake: what it is, where, and what to do, in a line. Anything else that is raised is a fault of ours."""

from __future__ import annotations


class UserError(ValueError):
    """Ends a program with its text as one line and exit status 2 (cli.run)."""
