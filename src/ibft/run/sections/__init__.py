"""The sections of a recipe, by subject.

A stage is rerun only if a section that it reads has changed. Sections stop at the stages: the engines below take plain
arguments.
"""

from ibft.run.sections.data import Column, DataConfig, SourceConfig, TrainOn
from ibft.run.sections.evaluation import (
    FORMATS,
    EvaluateConfig,
    Format,
    GenerateConfig,
    JudgeConfig,
    ProblemsConfig,
    ReportConfig,
    ServerConfig,
)
from ibft.run.sections.model import PACKAGE, ModelConfig, PromptConfig, ScanConfig
from ibft.run.sections.training import LoraConfig, TrainConfig

__all__ = [
    "FORMATS",
    "PACKAGE",
    "Column",
    "DataConfig",
    "EvaluateConfig",
    "Format",
    "GenerateConfig",
    "JudgeConfig",
    "LoraConfig",
    "ModelConfig",
    "ProblemsConfig",
    "PromptConfig",
    "ReportConfig",
    "ScanConfig",
    "ServerConfig",
    "SourceConfig",
    "TrainConfig",
    "TrainOn",
]
