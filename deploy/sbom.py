"""Writes what an image is made of, as CycloneDX JSON: every Python distribution with version and licence.

Usage: python sbom.py NAME VERSION FOLDER…  (folders that hold installed distributions)
"""

import json
import sys
from importlib.metadata import Distribution, distributions
from typing import Any


def licence(found: Distribution) -> list[dict[str, Any]]:
    """The SPDX expression where the distribution gives one, else its words."""
    meta = found.metadata
    if expression := meta.get("License-Expression"):
        return [{"expression": expression}]
    words = (meta.get("License") or "").strip().splitlines()
    return [{"license": {"name": words[0]}}] if words else []


def main() -> None:
    """Print the document."""
    name, version, *folders = sys.argv[1:]
    components = [
        {
            "type": "library",
            "name": found.metadata["Name"],
            "version": found.version,
            "purl": f"pkg:pypi/{found.metadata['Name'].lower()}@{found.version}",
            "licenses": licence(found),
        }
        for found in sorted(distributions(path=folders), key=lambda one: one.metadata["Name"].lower())
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": components,
    }
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
