"""Where a config lies: in configs/ at the root of a checkout; an installed package carries the same files inside."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # of a wheel; of a checkout or an editable install


def locate(path: Path) -> Path:
    """`path` itself; where it is configs/NAME and the working folder lacks it, the package's own, if there is one."""
    if path.is_file() or path.parent != Path("configs"):
        return path
    files = (folder / path.name for folder in FOLDERS)
    return next((file for file in files if file.is_file()), path)
