"""deploy/systemd: what systemd says of the unit."""

import pathlib
import re
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
UNIT = TOP / "deploy/systemd/agenticore.service"

class Systemd(unittest.TestCase):
    def test_the_unit_is_well_and_hardened(self):
        with tempfile.TemporaryDirectory() as place:
            # It looks for the program that is started.
            unit = pathlib.Path(place, "agenticore.service")
            unit.write_text(UNIT.read_text().replace("/usr/local/bin/agenticore", "/bin/true"))
            done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", unit], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
        level = re.search(r"Overall exposure level.*: ([0-9.]+)", done.stdout)
        self.assertLess(float(level[1]), 3, done.stdout)
