"""The registry table of the methods, by the key in `method`.

The order is the order in which methods are called. Those that compare the batch itself with the previous model come
before `dask`, which shows the model a second batch, so that the output of the previous model is computed once for each.
`dec` and `camera_proxies` come after all methods that assign labels, whose clusters they begin at.
"""

from collections.abc import Mapping

from passerby.methods.cal import CalSettings
from passerby.methods.camera_proxies import CameraProxiesSettings
from passerby.methods.consolidation import AffinitySettings, AverageSettings, FeatureSettings
from passerby.methods.contrast import ContrastSettings, PrototypesSettings
from passerby.methods.dask import DaskSettings
from passerby.methods.dec import DecSettings
from passerby.methods.distil import DistilSettings
from passerby.methods.dkp import DkpSettings
from passerby.methods.ebll import EbllSettings
from passerby.methods.expanding_classifier import ExpandingClassifierSettings
from passerby.methods.lstkc_pp import LstkcPlusPlusSettings
from passerby.methods.lwf import LwfSettings
from passerby.methods.mmt import MmtSettings
from passerby.methods.pplr import PplrSettings
from passerby.methods.prompts import PromptsSettings
from passerby.methods.pseudo import PseudoSettings
from passerby.methods.replay import ReplaySettings
from passerby.methods.settings import BaseMethodSettings
from passerby.methods.spcl import SpclSettings
from passerby.methods.ssg import SsgSettings
from passerby.methods.weight_penalty import EwcSettings, MasSettings, SiSettings
from passerby.registry import Table

METHODS: Table[BaseMethodSettings] = Table(
    "method",
    BaseMethodSettings,
    {
        "average": AverageSettings,
        "feature": FeatureSettings,
        "affinity": AffinitySettings,
        "lstkc_pp": LstkcPlusPlusSettings,
        "lwf": LwfSettings,
        "ebll": EbllSettings,
        "ewc": EwcSettings,
        "si": SiSettings,
        "mas": MasSettings,
        "replay": ReplaySettings,
        "grow": ExpandingClassifierSettings,
        "dkp": DkpSettings,
        "dask": DaskSettings,
        "cal": CalSettings,
        "distil": DistilSettings,
        "prompts": PromptsSettings,
        "prototypes": PrototypesSettings,
        "pseudo": PseudoSettings,
        "contrast": ContrastSettings,
        "spcl": SpclSettings,
        "mmt": MmtSettings,
        "pplr": PplrSettings,
        "ssg": SsgSettings,
        "dec": DecSettings,
        "camera_proxies": CameraProxiesSettings,
    },
)

DISTILLATION = "distil"
"""The method by which a student learns the vectors of a model that only runs."""

DEFAULT_CLUSTERING = "contrast"
"""The method by which `adapt` finds identities unless another one is named."""

PLAIN_CLUSTERING = "pseudo"
"""The method by which clusters are the identities of the losses of a stage."""


def teacher_input(methods: Mapping[str, BaseMethodSettings]) -> tuple[str, ...]:
    """Return the input settings of the teacher that a stage distils from; empty without one."""
    settings = methods.get(DISTILLATION)
    return settings.teacher_input if isinstance(settings, DistilSettings) else ()
