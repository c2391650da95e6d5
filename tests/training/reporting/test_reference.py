"""The kept tables are complete, hang together and are found by the names people use."""

from statistics import mean

import pytest

from training.reporting.reference import Figure, find_dataset, published_figure, reference_figures


@pytest.mark.parametrize(
    ("method", "table", "rows"),
    [
        ("anomalymoe", 1, 8 * 7),
        ("anomalymoe", 2, 7 * 4),
        ("anomalymoe", 3, 8 * 3),
        ("moeclip", 1, 15 * 7),
        ("moeclip", 2, 5 * 7),
        ("moeclip", 15, 15 + 12 + 3 + 12 + 4),
    ],
)
def test_every_table_is_complete(method, table, rows):
    figures = reference_figures(method, table)
    assert len(figures) == len({(one.dataset, one.variant, one.category) for one in figures}) == rows
    for one in figures:
        values = [one.image_auroc, one.image_ap, one.pixel_auroc, one.pixel_ap]
        assert any(value is not None for value in values)
        assert all(0.0 < value <= 100.0 for value in values if value is not None)


def test_a_row_reads_as_printed():
    assert Figure(
        dataset="BTAD",
        variant="MoECLIP",
        category="02",
        image_auroc=80.6,
        image_ap=96.8,
        pixel_auroc=95.8,
        pixel_ap=63.1,
    ) in reference_figures("moeclip", 15)


def test_the_full_model_is_the_same_in_every_table_of_a_paper():
    def full(method, table):
        return {
            one.dataset: (one.image_auroc, one.pixel_auroc)
            for one in reference_figures(method, table)
            if one.variant.casefold() == method and one.category is None and one.dataset != "Average"
        }

    for method, tables in {"anomalymoe": (2, 3), "moeclip": (2, 15)}.items():
        main = full(method, 1)
        for table in tables:
            found = full(method, table)
            assert found
            assert found == {dataset: main[dataset] for dataset in found}


@pytest.mark.parametrize("field", ["image_auroc", "image_ap", "pixel_auroc", "pixel_ap"])
def test_printed_averages_follow_from_the_rows(field):
    figures = reference_figures("moeclip", 1)
    for variant in {one.variant for one in figures}:
        rows = {one.dataset: getattr(one, field) for one in figures if one.variant == variant}
        average = rows.pop("Average")
        assert mean(value for value in rows.values() if value is not None) == pytest.approx(average, abs=0.06)


@pytest.mark.parametrize("name", ["MVTec-AD", "mvtec_ad", "MVTEC AD"])
def test_published_figure_ignores_case_and_punctuation(name):
    figure = published_figure("anomalymoe", name)
    assert figure is not None
    assert (figure.variant, figure.image_auroc, figure.pixel_auroc) == ("AnomalyMoE", 99.5, 97.7)


def test_published_figure_of_a_category():
    figure = published_figure("moeclip", "visa", "pipe_fryum")
    assert figure is not None
    assert figure.image_auroc == 95.5
    assert published_figure("anomalymoe", "visa", "pipe_fryum") is None
    assert published_figure("moeclip", "my parts") is None


def test_an_unknown_table_names_the_kept_ones():
    with pytest.raises(ValueError, match=r"no table 4 of 'moeclip'; there are anomalymoe 1.*moeclip 15"):
        reference_figures("moeclip", 4)


@pytest.mark.parametrize(
    ("method", "folder", "dataset"),
    [
        ("moeclip", "mvtec", "MVTec-AD"),
        ("moeclip", "VisA_20220922", "VisA"),
        ("moeclip", "HeadCT", "Head CT"),
        ("moeclip", "RESC", "Retina OCT"),
        ("anomalymoe", "RESC", "RESC"),
        ("anomalymoe", "headct", None),
        ("moeclip", "my parts", None),
    ],
)
def test_data_sets_are_found_by_the_name_of_their_folder(method, folder, dataset):
    assert find_dataset(method, folder) == dataset
