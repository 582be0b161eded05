"""Both images, built from source and run: read-only, not root, memory limited, as any uid, whole jobs over https with
the real Claude Code CLI. Needs root and podman; scripts/test-deploy.sh prepares both.
"""

import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import unittest

import lab
from outside import KEY, TOKEN, Outside, git
from podlab import ask, eventually

BASE = os.environ.get("DEPLOY_BASE", "localhost/debian:bookworm-slim")
SCRATCH, CLAUDE = "localhost/agenticore:latest-scratch", "localhost/agenticore:latest"
UIDS = ["1000:0", "65532:0", "1000690000:0"]


def podman(*words, check=True, **more):
    done = subprocess.run(["podman", *map(str, words)], capture_output=True, text=True, **more)
    if check and done.returncode:
        raise AssertionError(f"podman {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build_environment(**more):
    ca = "/etc/ssl/certs/ca-certificates.crt"
    return {**os.environ, "CONTAINER_ENGINE": "podman", "BUILDER": BASE, "BASE": BASE, "BUILD_NETWORK": "host", "BUILD_CA": ca,
            "SOURCE_DATE_EPOCH": "1700000000", **more}


def setUpModule():
    print("building both images (minutes the first time) …", flush=True)
    subprocess.run([lab.TOP / "scripts/images.sh"], check=True, env=build_environment())


class Lab(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.place.chmod(0o755)
        self.outside = Outside(self.place / "outside")
        self.addCleanup(self.outside.close)
        (self.place / "outside").chmod(0o755)
        self.containers = []
        self.addCleanup(self.remove)

    def remove(self):
        for name in self.containers:
            podman("rm", "-f", "-t", "0", name, check=False)

    def volume(self):
        name = f"agenticore-test-{os.getpid()}-{len(self.containers)}-{free_port()}"
        podman("volume", "create", name)
        self.addCleanup(podman, "volume", "rm", "-f", name, check=False)
        return name

    def run_server(self, image, user, volume, *words, **environment):
        """The server in a container as a cluster would run it; returns its name and port."""
        port, name = free_port(), f"agenticore-test-{os.getpid()}-{len(self.containers)}"
        self.containers.append(name)
        settings = {
            "AGENTICORE_PORT": port, "AGENTICORE_HOST": "127.0.0.1", "AGENTICORE_SHARED_FS_ROOT": "/shared", "AGENTICORE_JOBS_DIR": "/shared/job-state",
            "AGENTICORE_REPOS_ROOT": "/shared/repos", "AGENTICORE_WORKTREE_ROOT": "/app/worktrees", "AGENTICORE_POD_NAME": name,
            "ANTHROPIC_BASE_URL": self.outside.url(), "AGENTICORE_ANTHROPIC_CREDENTIAL": KEY, "GITHUB_TOKEN": TOKEN,
            "GITHUB_SERVER_URL": self.outside.url(), "GITHUB_API_URL": f"{self.outside.url()}/api/v3",
            "SSL_CERT_FILE": "/outside.pem", "GIT_SSL_CAINFO": "/outside.pem", "NODE_EXTRA_CA_CERTS": "/outside.pem",
            "AGENTICORE_CLAUDE_MAX_RETRIES": 0, "AGENTICORE_PUBLISH_BACKOFF": "100ms", **environment,
        }
        options = ["--name", name, "--network", "host", "--user", user, "--passwd=false", "--read-only", "--read-only-tmpfs=false", "--memory", "2g", "--memory-swap", "2g",
                   "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:rw,mode=1777", "--tmpfs", "/app/worktrees:rw",
                   "--tmpfs", "/home/agenticore:rw", "-v", f"{volume}:/shared", "-v", f"{self.outside.ca}:/outside.pem:ro"]
        for variable, text in settings.items():
            options += ["-e", f"{variable}={text}"]
        podman("run", "-d", *options, image, *words)
        return name, port

    def ask(self, port, path, method="GET", body=None):
        return ask(f"http://127.0.0.1:{port}{path}", method, body)

    def ready(self, name, port):
        def look():
            running = podman("inspect", "-f", "{{.State.Running}}", name).stdout.strip()
            assert running == "true", podman("logs", name).stderr
            found = self.ask(port, "/ready")
            return found and found[0] == 200
        eventually(f"{name} is ready", look)

    def ended(self, port, job):
        def look():
            found = self.ask(port, f"/jobs/{job}")
            return found and found[1]["job"]["status"] not in ("queued", "running") and found[1]["job"]
        return eventually(f"job {job} has ended", look)

    def submit(self, port, **body):
        status, answer = self.ask(port, "/jobs", "POST", body)
        self.assertEqual(status, 200, answer)
        return answer["job"]["id"]


class Scratch(unittest.TestCase):
    def test_it_holds_what_was_agreed_and_is_small(self):
        with tempfile.TemporaryDirectory() as place:
            archive = pathlib.Path(place) / "root.tar"
            container = podman("create", SCRATCH, "version").stdout.strip()
            try:
                podman("export", "-o", archive, container)
            finally:
                podman("rm", container)
            found = {}
            with tarfile.open(archive) as tar:
                for entry in tar:
                    found["/" + entry.name.strip("/")] = entry
            files = {name for name, entry in found.items() if not entry.isdir()}
            # What an engine puts there itself does not count.
            files -= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/run/.containerenv", "/.dockerenv"}
            self.assertEqual(files, {"/agenticore", "/usr/local/bin/agenticore", "/etc/passwd", "/etc/group", "/etc/ssl/certs/ca-certificates.crt"})
            for name in ("/shared", "/app/worktrees", "/data", "/home/agenticore", "/home/agenticore/.agenticore/jobs"):
                entry = found[name]
                self.assertEqual((entry.uid, entry.gid, oct(entry.mode & 0o7777)), (1000, 0, "0o2775"), name)
                said = podman("run", "--rm", "--entrypoint", "/usr/bin/stat", CLAUDE, "-c", "%u:%g %a", name).stdout
                self.assertEqual(said, "1000:0 2775\n", name)
            self.assertEqual(oct(found["/tmp"].mode & 0o7777), "0o1777")
            size = sum(entry.size for entry in found.values())
            print(f"the scratch image holds {size} bytes")
            self.assertLess(size, 8_000_000)

    def test_the_binary_alone_serves_in_an_empty_root(self):
        with tempfile.TemporaryDirectory() as place:
            place = pathlib.Path(place)
            container = podman("create", SCRATCH, "version").stdout.strip()
            podman("cp", f"{container}:/agenticore", place / "agenticore")
            podman("rm", container)
            (place / "proc").mkdir()
            (place / "data").mkdir()
            port = free_port()
            environment = {"HOME": "/data", "TMPDIR": "/data", "AGENTICORE_PORT": str(port), "AGENTICORE_MAX_PARALLEL_JOBS": "1"}
            script = f"mount -t proc proc {place}/proc && exec /usr/sbin/chroot {place} /agenticore serve"
            server = subprocess.Popen(["unshare", "-mpf", "--kill-child", "sh", "-ec", script], env={"PATH": os.environ["PATH"], **environment}, stderr=subprocess.DEVNULL)
            try:
                done = lambda: subprocess.run(["/usr/sbin/chroot", place, "/agenticore", "run", "alone", "--profile", "self-test", "--wait"], capture_output=True, text=True, env=environment)
                answer = eventually("a self-test succeeds", lambda: (lambda d: d if d.returncode == 0 else None)(done()))
                self.assertIn("succeeded", answer.stdout)
            finally:
                server.kill()
                server.wait()

    def test_images_say_what_they_are(self):
        for image in (SCRATCH, CLAUDE):
            (found,) = json.loads(podman("inspect", image).stdout)
            config = found["Config"]
            self.assertEqual((config["User"], config["Entrypoint"], config.get("Cmd")), ("1000:0", ["/agenticore"], None))
            labels = config["Labels"]
            for name in ("title", "description", "source", "licenses", "version", "revision"):
                self.assertTrue(labels[f"org.opencontainers.image.{name}"])
            self.assertIn("HOME=/home/agenticore", config["Env"])
            self.assertEqual(found["Healthcheck"]["Test"][-3:], ["/agenticore", "status", "--alive"])
            for words in (["version"], ["agenticore", "version"]):
                said = podman("run", "--rm", image, *words).stdout
                self.assertRegex(said, r"^agenticore \d+\.\d+\.\d+\n$")
            said = podman("run", "--rm", "--entrypoint", "/usr/local/bin/agenticore", image, "version").stdout
            self.assertTrue(said.startswith("agenticore "))
        tags = podman("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        version = json.loads(podman("inspect", CLAUDE).stdout)[0]["Config"]["Labels"]["org.opencontainers.image.version"]
        for tag in (version, f"v{version}", "latest"):
            for suffix in ("", "-scratch"):
                self.assertIn(f"localhost/agenticore:{tag}{suffix}", tags)

    def test_the_tools_are_there(self):
        script = "for t in git git-lfs ssh bash rg curl jq ps python3 claude agentihooks agenticore; do command -v $t >/dev/null || echo missing $t; done; claude --version; git config --system --get filter.lfs.clean; id -u"
        said = podman("run", "--rm", "--entrypoint", "/bin/bash", CLAUDE, "-c", script).stdout
        self.assertNotIn("missing", said)
        self.assertEqual(said.split()[0], "2.1.330")
        self.assertNotIn("git-lfs clean", said)


class Jobs(Lab):
    def test_a_whole_job_over_https_under_any_uid(self):
        path = self.outside.repository("me/project")
        for user in UIDS:
            with self.subTest(user):
                name, port = self.run_server(CLAUDE, user, self.volume())
                self.ready(name, port)
                healthy = podman("healthcheck", "run", name, check=False)
                self.assertEqual(healthy.returncode, 0, healthy.stdout + healthy.stderr)
                task = "[[write made.txt by claude]] [[bash id -u > uid.txt && git status --short && echo $HOME]] [[say It is made.]]"
                job = self.ended(port, self.submit(port, task=task, repo_url=f"{self.outside.url()}/me/project.git"))
                self.assertEqual((job["status"], job["error"], job["output"]), ("succeeded", None, "It is made."), job)
                self.assertTrue(job["pr_url"], job)
                self.assertEqual(git("-C", path, "show", f"{job['branch']}:uid.txt"), user.split(":")[0])
                # PID 1 is the binary, and reaps what falls to it.
                podman("exec", name, "bash", "-c", "(setsid sleep 0.1 &) ; true")
                time.sleep(0.5)
                processes = podman("exec", name, "ps", "-eo", "pid,stat,comm").stdout
                self.assertRegex(processes, r"\n +1 +\S+ +agenticore")
                self.assertNotRegex(processes, r"\bZ", processes)
                podman("stop", "-t", "45", name)
                self.assertEqual(podman("inspect", "-f", "{{.State.ExitCode}}", name).stdout.strip(), "0")
        self.assertEqual(len(self.outside.pulls), len(UIDS))
        self.assertEqual(self.outside.complaints, [])

    def test_an_ssh_remote_under_a_uid_without_a_name_is_refused_with_a_sentence(self):
        # Nobody listens there: ssh has to give up before it connects.
        name, port = self.run_server(CLAUDE, "1000690000:0", self.volume(), AGENTICORE_REPO_HOSTS="127.0.0.1:9")
        self.ready(name, port)
        job = self.ended(port, self.submit(port, task="t", repo_url="ssh://git@127.0.0.1:9/me/project.git"))
        self.assertIn("works for no uid without a name", job["error"])
        self.assertIn("https://", job["error"])

    def test_a_read_only_root_without_any_volume_still_serves(self):
        """The scratch image with the least that can be given to it."""
        name = f"agenticore-test-{os.getpid()}-bare"
        self.containers.append(name)
        port = free_port()
        podman("run", "-d", "--name", name, "--network", "host", "--read-only", "--user", "1000690000:0", "--cap-drop", "ALL", "--memory", "64m",
               "--tmpfs", "/tmp", "-v", f"{self.volume()}:/home/agenticore", "-e", f"AGENTICORE_PORT={port}", "-e", "AGENTICORE_MAX_PARALLEL_JOBS=1", "-e", "AGENTICORE_HOST=127.0.0.1", SCRATCH)
        self.ready(name, port)
        self.assertEqual(podman("healthcheck", "run", name, check=False).returncode, 0)
        done = podman("exec", name, "/agenticore", "run", "in scratch", "--profile", "self-test", "--wait", check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_stopped_with_a_job_in_it_another_container_goes_on(self):
        redis_port = free_port()
        redis = subprocess.Popen(["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.place)], stdout=subprocess.DEVNULL)
        self.addCleanup(redis.wait)
        self.addCleanup(redis.terminate)
        self.outside.repository("me/project")
        volume, fleet = self.volume(), {"REDIS_URL": f"redis://127.0.0.1:{redis_port}", "AGENTICORE_STORE": "redis"}
        first, port = self.run_server(CLAUDE, "1000:0", volume, AGENTICORE_SHUTDOWN_GRACE="2", **fleet)
        self.ready(first, port)
        task = "[[bash test -e /shared/go || sleep 600]] [[write made.txt 1]]"
        job = self.submit(port, task=task, repo_url=f"{self.outside.url()}/me/project.git")
        eventually("Claude is at work", lambda: "sleep 600" in podman("exec", first, "ps", "-eo", "args").stdout)
        second, other = self.run_server(CLAUDE, "1000:0", volume, **fleet)
        self.ready(second, other)
        began = time.monotonic()
        podman("exec", second, "touch", "/shared/go")
        podman("stop", "-t", "40", first)
        print(f"a container with a job in it stopped after {time.monotonic() - began:.1f} s")
        self.assertEqual(podman("inspect", "-f", "{{.State.ExitCode}}", first).stdout.strip(), "0")
        ended = self.ended(other, job)
        self.assertEqual((ended["status"], ended["attempt"], ended["deaths"]), ("succeeded", 2, 0), ended)
        self.assertEqual(len(self.outside.pulls), 1)

        # The PreStop's drain, then SIGTERM: together within drain + grace + 5.
        podman("exec", second, "rm", "/shared/go")
        job = self.submit(other, task=task, repo_url=f"{self.outside.url()}/me/project.git")
        eventually("Claude is at work", lambda: "sleep 600" in podman("exec", second, "ps", "-eo", "args").stdout)
        began = time.monotonic()
        drained = podman("exec", second, "/agenticore", "drain", "--timeout", "3", check=False)
        self.assertEqual(drained.returncode, 3, drained.stdout + drained.stderr)
        between = time.monotonic()
        podman("stop", "-t", "40", second)
        ended = time.monotonic()
        print(f"drain of 3 s: {between - began:.1f} s, SIGTERM after it: {ended - between:.1f} s")
        self.assertLess(ended - began, 3 + 25 + 5)

    def test_four_lines_add_a_toolchain(self):
        """The Dockerfile in docs/kubernetes.md, as it stands there."""
        text = (lab.TOP / "docs/kubernetes.md").read_text()
        dockerfile = re.search(r"```dockerfile\n(.*?)```", text, re.S)[1]
        self.assertEqual(len(dockerfile.strip().splitlines()), 4)
        context = self.place / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(re.sub(r"^FROM .*", f"FROM {CLAUDE}", dockerfile))
        podman("build", "--network", "host", "-t", "localhost/agenticore-extended", context)
        said = podman("run", "--rm", "--entrypoint", "/bin/sh", "localhost/agenticore-extended", "-c", "make --version | head -n 1; id -u").stdout
        self.assertIn("GNU Make", said)
        self.assertIn("1000", said)


class Releases(unittest.TestCase):
    """A registry on loopback: what is pushed, by which digests, and the chart that pins them."""

    def setUp(self):
        place = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(place.cleanup)
        self.place, self.port = pathlib.Path(place.name), free_port()
        config = self.place / "config.yml"
        config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.place}/data}}}}\nhttp: {{addr: 127.0.0.1:{self.port}}}\n")
        registry = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(registry.wait)
        self.addCleanup(registry.terminate)
        eventually("the registry answers", lambda: subprocess.run(["curl", "-sf", f"http://127.0.0.1:{self.port}/v2/"]).returncode == 0)

    def test_a_release_wants_pinned_bases_and_the_chart_installs_what_it_pushed(self):
        registry = f"127.0.0.1:{self.port}"
        images = lambda **more: subprocess.run(
            [lab.TOP / "scripts/images.sh", "--push", f"{registry}/tccw/agenticore"], capture_output=True, text=True,
            env=build_environment(INSECURE_REGISTRY="true", **more),
        )
        refused = images()
        self.assertEqual(refused.returncode, 2)
        self.assertIn("pinned by digest, and BUILDER is", refused.stderr)
        note = self.place / "digest"
        podman("push", "-q", "--tls-verify=false", "--digestfile", note, BASE, f"{registry}/debian:bookworm-slim")
        pinned = f"{registry}/debian@{note.read_text().strip()}"
        podman("pull", "-q", "--tls-verify=false", pinned)
        done = images(BUILDER=pinned, BASE=pinned)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        pushed = dict(line.split("@") for line in done.stdout.split())
        version = re.search(r'^version = "(.*)"', (lab.TOP / "Cargo.toml").read_text(), re.M)[1]
        wanted = {f"{registry}/tccw/agenticore:{tag}{suffix}" for tag in (version, f"v{version}", "latest") for suffix in ("", "-scratch")}
        self.assertEqual(set(pushed), wanted)
        digest = pushed[f"{registry}/tccw/agenticore:v{version}"]
        published = subprocess.run(["make", "-s", "publish", f"REGISTRY={registry}/tccw"], cwd=lab.TOP, capture_output=True, text=True, env=build_environment(
            INSECURE_REGISTRY="true", BUILDER=pinned, BASE=pinned, HELM=lab.HELMS[4], RELEASE_DIRTY="1"))
        self.assertEqual(published.returncode, 0, published.stderr[-3000:])
        self.assertIn(f"oci://{registry}/tccw/charts/agenticore --version {version}", published.stdout)
        digest = re.search(rf"{re.escape(registry)}/tccw/agenticore:v{re.escape(version)}@(sha256:\S+)", published.stdout)[1]
        dry = lab.helm("install", "agenticore", f"oci://{registry}/tccw/charts/agenticore", "--version", version, "--plain-http", "--dry-run=client", "--set", "storage.className=standard")
        self.assertIn(f"{registry}/tccw/agenticore:v{version}@{digest}", dry.stdout)
        self.assertIn('storageClassName: "standard"', dry.stdout)
        for version_of_helm in lab.HELMS:
            text = lab.helm("template", "agenticore", f"oci://{registry}/tccw/charts/agenticore", "--version", version, "--plain-http", version=version_of_helm).stdout
            self.assertIn(digest, text)
        inspected = podman("pull", "-q", "--tls-verify=false", f"{registry}/tccw/agenticore@{digest}").stdout.strip()
        self.assertTrue(inspected)

    @unittest.skipUnless(os.environ.get("DEPLOY_REPRODUCE"), "SKIPPED: builds the scratch image twice, ten minutes (DEPLOY_REPRODUCE=1)")
    def test_the_scratch_image_built_twice_has_the_same_layers(self):
        layers = []
        for _ in range(2):
            subprocess.run([lab.TOP / "scripts/images.sh"], check=True, env=build_environment(NO_CACHE="true", TARGETS="agenticore"))
            layers.append(json.loads(podman("inspect", SCRATCH).stdout)[0]["RootFS"]["Layers"])
        self.assertEqual(layers[0], layers[1])


if __name__ == "__main__":
    unittest.main()
