"""Packages: what was saved loads, what was tampered with is refused, run.py runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from gos_fx.errors import PackageError
from gos_fx.kernels import emulator
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.package import load_package, save_package


@pytest.fixture(scope="module")
def x():
    return torch.randn(1, 2, 5, 7)


@pytest.fixture(scope="module")
def original(make_package, tmp_path_factory, x):
    module = nn.Sequential(nn.Tanh(), nn.Flatten()).eval()
    return make_package(module, (x,), "host", tmp_path_factory.mktemp("package"))


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original.directory, tmp_path / "copy")


def edit(directory, change):
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_round_trip(original, directory, x):
    package = load_package(directory)
    assert package.manifest == original.manifest
    assert package.target == original.target
    assert package.inputs[0].shape == (1, 2, 5, 7)
    (y,) = HostModule.from_package(package)(x)
    torch.testing.assert_close(y, torch.tanh(x).flatten(1), atol=1e-6, rtol=1e-5)


def test_inputs_need_not_be_aligned_or_contiguous(original, x):
    module = HostModule.from_package(original)
    buffer = torch.zeros(x.numel() + 1)
    shifted = buffer[1:].view(x.shape)
    shifted.copy_(x)
    transposed = x.transpose(2, 3).contiguous().transpose(2, 3)
    for given in (shifted, transposed):
        torch.testing.assert_close(module(given)[0], module(x)[0])


def test_threads_are_not_tied_to_cores(original, x):
    before = os.sched_getaffinity(0)
    for threads in (2, 1):
        HostModule.from_package(original, threads)(x)
    assert os.sched_getaffinity(0) == before


def test_runner_script(directory, tmp_path, x):
    np.save(tmp_path / "in.npy", x.numpy())
    command = [sys.executable, str(directory / "run.py")]
    files = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(
        [*command, *files, "--repeats", "3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "ms" in done.stdout
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), torch.tanh(x).flatten(1).numpy(), atol=1e-6
    )
    with open(directory / "model.so", "ab") as file:
        file.write(b"x")
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 1
    assert "SHA-256 differs" in done.stderr


@pytest.mark.parametrize("name", ["model.so", "run.py", "driver.cpp"])
def test_changed_file(directory, name):
    with open(directory / name, "ab") as file:
        file.write(b"\n")
    with pytest.raises(PackageError, match=f"{name} is not the file"):
        load_package(directory)


def test_missing_file(directory):
    (directory / "run.py").unlink()
    with pytest.raises(PackageError, match=r"run.py is missing"):
        load_package(directory)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b"])
def test_path_traversal(directory, name):
    edit(directory, lambda m: m["files"].update({name: "0" * 64}))
    with pytest.raises(PackageError, match="not a file of the package"):
        load_package(directory)


def test_symbolic_link(directory, tmp_path):
    shutil.move(directory / "run.py", tmp_path / "run.py")
    (directory / "run.py").symlink_to(tmp_path / "run.py")
    with pytest.raises(PackageError, match="not a file of the package"):
        load_package(directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format=99),
        lambda m: m["files"].pop("model.so"),
        lambda m: m.pop("inputs"),
        lambda m: m.update(target={"name": "x"}),
        lambda m: m.update(files=[]),
    ],
)
def test_damaged_manifest(directory, change):
    edit(directory, change)
    with pytest.raises(PackageError):
        load_package(directory)


def test_no_manifest(tmp_path):
    with pytest.raises(PackageError, match="no readable manifest"):
        load_package(tmp_path)


def test_extra_files_have_plain_names(original, tmp_path):
    arguments = (original.library, original.target, (), (), 1)
    package = save_package(tmp_path / "p", *arguments, extra={"a.txt": "graph"})
    assert (package.directory / "a.txt").read_text() == "graph"
    with pytest.raises(PackageError, match="not a file of the package"):
        save_package(tmp_path / "q", *arguments, extra={"../a.txt": ""})


def test_code_for_another_machine(directory):
    edit(directory, lambda m: m.update(machine="sparc"))
    with pytest.raises(PackageError, match="sparc"):
        HostModule.from_package(load_package(directory))


def test_emulator_refuses(original, x):
    with pytest.raises(PackageError, match="no emulator for host"):
        emulator.run(original, [x.numpy()])
    with pytest.raises(PackageError, match="no emulator for host"):
        emulator.measure(original)
