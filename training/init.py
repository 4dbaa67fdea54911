"""Weights from elsewhere that a run begins with: found or fetched, checked, read once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.channels import fitted
from models.torchvision_backbones import FILES
from models.weights_files import Beginning, read_weights
from training.job import Job
from utils import checkpoint
from utils.config import ROOT, SOURCES, Recipe
from utils.errors import UserError
from utils.fetch import fetch
from utils.files import as_noted, digest_file, sha256_of, write_text

FOLDER = ROOT / "weights"  # where what was fetched stays


@dataclass(frozen=True)
class Published:
    """A file of weights at its publisher's.

    Attributes:
        name: of the file here.
        sha256: of its content, or the beginning of it; None where the server is to be asked.
    """

    name: str
    url: str
    sha256: str | None


def beginning(recipe: Recipe, *, download: bool) -> Beginning | None:
    """What a recipe begins with; None for random weights.

    Raises:
        UserError: no such file, damaged, or of another network; not here, and not to be fetched.
    """
    if recipe.init is None:
        return None
    path = recipe.init if isinstance(recipe.init, Path) else located(recipe.init, giver(recipe), download=download)
    content = read_weights(path, recipe.backbone, recipe.width)
    return Beginning(path, sha256_of(path), content)


def giver(recipe: Recipe) -> str:
    """The backbone whose weights a recipe begins with: its own, or that of which it borrows the first blocks."""
    return BACKBONES.pick(recipe.backbone).lender or recipe.backbone


def reused(recipe: Recipe) -> dict[str, str]:
    """What checkpoints say of the file whose weights a recipe reuses; empty where it reuses none."""
    return {"file": recipe.weights.name, "sha256": sha256_of(recipe.weights)} if recipe.weights else {}


def will_fetch(recipe: Recipe, *, download: bool) -> str | None:
    """What a run is going to fetch to begin with; None where it is here, or where nothing is to be fetched."""
    if recipe.init is None or isinstance(recipe.init, Path) or not download:
        return None
    published = PUBLISHERS[recipe.init](model_of(recipe.init, giver(recipe)))
    if is_here(FOLDER / recipe.init / published.name):
        return None
    return f"{published.name} is fetched from {published.url}"


def is_here(path: Path) -> bool:
    """Whether a fetched file is there, with the hash that it had: a note that is missing was never written."""
    return path.exists() and digest_file(path).exists()


def located(source: str, backbone: str, *, download: bool) -> Path:
    """The file of a library's own weights for a backbone, fetched if need be and allowed.

    A file that is here is used if its content has the hash that was noted beside it when it was fetched.

    Raises:
        UserError: the library has none, or it is not here and not to be fetched; its content is another.
    """
    published = PUBLISHERS[source](model_of(source, backbone))
    path = FOLDER / source / published.name
    if is_here(path):
        if not as_noted(path):
            raise UserError("is not what was fetched", where=path, hint="delete it, and fetch it with --download")
        return path
    if not download:
        hint = f"let it be fetched from {published.url} with --download, or give a file"
        raise UserError(f"{path.name} is not here", where=f"--init {source}", hint=hint)
    fetch(published.url, path, published.sha256 or hash_at_hub(published.url))
    write_text(digest_file(path), sha256_of(path) + "\n")
    return path


def model_of(source: str, backbone: str) -> str:
    """The name that a library gives a backbone.

    Raises:
        UserError: it is not the library's.
    """
    family, _, model = backbone.rpartition("/")
    if family == source or (not family and source == "torchvision" and model in FILES):
        return model
    others = [own for own in SOURCES if own == family or (own == "torchvision" and model in FILES)]
    hint = f"give --init {others[0]}, or a file" if others else f"give a file, or --backbone {source}/MODEL"
    raise UserError(f"{backbone} is no backbone of {source}", where=f"--init {source}", hint=hint)


def at_timm(model: str) -> Published:
    """Where timm's weights of a model are: on the Hugging Face hub, or at the address that its configuration gives.

    Raises:
        UserError: there are none.
    """
    import timm
    from huggingface_hub import hf_hub_url

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.has_weights:
        tagged = timm.list_pretrained(f"{model.partition('.')[0]}.*")
        hint = f"take {' or '.join(tagged[:3])}" if tagged else "give a file, or take another model"
        raise UserError(f"timm has no weights of {model}", where="--init timm", hint=hint)
    if config.hf_hub_id:
        url = hf_hub_url(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        return Published(f"{config.architecture}.{config.tag}.safetensors", url, None)
    return with_hash(str(config.url), "timm")


def at_torchvision(model: str) -> Published:
    """Where torchvision's newest weights of a model are.

    Raises:
        UserError: there are none.
    """
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(model)
    if not len(weights):
        raise UserError(f"torchvision has no weights of {model}", where="--init torchvision", hint="give a file")
    return with_hash(weights.DEFAULT.url, "torchvision")


def with_hash(url: str, source: str) -> Published:
    """A file whose name ends with the beginning of its hash, as resnet18-f37072fd.pth.

    Raises:
        UserError: it does not.
    """
    name = url.rpartition("/")[2]
    if (found := re.search(r"-([0-9a-f]{8,})\.pth$", name)) is None:
        hint = "fetch it yourself, look at it, and give the file"
        raise UserError(f"{url} is published without a hash", where=f"--init {source}", hint=hint)
    return Published(name, url, found[1])


def hash_at_hub(url: str) -> str:
    """SHA-256 that the Hugging Face hub publishes of a file.

    Raises:
        UserError: no such server or file, or it says none.
    """
    from huggingface_hub import get_hf_file_metadata

    hint = "try again, or fetch the file yourself and give it"
    try:
        found = get_hf_file_metadata(url).etag or ""
    except Exception as error:  # the hub's client has many errors of its own, and those of two others
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot be asked for its hash ({reason})", where=url, hint=hint) from error
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise UserError(f"`{found}` is no SHA-256", where=url, hint=hint)
    return found


PUBLISHERS: dict[str, Callable[[str], Published]] = {"timm": at_timm, "torchvision": at_torchvision}


def fresh_backbone(job: Job) -> Backbone:
    """The recipe's backbone, with random weights or those that the run begins with."""
    backbone = make_backbone(job.recipe.backbone, job.recipe.width, job.channels)
    if job.begins is not None:
        lent = BACKBONES.pick(job.recipe.backbone).lender  # then the file may hold the first block alone
        own = backbone.state_dict() if lent else {}
        checkpoint.load_state(backbone, own | fitted(job.begins.content["model"], backbone), job.begins.path)
    return backbone
