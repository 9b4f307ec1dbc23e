"""A selection rule is one record: what it says is what arguments, curator, report and card use, for a new one too."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from tests.training import RECIPE, make_batch
from train.objectives.encoding import pair_features
from train.pretrain.arguments import ModelArguments
from train.pretrain.run import build_trainer, pretrain
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.recipes import DataArguments, parse_recipe
from train.selection.arguments import SelectionArguments, constants_of
from train.selection.outcome import Role, Selection
from train.selection.published import QUANTILE
from train.selection.rule import Candidates, Constants, SelectionRule, When
from train.selection.rules import RULES, rule_named
from train.selection.state import CurationState

REPOSITORY = Path(__file__).parents[1]
GOLDEN = REPOSITORY / "tests" / "golden" / "curation.safetensors"


@dataclasses.dataclass(frozen=True)
class ToyConstants(Constants):
    toy_floor: float = dataclasses.field(default=-1.0, metadata={"help": "Rule toy: pairs below are outliers."})

    def check(self, keep_share: float | None) -> None:
        if self.toy_floor > 0.5:
            raise ValueError(f"toy_floor is {self.toy_floor}, it must not be above 0.5")


def choose_toy(pairs: Candidates, keep_share, generator, constants: ToyConstants) -> Selection:
    """The pairs whose image and text agree most, of those above the floor."""
    agreement = (pairs.image_embeds * pairs.text_embeds).sum(dim=1)
    roles = torch.zeros(len(pairs), dtype=torch.int8, device=agreement.device)
    roles[agreement.argsort(descending=True)[: round(keep_share * len(pairs))]] = Role.CENTRAL
    roles[agreement < constants.toy_floor] = Role.OUTLIER
    return Selection(roles)


TOY = SelectionRule(
    name="toy",
    words="pairs that agree most, 100 % toy",
    choose=choose_toy,
    constants=ToyConstants,
    roles={Role.CENTRAL: "kept: agrees", Role.REDUNDANT: "dropped: agrees less", Role.OUTLIER: "dropped: below"},
    note="A toy looks at every pair alone.",
)


@dataclasses.dataclass
class ToyArguments(constants_of({"toy": TOY}), CuratedTrainingArguments):
    """The arguments as they are where the toy is among the rules from the beginning."""

    def __post_init__(self):
        CuratedTrainingArguments.__post_init__(self)


@pytest.fixture
def toy(monkeypatch):
    """The one line that registers a rule."""
    monkeypatch.setitem(RULES, "toy", TOY)


def toy_arguments(corpus: Path, out: Path, *more: str):
    words = [RECIPE, "--dataset_dir", str(corpus), "--output_dir", str(out), "--selection", "toy", *more]
    return parse_recipe((ModelArguments, DataArguments, ToyArguments), words)


def test_a_new_rule_is_chosen_checked_reported_and_described(toy, tiny_corpus, tmp_path):
    pretrain(*toy_arguments(tiny_corpus, tmp_path, "--toy_floor", "-0.5"))
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["selection"], run["selection_words"]) == ("toy", TOY.words)
    assert run["settings"]["toy_floor"] == -0.5
    assert run["keep_share_reached"] == pytest.approx(0.3, abs=0.01)
    assert run["pairs_scored"] == run["corpus_pairs"], "scored once, as there are no prototypes to start"
    state = CurationState.load(tmp_path)
    assert state.prototypes is None
    assert state.map_features.any(), "what is scored is on the map"
    page = (tmp_path / "curation_report.html").read_text()
    assert f"by rule toy ({TOY.words})" in page
    assert f"{TOY.note} This selection has no prototypes: their figures are left out." in page
    assert "principal components of" in page
    roles = json.loads((tmp_path / "curation_report.json").read_text())["roles"]
    assert [one["words"] for one in roles] == list(TOY.roles.values())
    assert sum(one["pairs"] for one in roles) == run["corpus_pairs"]


def test_a_new_rule_may_choose_offline(toy, tiny_corpus, tmp_path, monkeypatch):
    seen = []

    def choose(pairs, keep_share, generator, constants):
        seen.append((pairs, generator.initial_seed()))
        return choose_toy(pairs, keep_share, generator, constants)

    monkeypatch.setitem(RULES, "toy", dataclasses.replace(TOY, when=When.OFFLINE, choose=choose))
    trainer = build_trainer(*toy_arguments(tiny_corpus, tmp_path, "--seed", "7"))[0]
    assert trainer.schedule.curation_epochs == 0
    trainer.curator.choose_offline(trainer.model)
    ((pairs, seed),) = seen
    assert seed == 7
    assert len(pairs) == trainer.curator.pairs_scored == len(trainer.train_dataset)
    batch = make_batch(trainer, [0, 5, 100])
    images, texts = trainer.curator.score(trainer.model, batch)
    torch.testing.assert_close(pairs.image_embeds[batch.rows], images)
    torch.testing.assert_close(pairs.text_embeds[batch.rows], texts)
    agreement = (pairs.image_embeds * pairs.text_embeds).sum(dim=1)
    kept = trainer.curation.kept
    assert agreement[kept].min() >= agreement[~kept].max()


def test_pairs_without_finite_features_are_no_candidates(toy, tiny_corpus, tmp_path):
    trainer = build_trainer(*toy_arguments(tiny_corpus, tmp_path, "--on_nonfinite", "skip"))[0]
    embeds = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    embeds[3] = torch.nan
    selection = trainer.curator._select(torch.arange(8), (embeds, embeds), number=0)
    assert selection.roles[3] == Role.OUTLIER
    assert selection.kept.sum() == round(0.3 * 7)
    with pytest.raises(FloatingPointError, match="hardly a pair"):
        trainer.curator._select(torch.tensor([3]), (embeds[3:4], embeds[3:4]), number=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--toy_floor", "0.6"], "toy_floor is 0.6"),
        (["--support_quantile", "0.5"], "support_quantile does nothing with selection toy"),
        (
            ["--support_quantile", "0.5", "--semdedup_cluster_size", "9"],
            "support_quantile and semdedup_cluster_size do nothing with selection toy: leave them out",
        ),
        (["--selection", "random", "--toy_floor", "0.1"], "toy_floor does nothing with selection random"),
    ],
)
def test_constants_are_checked_by_their_rule_and_refused_beside_another(toy, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        toy_arguments(tmp_path, tmp_path, *words)


def test_a_rule_without_published_constants_needs_a_share(toy, tmp_path):
    with pytest.raises(ValueError, match="'toy' has no published constants"):
        ToyArguments(output_dir=str(tmp_path), selection="toy", keep_share=None, use_cpu=True)


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'toy' is no selection rule of this version, which has quantile"):
        rule_named("toy")
    with pytest.raises(ValueError, match="invalid choice: 'toy'"):
        toy_arguments(tmp_path, tmp_path)


def test_a_rule_that_scores_cannot_choose_before_training():
    with pytest.raises(ValueError, match="rule toy scores pairs, so it cannot choose before training"):
        dataclasses.replace(TOY, when=When.BEFORE)


def test_prototypes_are_for_online_rules_that_score():
    for wrong in ({"scores": False}, {"when": When.OFFLINE}):
        with pytest.raises(ValueError, match="rule toy uses prototypes"):
            dataclasses.replace(TOY, uses_prototypes=True, **wrong)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_in_order(rule):
    assert rule_named(rule.name) is rule
    assert rule.words, "a card and a page describe it"
    assert (rule.choose is not None) == rule.selects
    kept = [role for role in rule.roles if role >= Role.CENTRAL]
    assert bool(kept) == (len(kept) < len(rule.roles)) == rule.selects, "it keeps some and drops some"
    values = rule.constants()
    values.check(None)
    for constant in dataclasses.fields(values):
        argument = CuratedTrainingArguments.__dataclass_fields__[constant.name]
        assert (argument.default, argument.metadata["help"]) == (constant.default, constant.metadata["help"])
        assert constant.name not in TrainingArguments.__dataclass_fields__, "an argument of Trainer"
        assert constant.name not in SelectionArguments.__annotations__, "an argument of every rule"
        defining = {
            next(kind for kind in other.constants.__mro__ if constant.name in vars(kind).get("__annotations__", ()))
            for other in RULES.values()
            if constant.name in other.constants.names()
        }
        assert len(defining) == 1, "two rules give the same name to constants of their own"


def test_the_help_describes_every_rule(capsys):
    with pytest.raises(SystemExit):
        parse_recipe((CuratedTrainingArguments,), ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for rule in RULES.values():
        assert f"{rule.name}: {rule.words} ({rule.when.value})" in text


def test_the_name_of_a_rule_stands_in_its_own_file_alone():
    """Nobody asks "is it this rule?": what differs between rules is told by their records."""
    folders = ("train/selection", "train/pretrain", "model_cards")
    files = [
        file for folder in folders for kind in ("py", "jinja") for file in (REPOSITORY / folder).rglob(f"*.{kind}")
    ]
    assert len(files) > 30
    for rule in RULES.values():
        if not rule.selects:
            continue
        own = Path(inspect.getsourcefile(rule.choose))
        quoted = re.compile(rf"""["']{rule.name}["']""")
        assert {file for file in files if quoted.search(file.read_text())} == {own}, rule.name


def test_the_record_of_the_published_rule_is_the_published_rule():
    golden = load_file(GOLDEN)
    pairs = Candidates(
        torch.arange(len(golden["cur_image"])), golden["cur_image"], golden["cur_text"], golden["cur_prototypes"]
    )
    assert torch.equal(pairs.features, pair_features(golden["cur_image"], golden["cur_text"]))
    roles = QUANTILE.choose(pairs, None, torch.Generator().manual_seed(0), QUANTILE.constants()).roles
    assert torch.equal(roles == Role.OUTLIER, golden["cur_outlier"])
    assert torch.equal(roles == Role.MARGIN, golden["cur_support"])
