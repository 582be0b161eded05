"""deploy/systemd: the unit run by a real systemd with a job in it. Not in the quick part: it boots this machine's own."""

import os
import pathlib
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
UNIT = TOP / "deploy/systemd/agenticore.service"

# An agent that says where it is and what it may write, and works until it is told to stop.
AGENT = """#!/bin/bash
task=$(cat)
if [ "$task" = long ]; then echo begun > half.txt; touch "$HOME/../../try-begun" 2>/dev/null; exec sleep 600; fi
{ id -un; touch /etc/x 2>&1; touch /usr/x 2>&1; ls /home /root 2>&1; echo "$HOME"; } > found.txt
cat found.txt >&2
printf '%s\\n' '{"type":"result","subtype":"success","is_error":false,"result":"'"$(tr '\\n' ';' < found.txt | tr -d '"')"'","session_id":"11111111-2222-4333-8444-555555555555","num_turns":1,"duration_ms":1,"total_cost_usd":0}'
"""

SCRIPT = """#!/bin/bash
set -x
install -m 755 /try/agent /usr/local/bin/agent
printf '%s\\n' AGENTICORE_CLAUDE_BINARY=/usr/local/bin/agent AGENTICORE_SHUTDOWN_GRACE=1 > /etc/agenticore/agenticore.env
systemctl start agenticore
agenticore status --wait 60 || exit 1
agenticore run "is all well?" --profile self-test --wait || exit 1
agenticore run short --wait --json > /try/short.json || exit 1
id=$(agenticore run long --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
until agenticore job $id --json | grep -q '"status": "running"'; do sleep 0.2; done
until pgrep -u agenticore -x sleep; do sleep 0.2; done
systemctl stop agenticore
systemctl show agenticore -p Result -p ExecMainStatus > /try/stopped
pgrep -u agenticore && echo "something is left" >> /try/stopped
systemctl start agenticore
agenticore status --wait 60 || exit 1
agenticore job $id --json > /try/long.json
agenticore cancel $id
systemctl kill --signal=KILL --kill-whom=main agenticore
sleep 6
agenticore status --wait 60 && echo back > /try/restarted
systemctl stop agenticore
"""


class Boot(unittest.TestCase):
    def test_a_real_systemd_runs_it(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
            place = pathlib.Path(place)
            (place / "agent").write_text(AGENT)
            (place / "script").write_text(SCRIPT)
            binary = os.environ["AGENTICORE_BINARY"]
            boot = TOP / "tests/deploy/systemd-boot.sh"
            done = subprocess.run([boot, UNIT, binary, place / "script", place], capture_output=True, text=True)
            read = lambda name: (place / name).read_text() if (place / name).exists() else f"{name} is not there"
            said = done.stdout + done.stderr + read("said")
            short = read("short.json")
            # A user of its own, which can write neither /etc nor /usr, and sees no home.
            self.assertIn('"status": "succeeded"', short, said)
            self.assertIn("agenticore;", short, said)
            self.assertGreaterEqual(short.count("Read-only file system"), 2, short)
            # The job that was in it went back, with nothing left behind.
            self.assertEqual(read("stopped").split(), ["Result=success", "ExecMainStatus=0"], said)
            self.assertRegex(read("long.json"), '"status": "(queued|running)"', said)
            self.assertIn('"deaths": 0', read("long.json"), said)
            self.assertEqual(read("restarted").strip(), "back", said)
