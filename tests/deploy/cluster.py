"""So much of a Kubernetes API as helm asks for when it looks something up: versions, kinds, and single objects."""

import http.server
import json
import pathlib
import threading

KINDS = {
    "api/v1": [("persistentvolumeclaims", "PersistentVolumeClaim"), ("secrets", "Secret"), ("services", "Service"),
               ("pods", "Pod"), ("serviceaccounts", "ServiceAccount")],
    "apis/apps/v1": [("statefulsets", "StatefulSet")],
    "apis/batch/v1": [("jobs", "Job")],
    "apis/policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
    "apis/keda.sh/v1alpha1": [("scaledobjects", "ScaledObject"), ("triggerauthentications", "TriggerAuthentication")],
}


class Cluster:
    """`objects`: (plural, name) → object, in the namespace `default`."""

    def __init__(self, place, objects):
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, answer = cluster.answer(self.path.partition("?")[0].strip("/"))
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.objects, self.asked = objects, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.config = pathlib.Path(place) / "kubeconfig"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_address[1]}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        }))

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path):
        self.asked.append(path)
        if path == "version":
            return 200, {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
        if path == "api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            groups = [name.split("/")[1:] for name in KINDS if name.startswith("apis/")]
            versions = {group: {"groupVersion": f"{group}/{version}", "version": version} for group, version in groups}
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": group, "versions": [one], "preferredVersion": one} for group, one in versions.items()]}
        if path in KINDS:
            version = path.partition("/")[2]
            return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
                {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]} for plural, kind in KINDS[path]]}
        parts = path.split("/")
        found = self.objects.get(tuple(parts[-2:])) if "namespaces" in parts else None
        if found:
            return 200, found
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": f"{path} not found"}
