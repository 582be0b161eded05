"""What the chart renders, run: each container with its command, environment, volumes and security settings."""

import os
import tempfile
import time
import unittest

import lab
import podlab
from podlab import Network, Pod, eventually, encoded


def template(documents, release="agenticore"):
    return lab.find(documents, "StatefulSet", release)["spec"]["template"]["spec"]


class Pods(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(place.cleanup)
        os.chmod(place.name, 0o755)
        self.network = Network(place.name)
        self.addCleanup(self.network.close)

    def volume(self, name="shared", owner=(1000, 0), mode=0o2775):
        path = self.network.place / name
        path.mkdir()
        os.chown(path, *owner)
        path.chmod(mode)
        return path

    def run_self_test(self, documents, pod, secrets=None, waits=True):
        """`helm test`: its pod, as rendered, against the Service. `waits`: with the container that waits for it."""
        spec = lab.find(documents, "Pod")["spec"]
        self.network.hosts["agenticore"] = pod.address
        self.tests = getattr(self, "tests", 0) + 1
        tester = Pod(self.network, f"agenticore-test-{self.tests}", 20 + self.tests, spec, {}, secrets)
        if waits:
            for container in spec["initContainers"]:
                self.assertEqual(tester.start(container).wait(), 0, tester.log("wait"))
        code = tester.start(spec["containers"][0]).wait()
        log = tester.log("test")
        tester.kill()
        self.network.pods.remove(tester)
        return code, log

    def test_nothing_prepared_both_pods_stay_up_and_say_what_to_create(self):
        documents, volume = lab.render(), self.volume()
        spec = template(documents)
        two = [Pod(self.network, f"agenticore-{n}", n, spec, {"agenticore-shared": volume}) for n in (0, 1)]
        for pod in two:
            pod.up()
        for pod in two:
            self.assertEqual(pod.ask("/health")[0], 200)
            status, ready = pod.ask("/ready")
            self.assertEqual(status, 503)
            self.assertIn("`redis-url` in the Secret `agenticore-secrets`", ready["waiting_for"])
            status, refused = pod.ask("/jobs", "POST", {"task": "t"})
            self.assertEqual(status, 503)
            self.assertIn("`redis-url` in the Secret `agenticore-secrets`", refused["error"])
            self.assertNotIn("…", refused["error"])
        time.sleep(3)
        self.assertTrue(all(pod.is_up() for pod in two))
        # The layout, and nothing else.
        self.assertEqual(sorted(path.name for path in volume.iterdir()), ["job-state", "jobs", "profiles", "repos"])
        self.assertEqual([path for path in volume.rglob("*") if path.is_file()], [])
        self.assertEqual(self.run_self_test(documents, two[0], waits=False)[0], 1)
        for pod in two:
            self.assertEqual(pod.terminate(), 0)

        # The Secret is made, and the rollout that NOTES names: the pods heal.
        self.network.redis()
        secrets = {"agenticore-secrets": {"redis-url": "redis://redis:6379/0"}}
        healed = [Pod(self.network, f"agenticore-{n}", n, spec, {"agenticore-shared": volume}, secrets) for n in (2, 3)]
        for pod in healed:
            pod.up()
        for pod in healed:
            eventually("it is ready", lambda: pod.ask("/ready")[0] == 200)
        code, said = self.run_self_test(documents, healed[0])
        self.assertEqual(code, 0, said)
        self.assertIn("succeeded", said)
        self.assertIn("/shared/jobs", said)
        # A job for Claude waits, and says for what.
        _, answer = healed[1].ask("/jobs", "POST", {"task": "t"})
        self.assertIn("`anthropic-api-key` in the Secret", answer["job"]["waiting_for"])
        self.assertEqual(self.network.redis_says("LLEN", "agenticore:queue"), "1")

        # The PreStop hook as rendered, without a shell; after it SIGTERM is quick.
        container = next(c for c in spec["containers"] if c["name"] == "agenticore")
        drained = healed[0].exec(container, *container["lifecycle"]["preStop"]["exec"]["command"])
        self.assertEqual(drained.returncode, 0, drained.stdout + drained.stderr)
        self.assertEqual(healed[0].ask("/ready")[0], 503)
        began = time.monotonic()
        self.assertEqual(healed[0].terminate(), 0)
        print(f"SIGTERM after a drain took {time.monotonic() - began:.1f} s")
        self.assertEqual(healed[1].terminate(), 0)

    def test_a_trial_needs_nothing_on_a_volume_as_a_kubelet_prepares_it(self):
        documents = lab.render(None, "trial=true")
        volume = self.volume(owner=(0, 0), mode=0o755)
        spec = template(documents)
        self.assertEqual(spec["securityContext"]["fsGroup"], 1000)
        pod = Pod(self.network, "agenticore-0", 0, spec, {"agenticore-shared": volume}).up()
        eventually("it is ready", lambda: pod.ask("/ready")[0] == 200)
        code, said = self.run_self_test(documents, pod)
        self.assertEqual(code, 0, said)
        self.assertEqual(pod.terminate(), 0)

    def test_a_volume_that_cannot_be_written_is_refused_with_its_owner(self):
        spec = template(lab.render(None, "trial=true", "storage.fsGroup=null"))
        volume = self.volume(owner=(4711, 4711), mode=0o755)
        pod = Pod(self.network, "agenticore-0", 0, spec, {"agenticore-shared": volume})
        with self.assertRaises(AssertionError):
            pod.up()
        self.assertIn("belongs to uid 4711", pod.log("layout"))
        self.assertIn("runAsUser=4711", pod.log("layout"))
        # With what the sentence says it works.
        documents = lab.render(None, "trial=true", "storage.fsGroup=null", "podSecurityContext.runAsUser=4711")
        pod = Pod(self.network, "agenticore-1", 1, template(documents), {"agenticore-shared": volume}).up()
        eventually("it is ready", lambda: pod.ask("/ready")[0] == 200)
        self.assertEqual(pod.terminate(), 0)

    def test_any_password_works_raw_and_encoded(self):
        password = "".join(map(chr, range(33, 127))).replace("'", "").replace('"', "").replace("\\", "")
        self.network.redis("--requirepass", password)
        spec, volume = template(lab.render()), self.volume()
        for number, keys in enumerate([
            {"redis-url": "redis://redis:6379/0", "redis-password": password},
            {"redis-url": f"redis://:{encoded(password)}@redis:6379/0"},
        ]):
            pod = Pod(self.network, f"agenticore-{number}", number, spec, {"agenticore-shared": volume}, {"agenticore-secrets": keys}).up()
            eventually("it is ready", lambda: pod.ask("/ready")[0] == 200)
            self.assertEqual(pod.terminate(), 0)
        secrets = {"agenticore-secrets": {"redis-url": f"redis://:{password}@redis:6379/0"}}
        pod = Pod(self.network, "agenticore-5", 5, spec, {"agenticore-shared": volume}, secrets).up()
        self.assertEqual(pod.children["agenticore"].wait(timeout=60), 2)
        self.assertIn("REDIS_PASSWORD", pod.log())
        self.assertNotIn(password, pod.log())

    def test_two_pods_make_the_layout_at_once(self):
        spec, volume = template(lab.render()), self.volume()
        two = [Pod(self.network, f"agenticore-{n}", n, spec, {"agenticore-shared": volume}) for n in range(4)]
        children = [pod.start(pod.spec["initContainers"][0]) for pod in two]
        self.assertEqual([child.wait() for child in children], [0] * 4, [pod.log("layout") for pod in two])
        self.assertEqual(oct((volume / "repos").stat().st_mode & 0o7777), "0o2775")


if __name__ == "__main__":
    if os.geteuid():
        print("SKIPPED: these tests need root")
    else:
        unittest.main()
