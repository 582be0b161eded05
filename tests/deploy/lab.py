"""What the deployment tests share: rendering the chart, and checks that a cluster would make."""

import copy
import functools
import os
import pathlib
import subprocess
import tempfile

import kubernetes_validate
import kubernetes_validate.utils
import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
CHART = TOP / "charts/agenticore"
HELMS = {3: os.environ["HELM3"], 4: os.environ["HELM4"]}
VERSIONS = ["1.28", "1.32", "1.36"]

# The schemas are large, and read again for each document otherwise.
kubernetes_validate.utils.schema_contents = functools.lru_cache(None)(kubernetes_validate.utils.schema_contents)


class Refused(Exception):
    """Helm did not render, and why."""


def helm(*words, version=4, check=True):
    done = subprocess.run([HELMS[version], *map(str, words)], capture_output=True, text=True)
    if check and done.returncode:
        raise Refused(done.stderr)
    return done


def render(values=None, *sets, version=4, release="agenticore", chart=CHART, kube="1.32.0"):
    """The documents that helm makes of the chart."""
    words = ["template", release, chart, "--kube-version", kube]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        if values is not None:
            yaml.safe_dump(values, file)
            file.flush()
            words += ["-f", file.name]
        for one in sets:
            words += ["--set", one]
        text = helm(*words, version=version).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def find(documents, kind, name=None):
    found = [d for d in documents if d["kind"] == kind and (name is None or d["metadata"]["name"] == name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pods(documents):
    """Every pod, or template of one: name → (labels, spec)."""
    found = {}
    for document in documents:
        if document["kind"] == "Pod":
            found[document["metadata"]["name"]] = (document["metadata"]["labels"], document["spec"])
        elif document["kind"] in ("StatefulSet", "Job", "Deployment"):
            template = document["spec"]["template"]
            found[document["metadata"]["name"]] = (template["metadata"]["labels"], template["spec"])
    return found


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def server(documents, release="agenticore"):
    spec = find(documents, "StatefulSet", release)["spec"]["template"]["spec"]
    return spec, next(c for c in spec["containers"] if c["name"] == "agenticore")


def env(container):
    return {entry["name"]: entry for entry in container.get("env", [])}


def value(container, name):
    return env(container)[name]["value"]


def not_restricted(name, spec):
    """What the Pod Security standard `restricted` would refuse of a pod (its checks of 1.28 to 1.36)."""
    wrong = []
    pod = spec.get("securityContext", {})
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret", "image"}
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= allowed:
            wrong.append(f"{name}: volume {volume['name']}")
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(flag):
            wrong.append(f"{name}: {flag}")
    for container in containers(spec):
        own, where = container.get("securityContext", {}), f"{name}/{container['name']}"
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append(f"{where}: allowPrivilegeEscalation")
        if own.get("privileged"):
            wrong.append(f"{where}: privileged")
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            wrong.append(f"{where}: runAsNonRoot")
        if 0 in (own.get("runAsUser"), pod.get("runAsUser")):
            wrong.append(f"{where}: runAsUser 0")
        seccomp = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
        if seccomp not in ("RuntimeDefault", "Localhost"):
            wrong.append(f"{where}: seccompProfile {seccomp}")
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            wrong.append(f"{where}: capabilities")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            wrong.append(f"{where}: hostPort")
    return wrong


def keda_errors(document):
    """What KEDA's own types (2.16) say of a document, unknown fields included."""
    import jsonschema
    from cloudcoil.models.keda import v1alpha1

    schema = strict(getattr(v1alpha1, document["kind"]).model_json_schema(by_alias=True))
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]


def operator_errors(document):
    """The same of the Prometheus operator's types (0.80)."""
    import jsonschema
    from cloudcoil.models.prometheus_operator import v1

    schema = strict(getattr(v1, document["kind"]).model_json_schema(by_alias=True))
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]


def strict(schema):
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


def check_valid(documents, versions=VERSIONS):
    """Valid for each Kubernetes, and what its schemas do not see: names given twice, quantities, selectors."""
    for document in documents:
        if document["apiVersion"].startswith("keda.sh/"):
            errors = keda_errors(document)
            assert not errors, f"{document['kind']}: {errors}"
            for trigger in document["spec"].get("triggers", []):
                assert all(isinstance(text, str) for text in trigger["metadata"].values()), trigger
            continue
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            errors = operator_errors(document)
            assert not errors, f"{document['kind']}: {errors}"
            continue
        for version in versions:
            kubernetes_validate.validate(copy.deepcopy(document), version, strict=True)
    for name, (_, spec) in pods(documents).items():
        for container in containers(spec):
            names = [entry["name"] for entry in container.get("env", [])]
            assert len(names) == len(set(names)), f"{name}/{container['name']}: {sorted(names)}"
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(mounts) == len(set(mounts)), f"{name}: {mounts}"
            known = {volume["name"] for volume in spec.get("volumes", [])}
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= known, name


def matches(labels, selector):
    return all(labels.get(name) == text for name, text in selector.items())
