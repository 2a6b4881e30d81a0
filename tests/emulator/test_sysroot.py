"""What a program under emulation learns of the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gos_fx.emulator.qemu import record
from gos_fx.emulator.sysroot import sysroot
from gos_fx.errors import EmulatorUnavailable
from gos_fx.targets.target import get

pytestmark = pytest.mark.qemu

PROGRAM = r"""
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define CPU "/sys/devices/system/cpu/"

static void show(const char *path) {
  char text[4096] = "";
  FILE *file = fopen(path, "r");
  if (file == NULL) exit(3);
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  if (length && text[length - 1] == '\n') text[length - 1] = 0;
  printf("%s\n", text);
}

int main(int argc, char **argv) {
  printf("%ld %ld\n", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF));
  printf("%d\n", (getauxval(AT_HWCAP) & 1 << 8) != 0);
  if (argc > 1) printf("%s\n", getenv(argv[1]));
  for (int i = 0; i < 3; ++i) {
    char path[100];
    snprintf(path, sizeof path, CPU "cpu0/cache/index%d/size", i);
    show(path);
  }
  show(CPU "cpu0/regs/identification/midr_el1");
  show(CPU "cpu3/cpufreq/cpuinfo_max_freq");
  show("/proc/cpuinfo");
  return 0;
}
"""


@pytest.fixture
def said(needs_qemu: None, build: Callable[..., Path]) -> Callable[..., list[str]]:
    def run(target: str, *arguments: str, **guest: str) -> list[str]:
        program = build(PROGRAM, kind="c")
        found = record([str(program), *arguments], get(target), "whole", guest=guest)
        return found.stdout.decode().splitlines()

    return run


def test_the_board(said) -> None:
    cores, atomics, *caches, midr, hertz = (lines := said("arm_a53"))[:7]
    assert cores == "4 4" and atomics == "0"
    assert caches == ["32K", "32K", "512K"]
    assert midr == "0x00000000410fd034" and hertz == "1200000"
    info = dict(line.split("\t: ") for line in lines[7:] if "\t: " in line)
    assert info["CPU implementer"] == "0x41" and info["CPU part"] == "0xd03"
    assert info["Features"] == "fp asimd evtstrm crc32 cpuid"
    assert info["processor"] == "3"


def test_another_board(said) -> None:
    cores, atomics, *caches, midr, hertz = said("snapdragon_845")[:7]
    assert cores == "4 4" and atomics == "1"
    assert caches == ["64K", "64K", "256K"]
    assert midr == "0x00000000516f802d" and hertz == "2800000"


def test_environment(said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of this process reach the program, its own come first."""
    monkeypatch.setenv("GREETING", "hello")
    assert said("arm_a53", "GREETING")[2] == "hello"
    assert said("arm_a53", "GREETING", GREETING="a=b,c")[2] == "a=b,c"
    assert said("arm_a53", "OMP_WAIT_POLICY")[2] == "passive"


def test_this_machine_is_no_board() -> None:
    with pytest.raises(EmulatorUnavailable, match="no emulator for host"):
        sysroot(get("host"))
