"""What was compiled comes from disk, if nothing that decides it has changed."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from gos_fx import compiled as compiled_module
from gos_fx.compiled import compile_network
from gos_fx.ir.parser import parse
from gos_fx.kernels import build as build_module
from gos_fx.kernels import compile_cache, compile_key
from gos_fx.kernels.build import BuildResult, build, build_operator
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.passes.make_opaque import make_opaque
from gos_fx.targets.target import Target, get

TEXT = """
def relu(x: map[1, 8, 5, 5], *, w: weight[8, 8, 1, 1]) -> map[1, 8, 5, 5]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, \
padding=(0, 0, 0, 0))
    v1 = sum(v0, axis="ci")
    v2 = tile(v1, co=8)
    v3 = relu(v2, slope=0.0)
    return v3
"""
LIMIT = 1 << 24
X = torch.ones(1, 3, 6, 6)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.offset = torch.ones(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)) + self.offset)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compile_cache, "LIMIT", LIMIT)
    result_of = build_module._result

    def result(*args: Any) -> Any:
        """Sources that somebody edits while the tests run do not matter here."""
        found = result_of(*args)
        if compile_key.read_sources() != compile_key.sources():
            found["sources"] = compile_key.sources()
        return found

    monkeypatch.setattr(build_module, "_result", result)
    return compile_cache.folder()


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The jobs that the compiler was started for."""
    found: list[Path] = []
    run = build_module._run

    def counted(job: Path, timeout: float | None) -> None:
        found.append(job)
        run(job, timeout)

    monkeypatch.setattr(build_module, "_run", counted)
    return found


@pytest.fixture(scope="module")
def traced() -> fx.GraphModule:
    return make_opaque(Network().eval(), (X,))


def key(
    module: nn.Module, x: Tensor = X, target: str = "host", **facts: Any
) -> str | None:
    return compile_key.network_key(
        module, (x,), {**build_module._machine(get(target), None), **facts}
    )


def made(directory: Path, text: str = TEXT, target: Target | None = None, **rest: Any):
    return build_operator(parse(text), target or get("host"), directory, **rest)


def same(a: BuildResult, b: BuildResult) -> bool:
    return a.library.read_bytes() == b.library.read_bytes() and a.kernels == b.kernels


def test_a_second_time_starts_no_compiler(
    traced: fx.GraphModule, tmp_path: Path, jobs: list[Path]
) -> None:
    first = build(traced, (X,), get("host"), tmp_path / "a")
    again = build(make_opaque(Network().eval(), (X,)), (X,), get("host"), tmp_path)
    assert len(jobs) == 1
    assert again.is_cached and not first.is_cached and same(first, again)
    assert again.memory == first.memory and again.key == first.key != ""
    (y,) = HostModule(again.library, 1)(X)
    torch.testing.assert_close(y, traced(X), atol=1e-5, rtol=1e-4)


def test_operators_are_kept_too(tmp_path: Path, jobs: list[Path]) -> None:
    first, again = made(tmp_path / "a"), made(tmp_path / "b")
    assert len(jobs) == 1 and again.is_cached and same(first, again)


def test_listings_are_not_kept(tmp_path: Path, jobs: list[Path]) -> None:
    made(tmp_path / "a")
    assert made(tmp_path / "b", listings=True).assembly and len(jobs) == 2


def _weight(module: fx.GraphModule) -> None:
    next(b for n, b in module.named_buffers() if n.endswith("weight_w"))[
        0, 0, 0, 0
    ] += 1


def _plain_tensor(module: fx.GraphModule) -> None:
    names = [n.target for n in module.graph.find_nodes(op="get_attr")]
    (name,) = (n for n in names if "offset" in n)
    setattr(module, name, getattr(module, name) * 2)


def _layer(module: fx.GraphModule) -> None:
    module.norm.eps = 0.5


def _operator(module: fx.GraphModule) -> None:
    (operator,) = (m for m in module.modules() if hasattr(m, "names"))
    operator.graph = operator.graph.replace("dilation=(1, 1)", "dilation=(2, 2)")


def _tile(module: fx.GraphModule) -> None:
    (operator,) = (m for m in module.modules() if hasattr(m, "names"))
    last = operator.graph.rpartition("return ")[2].strip()
    operator.graph = operator.graph.replace(
        f"return {last}", f"t = tile({last}, co=8)\n    return t"
    )


def _call(module: fx.GraphModule) -> None:
    (node,) = (n for n in module.graph.nodes if "add" in n.name)
    node.target = torch.mul
    module.recompile()


@pytest.mark.parametrize(
    "change", [_weight, _plain_tensor, _layer, _operator, _tile, _call]
)
def test_the_key_changes_with_the_network(
    change: Callable[[fx.GraphModule], None],
) -> None:
    module = make_opaque(Network().eval(), (X,))
    before = key(module)
    assert before == key(copy.deepcopy(module)) is not None
    change(module)
    assert key(module) not in (before, None)


def test_the_key_changes_with_inputs_and_facts(
    traced: fx.GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = build_module._machine(get("host"), 1), build_module._machine(get("host"), 2)
    tuned = {"tuned": {"kernel": Sizes(tile=(("co", 8),), unroll=()).to_json()}}
    keys = [
        key(traced),
        key(traced, X.double()),
        key(traced, torch.ones(2, 3, 6, 6)),
        key(traced, target="arm_a53"),
        key(traced, **tuned),
        *(compile_key.network_key(traced, (X,), one) for one in facts),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(compile_key, "sources", lambda: "others")
        keys.append(key(traced))
    with monkeypatch.context() as patch:
        patch.setattr(compile_key, "_versions", lambda: "others")
        keys.append(key(traced))
    threads_of_host = get("host").threads
    same_threads = keys.pop(5 + (threads_of_host == 2))
    assert threads_of_host not in (1, 2) or same_threads == keys[0]
    assert None not in keys and len(set(keys)) == len(keys)


def test_sources_are_all_that_make_code(tmp_path: Path) -> None:
    import hashlib

    def digest() -> str:
        found = hashlib.sha256()
        compile_key._add_folder(found, tmp_path)
        return found.hexdigest()

    (tmp_path / "rule.py").write_text("a")
    before = digest()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "rule.pyc").write_text("a")
    assert digest() == before
    (tmp_path / "rule.py").write_text("b")
    assert digest() != before
    assert len(compile_key.read_sources()) == len(compile_key.sources()) == 64


def test_code_of_edited_sources_is_not_kept(
    tmp_path: Path, jobs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "sources", lambda: "before the edit")
    made(tmp_path / "a")
    made(tmp_path / "b")
    assert len(jobs) == 2


class Mine(nn.Linear):
    """Its code is not hashed."""


def _hooked() -> nn.Module:
    module = nn.ReLU()
    module.register_forward_hook(lambda *_: None)
    return module


def _calls_mine() -> nn.Module:
    graph = fx.Graph()
    graph.output(graph.call_function(key, (graph.placeholder("x"),)))
    return fx.GraphModule(nn.Module(), graph)


@pytest.mark.parametrize(
    "module",
    [Mine(2, 2), nn.Sequential(nn.ReLU(), Mine(2, 2)), _hooked(), _calls_mine()],
)
def test_what_is_not_known_has_no_key(module: nn.Module) -> None:
    assert key(module) is None
    assert key(nn.Sequential(nn.ReLU(), nn.Linear(2, 2))) is not None


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip])
def test_a_damaged_entry_is_made_again(
    damage: Callable[[Path], None], tmp_path: Path, cache: Path, jobs: list[Path]
) -> None:
    first = made(tmp_path / "a")
    (entry,) = cache.glob("*.entry")
    damage(entry)
    again = made(tmp_path / "b")
    assert len(jobs) == 2 and not again.is_cached and same(first, again)
    assert made(tmp_path / "c").is_cached
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["model.so"]


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path / "file"))
    assert made(tmp_path / "a").library.is_file()
    assert "compile cache cannot be" in caplog.text


WRITER = """
import sys
from pathlib import Path
from gos_fx.kernels import compile_cache
compile_cache.LIMIT = 1 << 24
library = Path(sys.argv[1])
for i in range(60):
    compile_cache.store("k", library, {"seconds": i})
    found = compile_cache.fetch("k", library.with_suffix(".copy"))
    assert found is not None, "damaged or lost"
"""


def test_two_processes_at_once(tmp_path: Path, cache: Path) -> None:
    started = []
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * 300_000)
        command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path / name)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE))
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0 and b"damaged" not in said, said
    assert [path.name for path in cache.iterdir()] == ["k.entry"]


def test_the_least_recently_used_go_first(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_cache, "LIMIT", 3500)
    library = tmp_path / "library"
    library.write_bytes(bytes(1000))
    for i, name in enumerate("abc"):
        compile_cache.store(name, library, {})
        compile_cache.note_checked(name, library)
        os.utime(cache / f"{name}.entry", (i, i))
    left = cache / "left.partial"
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    assert compile_cache.fetch("a", tmp_path / "copy") == {}
    compile_cache.store("d", library, {})
    names = {path.name for path in cache.iterdir()}
    assert names == {f"{n}.{e}" for n in "ac" for e in ("entry", "checked")} | {
        "d.entry"
    }
    library.write_bytes(bytes(4000))
    compile_cache.store("e", library, {})
    assert compile_cache.fetch("e", tmp_path / "copy") is None


def test_code_for_this_machine_is_compared_once(
    traced: fx.GraphModule, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    compared = []
    compare = compiled_module._compare

    def counted(*args: Any) -> None:
        compared.append(args)
        compare(*args)

    monkeypatch.setattr(compiled_module, "_compare", counted)
    for _ in range(2):
        compile_network(traced, (X,), get("host"), 1)
    assert len(compared) == 1
    (noted,) = cache.glob("*.checked")
    noted.write_text("of another library")
    compile_network(traced, (X,), get("host"), 1)
    assert len(compared) == 2
