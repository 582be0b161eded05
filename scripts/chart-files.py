#!/usr/bin/env python3
"""Writes what follows from the chart's values: its README, its copy of the defaults, and the raw manifests in k8s/.

    scripts/chart-files.py HELM            writes them
    scripts/chart-files.py HELM --check    says which of them differ, exit code 1

HELM is the helm to render with. Needs PyYAML.
"""
import pathlib
import subprocess
import sys

import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent
CHART = TOP / "charts/agenticore"

README = """# The chart

Installs agenticore: a StatefulSet of servers, their Services, the shared claim, and what is switched on.
`docs/kubernetes.md` shows how; `docs/migration.md` how to come from the Python chart.

    helm install agenticore oci://ghcr.io/the-cloud-clock-work/charts/agenticore --set storage.className=nfs-client

This file is printed from `values.yaml` (`make chart-files`).

## Resources by the number of jobs

Unless `resources` is given: by this table, and never less memory than 320Mi a job and 512Mi. CPU is asked
for and not limited.

| config.maxParallelJobs | CPU request | memory request | memory limit |
|---|---|---|---|
{resources}

## Values

| value | default | what |
|---|---|---|
{values}
"""

HEADER = """# {what}
# Written by `make chart-files` from the chart's defaults; a test compares them.
"""

FILES = {
    "pvc-shared.yaml": ("The volume that all pods share: ReadWriteMany.", [("PersistentVolumeClaim", "agenticore-shared")]),
    "statefulset.yaml": (
        "The pods. Put your image in by `sed -i 's|agenticore:latest|IMAGE|g'`.", [("StatefulSet", "agenticore")]
    ),
    "headless-service.yaml": ("Stable names for pods: agenticore-0.agenticore-headless.", [("Service", "agenticore-headless")]),
    "service.yaml": ("The door: a load balancer.", [("Service", "agenticore")]),
    "keda-scaledobject.yaml": (
        "Autoscaling. Needs KEDA; where that is not installed leave this file out: see docs/kubernetes.md.",
        [("ScaledObject", "agenticore-scaler"), ("TriggerAuthentication", "agenticore-redis-auth")],
    ),
}


def render(helm, *sets):
    command = [helm, "template", "agenticore", str(CHART), "--kube-version", "1.32.0"]
    for one in sets:
        command += ["--set", one]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def flat(lines):
    """The values with the comments above them, as `path, default, text`."""
    found, path, text, describes = [], [], [], False
    for line in lines:
        body = line.strip()
        if body.startswith("# --"):
            text, describes = [body[4:].strip()], True
        elif body.startswith("#") and describes:
            text.append(body[1:].strip())
        elif body and not body.startswith(("#", "-")) and ":" in body:
            depth = (len(line) - len(line.lstrip())) // 2
            key = body.split(":", 1)[0]
            path = path[:depth] + [key]
            found.append((".".join(path), " ".join(text) if describes else ""))
            text, describes = [], False
        else:
            text, describes = [], False
    return found


def value_at(tree, path):
    for part in path.split("."):
        tree = tree[part]
    return tree


def readme(helm):
    text = (CHART / "values.yaml").read_text()
    tree, rows = yaml.safe_load(text), []
    for path, meaning in flat(text.splitlines()):
        try:
            value = value_at(tree, path)
        except (KeyError, TypeError):
            continue
        if (isinstance(value, dict) and value and not meaning) or path == "valuesVersion":
            continue
        shown = yaml.safe_dump(value, default_flow_style=True, width=10000).replace("\n...", "").strip()
        rows.append(f"| `{path}` | `{shown}` | {meaning.replace('|', '/')} |")
    resources = []
    for jobs in (0, 1, 2, 3, 5, 7, 10, 12, 20):
        pods = [d for d in render(helm, f"config.maxParallelJobs={jobs}") if d["kind"] == "StatefulSet"]
        found = pods[0]["spec"]["template"]["spec"]["containers"][0]["resources"]
        asked = found["requests"]
        resources.append(f"| {jobs} | {asked['cpu']} | {asked['memory']} | {found['limits']['memory']} |")
    return README.format(values="\n".join(rows), resources="\n".join(resources))


def raw(document):
    """As `kubectl apply` wants it: one label, `app`, and no trace of the chart."""
    kind = document["kind"]
    document["metadata"]["labels"] = {"app": "agenticore"}
    document["metadata"].pop("annotations", None)
    spec = document["spec"]
    if kind == "Service":
        spec["selector"] = {"app": "agenticore"}
    if kind == "StatefulSet":
        spec["selector"] = {"matchLabels": {"app": "agenticore"}}
        template = spec["template"]
        template["metadata"]["labels"] = {"app": "agenticore"}
        for spread in template["spec"]["topologySpreadConstraints"]:
            spread["labelSelector"] = {"matchLabels": {"app": "agenticore"}}
        for container in template["spec"]["initContainers"] + template["spec"]["containers"]:
            container["image"] = "agenticore:latest"
            container["imagePullPolicy"] = "IfNotPresent"
    return document


def manifests(helm):
    documents = {(d["kind"], d["metadata"]["name"]): d for d in render(helm)}
    # With KEDA the number of pods is its own; without it the document's two.
    documents.update(
        {(d["kind"], d["metadata"]["name"]): d for d in render(helm, "keda.enabled=true") if d["apiVersion"].startswith("keda")}
    )
    for name, (what, parts) in FILES.items():
        texts = [yaml.safe_dump(raw(documents[part]), sort_keys=False, width=120) for part in parts]
        yield TOP / "k8s" / name, HEADER.format(what=what) + "---\n".join(texts)


def main():
    helm, check = sys.argv[1], "--check" in sys.argv[2:]
    wanted = {
        CHART / "files/defaults.yaml": (CHART / "values.yaml").read_text(),
        CHART / "files/alerts.yml": (TOP / "deploy/prometheus/alerts.yml").read_text(),
    }
    for path, text in wanted.items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    wanted[CHART / "README.md"] = readme(helm)
    wanted.update(manifests(helm))
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check:
        for path in stale:
            print(f"{path.relative_to(TOP)} is not what follows from the chart: run `make chart-files`")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
