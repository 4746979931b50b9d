"""The diagnosis of installations that are made up, and the facts of this one."""

import json
import os
from importlib import metadata

import pytest

from matcher.doctor import Diagnosis, diagnose
from matcher.environment import Import, Installed, installed, try_imports, unmet

GOOD = {
    "matcher": "0.1.0",
    "torch": "2.15.0",
    "torchvision": "0.29.2",
    "lightning": "2.6.6",
    "opencv-python": "5.0.0.93",
    "faiss-cpu": "1.15.1",
    "numpy": "2.4.6",
    "packaging": "26.3",
}
REQUIRES = {
    "matcher": ["torch>=2.14", "opencv-python>=4.11", 'faiss-cpu>=1.11; extra == "cpu"', 'ray[data]>=2.40; extra == "ray"'],
    "torchvision": ["torch>=2.14.0", "numpy"],
}


def diagnosis(changes=None, imports=(), *, driver=False, **more):
    versions = {name: version for name, version in {**GOOD, **(changes or {})}.items() if version}
    return diagnose(Installed(versions, requires=REQUIRES, **more), {found.module: found for found in imports}, driver=driver)


def only_problem(found):
    assert found.exit_code == 1
    (problem,) = found.problems
    return problem


def test_a_good_installation_has_no_problem():
    found = diagnosis(imports=[Import("torch", {"gpus": [], "mps": False})])
    assert found.exit_code == 0 and found.notes == [] and str(found).endswith("nothing clashes")
    assert found.device["kind"] == "cpu" and found.device["cores"] >= 1
    assert found.extras == {"cpu": True, "ray": False}
    assert found.versions["torch"] == "2.15.0" and "python" in found.versions
    assert json.loads(json.dumps(found.as_dict()))["ok"] is True


def test_two_opencvs_clash():
    problem = only_problem(diagnosis({"opencv-python-headless": "4.12.0"}))
    assert "2 builds of OpenCV" in problem.what and "opencv-python, opencv-python-headless" in problem.what
    assert problem.remedy == "pip uninstall -y opencv-python opencv-python-headless; pip install opencv-python"


def test_two_faisses_clash():
    assert "faiss-cpu, faiss-gpu-cu12" in only_problem(diagnosis({"faiss-gpu-cu12": "1.14.1"})).what


def test_no_faiss_is_a_problem():
    assert "pip install faiss-cpu" in only_problem(diagnosis({"faiss-cpu": None})).remedy


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_malicious_lightning_is_named(version):
    problem = only_problem(diagnosis({"lightning": version}))
    assert "malicious" in problem.what and "renew every password" in problem.remedy


def test_torch_without_its_torchvision_by_version():
    found = diagnosis({"torch": "2.13.0+cpu"})
    assert {problem.what for problem in found.problems} == {
        "matcher asks for torch>=2.14, and torch is 2.13.0+cpu",
        "torchvision asks for torch>=2.14.0, and torch is 2.13.0+cpu",
    }


def test_torch_without_its_torchvision_by_import():
    problem = only_problem(diagnosis(imports=[Import("torchvision", complaint="RuntimeError: operator torchvision::nms does not exist")]))
    assert "torchvision::nms" in problem.what and "do not belong together" in problem.remedy


def test_missing_requirement_is_named_and_any_opencv_serves():
    assert "torch is not installed" in diagnosis({"torch": None}).problems[0].what
    assert diagnosis({"opencv-python": None, "opencv-contrib-python-headless": "4.12"}).exit_code == 0


@pytest.mark.parametrize(
    ("module", "complaint", "remedy"),
    [
        ("cv2", "ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "libgl1"),
        ("cv2", "AttributeError: _ARRAY_API not found", "--force-reinstall opencv-python"),
        ("numpy", "ValueError: numpy.dtype size changed, may indicate binary incompatibility", "built for another NumPy"),
        ("faiss", "ImportError: libcudart.so.12: cannot open shared object file", "pip install faiss-cpu"),
        ("torch", "did not finish importing within 5 s", "--seconds"),
        ("torch", "the process died of signal 4", "--force-reinstall torch"),
    ],
)
def test_failing_imports_come_with_a_remedy(module, complaint, remedy):
    problem = only_problem(diagnosis(imports=[Import(module, complaint=complaint)]))
    assert complaint in problem.what and remedy in problem.remedy


def test_the_same_distribution_twice():
    assert "numpy is installed 2 times (1.26.4, 2.4.6)" in only_problem(diagnosis(twice={"numpy": ["1.26.4", "2.4.6"]})).what


def test_gpus_are_told():
    torch = Import("torch", {"gpus": [["H100", 80 * 2**30]], "mps": False})
    found = diagnosis(imports=[torch, Import("faiss", {"gpus": 0})], driver=True)
    assert found.device["kind"] == "cuda" and "cuda, H100 (80.0 GiB)" in str(found)
    assert any("faiss-gpu instead of faiss-cpu would search ivf" in note for note in found.notes)
    assert diagnosis(imports=[torch, Import("faiss", {"gpus": 1})], driver=True).notes == []


def test_apple_and_unknown_devices():
    assert diagnosis(imports=[Import("torch", {"gpus": [], "mps": True})]).device["kind"] == "mps"
    assert diagnosis(imports=[Import("torch", complaint="ImportError")]).device["kind"] == "unknown"


def test_a_driver_that_torch_does_not_see_is_noted():
    found = diagnosis(imports=[Import("torch", {"gpus": [], "mps": False})], driver=True)
    assert found.exit_code == 0 and "torch finds no GPU" in found.notes[0]


def test_nothing_installed_does_not_kill_the_doctor():
    found = diagnose(Installed({}), {}, driver=False)
    assert found.exit_code == 1 and "packaging" in found.problems[0].what and "extras" in str(found)


def make_distribution(folder, name, version, requires=()):
    path = folder / f"{name}-{version}.dist-info"
    path.mkdir(parents=True)
    (path / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)])
    )


def test_installed_reads_metadata(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    make_distribution(first, "Foo_Bar", "1.0", ["numpy>=2"])
    make_distribution(first, "twice", "1.0")
    make_distribution(first, "twice", "2.0")
    make_distribution(second, "foo.bar", "3.0")
    (first / "broken-1.0.dist-info").mkdir()
    monkeypatch.setattr(metadata, "distributions", lambda: metadata.Distribution.discover(path=[str(first), str(second)]))
    found = installed()
    assert found.versions["foo-bar"] == "1.0" and found.requires["foo-bar"] == ["numpy>=2"]
    assert found.twice == {"twice": ["1.0", "2.0"]}
    assert "broken" not in found.versions


def test_unmet_requirements():
    lines = ["a>=2", "b", 'c>1; extra == "x"', 'd; python_version < "3"', "e<2"]
    versions = {"a": "1.0", "e": "1.9"}
    assert list(unmet(lines, versions)) == [("a>=2", "1.0"), ("b", None)]
    assert list(unmet(lines, versions, extra="x")) == [("c>1", None)]


def test_imports_are_tried_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    (tmp_path / "faiss.py").write_text("def get_num_gpus():\n    return 2\n")
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    found = try_imports(["cv2", "faiss", "torch"], seconds=5)
    assert found["cv2"].complaint == "ImportError: libGL.so.1: cannot open shared object file"
    assert found["faiss"].facts == {"gpus": 2} and not found["faiss"].complaint
    assert found["torch"].complaint == "did not finish importing within 5 s"


def test_a_later_module_of_a_row_fails_alone(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("")
    (tmp_path / "pyarrow.py").write_text("import os\nos.abort()")
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    found = try_imports(["numpy", "pyarrow", "PIL.Image"], seconds=20)
    assert not found["numpy"].complaint and found["pyarrow"].complaint == "the process died of signal 6"
    assert set(found) == {"numpy", "pyarrow"}


def test_text_of_a_sick_installation_says_what_to_do():
    text = str(diagnosis({"faiss-gpu": "1.15.1", "ultralytics": "8.3"}))
    assert "     do: pip uninstall -y faiss-cpu faiss-gpu" in text and text.endswith("1 problem") and "AGPL-3.0" in text
    assert isinstance(diagnosis(), Diagnosis)
