"""The verbs of `nnunet`: a data list as a data set of nnU-Net, its preprocessing with raters, and where the trainer is."""

from __future__ import annotations

import json
import os
import shlex
from importlib.util import find_spec
from typing import Annotated

import typer

from monai_jdt.cli.region_text import regions_from_text
from monai_jdt.data.names import one_line, user_path
from monai_jdt.nnunet import ext_trainer
from monai_jdt.nnunet.raw_dataset import check_dataset_name, nnunet_folder
from monai_jdt.validation import error_sentence

nnunet_verbs = typer.Typer(help="Train nnU-Net v2 on the votes of several raters.", no_args_is_help=True)


@nnunet_verbs.command("convert")
def _convert_verb(
    datalist: Annotated[str, typer.Argument(help="A data list, a .json, .csv or .tsv file.")],
    dataset: Annotated[str, typer.Argument(help="nnU-Net's name of the data set to make, such as Dataset503_Nodules.")],
    regions: Annotated[str, typer.Option(help="A convention, or JSON: '{\"cord\": [1]}', [[1, 4], [4]].")] = "[[1]]",
    channel: Annotated[list[str] | None, typer.Option(help="A channel's name, such as CT, MRI or T1; repeatable, in order.")] = None,
    raw: Annotated[str | None, typer.Option(help="The folder of raw data sets; by default that of nnUNet_raw.")] = None,
    section: Annotated[str, typer.Option(help="One list of the JSON to train on; or all.")] = "all",
    test: Annotated[str | None, typer.Option(help="A list of the JSON for imagesTs, e.g. testing. It is not trained on.")] = None,
    ignore_value: Annotated[int | None, typer.Option(help="With this label value a rater says nothing. It becomes 'ignore'.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Write a data list as a raw data set of nnU-Net: the raters' majority in labelsTr, each rater's map in ratersTr.

    Regions that share label values become nnU-Net's regions, others its classes. Folds are by patient.
    """
    # torch and MONAI take seconds to import; `--help` should not
    from monai_jdt.nnunet.conversion import convert_to_nnunet
    from monai_jdt.raters.region_names import named_regions

    check_dataset_name(dataset)
    folder = os.path.join(user_path(raw) if raw is not None else nnunet_folder("nnUNet_raw"), dataset)
    groups = named_regions(regions_from_text(regions))
    made = convert_to_nnunet(
        user_path(datalist),
        folder,
        groups,
        channels=tuple(channel or ("image",)),
        section=section,
        test=test,
        ignored=ignore_value,
        workers=workers,
        progress=progress,
    )
    fewest, most = made.raters
    raters = f"{fewest} to {most} raters" if fewest != most else "1 rater" if most == 1 else f"{most} raters"
    typer.echo(f"{made.folder}: {made.training} training cases, {made.test} test cases, {raters} per case")
    if made.background:
        values = ", ".join(map(str, made.background))
        typer.echo(f"warning: label values in no region became background: {values}", err=True)
    if made.left_out:
        typer.echo(f"warning: left out, since they have no raters: {one_line(', '.join(made.left_out))}", err=True)
    number = int(dataset[7:10])
    typer.echo("Go on with")
    typer.echo(f"  nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity --no_pp")
    typer.echo(f"  monai-jdt nnunet preprocess {number}")
    wanted = shlex.quote(json.dumps({name: list(group) for name, group in made.labels.regions.items()}))
    listed = shlex.quote(os.path.join(made.folder, "datalist.json"))
    only = " --section testing" if made.test else ""
    typer.echo("and later score predictions with")
    typer.echo(f"  monai-jdt evaluate PREDICTIONS {listed}{only} --regions {wanted}")


@nnunet_verbs.command("preprocess")
def _preprocess_verb(
    dataset: Annotated[str, typer.Argument(help="nnU-Net's name or number of the data set.")],
    configuration: Annotated[list[str] | None, typer.Argument(help="Such as 3d_fullres; by default all of the plans.")] = None,
    plans: Annotated[str, typer.Option("-p", "--plans", help="nnU-Net's plans, which are copied as <plans>Raters.")] = "nnUNetPlans",
    processes: Annotated[int | None, typer.Option("-np", "--processes", help="Processes; by default nnU-Net's numbers.", min=1)] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Preprocess a planned data set with a channel for each rater, and print the command that trains on it."""
    if find_spec("nnunetv2") is None:
        raise ValueError(error_sentence("nnunetv2", "the package", "none", "pip install 'monai-jdt[nnunet]'"))
    from monai_jdt.nnunet.preprocessing import preprocess_raters

    done = preprocess_raters(dataset, configuration or (), plans, processes, progress)
    typer.echo(f"{done.dataset}, plans {done.plans}: {done.cases} cases, {done.raters} rater channels")
    if done.without:
        told = one_line(", ".join(done.without))
        typer.echo(f"warning: no rater's map in ratersTr, so the label is the one opinion: {told}", err=True)
    typer.echo("Train with")
    typer.echo('  export nnUNet_extTrainer="$(monai-jdt nnunet path)"')
    for name in done.configurations:
        typer.echo(f"  nnUNetv2_train {int(done.dataset[7:10])} {name} 0 -tr nnUNetTrainerJDT -p {done.plans}")


@nnunet_verbs.command("path")
def _path_verb() -> None:
    """Print the folder for nnUNet_extTrainer, in which nnU-Net finds the trainer."""
    typer.echo(os.path.dirname(os.path.abspath(ext_trainer.__file__)))
