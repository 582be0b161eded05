"""A private authority and a proxy, each by one variable: names that only the proxy can resolve, certificates that nobody
else has signed. A whole job with the real Claude Code CLI, git, GitHub's API, Redis by TLS, and a command by https."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import lab
from outside import KEY, TOKEN, Outside, git, tell
from podlab import BINARY, ask, eventually

NAMES = ("model.test", "github.test", "agenticore.test")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Tunnels:
    """A proxy that knows one way: CONNECT, with a password, to whatever name, which all lie on one port."""

    def __init__(self, target, login):
        self.target, self.login, self.asked, self.refused = target, login, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(65536)
            if not part:
                return client.close()
            head += part
        lines = head.decode().split("\r\n")
        verb, authority = lines[0].split()[:2]
        if not any(line.lower().startswith("proxy-authorization: basic") and self.login in line for line in lines):
            client.sendall(b"HTTP/1.1 407 Login\r\nproxy-authenticate: Basic realm=\"p\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return client.close()
        if verb != "CONNECT":
            self.refused.append(lines[0])
            client.sendall(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return client.close()
        self.asked.append(authority)
        server = self.connect()
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=pass_on, args=[server, client], daemon=True)
        back.start()
        pass_on(client, server)
        back.join()

    def connect(self):
        """A refusal was seen once, in one of many runs, though the listener is this very process: it is said, and tried again."""
        for _ in range(50):
            try:
                return socket.create_connection(("127.0.0.1", self.target))
            except ConnectionRefusedError as error:
                print(f"the tunnel's target at port {self.target} refused a connection: {error}", flush=True)
                time.sleep(0.2)
        return socket.create_connection(("127.0.0.1", self.target))

    def close(self):
        self.listener.close()


def pass_on(source, target):
    try:
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class WithServer(Outside):
    """The same, and what a load balancer does: https outside, the server's http inside."""

    server_port = None

    def answer(self, handler):
        if handler.headers.get("host", "").split(":")[0] != "agenticore.test":
            return super().answer(handler)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server_port}{handler.path}") as response:
            tell(handler, response.status, json.load(response))


class Network(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.outside = WithServer(self.place / "outside", names=NAMES)
        self.addCleanup(self.outside.close)
        self.proxy = Tunnels(self.outside.port, "dXNlcjpwYTU1LXdvcmQ=")
        self.addCleanup(self.proxy.close)
        tools = subprocess.run([lab.TOP / "scripts/test-tools.sh"], check=True, capture_output=True, text=True)
        self.claude = tools.stdout.splitlines()[-1]

    def start(self, *words, **more):
        child = subprocess.Popen([str(word) for word in words], **more)
        self.addCleanup(child.wait)
        self.addCleanup(child.terminate)
        return child

    def redis(self):
        port, own = free_port(), self.place / "outside"
        self.start("redis-server", "--port", 0, "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", self.place, "--tls-auth-clients", "no",
                   "--tls-cert-file", own / "own.pem", "--tls-key-file", own / "own.key", "--tls-ca-cert-file", own / "ca.pem", stdout=subprocess.DEVNULL)
        return f"rediss://localhost:{port}/0"

    def settings(self, **more):
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.place / "home"), "TMPDIR": str(self.place), "AGENTICORE_PORT": str(self.port),
            "AGENTICORE_CA_FILE": str(self.outside.ca), "AGENTICORE_PROXY": f"http://user:pa55-word@127.0.0.1:{self.proxy.port}",
            "AGENTICORE_SHARED_FS_ROOT": str(self.place / "shared"), "AGENTICORE_CLAUDE_BINARY": self.claude,
            "ANTHROPIC_BASE_URL": "https://model.test", "AGENTICORE_ANTHROPIC_CREDENTIAL": KEY, "GITHUB_TOKEN": TOKEN,
            "GITHUB_SERVER_URL": "https://github.test", "GITHUB_API_URL": "https://github.test/api/v3",
            "AGENTICORE_CLAUDE_MAX_RETRIES": "0", **more,
        }

    def test_a_whole_job_reaches_everything_by_one_variable_each(self):
        bare = self.outside.repository("team/app")
        self.port = self.outside.server_port = free_port()
        for name in ("home", "shared"):
            (self.place / name).mkdir()
        environment = self.settings(REDIS_URL=self.redis())
        with open(self.place / "log", "w") as log:
            self.start(BINARY, "serve", env=environment, stderr=log)
        here = f"http://127.0.0.1:{self.port}"
        try:
            eventually("the server is ready", lambda: (ask(f"{here}/ready") or [0])[0] == 200)
        except AssertionError:
            self.fail((self.place / "log").read_text() + str(ask(f"{here}/ready")))
        # The agent's own programs find the proxy and the authority too: its git asks the remote by itself.
        task = ("[[bash git ls-remote https://x-access-token:" + TOKEN + "@github.test/team/app.git > asked.txt]]"
                "[[bash env | grep -i proxy]] [[say done]]")
        status, answer = ask(f"{here}/jobs", "POST", {"task": task, "repo_url": "https://github.test/team/app.git"})
        self.assertEqual(status, 200, answer)
        job = eventually("the job has ended", lambda: (found := ask(f"{here}/jobs/{answer['job']['id']}")) and found[1]["job"]["ended_at"] and found[1]["job"])
        self.assertEqual((job["status"], job["error"]), ("succeeded", None))
        self.assertIn("refs/heads/main", git("-C", bare, "show", f"{job['branch']}:asked.txt"))
        self.assertTrue(job["pr_url"].startswith("https://github.test/team/app/pull/"))
        self.assertEqual(self.outside.complaints, [])
        hosts = {authority.split(":")[0] for authority in self.proxy.asked}
        self.assertEqual(hosts, {"model.test", "github.test"})
        self.assertEqual(self.proxy.refused, [])
        # A command, elsewhere: the same two variables, and no HOME of a server.
        asked = subprocess.run([BINARY, "profiles", "--json"], env=self.settings(AGENTICORE_URL="https://agenticore.test"), capture_output=True, text=True)
        self.assertEqual(asked.returncode, 0, asked.stderr)
        self.assertIn("agenticore.test:443", self.proxy.asked)
        logs = subprocess.run([BINARY, "logs", job["id"], "--json"], env=environment, capture_output=True, text=True, check=True).stdout
        self.assertIn("HTTPS_PROXY", logs)
        self.assertNotIn("pa55-word", (self.place / "log").read_text() + logs)

    def test_a_certificate_that_cannot_be_is_refused_with_a_sentence(self):
        self.port = free_port()
        for text, part in [(None, "No such file"), ("x", "holds no certificate"), ((self.place / "outside/own.key").read_text(), "certificate")]:
            path = self.place / "bad.pem"
            if text is not None:
                path.write_text(text)
            done = subprocess.run([BINARY, "serve"], env=self.settings(AGENTICORE_CA_FILE=str(path)), capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("AGENTICORE_CA_FILE", done.stderr)
            self.assertIn(part, done.stderr)
            self.assertNotIn("panicked", done.stderr)

    def test_a_proxy_without_a_scheme_is_refused(self):
        self.port = free_port()
        done = subprocess.run([BINARY, "config"], env=self.settings(AGENTICORE_PROXY="user:pa55-word@proxy:3128"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("AGENTICORE_PROXY must be http://HOST:PORT", done.stderr)
        self.assertNotIn("pa55", done.stderr)
