"""Run the compiled network of this directory on arrays in .npy files.

    pip install apache-tvm==VERSION apache-tvm-ffi==VERSION numpy   (see manifest.json)
    python run.py in.npy out.npy
    python run.py first.npy second.npy out.npy --repeats 10 --threads 4

As many inputs as the network has come first, then as many outputs as wanted.
"""

import argparse
import hashlib
import importlib.metadata
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent


def refuse(message: str) -> NoReturn:
    sys.exit(f"run.py: {message}")


def check_files(manifest: dict[str, Any]) -> None:
    for name, digest in manifest["files"].items():
        path = HERE / name
        if Path(name).name != name or not path.is_file():
            refuse(f"{name} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            refuse(f"{name} is not the file that was packaged (SHA-256 differs)")


def check_machine(manifest: dict[str, Any]) -> None:
    wanted, here = manifest["machine"], platform.machine()
    if wanted != here:
        refuse(f"model.so is code for {wanted}, this machine is {here}")
    for package in ("apache-tvm", "apache-tvm-ffi"):
        wanted = manifest["versions"][package]
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            refuse(f"{package} is not there: pip install {package}=={wanted} numpy")
        if found != wanted:
            refuse(f"{package} is {found}: pip install {package}=={wanted}")


def read_inputs(paths: list[str], specs: list[Any], numpy: Any) -> list[Any]:
    arrays = []
    for path, spec in zip(paths, specs):
        array = numpy.load(path, allow_pickle=False)
        if list(array.shape) != spec["shape"] or str(array.dtype) != spec["dtype"]:
            refuse(
                f"{path} is {array.dtype}{list(array.shape)}, but input "
                f"{spec['name']} is {spec['dtype']}{spec['shape']}"
            )
        arrays.append(numpy.ascontiguousarray(array))
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("files", nargs="+", help="inputs, then outputs (.npy)")
    parser.add_argument("--repeats", type=int, default=0, help="also time this often")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    manifest = json.loads((HERE / "manifest.json").read_text())
    count = len(manifest["inputs"])
    if len(options.files) < count:
        refuse(f"the network has {count} inputs")
    check_files(manifest)
    check_machine(manifest)

    import numpy
    import tvm
    from tvm.runtime.vm import VirtualMachine

    threads = options.threads or manifest["threads"]
    tvm.get_global_func("runtime.config_threadpool")(1, threads)
    inputs = read_inputs(options.files[:count], manifest["inputs"], numpy)
    machine = VirtualMachine(tvm.runtime.load_module(str(HERE / "model.so")), tvm.cpu())
    network = machine["main"]
    arguments = [tvm.runtime.tensor(array) for array in inputs]
    result = network(*arguments)
    seconds = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        result = network(*arguments)
        seconds.append(time.perf_counter() - start)
    results = [result] if hasattr(result, "numpy") else list(result)
    for path, array in zip(options.files[count:], results):
        numpy.save(path, array.numpy())
    if seconds:
        print(f"median of {len(seconds)}: {statistics.median(seconds) * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
