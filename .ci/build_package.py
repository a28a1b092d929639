"""Builds the source archive, and the wheel from that archive alone.

Usage: python .ci/build_package.py [folder]     (dist if none is named)

The archive is made from a copy, so that the checkout stays clean, and the wheel from the unpacked archive: a file that
the archive lacks then fails the build here, not on the machine of whoever installs it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info")
NOT_COPIED_FROM_THE_TOP = {"build", "dist", "runs", "data"}  # tests/data is copied


def ignored(folder: str, names: list[str]) -> set[str]:
    """The names in a folder that the archive is made without."""
    return NOT_COPIED(folder, names) | (NOT_COPIED_FROM_THE_TOP if Path(folder) == ROOT else set())


def build(kind: str, source: Path, out: Path) -> Path:
    """One archive, ``sdist`` or ``wheel``, of the tree ``source``."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    if built.returncode:
        sys.exit(f"build_package: the {kind} could not be built\n{built.stderr}")
    return out / built.stdout.splitlines()[-1]


def main(out: Path) -> None:
    """Build both and print their sizes."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT, Path(folder) / "copy", ignore=ignored, symlinks=True)
        archive = build("sdist", copy, out.resolve())
        with tarfile.open(archive) as packed:
            packed.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        wheel = build("wheel", Path(folder) / archive.name.removesuffix(".tar.gz"), out.resolve())
    for path in (archive, wheel):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
