"""The document that the project was ordered from: each of its commands, run against this build.

What needs a cluster's API is run as far as it goes without one, and says so: `kubectl create` as a dry run, `helm
install` as a dry run of the packaged chart, `kubectl get -l` as a look at the rendered labels, `kubectl exec` and
`port-forward` in pods that are the rendered containers in namespaces of this machine.
"""

import base64
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

import lab
from podlab import Network, Pod, eventually

KUBECTL = str(pathlib.Path(lab.HELMS[4]).with_name("kubectl"))


class Document(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.place.cleanup)
        place = pathlib.Path(cls.place.name)
        place.chmod(0o755)
        subprocess.run([lab.TOP / "scripts/package-chart.sh", "0.1.5", place], check=True, capture_output=True, env={**os.environ, "HELM": lab.HELMS[4]})
        cls.chart = place / "agenticore-0.1.5.tgz"
        cls.secret = yaml.safe_load(subprocess.run(
            [KUBECTL, "create", "secret", "generic", "agenticore-secrets", "--from-literal=redis-url=redis://redis:6379/0",
             "--from-literal=redis-address=redis:6379", "--from-literal=github-token=ghs_x", "--from-literal=anthropic-api-key=sk-litellm",
             "--dry-run=client", "-o", "yaml"], check=True, capture_output=True, text=True).stdout)

    def install(self, *sets):
        words = ["install", "agenticore", self.chart, "--dry-run=client", "--debug"]
        for one in sets:
            words += ["--set", one]
        text = lab.helm(*words).stdout
        manifest = text.partition("MANIFEST:")[2].partition("\nNOTES:")[0]
        return [document for document in yaml.safe_load_all(manifest) if document]

    def test_helm_install_and_its_overrides(self):
        documents = self.install("storage.className=standard")
        lab.check_valid(documents, ["1.32"])
        hooks = self.install("agentihooks.url=https://github.com/your-org/agentihooks", "agentihooks.syncInterval=300", "storage.className=nfs-client")
        _, container = lab.server(hooks)
        self.assertEqual(lab.value(container, "AGENTICORE_AGENTIHOOKS_URL"), "https://github.com/your-org/agentihooks")
        table = {  # "Common --set overrides" and "Key values reference": flag → default
            "storage.className": "nfs-client", "storage.size": "100Gi", "replicas": 2, "image.repository": "tccw/agenticore",
            "config.agentihooksProfile": "coding", "config.maxParallelJobs": 3, "keda.enabled": False, "keda.redisAddress": "redis:6379",
            "ingress.enabled": False, "ingress.host": "agenticore.example.com", "nameOverride": "", "fullnameOverride": "",
            "secretName": "agenticore-secrets", "sharedFs.root": "/shared", "sharedFs.reposRoot": "/shared/repos",
            "sharedFs.jobsDir": "/shared/job-state", "config.transport": "sse", "config.port": 8200, "config.jobTtl": 86400,
            "initJob.enabled": True, "service.type": "LoadBalancer", "image.tag": "latest",
        }
        defaults = yaml.safe_load((lab.CHART / "values.yaml").read_text())
        for path, default in table.items():
            found = defaults
            for part in path.split("."):
                found = found[part]
            self.assertEqual(found, default, path)

    def test_helm_upgrade_with_keda(self):
        """An upgrade asks the cluster; what it would send is rendered."""
        documents = lab.render(None, "keda.enabled=true", "keda.redisAddress=redis:6379", "keda.minReplicas=1", "keda.maxReplicas=20", "keda.listLength=10", chart=self.chart)
        keda = lab.find(documents, "ScaledObject")["spec"]
        queue = next(t["metadata"] for t in keda["triggers"] if t["name"] == "queue")
        self.assertEqual((queue["listName"], queue["listLength"]), ("agenticore:queue", "10"))
        self.assertEqual((keda["minReplicaCount"], keda["maxReplicaCount"]), (1, 20))
        self.assertNotIn("replicas", lab.find(documents, "StatefulSet")["spec"])

    def test_the_pods_are_found_and_their_names_are_stable(self):
        documents = self.install("storage.className=standard")
        found = [name for name, (labels, _) in lab.pods(documents).items() if labels.get("app") == "agenticore"]
        self.assertEqual(found, ["agenticore"], "kubectl get pods -l app=agenticore")
        self.assertEqual(lab.find(documents, "StatefulSet")["spec"]["serviceName"], "agenticore-headless")
        self.assertEqual(lab.find(documents, "Service", "agenticore-headless")["spec"]["clusterIP"], "None")

    def test_the_verification_commands_in_running_pods(self):
        place = pathlib.Path(self.place.name) / "pods"
        place.mkdir()
        network = Network(place)
        self.addCleanup(network.close)
        network.redis()
        volume = place / "shared"
        volume.mkdir()
        os.chown(volume, 1000, 0)
        volume.chmod(0o2775)
        spec, _ = lab.server(self.install("storage.className=standard"))
        keys = {key: base64.b64decode(text).decode() for key, text in self.secret["data"].items()}
        pods = [Pod(network, f"agenticore-{n}", n, spec, {"agenticore-shared": volume}, {"agenticore-secrets": keys}).up() for n in (0, 1)]
        for pod in pods:
            eventually("it is ready", lambda: pod.ask("/ready")[0] == 200)
        container = next(c for c in spec["containers"] if c["name"] == "agenticore")
        listed = pods[0].exec(container, "ls", "/shared/").stdout.split()
        self.assertLessEqual({"profiles", "repos", "jobs", "job-state"}, set(listed))
        self.assertIn("worktrees", pods[0].exec(container, "ls", "/app/").stdout)
        # `agenticore run "echo hello world" --wait`: by an agent that needs no model, for want of one.
        done = pods[0].exec(container, "/agenticore", "run", "echo hello world", "--profile", "self-test", "--wait", "--json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        job = json.loads(done.stdout)
        shown = json.loads(pods[1].exec(container, "/agenticore", "job", job["id"], "--json").stdout)
        self.assertIn(shown["pod_name"], ("agenticore-0", "agenticore-1"), "agenticore job <id> --json | jq .pod_name")
        names = [one["pod_name"] for one in json.loads(pods[1].exec(container, "/agenticore", "jobs", "--json").stdout)]
        self.assertEqual(names, [shown["pod_name"]], "agenticore jobs --json | jq .[].pod_name")
        hook = container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(hook, ["/agenticore", "drain", "--timeout", "270"])
        self.assertEqual(pods[0].exec(container, *hook).returncode, 0)
        self.assertIn("agenticore-0", network.redis_says("--scan", "--pattern", "agenticore:pod:*:draining"), "the pod is marked draining in Redis")

    def test_the_layout_is_the_documents(self):
        """/shared/{repos/{hash}/repo, jobs/{id}, job-state/{id}.json}: seen in the tests of jobs; here the mounts."""
        spec, container = lab.server(self.install())
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        self.assertEqual((mounts["/shared"], mounts["/app/worktrees"]), ("shared-fs", "agenticore-worktrees"))
        self.assertIn({"name": "agenticore-worktrees", "emptyDir": {}}, spec["volumes"])

    def test_commands_of_our_own_pages_are_the_ones_tried(self):
        """Every helm line in docs/ renders."""
        for page in ("kubernetes.md", "migration.md"):
            text = re.sub(r"\\\n\s*", " ", (lab.TOP / "docs" / page).read_text())
            lines = [line for line in text.splitlines() if re.match(r"helm (install|upgrade) ", line)]
            self.assertTrue(lines, page)
            for line in lines:
                sets = re.findall(r"--set (\S+)", line)
                lab.render(None, *sets, chart=self.chart)
        for flags in re.findall(r"`--set (\S+)`", (lab.TOP / "docs/kubernetes.md").read_text()):
            if "…" not in flags and "UID" not in flags:
                lab.render(None, *flags.replace("\\", "").split(","), chart=self.chart)


if __name__ == "__main__":
    unittest.main()
