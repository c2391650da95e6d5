"""The data sets of the two papers: names, form, how many pictures there should be, and what is said of them.

Test pictures are those of Table 3 of the MoECLIP paper; of the sets that it leaves out, and for all training
pictures, those that the sets are published with. The eight sets of AnomalyMoE have 32 605 to train on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.data.sets.listed import HEAD_CT
from training.data.sets.mvtec import MVTEC
from training.data.sets.mvtec_ad2 import MVTEC_AD2
from training.data.sets.nested import BMAD, MVTEC_3D
from training.data.sets.paired import PAIRED
from training.data.sets.ped2 import PED2
from training.data.sets.samples import DataError, Form, Sample
from training.data.sets.visa import VISA


@dataclass(frozen=True)
class DataSet:
    """A published set. names: of its folder, too, less case and punctuation.

    form: in which it is distributed, beside which the MVTec form and lists are read. Counts are None where
    they are not known. descriptions: what a category shows, "" for every other one.
    """

    name: str
    names: tuple[str, ...]
    form: Form
    categories: int = 1
    train: int | None = None
    normal: int | None = None
    anomalous: int | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_medical(self) -> bool:
        """Whether its pictures show an organ."""
        return self.descriptions.get("") in _ORGANS

    def description(self, category: str) -> str:
        """What a category shows, "" where its name says so."""
        return self.descriptions.get(category, self.descriptions.get("", ""))


_ORGANS = ("brain", "liver", "retina", "colon")
_BOARDS = {f"pcb{number}": "printed circuit board" for number in range(1, 5)}
_VISA_NAMES = {**_BOARDS, "macaroni1": "macaroni", "macaroni2": "macaroni", "chewinggum": "chewing gum"}
_BRAIN, _COLON = {"": "brain"}, {"": "colon"}

KNOWN: tuple[DataSet, ...] = (
    DataSet("MVTec-AD", ("mvtec", "mvtecanomalydetection"), MVTEC, 15, 3629, 467, 1258),
    DataSet("MVTec AD 2", (), MVTEC_AD2, 8),
    DataSet("MVTec LOCO", ("mvteclocoanomalydetection", "mvtecadloco"), MVTEC, 5, 1772, 575, 993),
    DataSet("MVTec 3D", ("mvtecad3d", "mvtec3dad", "mvtec3danomalydetection"), MVTEC_3D, 10, 2656, 249, 948),
    DataSet("VisA", ("visa20220922", "visapytorch"), VISA, 12, 8659, 962, 1200, _VISA_NAMES),
    DataSet("Brain MRI", ("brain", "brainad"), BMAD, 1, 7500, 640, 1013, _BRAIN),
    DataSet("Liver CT", ("liver", "liverad"), BMAD, 1, 1542, 833, 660, {"": "liver"}),
    DataSet("Retina OCT", ("resc", "retinaresc", "retinarescad"), BMAD, 1, 4297, 1041, 764, {"": "retina"}),
    DataSet("Ped2", ("ucsdped2",), PED2, 1, 2550, 362, 1648, {"": "pedestrian area"}),
    DataSet("BTAD", ("btechdatasettransformed", "btech"), MVTEC, 3, None, 451, 290, {"": "industrial part"}),
    DataSet("RSDD", ("rsdds", "rsddsdataset"), PAIRED, 1, None, 387, 387, {"": "rail surface"}),
    DataSet("DTD-Synthetic", ("dtd",), MVTEC, 12, None, 375, 947),
    DataSet("Head CT", ("headcthemorrhage",), HEAD_CT, 1, None, 100, 100, _BRAIN),
    DataSet("ColonDB", ("cvccolondb",), PAIRED, 1, None, 0, 380, _COLON),
    DataSet("ClinicDB", ("cvcclinicdb",), PAIRED, 1, None, 0, 612, _COLON),
    DataSet("CVC-300", (), PAIRED, 1, None, 0, 60, _COLON),
    DataSet("Endo", ("endotect", "endotect2020segmentationtestdataset"), PAIRED, 1, None, 0, 200, _COLON),
    DataSet("Kvasir", ("kvasirseg",), PAIRED, 1, None, 0, 1000, _COLON),
)


def plain(name: str) -> str:
    """A name less case and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def find_known(name: str) -> DataSet | None:
    """The set of that name, or of that usual folder name."""
    return next((one for one in KNOWN if plain(name) in (plain(one.name), *one.names)), None)


def known(name: str) -> DataSet:
    """As `find_known`. Raises DataError naming all sets."""
    found = find_known(name)
    if found is None:
        raise DataError(f"data set {name!r} is none of {', '.join(one.name for one in KNOWN)}")
    return found


def shortfall(dataset: DataSet, samples: Sequence[Sample]) -> str | None:
    """What of the published numbers is not found, `normal test pictures: 962 published, 950 found`."""
    test = [one for one in samples if one.split == "test"]
    found = {
        "categories": (dataset.categories, len({one.category for one in samples})),
        "normal training pictures": (
            dataset.train,
            sum(one.split == "train" and not one.is_anomalous for one in samples),
        ),
        "normal test pictures": (dataset.normal, sum(not one.is_anomalous for one in test)),
        "anomalous test pictures": (dataset.anomalous, sum(one.is_anomalous for one in test)),
    }
    parts = [
        f"{name}: {published} published, {count} found"
        for name, (published, count) in found.items()
        if published not in (None, count)
    ]
    return "; ".join(parts) or None
