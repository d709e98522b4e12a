"""`ibft export`: an arm's weights in a folder of their own, with a model card that has the scores; also on the hub.

It is not a `Stage` of the run folder: what it makes lies where the user says, and is not made twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ibft import progress
from ibft.artifacts.json_lines import write_atomically
from ibft.artifacts.training import train_again
from ibft.errors import UserError
from ibft.models.folder import copy_files, new_folder
from ibft.models.loading import load_model, load_tokenizer, weights_folder
from ibft.objectives.base import Objective
from ibft.pages.model_card import CardScores, Weights, hub_names, model_card, read_facts
from ibft.run.folder import RunFolder
from ibft.run.inputs import FORMAT
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.stages.export_scores import scores_for_card
from ibft.stages.identity import train_inputs

__all__ = ["check_push", "export", "push"]


def export(recipe: Recipe, run: RunFolder, arm: str, out: Path, *, merge: bool = False) -> CardScores | str:
    """Copy what the arm's training made, its tokenizer included, to the new folder `out`, with a card of its own.

    Args:
        recipe: what the run was made from.
        run: its folder, in which the arm is trained; judged and reported it need not be.
        arm: any but the base model.
        out: must not exist.
        merge: write the base model with the adapter merged into it, in `model.dtype`, and its tokenizer.

    Returns:
        The scores in the card, or the sentence why it has none.

    Raises:
        UserError: the arm is unknown, untrained, or trained from another recipe; `merge` cannot be; `out` exists.
    """
    objective = _objective(recipe, arm)
    if merge and recipe.train.lora is None:
        raise UserError(f"--merge: the arm {arm} has no adapter, all of its weights were trained. Leave --merge out.")
    if merge and recipe.model.quantization != "none":
        raise UserError(
            f"--merge: the adapter was trained on weights in {recipe.model.quantization}; merged into them it would be "
            "rounded again, to another function. Leave --merge out, and load the adapter on the quantized base model."
        )
    inputs = train_inputs(recipe, objective, must_exist=False)
    del inputs[FORMAT]  # the weights of an older version are weights
    # A copy reads neither data nor base model, which may be gone; a merge reads the base, which has to be the same.
    record = run.record_made_from(f"train/{arm}", inputs, trusts_names=not merge)
    trained, source = run.path / "train" / arm, weights_folder(recipe, run, arm)
    versions: Mapping[str, str] = record.provenance.get("versions", {})
    weights: Weights = "merged" if merge else "adapter" if recipe.train.lora else "model"
    scores = scores_for_card(run, arm, source)
    card = model_card(
        recipe,
        objective,
        read_facts(trained),
        versions,
        hub_names(recipe),
        weights=weights,
        scores=scores,
        has_tokenizer=merge or (source / "tokenizer_config.json").is_file(),
    )
    if not source.is_dir():
        raise UserError(f"{source} does not exist. {train_again(trained)}")
    with new_folder(out) as folder:
        if merge:
            _merge(recipe, source, folder)
        else:
            copy_files(source, folder)
        write_atomically(folder / "README.md", card)
    return scores


def _objective(recipe: Recipe, arm: str) -> Objective:
    known = {objective.arm: objective for objective in recipe.objective}
    if arm not in known:
        what = "is the base model, which is not trained" if arm == BASE_ARM else "is not one of the recipe's arms"
        raise UserError(f"--arm {arm} {what}. There are: {', '.join(known)}.")
    return known[arm]


def _merge(recipe: Recipe, adapter: Path, folder: Path) -> None:
    from peft import PeftModel
    from safetensors import SafetensorError

    model = load_model(recipe.model, place=False)
    with progress.task("Merging", total=None):
        try:
            merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{adapter} cannot be loaded ({error}). {train_again(adapter.parent)}") from None
        merged.save_pretrained(folder)
        load_tokenizer(recipe.model).save_pretrained(folder)


def check_push(repo_id: str) -> None:
    """Check the name that `push` will be given, before anything is made.

    Raises:
        UserError: it is not the name of a repository on the hub.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id):
        raise UserError(f"--push {repo_id}: not the name of a repository on the hub. Give OWNER/NAME.")


def push(folder: Path, repo_id: str, *, private: bool) -> str:
    """Upload a folder to the hub, into a repository that is made if there is none, and return the repository's address.

    Args:
        folder: all of it is uploaded.
        repo_id: OWNER/NAME.
        private: only counts where the repository is new.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        with progress.task(f"Uploading to {repo_id}", total=None):
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload with ibft export")
    except Exception as error:  # the hub client raises many kinds, none of which a user needs to tell apart
        reason = next((line for line in str(error).splitlines() if line.strip()), "no message").rstrip(".")
        raise UserError(
            f"--push {repo_id}: {type(error).__name__}: {reason}. {folder} is complete: check the network and "
            f"HF_TOKEN (it needs write access), then run `hf upload {repo_id} {folder}`."
        ) from None
    return str(url)
