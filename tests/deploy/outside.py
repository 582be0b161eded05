"""What lies outside a container, on one port: Anthropic's Messages API for the real Claude Code CLI, a git server that
wants the token (the real `git http-backend`), and so much of GitHub's API as a pull request takes. By https with a
certificate authority of its own, or by plain http.

The newest user message is the script: `[[bash COMMAND]] [[write PATH TEXT]] [[say TEXT]]`; each tool is one turn.
"""

import base64
import http.server
import json
import os
import pathlib
import re
import ssl
import subprocess
import threading
import urllib.parse
import uuid

TOKEN = "ghs_made-up-for-tests-0123456789"
KEY = "sk-ant-api03-made-up-for-tests"


def certificate(place, *more):
    """A certificate authority, and a certificate of it for localhost and the names that containers know us by."""
    def openssl(*words, **more):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, **more)

    names = ",".join(["DNS:localhost", "DNS:outside", "IP:127.0.0.1", *(f"DNS:{name}" for name in more)])
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests", "-keyout", place / "ca.key", "-out", place / "ca.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", place / "own.key", "-out", place / "own.csr")
    (place / "names").write_text(f"subjectAltName={names}\n")
    openssl("x509", "-req", "-in", place / "own.csr", "-CA", place / "ca.pem", "-CAkey", place / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", place / "names", "-out", place / "own.pem")
    (place / "ca.pem").chmod(0o644)
    return place / "ca.pem"


class Listening(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Outside:
    def __init__(self, place, tls=True, address="127.0.0.1", names=()):
        self.place = pathlib.Path(place)
        self.place.mkdir(exist_ok=True)
        self.asked, self.pulls, self.complaints, self.scripts = [], [], [], []
        self.lock = threading.Lock()
        outside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                outside.answer(self)

            do_GET = do_POST = handle_one

            def log_message(self, *_):
                pass

        self.server = Listening((address, 0), Handler)
        self.port, self.scheme = self.server.server_address[1], "https" if tls else "http"
        self.ca = None
        if tls:
            self.ca = certificate(self.place, *names)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.place / "own.pem", self.place / "own.key")
            # Each connection shakes hands on its own thread: one that says nothing keeps no other waiting.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, host="localhost"):
        return f"{self.scheme}://{host}:{self.port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def repository(self, name):
        """A bare repository with one commit; returns where it lies."""
        path = self.place / "repos" / f"{name}.git"
        git("init", "-q", "--bare", "-b", "main", path)
        git("-C", path, "config", "http.receivepack", "true")
        work = self.place / f"work-{uuid.uuid4().hex[:8]}"
        git("init", "-q", "-b", "main", work)
        (work / "README.md").write_text("# A project\n")
        git("-C", work, "add", "-A")
        git("-C", work, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "one")
        git("-C", work, "push", "-q", path, "main")
        return path

    def answer(self, handler):
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        if handler.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join(chunks(handler.rfile))
        path, _, query = handler.path.partition("?")
        with self.lock:
            self.asked.append(f"{handler.command} {path}")
        if path == "/v1/messages":
            return self.messages(handler, json.loads(body))
        if path.startswith("/api/v3/"):
            return self.github(handler, path[len("/api/v3"):], query, body)
        if ".git/" in path:
            return self.git(handler, path, query, body)
        tell(handler, 404, {"message": "Not Found"})

    # Anthropic

    def messages(self, handler, body):
        offered = handler.headers.get("x-api-key") or handler.headers.get("authorization", "")
        if KEY not in offered:
            return tell(handler, 401, {"type": "error", "error": {"type": "authentication_error", "message": "no key"}})
        script, played = script_of(body)
        with self.lock:
            self.scripts.append(script)
        tools = [one for one in script if one[0] in ("write", "bash")]
        if played < len(tools):
            verb, argument = tools[played]
            path, _, text = argument.partition(" ")
            block = (
                tool("Write", {"file_path": path, "content": text + "\n"}) if verb == "write"
                else tool("Bash", {"command": argument, "description": "run it", "timeout": 600000})
            )
        else:
            block = {"type": "text", "text": next((text for verb, text in script if verb == "say"), "ok")}
        stream(handler, body, block)

    # GitHub

    def github(self, handler, path, query, body):
        if handler.headers.get("authorization") != f"Bearer {TOKEN}":
            return tell(handler, 401, {"message": "Bad credentials"})
        if handler.headers.get("accept") != "application/vnd.github+json" or not handler.headers.get("user-agent", "").startswith("agenticore/"):
            self.complaints.append(f"{handler.command} {path}: {dict(handler.headers)}")
            return tell(handler, 400, {"message": "as GitHub would"})
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)", path)
        if found and handler.command == "GET" and (self.place / "repos" / f"{found[1]}.git").is_dir():
            return tell(handler, 200, {"id": 1, "full_name": found[1], "default_branch": "main", "archived": False})
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)/pulls", path)
        if not found:
            self.complaints.append(f"{handler.command} {path}")
            return tell(handler, 404, {"message": "Not Found"})
        of = found[1]
        if handler.command == "GET":
            head = urllib.parse.parse_qs(query)["head"][0].partition(":")[2]
            return tell(handler, 200, [pull for pull in self.pulls if (pull["of"], pull["head"]) == (of, head)])
        wanted = json.loads(body)
        if set(wanted) != {"title", "head", "base", "body"} or not all(wanted.values()):
            self.complaints.append(f"open pull: {wanted}")
            return tell(handler, 422, {"message": "Validation Failed"})
        pull = {"of": of, **wanted, "html_url": f"https://github.test/{of}/pull/{len(self.pulls) + 1}"}
        self.pulls.append(pull)
        tell(handler, 201, pull)

    def git(self, handler, path, query, body):
        wanted = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if handler.headers.get("authorization") != wanted:
            handler.send_response(401)
            handler.send_header("www-authenticate", 'Basic realm="git"')
            handler.send_header("content-length", "0")
            return handler.end_headers()
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.place / "repos"), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": handler.command, "REMOTE_USER": "x", "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": handler.headers.get("content-type", ""), "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": handler.headers.get("git-protocol", ""), "HTTP_CONTENT_ENCODING": handler.headers.get("content-encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        handler.send_response(int(next((v.split()[0] for n, v in headers if n == "Status"), 200)))
        for name, text in headers:
            if name != "Status":
                handler.send_header(name, text)
        handler.send_header("content-length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest)


def git(*words):
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *map(str, words)], check=True, capture_output=True, text=True, env=clean)
    return done.stdout.strip()


def chunks(stream_in):
    while True:
        size = int(stream_in.readline().split(b";")[0], 16)
        part = stream_in.read(size)
        stream_in.readline()
        if not size:
            return
        yield part


def tell(handler, status, answer):
    text = json.dumps(answer).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


def blocks(message):
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def script_of(body):
    messages = body.get("messages", [])
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] != "user":
            continue
        texts = " ".join(block.get("text", "") for block in blocks(messages[at]))
        found = [tuple(part.split(" ", 1)) if " " in part else (part, "") for part in re.findall(r"\[\[(.*?)\]\]", texts, re.S)]
        if found:
            later = messages[at + 1:]
            return found, sum(any(b["type"] == "tool_result" for b in blocks(m)) for m in later)
    return [], 0


def tool(name, given):
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": name, "input": given}


def stream(handler, body, block):
    is_tool = block["type"] == "tool_use"
    stop = "tool_use" if is_tool else "end_turn"
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}

    def envelope(content, reason):
        return {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": body["model"],
                "content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    if not body.get("stream"):
        return tell(handler, 200, envelope([block], stop))
    if is_tool:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
    events = [
        {"type": "message_start", "message": envelope([], None)},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("content-length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)
