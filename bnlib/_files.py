"""Writing files so that nobody ever reads half of one."""

import tempfile
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, UTF-8, so that it is at every moment either the old one or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp", encoding="utf-8", newline="\n", delete=False
    ) as file:
        file.write(text)
    temporary = Path(file.name)
    try:
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
