"""What an import loads: commands and readers start without heavy libraries."""

import subprocess
import sys

import pytest


def modules_of(module: str) -> set[str]:
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    return set(done.stdout.split())


def loaded_by(module: str) -> set[str]:
    return {name.split(".")[0] for name in modules_of(module)}


HEAVY = {"torch", "torchvision", "timm", "matplotlib", "ignite", "sklearn", "scipy", "numba", "pydantic"}


def test_the_command_line_imports_nothing_heavy():
    assert loaded_by("passerby.cli") & HEAVY == set()


@pytest.mark.parametrize(
    "module", ["passerby.types", "passerby.settings", "passerby.data.datasets", "passerby.data.check"]
)
def test_reading_data_needs_no_network_library(module):
    assert loaded_by(module) & {"torch", "timm", "matplotlib", "ignite"} == set()


def test_models_without_a_text_tower_do_not_load_one():
    loaded = modules_of("passerby.encoders.loading, passerby.recipe")
    assert "passerby.models.embedder" in loaded
    assert not {"passerby.models.clip_text", "passerby.models.clip_text_file"} & loaded
