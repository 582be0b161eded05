#!/usr/bin/env python3
"""Writes what a release is made of, as CycloneDX 1.5: scripts/sbom.py TARGET > sbom.cdx.json

The crates that the binary for TARGET is linked from, with versions, licences and checksums, out of `cargo metadata` and
Cargo.lock. Development dependencies are not in it. The same input gives the same bytes.
"""

import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

TOP = pathlib.Path(__file__).resolve().parents[1]


def main(target):
    told = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target],
        cwd=TOP, check=True, capture_output=True, text=True,
    )
    metadata = json.loads(told.stdout)
    lock = tomllib.loads((TOP / "Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]

    def needed(identity):
        """What it is linked with or built with; not what its tests need."""
        kinds = lambda dep: any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"])
        return sorted(dep["pkg"] for dep in nodes[identity]["deps"] if kinds(dep))

    found, waiting = set(), [root]
    while waiting:
        identity = waiting.pop()
        if identity not in found:
            found.add(identity)
            waiting += needed(identity)

    def reference(identity):
        package = packages[identity]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(identity):
        package = packages[identity]
        made = {
            "type": "application" if identity == root else "library",
            "bom-ref": reference(identity),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(identity),
        }
        if package.get("license"):
            made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if checksum := checksums.get((package["name"], package["version"])):
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return made

    others = sorted(found - {root}, key=reference)
    text = json.dumps([component(identity) for identity in [root, *others]], sort_keys=True)
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # The same for the same content.
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, text).urn,
        "version": 1,
        "metadata": {"component": component(root), "properties": [{"name": "agenticore:target", "value": target}]},
        "components": [component(identity) for identity in others],
        "dependencies": [
            {"ref": reference(identity), "dependsOn": [reference(dep) for dep in needed(identity)]}
            for identity in [root, *others]
        ],
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("scripts/sbom.py takes a target, such as x86_64-unknown-linux-musl")
    main(sys.argv[1])
