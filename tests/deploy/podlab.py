"""Pods without a cluster: the rendered containers, run for real.

Each pod is a network namespace of its own behind one bridge, with a root of its own (the machine's programs for
reading, the binary where the image has it), the volumes that its template names, its security settings (uid, group,
no capabilities, read-only root), and the environment that the kubelet would make of it, Secrets that are missing
included. Needs root.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.parse

import lab

BINARY = pathlib.Path(os.environ.get("AGENTICORE_BINARY", lab.TOP / "target/debug/agenticore"))
PATIENCE = 120


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **more)


def eventually(what, ready):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = ready()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still not: {what}")


def ask(url, method="GET", body=None, through=()):
    """Status and JSON of an answer, or None while nobody answers. `through`: a command to run curl by."""
    words = [*through, "curl", "-sm20", "-X", method, "-w", "\n%{http_code}", url]
    if body is not None:
        words += ["-d", json.dumps(body)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return None
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


class Network:
    """A bridge with the machine's side of things (Redis); pods hang on it."""

    def __init__(self, place):
        self.place, self.name = pathlib.Path(place), f"agc{os.getpid() % 100000}"
        self.started, self.pods, self.hosts = [], [], {"redis": "10.88.0.1"}
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.name, "addr", "add", "10.88.0.1/24", "dev", "br0")
        run("ip", "-n", self.name, "link", "set", "br0", "up")

    def start(self, *words):
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.started.append(child)
        return child

    def redis(self, *more):
        (self.place / "redis").mkdir(exist_ok=True)
        self.start("redis-server", "--bind", "10.88.0.1", "--protected-mode", "no", "--save", "", "--dir", self.place / "redis", *more)
        eventually("Redis answers", lambda: self.redis_says("PING") is not None)

    def redis_says(self, *words):
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "redis-cli", "-h", "10.88.0.1", *words], capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 and "rror" not in done.stdout else None

    def ask(self, address, path, method="GET", body=None):
        return ask(f"http://{address}:8200{path}", method, body, ["ip", "netns", "exec", self.name])

    def close(self):
        for pod in self.pods:
            pod.kill()
        for child in self.started:
            child.terminate()
            child.wait()
        run("ip", "netns", "del", self.name)


class Pod:
    """One pod of a template (labels are of no use here). `volumes`: claim → directory."""

    def __init__(self, network, name, number, spec, volumes, secrets=None, uid=1000):
        self.network, self.name, self.spec, self.secrets, self.uid = network, name, spec, secrets or {}, uid
        self.address = f"10.88.0.{10 + number}"
        self.place = network.place / name
        self.namespace = f"{network.name}-{number}"
        self.children = {}
        self.volumes = {}
        for volume in spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                self.volumes[volume["name"]] = volumes[volume["persistentVolumeClaim"]["claimName"]]
            else:
                # As the kubelet makes an emptyDir.
                path = self.place / "disks" / volume["name"]
                path.mkdir(parents=True)
                path.chmod(0o777)
                self.volumes[volume["name"]] = path
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        device = f"p{number}"
        run("ip", "-n", self.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", device, "netns", network.name)
        run("ip", "-n", network.name, "link", "set", device, "master", "br0", "up")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        network.pods.append(self)

    def environment(self, container):
        found = {"PATH": "/usr/local/bin:/usr/bin:/bin", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        for entry in container.get("env", []):
            if "value" in entry:
                found[entry["name"]] = entry["value"]
                continue
            source = entry["valueFrom"]
            if "fieldRef" in source:
                assert source["fieldRef"]["fieldPath"] == "metadata.name"
                found[entry["name"]] = self.name
            else:
                reference = source["secretKeyRef"]
                text = self.secrets.get(reference["name"], {}).get(reference["key"])
                if text is None and not reference.get("optional"):
                    raise AssertionError(f"CreateContainerConfigError: {reference}")
                if text is not None:
                    found[entry["name"]] = text
        return found

    def root_of(self, container):
        """A root with the binary where the image has it; everything else of the machine, for reading."""
        root = self.place / f"root-{container['name']}-{len(self.children)}"
        for below in ("proc", "dev", "etc", "usr", "tmp", "home/agenticore", "app/worktrees", "shared"):
            (root / below).mkdir(parents=True)
        for link in ("bin", "lib", "lib64", "sbin"):
            (root / link).symlink_to(f"usr/{link}")
        shutil.copy(BINARY, root / "agenticore")
        hosts = "".join(f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **self.network.hosts}.items())
        (root / "etc/hosts").write_text(hosts)
        (root / "etc/passwd").write_text("agenticore:x:1000:0::/home/agenticore:/bin/sh\n")
        for name in ("ssl", "ld.so.cache", "alternatives"):
            if (pathlib.Path("/etc") / name).exists():
                run("cp", "-a", f"/etc/{name}", root / "etc")
        for mount in container.get("volumeMounts", []):
            (root / mount["mountPath"].lstrip("/")).mkdir(parents=True, exist_ok=True)
        return root

    def start(self, container, words=None):
        """Runs a container; returns its process, whose standard error goes to a file."""
        root, context = self.root_of(container), self.spec.get("securityContext", {})
        script = [f"mount --bind {root} {root}", f"mount --bind /usr {root}/usr && mount -o remount,bind,ro {root}/usr"]
        script.append(f"mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc")
        own = container.get("securityContext", {})
        if own.get("readOnlyRootFilesystem"):
            script.append(f"mount -o remount,bind,ro {root}")
        for mount in container.get("volumeMounts", []):
            source = self.volumes[mount["name"]] / mount.get("subPath", "")
            assert source.is_dir(), f"CreateContainerConfigError: {source} is not there, and a kubelet may not make it"
            target = f"{root}{mount['mountPath']}"
            script.append(f"mount --bind {source} {target}")
            if mount.get("readOnly"):
                script.append(f"mount -o remount,bind,ro {target}")
        uid = own.get("runAsUser", context.get("runAsUser", self.uid))
        groups = f"--groups {context['fsGroup']}" if "fsGroup" in context else "--clear-groups"
        # No capabilities and no way to get some; the machine's setpriv, before its programs are out of reach.
        limits = f"setpriv --reuid={uid} --regid=0 {groups} --bounding-set=-all --no-new-privs"
        command = words or [*container["command"], *container.get("args", [])]
        script.append(f"hostname {self.name}")
        quoted = " ".join(f"'{word}'" for word in command)
        script.append(f"exec /usr/sbin/chroot {root} /usr/bin/{limits} {quoted}")
        log = open(self.place / f"log-{container['name']}", "a")
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "unshare", "-mui", "--propagation", "private", "-p", "-f", "--kill-child", "sh", "-ec", "\n".join(script)],
            env=self.environment(container), stdout=log, stderr=subprocess.STDOUT,
        )
        log.close()
        self.children[container["name"]] = child
        return child

    def log(self, container="agenticore"):
        return (self.place / f"log-{container}").read_text()

    def up(self):
        """What the kubelet does: volumes' groups, init containers one after the other, then the rest."""
        group = self.spec.get("securityContext", {}).get("fsGroup")
        for name, path in self.volumes.items():
            if group is not None:
                prepare_as_a_kubelet(path, group)
        for container in self.spec.get("initContainers", []):
            code = self.start(container).wait()
            assert code == 0, f"{container['name']} ended with {code}: {self.log(container['name'])}"
        for container in self.spec["containers"]:
            self.start(container)
        return self

    def is_up(self):
        return all(self.children[container["name"]].poll() is None for container in self.spec["containers"])

    def ask(self, path, method="GET", body=None):
        return eventually(f"{self.name} answers", lambda: self.network.ask(self.address, path, method, body))

    def inside(self):
        """The process of the server itself, as the machine numbers it."""
        outer = self.children["agenticore"].pid
        def below(pid):
            found = run("ps", "-o", "pid=,comm=", "--ppid", pid).stdout.split() if pid else []
            return list(zip(found[::2], found[1::2]))
        def search(pid):
            for child, name in below(pid):
                if name == "agenticore":
                    return child
                found = search(child)
                if found:
                    return found
            return None
        try:
            return search(outer)
        except subprocess.CalledProcessError:
            return None

    def exec(self, container, *words):
        """`kubectl exec`, or a PreStop hook: in the pod's namespaces, as its user, with its environment."""
        pid = eventually("the server runs", self.inside)
        command = ["nsenter", "-t", pid, "-a", f"--root=/proc/{pid}/root", "--wd=/", "setpriv", f"--reuid={self.uid}", "--regid=0", "--clear-groups", *words]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment(container))

    def terminate(self, signal_number=signal.SIGTERM):
        pid = self.inside()
        os.kill(int(pid), signal_number)
        return self.children["agenticore"].wait(timeout=PATIENCE)

    def kill(self):
        for child in self.children.values():
            # Below it is the first process of the pod's own PID namespace: with that one all of the pod ends. It does not
            # end with its parent, because it changed its user since.
            for pid in below(child.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if child.poll() is None:
                child.kill()
            child.wait()
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True)


def below(pid):
    """All processes below one."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [one for child in found for one in (int(child), *below(child))]


def prepare_as_a_kubelet(path, group):
    """fsGroup: the group gets everything, setgid on directories; owners stay."""
    for place, directories, files in os.walk(path):
        for name in [None, *directories, *files]:
            target = pathlib.Path(place) / (name or "")
            if target.is_symlink():
                continue
            os.chown(target, -1, group)
            mode = target.stat().st_mode & 0o7777
            target.chmod(mode | (0o2770 if target.is_dir() else 0o660))


def encoded(password):
    return urllib.parse.quote(password, safe="")
