"""scripts/install.sh on an archive as scripts/release.sh makes it, with the binary that is tested."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Install(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        name = "agenticore-0.0.0-linux-x"
        self.files = self.place / name
        self.files.mkdir()
        shutil.copy(os.environ["AGENTICORE_BINARY"], self.files / "agenticore")
        shutil.copy(TOP / "scripts/install.sh", self.files)
        sums = "".join(f"{digest(path)}  {path.name}\n" for path in sorted(self.files.iterdir()))
        (self.files / "SHA256SUMS").write_text(sums)
        self.archive = self.place / f"{name}.tar.gz"
        with tarfile.open(self.archive, "w:gz", compresslevel=1) as archive:
            archive.add(self.files, name)
        (self.place / "SHA256SUMS").write_text(f"{digest(self.archive)}  {self.archive.name}\n")
        self.prefix = self.place / "usr"

    def install(self, *words, script=TOP / "scripts/install.sh"):
        done = subprocess.run([script, "--prefix", self.prefix, *words], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_an_archive_is_checked_and_installed(self):
        code, said = self.install(self.archive)
        self.assertEqual(code, 0, said)
        told = subprocess.run([self.prefix / "bin/agenticore", "version"], capture_output=True, text=True).stdout
        self.assertIn(told.strip(), said)
        # Again, over one that is there, and from the unpacked files.
        self.assertEqual(self.install(self.archive)[0], 0)
        self.assertEqual(self.install(script=self.files / "install.sh")[0], 0)
        self.assertEqual([path.name for path in (self.prefix / "bin").iterdir()], ["agenticore"])

    def test_what_is_not_of_the_release_is_refused(self):
        with self.archive.open("ab") as archive:
            archive.write(b"x")
        code, said = self.install(self.archive)
        self.assertEqual(code, 1)
        self.assertIn("not what SHA256SUMS says", said)
        (self.place / "SHA256SUMS").unlink()
        self.assertIn("expected", self.install(self.archive)[1])
        with (self.files / "agenticore").open("ab") as binary:
            binary.write(b"x")
        code, said = self.install(script=self.files / "install.sh")
        self.assertEqual(code, 1)
        self.assertIn("not those of the release", said)
        self.assertEqual(self.install("--no-such")[0], 2)
        self.assertFalse(self.prefix.exists())
