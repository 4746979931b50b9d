"""The house stands as ARCHITECTURE.md says: floors, light imports, rooms that the wheel carries."""

import ast
import configparser
import json
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import matcher
from matcher.cli.verbs import VERBS
from matcher.environment import normalised

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "matcher"
FLOORS = {
    **dict.fromkeys(["errors", "faults", "geometry", "types", "settings", "shipped", "environment"], 0),
    **dict.fromkeys(["images", "storage", "metrics", "models"], 1),
    **dict.fromkeys(["views", "data"], 2),
    **dict.fromkeys(
        [
            "background",
            "postprocessing",
            "crops",
            "describe",
            "features",
            "index",
            "index_card",
            "index_gpu",
            "index_kinds",
            "index_lists",
            "index_shards",
            "index_ties",
            "keypoint_file",
            "visual_words",
        ],
        3,
    ),
    **dict.fromkeys(["shortlist"], 4),
    **dict.fromkeys(["scoring"], 5),
    **dict.fromkeys(["fusion", "calibration"], 6),
    **dict.fromkeys(["training", "pipeline", "workshop", "verb", "stages", "engine", "report", "doctor"], 7),
    **dict.fromkeys(["cli", "demo", "__main__", "__init__"], 8),
}
LIGHT = ["matcher", "matcher.pipeline", "matcher.workshop", "matcher.settings", "matcher.cli.main", "matcher.cli.parser", "matcher.doctor"]
HEAVY = ["numpy", "torch", "cv2", "pyarrow", "PIL", "faiss", "sklearn", "lightning", "timm", "transformers"]
LEARNING = ("matcher.training", "matcher.data.augmentations", "matcher.data.photo_bank", "matcher.cli.training")
NEEDED = {"matcher.engine.on_ray": "ray"}  # a module that is imported only where an extra is installed
WITHOUT_TORCH = {"matcher.models", *(f"matcher.models.{name}" for name in ("cards", "device", "sift", "similarity"))}  # the others need it


def files():
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of matcher that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "matcher" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("matcher.") and name != "matcher.__version__")


def modules():
    for path in files():
        if path.name != "__main__.py":
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if find_spec(NEEDED.get(module, "matcher")) is not None:
                yield module


def learns(module):
    return module.startswith(LEARNING) or (module.startswith("matcher.models") and module not in WITHOUT_TORCH)


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_come_from_the_same_floor_or_below(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} stands on no floor: add it to FLOORS here and to ARCHITECTURE.md"
    above = sorted({other for other in imported_rooms(path) if FLOORS.get(other, 99) > FLOORS[room]})
    assert not above, f"{path.relative_to(ROOT)} (floor {FLOORS[room]}) imports from above: {above}"


def test_imported_rooms_sees_every_way_of_importing(tmp_path):
    source = (
        "import matcher.cli.main\nfrom matcher import geometry, __version__\ndef f():\n    from matcher.report.page import x\nimport os\n"
    )
    (tmp_path / "a.py").write_text(source)
    assert list(imported_rooms(tmp_path / "a.py")) == ["cli", "geometry", "report"]


def test_architecture_lists_every_room():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {room_of(path) for path in files()} - {"__init__", "__main__"}
    assert not [room for room in sorted(rooms) if not re.search(rf"\b{room}\b", text)]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module):
    loaded = json.loads(
        python("import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(list(sys.modules)))", module)
    )
    assert not set(HEAVY) & set(loaded)


def test_only_models_and_what_trains_them_import_torch():
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if heavy := {"torch", "timm", "transformers", "lightning", "kornia"} & set(sys.modules):
        sys.exit(print(name, *heavy))
"""
    assert python(code, *(module for module in modules() if not learns(module))) == ""


def test_the_wheel_carries_every_room():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = {name for name in config["options"]["packages"].split() if "._shipped." not in name}
    assert named == {".".join(path.parent.relative_to(ROOT).parts) for path in files()}


def test_every_folder_of_code_is_a_package():
    assert not [folder for folder in {path.parent for path in files()} if not (folder / "__init__.py").exists()]


def test_verbs_are_functions_of_the_package():
    assert all(callable(getattr(matcher, name)) for name in matcher.__all__ if name != "__version__")
    assert set(matcher.__all__) <= set(dir(matcher))
    functions = {place.split(":")[1] for place in VERBS.values()}
    assert functions - {room_of(path) for path in files()} == set(matcher.__all__) - {"__version__", "read_strategy"}
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = matcher.rum


def test_no_verb_of_the_package_hides_a_room():
    assert not set(matcher.__all__) & {room_of(path) for path in files()}


def test_every_library_that_is_imported_is_asked_for():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [*config["options"]["install_requires"].splitlines(), *"\n".join(config["options.extras_require"].values()).splitlines()]
    asked = {normalised(re.split(r"[<>=\[]", line)[0]) for line in lines if line and not line.startswith("#")}
    distributions = metadata.packages_distributions()
    imported = {name for path in files() for name in imported_libraries(path)}
    missing = {name for name in imported if not asked & {normalised(found) for found in distributions.get(name, [name])}}
    assert not missing


def imported_libraries(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from {name.split(".")[0] for name in names} - {*sys.stdlib_module_names, "matcher"}
