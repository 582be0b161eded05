"""compose/, brought up for real with docker-compose 1.29 and a Docker engine of the test's own; then the same volume
under the chart's pods. Needs root, docker.io and docker-compose; the images come from test_images.py's engine.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import lab
import yaml
from outside import KEY, TOKEN, Outside, git
from podlab import Network, Pod, ask, eventually
from test_images import CLAUDE, free_port

OLD = "11111111-2222-4333-8444-555555555555"


class Engine:
    """A dockerd of our own, which ends with the test."""

    def __init__(self, place):
        self.place = place
        self.host = f"unix://{place}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": self.host, "PATH": f"/usr/bin:{os.environ['PATH']}"}
        nofile = subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True).stdout.strip()
        self.daemon = subprocess.Popen(
            ["dockerd", "--data-root", f"{place}/data", "--exec-root", f"{place}/exec", "--pidfile", f"{place}/pid", "-H", self.host,
             "--default-ulimit", f"nofile={nofile}:{nofile}"],
            stdout=open(f"{place}/log", "w"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )
        eventually("dockerd answers", lambda: self.docker("info", check=False).returncode == 0)

    def docker(self, *words, check=True, **more):
        done = subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, env=self.environment, **more)
        if check and done.returncode:
            raise AssertionError(f"docker {words}: {done.stdout}{done.stderr}")
        return done

    def load(self, image):
        save = subprocess.Popen(["podman", "save", "--format", "docker-archive", image], stdout=subprocess.PIPE)
        subprocess.run(["docker", "load", "-q"], stdin=save.stdout, check=True, env=self.environment, capture_output=True)
        assert save.wait() == 0

    def close(self):
        names = self.docker("ps", "-aq", check=False).stdout.split()
        if names:
            self.docker("rm", "-f", *names, check=False)
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(timeout=60)
        subprocess.run(["ip", "link", "del", "docker0"], capture_output=True)
        for table in ("filter", "nat"):
            rules = subprocess.run(["iptables", "-t", table, "-S"], capture_output=True, text=True).stdout.splitlines()
            for rule in rules:
                if rule.startswith("-A") and ("DOCKER" in rule or "docker0" in rule or "172.17." in rule or "br-" in rule):
                    subprocess.run(["iptables", "-t", table, "-D", *rule.split()[1:]], capture_output=True)
            for rule in rules:
                if rule.startswith("-N DOCKER"):
                    subprocess.run(["iptables", "-t", table, "-X", rule.split()[1]], capture_output=True)
        for line in subprocess.run(["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True).stdout.splitlines():
            name = line.split(": ")[1]
            if name.startswith("br-"):
                subprocess.run(["ip", "link", "del", name], capture_output=True)


def redis_image(place):
    """A Redis without a registry: Debian's server and what it links to."""
    root = place / "redis/root"
    for below in ("usr/bin", "tmp"):
        (root / below).mkdir(parents=True)
    (place / "redis/data").mkdir()
    for program in ("redis-server", "redis-cli"):
        shutil.copy(shutil.which(program), root / "usr/bin")
        needed = subprocess.run(["ldd", shutil.which(program)], capture_output=True, text=True).stdout
        for word in needed.split():
            if word.startswith("/"):
                target = root / word.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    (place / "redis/Dockerfile").write_text('FROM scratch\nCOPY root/ /\nCOPY --chown=999:999 data /data\nUSER 999:999\nWORKDIR /data\nENV PATH=/usr/bin\n')
    subprocess.run(["podman", "build", "-q", "--format", "docker", "-t", "localhost/redis:7", place / "redis"], check=True, capture_output=True)
    return "localhost/redis:7"


class Compose(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True)
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.place.chmod(0o755)
        self.engine = Engine(self.place)
        self.addCleanup(self.engine.close)
        redis = redis_image(self.place)
        for image in (CLAUDE, redis):
            self.engine.load(image)
        self.outside = Outside(self.place / "outside", tls=False, address="172.17.0.1")
        self.addCleanup(self.outside.close)
        self.port = free_port()
        self.project = self.place / "compose"
        shutil.copytree(lab.TOP / "compose", self.project)
        more = {"ANTHROPIC_BASE_URL": self.url(), "GITHUB_SERVER_URL": self.url(), "GITHUB_API_URL": f"{self.url()}/api/v3",
                "AGENTICORE_ALLOW_HTTP_REPOS": "true", "AGENTICORE_CLAUDE_MAX_RETRIES": "0", "AGENTICORE_SHUTDOWN_GRACE": "3"}
        services = {name: {"environment": more} for name in ("agenticore", "worker-1", "worker-2")}
        (self.project / "docker-compose.override.yml").write_text(yaml.safe_dump({"services": services}))
        self.environment = {
            **self.engine.environment, "AGENTICORE_PUBLISH": f"127.0.0.1:{self.port}", "AGENTICORE_IMAGE": CLAUDE, "REDIS_IMAGE": redis,
            "ANTHROPIC_API_KEY": KEY, "GITHUB_TOKEN": TOKEN,
        }

    def url(self):
        return self.outside.url("172.17.0.1")

    def compose(self, *words, check=True):
        done = subprocess.run(["docker-compose", *words], cwd=self.project, capture_output=True, text=True, env=self.environment)
        if check and done.returncode:
            raise AssertionError(f"docker-compose {words}: {done.stdout}{done.stderr}")
        return done

    def ask(self, path, method="GET", body=None):
        return ask(f"http://127.0.0.1:{self.port}{path}", method, body)

    def ready(self):
        try:
            eventually("it is ready", lambda: (self.ask("/ready") or [0])[0] == 200)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('--profile', 'single', '--profile', 'fleet', 'logs', '--no-color', '--tail=30').stdout}")

    def submit(self, task):
        status, answer = self.ask("/jobs", "POST", {"task": task, "repo_url": f"{self.url()}/me/project.git"})
        self.assertEqual(status, 200, answer)
        return answer["job"]["id"]

    def ended(self, job):
        def look():
            found = self.ask(f"/jobs/{job}")
            return found and found[1]["job"]["status"] not in ("queued", "running") and found[1]["job"]
        return eventually(f"job {job} has ended", look)

    def in_volume(self):
        return pathlib.Path(self.engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "compose_agenticore-data").stdout.strip())

    def test_telemetry_names_files_that_are_there(self):
        # No registry is within reach, so its images were not run: its files are what can be looked at.
        done = subprocess.run(
            ["docker-compose", "--profile", "single", "--profile", "telemetry", "config"],
            cwd=lab.TOP / "compose", capture_output=True, text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        services = yaml.safe_load(done.stdout)["services"]
        mounts = [volume for name in ("otel-collector", "prometheus", "grafana") for volume in services[name]["volumes"]]
        sources = [mount.split(":")[0] if isinstance(mount, str) else mount["source"] for mount in mounts]
        files = [pathlib.Path(source) for source in sources if source.startswith("/")]
        self.assertEqual([str(path) for path in files if not path.is_file()], [])
        self.assertGreater(len(files), 4)
        for path in files:
            yaml.safe_load(path.read_text())

    def test_one_container_then_a_fleet_then_the_charts_pods(self):
        path = self.outside.repository("me/project")
        self.compose("up", "-d")
        self.ready()
        self.assertEqual(self.engine.docker("ps", "-q").stdout.count("\n"), 1, "one container")
        first = self.ended(self.submit("[[write one.txt 1]] [[say done]]"))
        self.assertEqual((first["status"], first["error"]), ("succeeded", None), first)
        self.assertEqual(git("-C", path, "show", f"{first['branch']}:one.txt"), "1")
        listed = self.compose("exec", "-T", "agenticore", "agenticore", "jobs").stdout
        self.assertIn(first["id"][:8], listed)
        healthy = lambda: self.engine.docker("ps", "--format", "{{.Status}}").stdout
        self.compose("up", "-d")
        shared = self.in_volume()
        profile = shared / "profiles/mine"
        profile.mkdir()
        (profile / "profile.yml").write_text("description: kept all the way\nextends: coding\n")

        # Stopped with a job in it: the next start goes on.
        job = self.submit("[[bash test -e /shared/go || sleep 600]] [[write two.txt 2]]")
        top = lambda: self.engine.docker("top", self.engine.docker("ps", "-q").stdout.strip(), "-eo", "pid,args").stdout
        eventually("Claude is at work", lambda: "sleep 600" in top())
        began = time.monotonic()
        self.compose("stop")
        print(f"docker-compose stop with a job in it took {time.monotonic() - began:.1f} s")
        (shared / "go").touch()
        self.compose("start")
        self.ready()
        second = self.ended(job)
        self.assertEqual((second["status"], second["attempt"], second["deaths"]), ("succeeded", 2, 0), second)
        self.assertIn("healthy", eventually("it is healthy", lambda: "(healthy)" in healthy() and healthy()))

        # The fleet, on the same volume.
        self.compose("down")
        self.compose("--profile", "fleet", "up", "-d")
        self.ready()
        self.assertEqual(self.engine.docker("ps", "-q").stdout.count("\n"), 3, "two workers and a Redis")
        for job in (first, second):
            found = eventually("it is there", lambda: (self.ask(f"/jobs/{job['id']}") or [0])[0] == 200 and self.ask(f"/jobs/{job['id']}"))
            self.assertEqual(found[1]["job"]["status"], "succeeded")
        pods = {self.ended(one)["pod_name"] for one in [self.submit(f"[[bash sleep 3]] [[write {n}.txt {n}]]") for n in range(6)]}
        self.assertEqual(pods, {"worker-1", "worker-2"})
        waiting = self.submit("[[bash sleep 600]]")
        eventually("it runs", lambda: self.ask(f"/jobs/{waiting}")[1]["job"]["status"] == "running")
        self.compose("--profile", "fleet", "down")

        # Kubernetes: the volume as it is, under the chart's pods, with a Redis that knows nothing.
        network = Network(self.place)
        self.addCleanup(network.close)
        network.redis()
        spec = lab.find(lab.render(), "StatefulSet")["spec"]["template"]["spec"]
        secrets = {"agenticore-secrets": {"redis-url": "redis://redis:6379/0"}}
        moved = self.place / "moved"
        subprocess.run(["cp", "-a", shared, moved], check=True)
        pod = Pod(network, "agenticore-0", 0, spec, {"agenticore-shared": moved}, secrets).up()
        eventually("the pod is ready", lambda: pod.ask("/ready")[0] == 200)
        ids = lambda: {job["id"]: job["status"] for job in pod.ask("/jobs?limit=100")[1]["jobs"]}
        eventually("its jobs are all there", lambda: {first["id"], second["id"], waiting} <= set(ids()))
        self.assertEqual(ids()[first["id"]], "succeeded")
        self.assertEqual(ids()[waiting], "queued", "it waits for a login here")
        self.assertIn("kept all the way", json.dumps(pod.ask("/profiles")[1]))
        self.assertEqual(pod.terminate(), 0)
        self.assertEqual(self.outside.complaints, [])

        # An emptied volume, and a volume of the Python program's, in which a job had ended.
        self.compose("--profile", "fleet", "down", "-v")
        self.engine.docker("volume", "create", "ac_jobs_data")
        jobs = pathlib.Path(self.engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "ac_jobs_data").stdout.strip())
        (jobs / f"{OLD}.json").write_text(json.dumps({
            "id": OLD, "task": "an old task", "profile": "code", "status": "succeeded", "mode": "fire_and_forget", "base_ref": "main", "repo_url": "",
            "created_at": "2024-05-01T10:00:00+00:00", "ended_at": "2024-05-01T10:01:00+00:00", "ttl_seconds": 86400}))
        subprocess.run(["chown", "-R", "1000:1000", jobs], check=True)
        override = yaml.safe_load((self.project / "docker-compose.override.yml").read_text())
        override["services"]["agenticore"]["volumes"] = ["ac_jobs_data:/shared/job-state"]
        override["volumes"] = {"ac_jobs_data": {"external": True}}
        (self.project / "docker-compose.override.yml").write_text(yaml.safe_dump(override))
        self.compose("up", "-d")
        self.ready()
        eventually("the old job is listed", lambda: OLD in json.dumps(self.ask("/jobs")[1]))
        subprocess.run(["chown", "-R", "4711:4711", jobs], check=True)
        subprocess.run(["chmod", "-R", "go-w", jobs], check=True)
        self.compose("restart", check=False)
        logs = lambda: self.compose("logs", "--no-color").stdout
        eventually("it is refused, with owner and remedy", lambda: 'belongs to uid 4711' in logs() and 'user: "4711:0"' in logs())
        self.compose("down", "-v", check=False)


if __name__ == "__main__":
    unittest.main()
