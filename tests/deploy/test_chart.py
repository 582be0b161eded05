"""The chart: what it renders, and what it refuses. No cluster."""

import difflib
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

import lab
from cluster import Cluster

HERE = Path(__file__).parent
CASES = ["default", "python-chart", "everything", "sentinel", "trial", "openshift-trial"]


def case(name):
    return yaml.safe_load((HERE / "values" / f"{name}.yaml").read_text())


def merged(below, above):
    """As helm puts one file of values over another."""
    both = {**below}
    for name, given in above.items():
        both[name] = merged(both[name], given) if isinstance(given, dict) and isinstance(both.get(name), dict) else given
    return both


class Rendering(unittest.TestCase):
    def test_helm_finds_nothing_to_complain_about(self):
        for version in lab.HELMS:
            self.assertIn("0 chart(s) failed", lab.helm("lint", "--strict", lab.CHART, version=version).stdout)

    def test_both_helms_render_the_same_and_it_is_what_was_agreed(self):
        for name in CASES:
            with self.subTest(name):
                documents = lab.render(case(name))
                self.assertEqual(documents, lab.render(case(name), version=3))
                golden = HERE / "golden" / f"{name}.yaml"
                text = yaml.safe_dump_all(documents, sort_keys=True, width=120)
                if os.environ.get("WRITE_GOLDEN"):
                    golden.parent.mkdir(exist_ok=True)
                    golden.write_text(text)
                lines = difflib.unified_diff(golden.read_text().splitlines(), text.splitlines(), lineterm="")
                self.assertEqual("\n".join(lines), "", "WRITE_GOLDEN=1 takes this for the new golden render")

    def test_every_render_is_valid_and_restricted(self):
        for name in CASES:
            with self.subTest(name):
                documents = lab.render(case(name))
                lab.check_valid(documents)
                for pod, (_, spec) in lab.pods(documents).items():
                    if name != "openshift-trial":
                        self.assertEqual(lab.not_restricted(pod, spec), [])

    def test_defaults_are_restricted_with_no_fixed_uid(self):
        for _, spec in lab.pods(lab.render()).values():
            for context in [spec["securityContext"]] + [c["securityContext"] for c in lab.containers(spec)]:
                self.assertFalse({"runAsUser", "runAsGroup", "fsGroup"} & set(context))

    def test_null_takes_the_security_settings_away(self):
        documents = lab.render(None, "podSecurityContext=null", "securityContext=null")
        spec, container = lab.server(documents)
        self.assertNotIn("securityContext", spec)
        self.assertNotIn("securityContext", container)

    def test_only_the_servers_pods_are_the_servers(self):
        for name in CASES:
            documents = lab.render(case(name))
            selectors = []
            for document in documents:
                spec = document.get("spec", {})
                if document["kind"] == "Service" and "redis" not in document["metadata"]["name"]:
                    selectors.append(spec["selector"])
                if document["kind"] == "PodDisruptionBudget":
                    selectors.append(spec["selector"]["matchLabels"])
                if document["kind"] == "NetworkPolicy":
                    selectors.append(spec["podSelector"]["matchLabels"])
            self.assertGreaterEqual(len(selectors), 3)
            for pod, (labels, _) in lab.pods(documents).items():
                is_server = pod == "agenticore"
                self.assertEqual(labels.get("app") == "agenticore", is_server, pod)
                for selector in selectors:
                    self.assertEqual(lab.matches(labels, selector), is_server, f"{pod} {selector}")

    def test_nothing_that_pods_need_is_a_hook(self):
        for name in CASES:
            for document in lab.render(case(name)):
                if "helm.sh/hook" in document["metadata"].get("annotations", {}):
                    self.assertIn(document["kind"], ("Job", "Pod"))

    def test_written_files_follow_from_the_chart(self):
        done = subprocess.run(
            ["python3", lab.TOP / "scripts/chart-files.py", lab.HELMS[4], "--check"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Contract(unittest.TestCase):
    """What users of the Python chart have installed goes on."""

    def test_immutable_fields_are_those_of_the_python_chart(self):
        for release, full in [("agenticore", "agenticore"), ("myrel", "myrel-agenticore"), ("my-agenticore-x", "my-agenticore-x")]:
            documents = lab.render(case("python-chart"), release=release)
            stateful = lab.find(documents, "StatefulSet", full)["spec"]
            labels = {"app.kubernetes.io/name": "agenticore", "app.kubernetes.io/instance": release}
            self.assertEqual(stateful["selector"], {"matchLabels": labels})
            self.assertEqual(stateful["serviceName"], f"{full}-headless")
            self.assertNotIn("volumeClaimTemplates", stateful)
            self.assertNotIn("replicas", stateful, "KEDA decides")
            for service in (full, f"{full}-headless"):
                spec = lab.find(documents, "Service", service)["spec"]
                self.assertEqual(spec["selector"], labels)
                self.assertEqual([port["name"] for port in spec["ports"]], ["http"])
            claim = lab.find(documents, "PersistentVolumeClaim", f"{full}-shared")["spec"]
            self.assertEqual((claim["storageClassName"], claim["accessModes"]), ("efs-sc", ["ReadWriteMany"]))
            self.assertEqual(claim["resources"]["requests"]["storage"], "200Gi")
            lab.find(documents, "Job", f"{full}-init-profiles")
            lab.find(documents, "ScaledObject", f"{full}-scaler")
            lab.find(documents, "TriggerAuthentication", f"{full}-redis-auth")
            lab.find(documents, "Ingress", full)
            _, container = lab.server(documents, full)
            self.assertEqual([port["name"] for port in container["ports"]], ["http"])
            self.assertEqual(container["volumeMounts"][0]["name"], "shared-fs")

    def test_values_of_the_python_chart_mean_what_they_meant(self):
        documents = lab.render(case("python-chart"))
        spec, container = lab.server(documents)
        for name, text in [
            ("AGENTICORE_MAX_PARALLEL_JOBS", "5"), ("AGENTICORE_JOB_TTL", "172800"), ("AGENTICORE_CLAUDE_TIMEOUT", "7200"),
            ("AGENTIHOOKS_PROFILE", "coding"), ("AGENTICORE_DEFAULT_PROFILE", "code"), ("AGENTICORE_TRANSPORT", "sse"),
            ("AGENTICORE_AGENTIHOOKS_URL", "https://github.com/your-org/agentihooks"), ("AGENTICORE_WORKTREE_ROOT", "/work"),
        ]:
            self.assertEqual(lab.value(container, name), text)
        self.assertEqual(container["image"], "tccw/agenticore:v0.1.5")
        self.assertEqual(container["resources"]["limits"]["memory"], "2Gi")
        self.assertEqual(spec["imagePullSecrets"], [{"name": "registry"}])
        # A pod's own disks follow where extraEnv puts them.
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        self.assertEqual((mounts["agenticore-worktrees"], mounts["agenticore-home"], mounts["agenticore-tmp"]), ("/work", "/home/somebody", "/tmp"))
        keda = lab.find(documents, "ScaledObject")["spec"]
        self.assertEqual((keda["minReplicaCount"], keda["maxReplicaCount"]), (2, 20))
        self.assertEqual({t["name"]: t["metadata"]["listName"] for t in keda["triggers"]}, {"queue": "team:queue", "busy": "team:busy"})

    def test_prometheus_reads_each_pod_once(self):
        documents = lab.render(case("everything"))
        monitor = lab.find(documents, "ServiceMonitor")["spec"]
        chosen = [
            document["metadata"]["name"]
            for document in documents
            if document["kind"] == "Service" and lab.matches(document["metadata"]["labels"], monitor["selector"]["matchLabels"])
        ]
        self.assertEqual(chosen, ["agenticore-headless"])
        (endpoint,) = monitor["endpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), ("http", "/metrics"))
        self.assertEqual(endpoint["authorization"]["credentials"], {"name": "agenticore-metrics", "key": "key"})
        # The same alerts as promtool has tried.
        rules = lab.find(documents, "PrometheusRule")["spec"]
        self.assertEqual(rules, lab.yaml.safe_load((lab.TOP / "deploy/prometheus/alerts.yml").read_text()))
        for kind, wrong in [("ServiceMonitor", {"endpoint": []}), ("PrometheusRule", {"group": []})]:
            document = lab.find(documents, kind)
            self.assertTrue(lab.operator_errors({**document, "spec": {**document["spec"], **wrong}}))
        self.assertFalse([d for d in lab.render(case("default")) if d["apiVersion"].startswith("monitoring")])

    def test_secret_keys_are_all_optional_and_feed_the_right_variables(self):
        for name in ("default", "sentinel"):
            _, container = lab.server(lab.render(case(name)))
            fed = {}
            for entry in container["env"]:
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    self.assertIs(reference["optional"], True, entry)
                    fed[reference["key"]] = entry["name"]
            wanted = {
                "redis-url": "REDIS_URL", "redis-username": "REDIS_USERNAME", "redis-password": "REDIS_PASSWORD",
                "anthropic-api-key": "AGENTICORE_ANTHROPIC_CREDENTIAL", "claude-code-oauth-token": "CLAUDE_CODE_OAUTH_TOKEN",
                "webhook-urls": "AGENTICORE_WEBHOOK_URLS", "webhook-secret": "AGENTICORE_WEBHOOK_SECRET",
                "anthropic-base-url": "ANTHROPIC_BASE_URL", "github-token": "GITHUB_TOKEN", "github-app-id": "GITHUB_APP_ID",
                "github-app-installation-id": "GITHUB_APP_INSTALLATION_ID",
                "github-app-private-key": "GITHUB_APP_PRIVATE_KEY", "api-keys": "AGENTICORE_API_KEYS",
            }
            self.assertLessEqual(wanted.items(), fed.items())
        kinds = [(d["kind"], d["metadata"]["name"]) for d in lab.render(case("everything"))]
        self.assertNotIn("Secret", [kind for kind, _ in kinds])

    def test_an_upgrade_that_brings_only_older_values_renders(self):
        """--reuse-values: this chart's own values.yaml does not count then."""
        with tempfile.TemporaryDirectory() as place:
            chart = Path(place) / "agenticore"
            shutil.copytree(lab.CHART, chart)
            (chart / "values.yaml").write_text("")
            for name in CASES:
                older = case(name)
                if name in ("default", "python-chart"):
                    # The Python chart's computed values hold these.
                    older = {"podSecurityContext": {}, "securityContext": {}, **older}
                with self.subTest(name):
                    lab.check_valid(lab.render(older, chart=chart), ["1.32"])
            for earlier in sorted((HERE / "values/earlier").glob("*.yaml")):
                computed = yaml.safe_load(earlier.read_text())
                for name in CASES:
                    with self.subTest(f"{earlier.stem} with {name}"):
                        lab.check_valid(lab.render(merged(computed, case(name) or {}), chart=chart), ["1.32"])
            python = case("python-chart")
            self.assertEqual(lab.not_restricted("x", lab.server(lab.render(python, chart=chart))[0]), [])

    def test_names_that_are_too_long_are_refused_and_others_are_as_they_were(self):
        release = "r" * 38
        documents = lab.render(release=release)
        self.assertEqual(len(lab.find(documents, "StatefulSet")["metadata"]["name"]), 49)
        with self.assertRaisesRegex(lab.Refused, "set fullnameOverride"):
            lab.render(release="r" * 39)
        lab.find(lab.render(None, "fullnameOverride=short", release="r" * 53), "StatefulSet", "short")


class Values(unittest.TestCase):
    def test_typos_are_refused_and_globals_are_not(self):
        for wrong in ["replica=3", "config.maxParalelJobs=3", "keda.minReplicas=0", "storage.class=x", "service.type=Loadbalancer",
                      "config.maxParallelJobs=-1", "keda.redisAddress=redis://x", "image.digest=sha256:1", "drainSeconds=-1"]:
            for version in lab.HELMS:
                with self.assertRaises(lab.Refused, msg=wrong):
                    lab.render(None, wrong, version=version)
        lab.render({"global": {"imageRegistry": "x", "storageClass": "y"}})

    def test_it_can_be_another_charts_dependency(self):
        with tempfile.TemporaryDirectory() as place:
            parent = Path(place) / "parent"
            (parent / "charts").mkdir(parents=True)
            shutil.copytree(lab.CHART, parent / "charts/agenticore")
            (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
            (parent / "values.yaml").write_text("global: {a: b}\nagenticore: {replicas: 5}\n")
            for version in lab.HELMS:
                stateful = lab.find(lab.render(chart=parent, version=version, release="parent"), "StatefulSet", "parent-agenticore")
                self.assertEqual(stateful["spec"]["replicas"], 5)

    def test_no_name_is_given_twice_and_extra_env_wins(self):
        _, container = lab.server(lab.render(case("sentinel")))
        names = sorted({entry["name"] for entry in container["env"]})
        extra = [{"name": name, "value": "/mine"} for name in names] + [{"name": names[0], "value": "/last"}]
        extra = [entry for entry in extra if entry["name"] not in ("AGENTICORE_PORT", "AGENTICORE_MAX_PARALLEL_JOBS", "AGENTICORE_SHUTDOWN_GRACE")]
        documents = lab.render({**case("sentinel"), "extraEnv": extra})
        for pod, (_, spec) in lab.pods(documents).items():
            for container in lab.containers(spec):
                found = [entry["name"] for entry in container.get("env", [])]
                self.assertEqual(len(found), len(set(found)), pod)
                if container["name"] in ("agenticore", "init"):
                    self.assertEqual(lab.value(container, "AGENTICORE_STORE"), "/mine")
                    self.assertEqual(lab.value(container, names[0]), "/last")

    def test_numbers_and_truths_in_extra_env_stay_what_they_are(self):
        extra = {"AGENTICORE_MAX_PARALLEL_JOBS": 0, "AGENTICORE_OTEL_LOG_TOOL_DETAILS": False, "GITHUB_APP_ID": 1234567, "RATE": 0.5, "NONE": None}
        _, container = lab.server(lab.render({"extraEnv": [{"name": name, "value": value} for name, value in extra.items()]}))
        found = {name: lab.value(container, name) for name in extra}
        self.assertEqual(found, {"AGENTICORE_MAX_PARALLEL_JOBS": "0", "AGENTICORE_OTEL_LOG_TOOL_DETAILS": "false", "GITHUB_APP_ID": "1234567", "RATE": "0.5", "NONE": ""})
        self.assertEqual(container["resources"]["limits"]["memory"], "512Mi")
        spec, _ = lab.server(lab.render({"extraEnv": [{"name": "AGENTICORE_SHUTDOWN_GRACE", "value": "90s"}]}))
        self.assertEqual(spec["terminationGracePeriodSeconds"], 365)
        _, container = lab.server(lab.render({"image": {"tag": 20240101}}))
        self.assertEqual(container["image"], "tccw/agenticore:20240101")

    def test_what_is_null_stays_away(self):
        sets = ["podSecurityContext.runAsUser=null", "podSecurityContext.fsGroup=null", "redis.enabled=true", "redis.resources=null",
                "redis.podSecurityContext.runAsUser=null", "keda.enabled=true", "keda.behavior=null", "topologySpreadConstraints=null"]
        for version in lab.HELMS:
            documents = lab.render(None, *sets, version=version)
            lab.check_valid(documents, ["1.32"])
            spec, _ = lab.server(documents)
            self.assertFalse({"runAsUser", "fsGroup"} & set(spec["securityContext"]))
            self.assertNotIn("topologySpreadConstraints", spec)
            redis = lab.pods(documents)["agenticore-redis"][1]
            self.assertNotIn("runAsUser", redis["securityContext"])
            self.assertFalse(redis["containers"][0].get("resources"))
            self.assertNotIn("horizontalPodAutoscalerConfig", lab.find(documents, "ScaledObject")["spec"]["advanced"])

    def test_what_could_never_run_is_refused_with_a_sentence(self):
        for sets, why in [
            (["fullnameOverride=a.b"], "begin with a letter"),
            (["fullnameOverride=1abc"], "begin with a letter"),
            (["nameOverride=" + "n" * 55], "nameOverride"),
            (["redis.enabled=true", "fullnameOverride=" + "n" * 45], "room for 43"),
            (["podSecurityContext.runAsUser=0"], "runAsNonRoot forbids that"),
            (["image.tag=latest-scratch"], "config.maxParallelJobs=0"),
            (["keda.enabled=true", "keda.minReplicas=11"], "more than keda.maxReplicas"),
            (["trial=true", "redis.enabled=true"], "trial"),
            (["extraEnv[0].name=AGENTICORE_PORT", "extraEnv[0].value=tcp://x"], "a number from 1 to 65535"),
            (["home=/"], "home"),
            (["storage.size=lots"], "size"),
        ]:
            with self.assertRaisesRegex(lab.Refused, why):
                lab.render(None, *sets)
        lab.render(None, "image.tag=latest-scratch", "config.maxParallelJobs=0")

    def test_what_users_mount_themselves_is_not_mounted_twice(self):
        values = {"extraVolumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}], "extraVolumeMounts": [{"name": "tmp", "mountPath": "/tmp/"}]}
        documents = lab.render(values)
        lab.check_valid(documents, ["1.32"])
        _, container = lab.server(documents)
        self.assertEqual([m["name"] for m in container["volumeMounts"] if m["mountPath"].rstrip("/") == "/tmp"], ["tmp"])

    def test_disks_on_the_shared_volume_are_not_made(self):
        extra = [{"name": "HOME", "value": "/shared"}, {"name": "AGENTICORE_WORKTREE_ROOT", "value": "/shared/wt"}]
        documents = lab.render({"extraEnv": extra})
        spec, container = lab.server(documents)
        self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, {"shared-fs", "agenticore-tmp"})
        lab.check_valid(documents, ["1.32"])

    def test_resources_follow_the_documents_table(self):
        for jobs, cpu, least in [(0, "100m", 512), (1, "1", 2048), (2, "1", 2048), (3, "2", 3072), (5, "2", 3072),
                                 (7, "4", 4096), (10, "4", 4096), (12, "4", 4352), (30, "4", 10112)]:
            for values in ({"config": {"maxParallelJobs": jobs}}, {"extraEnv": [{"name": "AGENTICORE_MAX_PARALLEL_JOBS", "value": str(jobs)}]}):
                _, container = lab.server(lab.render(values))
                found = container["resources"]
                self.assertEqual((found["requests"]["cpu"], found["limits"]["memory"]), (cpu, f"{least}Mi"), jobs)
                self.assertGreaterEqual(least, 320 * jobs + 512)

    def test_the_grace_period_follows_from_the_drain(self):
        spec, container = lab.server(lab.render())
        self.assertEqual(spec["terminationGracePeriodSeconds"], 300)
        self.assertEqual(container["lifecycle"]["preStop"]["exec"]["command"], ["/agenticore", "drain", "--timeout", "270"])
        self.assertEqual(lab.value(container, "AGENTICORE_SHUTDOWN_GRACE"), "25")
        spec, container = lab.server(lab.render(None, "drainSeconds=3000"))
        self.assertEqual(spec["terminationGracePeriodSeconds"], 3030)
        with self.assertRaisesRegex(lab.Refused, "at least 300"):
            lab.render(None, "terminationGracePeriodSeconds=299")

    def test_probes_ask_what_they_should(self):
        _, container = lab.server(lab.render(None, "config.port=9000"))
        for probe, path in [("startupProbe", "/health"), ("readinessProbe", "/ready"), ("livenessProbe", "/health")]:
            self.assertEqual(container[probe]["httpGet"], {"path": path, "port": 9000})
        self.assertGreaterEqual(container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"], 300)

    def test_a_disruption_budget_always_lets_one_go(self):
        self.assertEqual(lab.find(lab.render(), "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        with self.assertRaises(lab.Refused):
            lab.render(None, "pdb.minAvailable=1")
        with self.assertRaisesRegex(lab.Refused, "no node could ever be drained"):
            lab.render(None, "pdb.minAvailable=2", "pdb.maxUnavailable=null")
        with self.assertRaisesRegex(lab.Refused, "no node could ever be drained"):
            lab.render(None, "pdb.minAvailable=1", "pdb.maxUnavailable=null", "keda.enabled=true")
        spec = lab.find(lab.render(None, "pdb.minAvailable=1", "pdb.maxUnavailable=null"), "PodDisruptionBudget")["spec"]
        self.assertEqual((spec["minAvailable"], "maxUnavailable" in spec), (1, False))

    def test_storage_classes(self):
        def claim(*sets):
            return lab.find(lab.render(None, *sets), "PersistentVolumeClaim")

        self.assertEqual(claim()["spec"]["storageClassName"], "nfs-client")
        self.assertNotIn("storageClassName", claim("storage.className=")["spec"])
        self.assertEqual(claim("storage.className=-")["spec"]["storageClassName"], "")
        self.assertEqual(claim()["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
        self.assertNotIn("annotations", claim("storage.keep=false")["metadata"])
        documents = lab.render(None, "storage.existingClaim=mine")
        self.assertNotIn("PersistentVolumeClaim", [d["kind"] for d in documents])
        spec, _ = lab.server(documents)
        self.assertEqual(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], "mine")
        trial = claim("trial=true")["spec"]
        self.assertEqual((trial["accessModes"], "storageClassName" in trial), (["ReadWriteOnce"], False))

    def test_an_ingress_lets_streams_live_and_the_users_annotations_win(self):
        values = {"ingress": {"enabled": True, "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "9"}}}
        found = lab.find(lab.render(values), "Ingress")["metadata"]["annotations"]
        self.assertEqual(found["nginx.ingress.kubernetes.io/proxy-read-timeout"], "9")
        self.assertEqual(found["nginx.ingress.kubernetes.io/proxy-buffering"], "off")
        self.assertIn("idle_timeout", found["alb.ingress.kubernetes.io/load-balancer-attributes"])

    def test_names_of_its_own_come_along_with_those_that_are_allowed(self):
        _, container = lab.server(lab.render(None))
        self.assertNotIn("AGENTICORE_ALLOWED_HOSTS", lab.env(container))
        values = {"allowedHosts": ["agents.example"], "ingress": {"enabled": True, "host": "a.example"}}
        _, container = lab.server(lab.render(values))
        hosts = lab.value(container, "AGENTICORE_ALLOWED_HOSTS").split(",")
        self.assertEqual((hosts[0], hosts[-1]), ("agents.example", "a.example"))
        self.assertTrue(any(name.endswith(".svc.cluster.local") for name in hosts), hosts)
        services = [d["metadata"]["name"] for d in lab.render(None) if d["kind"] == "Service"]
        self.assertLessEqual(set(services), set(hosts))

    def test_fs_groups_never_walk_a_volume_that_is_right_already(self):
        for sets in (["trial=true"], ["podSecurityContext.fsGroup=2000"]):
            spec, _ = lab.server(lab.render(None, *sets))
            self.assertEqual(spec["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch")
        spec, _ = lab.server(lab.render(None, "trial=true", "storage.fsGroup=null"))
        self.assertNotIn("fsGroup", spec["securityContext"])


class Installed(unittest.TestCase):
    """What helm looks up in a cluster."""

    def rendered(self, objects, *sets, version=4):
        with tempfile.TemporaryDirectory() as place:
            cluster = Cluster(place, objects)
            try:
                words = ["template", "agenticore", lab.CHART, "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", cluster.config]
                for one in sets:
                    words += ["--set", one]
                text = lab.helm(*words, version=version).stdout
            finally:
                cluster.close()
            return [document for document in yaml.safe_load_all(text) if document]

    def owned(self, name):
        """As helm leaves what belongs to a release, also when that was uninstalled and the object kept."""
        return {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "agenticore", "meta.helm.sh/release-namespace": "default"}}

    def claim(self, storage_class):
        return {("persistentvolumeclaims", "agenticore-shared"): {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": self.owned("agenticore-shared"),
            "spec": {"storageClassName": storage_class, "accessModes": ["ReadWriteMany"]}}}

    def stateful(self, policy):
        return {("statefulsets", "agenticore"): {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": self.owned("agenticore"), "spec": {"podManagementPolicy": policy}}}

    def secret(self, **data):
        return {("secrets", "agenticore-secrets"): {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "agenticore-secrets"}, "data": data}}

    def test_the_installed_claims_class_wins_over_the_default_and_not_over_what_is_asked_for(self):
        for version in lab.HELMS:
            # The document's own upgrade, which names no class.
            documents = self.rendered(self.claim("efs-sc"), "keda.enabled=true", "keda.redisAddress=redis:6379", version=version)
            self.assertEqual(lab.find(documents, "PersistentVolumeClaim")["spec"]["storageClassName"], "efs-sc")
            documents = self.rendered(self.claim("efs-sc"), "storage.className=other", version=version)
            self.assertEqual(lab.find(documents, "PersistentVolumeClaim")["spec"]["storageClassName"], "other")
            documents = self.rendered({}, version=version)
            self.assertEqual(lab.find(documents, "PersistentVolumeClaim")["spec"]["storageClassName"], "nfs-client")

    def test_an_installed_statefulset_keeps_how_its_pods_are_started(self):
        for version in lab.HELMS:
            for objects, sets, policy in [
                ({}, [], "Parallel"),
                (self.stateful("OrderedReady"), [], "OrderedReady"),
                (self.stateful("Parallel"), [], "Parallel"),
                (self.stateful("OrderedReady"), ["podManagementPolicy=Parallel"], "Parallel"),
            ]:
                documents = self.rendered(objects, *sets, version=version)
                self.assertEqual(lab.find(documents, "StatefulSet")["spec"]["podManagementPolicy"], policy)

    def test_a_secret_that_changed_rolls_the_pods_and_tells_where_redis_is(self):
        def checksum(objects):
            template = lab.find(self.rendered(objects), "StatefulSet")["spec"]["template"]
            return template["metadata"]["annotations"].get("checksum/secret")

        self.assertIsNone(checksum({}))
        self.assertNotEqual(checksum(self.secret(a="eA==")), checksum(self.secret(a="eQ==")))
        with_key = self.rendered(self.secret(**{"redis-address": "eA=="}), "keda.enabled=true")
        keda = lab.find(with_key, "ScaledObject")["spec"]["triggers"][0]["metadata"]
        self.assertNotIn("address", keda)
        without = self.rendered(self.secret(**{"redis-url": "eA=="}), "keda.enabled=true")
        keda = lab.find(without, "ScaledObject")["spec"]["triggers"][0]["metadata"]
        self.assertEqual(keda["address"], "redis:6379")


class Images(unittest.TestCase):
    DIGEST = "sha256:" + "ab" * 32

    def image(self, chart, *sets):
        _, container = lab.server(lab.render(None, *sets, chart=chart))
        return container["image"], container["imagePullPolicy"]

    def test_the_checkout_says_latest(self):
        self.assertEqual(self.image(lab.CHART), ("tccw/agenticore:latest", "Always"))
        self.assertEqual(self.image(lab.CHART, "image.tag="), ("tccw/agenticore:v0.2.0", "IfNotPresent"))
        self.assertEqual(self.image(lab.CHART, "image.pullPolicy=Never")[1], "Never")

    def test_a_packaged_chart_pins_its_own_image_until_another_is_named(self):
        for version in lab.HELMS:
            with tempfile.TemporaryDirectory() as place:
                environment = {**os.environ, "HELM": lab.HELMS[version]}
                subprocess.run(
                    [lab.TOP / "scripts/package-chart.sh", "1.2.3", place, self.DIGEST], check=True, capture_output=True, env=environment
                )
                chart = Path(place) / "agenticore-1.2.3.tgz"
                self.assertEqual(self.image(chart), (f"tccw/agenticore:v1.2.3@{self.DIGEST}", "IfNotPresent"))
                self.assertEqual(self.image(chart, "image.tag=v9")[0], "tccw/agenticore:v9")
                self.assertEqual(self.image(chart, "image.repository=mirror/agenticore")[0], "mirror/agenticore:v1.2.3")
                self.assertEqual(self.image(chart, f"image.digest=sha256:{'cd' * 32}")[0], f"tccw/agenticore:v1.2.3@sha256:{'cd' * 32}")

    def test_the_command_is_one_that_only_this_program_has(self):
        for _, spec in lab.pods(lab.render(case("default"))).values():
            for container in lab.containers(spec):
                self.assertEqual(container["command"][0], "/agenticore")


class Keda(unittest.TestCase):
    def scaled(self, *sets, values=None):
        return lab.render(values, "keda.enabled=true", *sets)

    def test_the_address_is_given_once(self):
        def where(documents):
            keda, auth = lab.find(documents, "ScaledObject")["spec"], lab.find(documents, "TriggerAuthentication")["spec"]
            shown = {t["metadata"].get("address", t["metadata"].get("addresses")) for t in keda["triggers"]}
            keys = [r["key"] for r in auth["secretTargetRef"] if r["parameter"] in ("address", "addresses")]
            return shown, keys

        self.assertEqual(where(self.scaled()), ({None}, ["redis-address"]))
        self.assertEqual(where(self.scaled("keda.redisAddress=r:1")), ({"r:1"}, []))
        self.assertEqual(where(self.scaled("redis.enabled=true")), ({"agenticore-redis:6379"}, []))
        self.assertEqual(where(lab.render(case("sentinel"))), ({"s-0:26379,s-1:26379"}, []))

    def test_what_the_scaler_needs_reaches_it(self):
        documents = lab.render(case("sentinel"))
        keda = lab.find(documents, "ScaledObject")["spec"]
        for trigger in keda["triggers"]:
            self.assertEqual(trigger["type"], "redis-sentinel")
            self.assertEqual(trigger["metricType"], "AverageValue")
            found = trigger["metadata"]
            self.assertEqual((found["databaseIndex"], found["enableTLS"], found["sentinelMaster"]), ("3", "true", "main"))
            self.assertTrue(found["listName"].startswith("{team}:"))
        auth = lab.find(documents, "TriggerAuthentication")["spec"]["secretTargetRef"]
        self.assertLessEqual({"username", "password", "sentinelUsername", "sentinelPassword"}, {r["parameter"] for r in auth})
        self.assertNotIn("fallback", keda)
        self.assertNotIn("replicas", lab.find(documents, "StatefulSet")["spec"])

    def test_the_documented_list_and_numbers_are_there(self):
        keda = lab.find(self.scaled(), "ScaledObject")["spec"]
        self.assertEqual((keda["minReplicaCount"], keda["maxReplicaCount"]), (1, 10))
        queue = next(t for t in keda["triggers"] if t["name"] == "queue")
        self.assertEqual((queue["metadata"]["listName"], queue["metadata"]["listLength"]), ("agenticore:queue", "5"))
        with self.assertRaisesRegex(lab.Refused, "trial"):
            self.scaled("trial=true")


class Notes(unittest.TestCase):
    def notes(self, *sets):
        words = ["install", "agenticore", lab.CHART, "--dry-run=client"]
        for one in sets:
            words += ["--set", one]
        return lab.helm(*words).stdout.partition("NOTES:")[2]

    def test_they_say_what_is_missing_with_lines_to_paste(self):
        notes = self.notes()
        for part in ["create secret generic agenticore-secrets", "--from-literal=redis-url=", "rollout restart statefulset/agenticore",
                     "anybody who reaches", "helm test agenticore", "delete pvc agenticore-shared"]:
            self.assertIn(part, notes)
        trial = self.notes("trial=true")
        self.assertNotIn("redis-url", trial)
        self.assertIn("anthropic-api-key", trial)
        self.assertIn("config.defaultProfile is the name of older charts", self.notes("config.defaultProfile=code"))
        self.assertIn("hand their jobs over", self.notes("keda.enabled=true"))


class Manifests(unittest.TestCase):
    def documents(self, text=None):
        found = []
        for path in sorted((lab.TOP / "k8s").glob("*.yaml")):
            found += [d for d in yaml.safe_load_all(path.read_text()) if d]
        return found

    def test_they_are_the_documents_five_valid_and_restricted(self):
        names = {path.name for path in (lab.TOP / "k8s").glob("*.yaml")}
        self.assertEqual(
            names, {"pvc-shared.yaml", "statefulset.yaml", "headless-service.yaml", "service.yaml", "keda-scaledobject.yaml"}
        )
        documents = self.documents()
        lab.check_valid(documents)
        spec, container = lab.server(documents)
        self.assertEqual(lab.not_restricted("agenticore", spec), [])
        self.assertEqual(lab.find(documents, "PersistentVolumeClaim")["metadata"]["name"], "agenticore-shared")
        self.assertEqual(lab.find(documents, "StatefulSet")["spec"]["selector"], {"matchLabels": {"app": "agenticore"}})
        self.assertFalse([d for d in documents if "namespace" in d["metadata"]])

    def test_the_documents_sed_names_the_image(self):
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(lab.TOP / "k8s", Path(place) / "k8s")
            command = "sed -i 's|agenticore:latest|tccw/agenticore:v0.1.5|g' k8s/statefulset.yaml"
            subprocess.run(command, shell=True, check=True, cwd=place)
            stateful = yaml.safe_load((Path(place) / "k8s/statefulset.yaml").read_text())
            images = {c["image"] for c in lab.containers(stateful["spec"]["template"]["spec"])}
            self.assertEqual(images, {"tccw/agenticore:v0.1.5"})


if __name__ == "__main__":
    unittest.main()
