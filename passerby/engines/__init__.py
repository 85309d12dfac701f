"""Engines that run a trained network on the CPU: torch, onnxruntime and OpenVINO, by name or by a probe."""

from passerby.engines.automatic import AutomaticModel, choose_engine
from passerby.engines.candidates import Candidate, Speed, candidates_of, cheapest
from passerby.engines.engine_model import EngineModel

__all__ = ["AutomaticModel", "Candidate", "EngineModel", "Speed", "candidates_of", "cheapest", "choose_engine"]
