"""The bundle for a network that reaches nothing: made, damaged, loaded, pushed; and a whole job in a network namespace
that holds a git server and a model's endpoint and nothing else, from the bundle alone. And the crate, built there.

Needs root, podman and the images (test_images builds them).
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import lab
from outside import KEY, TOKEN, git
from podlab import ask, eventually
from test_images import build_environment

VERSION = re.search(r'^version = "(.*)"', (lab.TOP / "Cargo.toml").read_text(), re.M)[1]
# What lies outside, started inside of the namespace: prints its port.
OUTSIDE = """
import json, sys, threading
from outside import Outside
it = Outside(sys.argv[1])
it.repository("team/app")
print(it.port, flush=True)
sys.stdin.read()
print(json.dumps([it.asked, it.pulls, it.complaints]), flush=True)
"""


def run(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(place.cleanup)
        cls.place = pathlib.Path(place.name)
        cls.place.chmod(0o755)
        print("building the images and the bundle (minutes) …", flush=True)
        archive = run(lab.TOP / "scripts/bundle.sh", env=build_environment(HELM=lab.HELMS[4])).splitlines()[-1]
        run("sha256sum", "-c", "--quiet", "SHA256SUMS", cwd=lab.TOP / "target/bundle")
        run("tar", "-C", cls.place, "-xf", lab.TOP / archive)
        (cls.bundle,) = cls.place.glob("agenticore-*-bundle-*")
        cls.space = f"agcb{os.getpid() % 100000}"
        run("ip", "netns", "add", cls.space)
        cls.addClassCleanup(run, "ip", "netns", "del", cls.space)
        run("ip", "-n", cls.space, "link", "set", "lo", "up")
        # A store of images of its own: nothing that was built here is in it.
        store = cls.place / "storage.conf"
        store.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{cls.place}/graph"\nrunroot = "{cls.place}/run"\n')
        cls.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(store)}
        cls.addClassCleanup(subprocess.run, ["podman", "system", "reset", "-f"], env=cls.environment, capture_output=True)

    def through(self):
        # Not `ip netns exec`, which hides the control groups that runc wants.
        return ["nsenter", f"--net=/run/netns/{self.space}"]

    def inside(self, *words, **more):
        return run(*self.through(), *words, env=self.environment, **more)

    def start(self, *words, **more):
        child = subprocess.Popen([*self.through(), *map(str, words)], env=self.environment, text=True, **more)
        self.addCleanup(child.wait)
        self.addCleanup(child.terminate)
        return child

    def test_a_whole_job_from_the_bundle_alone(self):
        said = self.inside(self.bundle / "install.sh", "--load", "podman")
        self.assertIn(f"loaded docker.io/tccw/agenticore:v{VERSION}\n", said)
        outside = self.start(sys.executable, "-W", "ignore", "-c", OUTSIDE, self.place / "outside", stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=lab.TOP / "tests/deploy")
        url = f"https://localhost:{int(outside.stdout.readline())}"
        name, image = f"agenticore-bundle-{os.getpid()}", f"docker.io/tccw/agenticore:v{VERSION}"
        settings = {
            "AGENTICORE_SHARED_FS_ROOT": "/shared", "AGENTICORE_REPOS_ROOT": "/shared/repos", "AGENTICORE_JOBS_DIR": "/shared/job-state",
            "AGENTICORE_WORKTREE_ROOT": "/app/worktrees", "AGENTICORE_HOST": "127.0.0.1", "AGENTICORE_CA_FILE": "/ca.pem",
            "ANTHROPIC_BASE_URL": url, "AGENTICORE_ANTHROPIC_CREDENTIAL": KEY, "GITHUB_TOKEN": TOKEN, "GITHUB_SERVER_URL": url,
            "GITHUB_API_URL": f"{url}/api/v3", "AGENTICORE_CLAUDE_MAX_RETRIES": "0",
        }
        options = ["--pull=never", "--name", name, "--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                   "--tmpfs", "/tmp:rw,mode=1777", "--tmpfs", "/app/worktrees:rw,mode=1777", "--tmpfs", "/home/agenticore:rw,mode=1777", "--tmpfs", "/shared:rw,mode=1777",
                   "-v", f"{self.place}/outside/ca.pem:/ca.pem:ro"]
        for variable, text in settings.items():
            options += ["-e", f"{variable}={text}"]
        self.inside("podman", "run", "-d", *options, image)
        self.addCleanup(subprocess.run, ["podman", "rm", "-f", "-t", "0", name], env=self.environment, capture_output=True)
        here, through = "http://127.0.0.1:8200", self.through()
        log = lambda: subprocess.run(["podman", "logs", name], env=self.environment, capture_output=True, text=True).stderr
        try:
            eventually("it is ready", lambda: (ask(f"{here}/ready", through=through) or [0])[0] == 200)
        except AssertionError:
            self.fail(log())
        task = {"task": "[[write air.txt none]] [[say done]]", "repo_url": f"{url}/team/app.git"}
        status, answer = ask(f"{here}/jobs", "POST", task, through=through)
        self.assertEqual(status, 200, answer)
        job = eventually("it has ended", lambda: (found := ask(f"{here}/jobs/{answer['job']['id']}", through=through)) and found[1]["job"]["ended_at"] and found[1]["job"])
        self.assertEqual((job["status"], job["error"], job["output"]), ("succeeded", None, "done"), log())
        outside.stdin.close()
        asked, pulls, complaints = json.loads(outside.stdout.readline())
        self.assertEqual((len(pulls), complaints), (1, []))
        self.assertEqual(git("-C", self.place / "outside/repos/team/app.git", "show", f"{job['branch']}:air.txt"), "none")

    def test_into_a_registry_with_the_names_rewritten(self):
        config = self.place / "registry.yml"
        config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.place}/registry}}}}\nhttp: {{addr: 127.0.0.1:5000}}\n")
        self.start("docker-registry", "serve", config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("the registry answers", lambda: subprocess.run([*self.through(), "curl", "-sf", "http://127.0.0.1:5000/v2/"], capture_output=True).returncode == 0)
        out = self.place / "files"
        self.inside(self.bundle / "install.sh", "--registry", "127.0.0.1:5000/tools", "--plain-http", "--out", out)
        chart = next(out.glob("*.tgz"))
        text = run(lab.HELMS[4], "template", "agenticore", chart, "-f", out / "values.yaml")
        image = re.search(rf"image: \"?(127\.0\.0\.1:5000/tools/agenticore:v{re.escape(VERSION)}@sha256:[0-9a-f]{{64}})", text)[1]
        self.assertNotIn("tccw/agenticore", text)
        pulled = self.inside("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{image.replace(':v' + VERSION, '')}").strip()
        self.assertTrue(image.endswith(pulled))
        for file in ("k8s/statefulset.yaml", "compose/docker-compose.yml"):
            self.assertIn(f"image: 127.0.0.1:5000/tools/agenticore:v{VERSION}\n", (out / file).read_text())
        again = subprocess.run([self.bundle / "install.sh", "--registry", "127.0.0.1:5000/tools", "--out", out], capture_output=True, text=True)
        self.assertEqual((again.returncode, "is there already" in again.stderr), (1, True))

    def test_a_damaged_one_is_refused_and_the_binary_installs(self):
        prefix = self.place / "usr"
        self.assertIn("installed agenticore", self.inside(self.bundle / "install.sh", "--binary", "--prefix", prefix))
        self.assertIn(VERSION, self.inside(prefix / "bin/agenticore", "version"))
        self.assertIn("all files are those of the bundle", self.inside(self.bundle / "install.sh", "--check"))
        file = self.bundle / "k8s/service.yaml"
        whole = file.read_text()
        try:
            file.write_text(whole + " ")
            done = subprocess.run([self.bundle / "install.sh", "--check"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("k8s/service.yaml", done.stderr)
        finally:
            file.write_text(whole)
        self.assertEqual(subprocess.run([self.bundle / "install.sh"], capture_output=True).returncode, 2)


class Vendored(unittest.TestCase):
    def test_the_crate_builds_from_vendored_sources_without_a_network(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
            run(lab.TOP / "scripts/vendor.sh", f"{place}/vendor")
            environment = {**os.environ, "CARGO_HOME": f"{place}/home", "CARGO_TARGET_DIR": f"{place}/target"}
            words = ["cargo", "build", "--offline", "--locked", "--quiet", "--config", f"{place}/vendor/config.toml", "--bin", "agenticore"]
            run("unshare", "-n", *words, cwd=lab.TOP, env=environment)
            self.assertIn(VERSION, run(f"{place}/target/debug/agenticore", "version"))


if __name__ == "__main__":
    unittest.main()
