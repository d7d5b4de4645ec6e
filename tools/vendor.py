"""Fetch the page's libraries anew, as saltpeter/web/vendor/manifest.json pins them: `python tools/vendor.py`.

Needs npm, for its registry only; nothing is built. `--pin` writes the sums of what was fetched into the manifest, after
a change of a version there; without it, anything that differs from the manifest ends the program.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parent.parent / "saltpeter" / "web" / "vendor"
MANIFEST = VENDOR / "manifest.json"


def main() -> None:
    pin = sys.argv[1:] == ["--pin"]
    manifest = json.loads(MANIFEST.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for name, package in manifest["packages"].items():
            take(fetch(name, package, Path(scratch), pin=pin), package, manifest["rewrites"], pin=pin)
    if pin:
        MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


def fetch(name: str, package: dict[str, Any], scratch: Path, *, pin: bool) -> Path:
    """The package's archive, as its author published it."""
    command = ("npm", "pack", "--silent", "--pack-destination", str(scratch), f"{name}@{package['version']}")
    packed = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  npm, with arguments of ours
    archive = scratch / packed.stdout.strip()
    check(package, archive.read_bytes(), archive.name, pin=pin)
    return archive


def take(archive: Path, package: dict[str, Any], rewrites: dict[str, str], *, pin: bool) -> None:
    """Write the package's files to the vendor folder. A browser resolves no bare names, hence the rewriting."""
    with tarfile.open(archive) as tar:
        for name, file in package["files"].items():
            member = tar.extractfile(f"package/{file['from']}")
            if member is None:
                sys.exit(f"{archive.name} has no {file['from']}")
            lines = member.read().decode().splitlines()
            text = "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL=")) + "\n"
            for old, new in rewrites.items():
                text = text.replace(old, new)
            check(file, text.encode(), name, pin=pin)
            (VENDOR / name).write_text(text)


def check(entry: dict[str, Any], content: bytes, name: str, *, pin: bool) -> None:
    found = hashlib.sha256(content).hexdigest()
    if pin:
        entry["sha256"] = found
    elif entry["sha256"] != found:
        sys.exit(f"{name}: the manifest wants sha256 {entry['sha256']}, but this is {found}")


if __name__ == "__main__":
    main()
