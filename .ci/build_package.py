"""Builds the source archive, and from it alone the wheel.

Usage: python .ci/build_package.py [folder]     (dist if none is named)

The checkout stays as it is: the archive is made from a copy, and the wheel from the unpacked archive, so that a file
which the archive lacks is missed here and not by whoever installs it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs", "data")


def build(kind: str, source: Path, out: Path) -> Path:
    """One archive, ``sdist`` or ``wheel``, of the tree ``source``."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"build_package: no {kind} was built\n{done.stderr}")
    return out / done.stdout.splitlines()[-1]


def main(out: Path) -> None:
    """Build both and print their sizes."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT, Path(folder) / "copy", ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        archive = build("sdist", copy, out.resolve())
        with tarfile.open(archive) as packed:
            packed.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        wheel = build("wheel", Path(folder) / archive.name.removesuffix(".tar.gz"), out.resolve())
    for path in (archive, wheel):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
