"""What a target's object file may hold, so that no target's code is linked into another's."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {
    "generic": [],
    "popcnt": ["-mpopcnt"],
    "avx2": ["-mavx2", "-mfma", "-mpopcnt"],
}
FLAGS["avx512bw"] = [*FLAGS["avx2"], "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
FLAGS["optim_generic"], FLAGS["optim_avx2"] = [], FLAGS["avx2"]
FLAGS["optim_avx512"] = FLAGS["avx512bw"]
FLAGS["avx512vpopcnt"] = [*FLAGS["avx512bw"], "-mavx512vpopcntdq"]


@pytest.mark.skipif(not shutil.which("g++") or not shutil.which("nm"), reason="needs g++ and nm")
@pytest.mark.parametrize("target", FLAGS)
def test_no_weak_symbols_and_one_export(target, tmp_path):
    source = ROOT / f"native/kernels/{target}.cpp"
    if not source.exists():
        pytest.skip("not a source checkout")
    # Without optimisation every function that is not local to its file shows itself.
    command = ["g++", "-std=c++17", "-O0", "-Wno-psabi", "-I", str(ROOT / "native/include")]
    object_file = str(tmp_path / "target.o")
    subprocess.run([*command, *FLAGS[target], "-c", str(source), "-o", object_file], check=True)
    listing = subprocess.run(
        ["nm", "-C", object_file], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    weak = [line for line in listing if line[17:18] in "wWvVu" and line[17:18]]
    exported = [line for line in listing if line[17:18] in "TDRB"]
    assert weak == []
    assert len(exported) == 1
    assert exported[0].endswith("Table")
