"""Models that are taken home: the library's own classes read them with equal logits, for every architecture that has such
heads, and they predict what the study predicted."""
import json

import pytest
import yaml
from test_encoders import ENCODERS, HEADS, write
from test_tasks import own_study
from transformers import AutoTokenizer

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.encoder.library import CLASSES, check_logits, library_model
from xtl.encoder.loading import load_encoder, load_tokenizer
from xtl.encoder.model import TransferModel
from xtl.evaluation.submission import read_predictions, submission_file
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.transfer.cell import run_cell
from xtl.transfer.layout import lay_out
from xtl.transfer.models import find_trained
from xtl.transfer.phase3 import HEAD, load_tuned
from xtl.transfer.results import write_cell

REFUSED = {'ELECTRA': {'sequence', 'choice'}, 'DistilBERT': {'sequence', 'choice'}, 'XLM': {'sequence', 'choice'}, 'ModernBERT': set(HEADS)}
FILES = dict(topic='topic.csv', pairs='pairs.tsv', ends='choice.parquet', tags='tags.conll', spans='spans.csv')


@pytest.mark.parametrize('name', ENCODERS)
def test_heads_of_every_architecture_have_equal_logits_in_the_library_or_are_refused(name, tmp_path):
    folder = write(tmp_path/'encoder', name)
    model, tokenizer = TransferModel(load_encoder(folder), HEADS, 0), load_tokenizer(folder)
    refused = set()
    for kind, spec in HEADS.items():
        try: assert check_logits(model, kind, library_model(model, kind, tuple(map(str, range(spec.labels)))), tokenizer) < 1e-5
        except UserError as error:
            assert f"no {kind} head for '{model.encoder.config.model_type}'" in str(error)
            refused.add(kind)
    assert refused == REFUSED.get(name, set())


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "A study of all heads that keeps two of its models; its cell with intermediate tasks has run."
    folder = tmp_path_factory.mktemp('models')
    path = own_study(folder, n_tasks=[2], controls=[], targets=list(FILES))
    given = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(given | dict(device=dict(keep=['topic', 'spans'])), sort_keys=False))
    space = lay_out(read_study(str(path)), folder/'out')
    cell, = cells(space.study)
    write_cell(space, cell, run_cell(space, cell))
    return space, cell


@pytest.fixture(scope='module')
def models(study, tmp_path_factory):
    "The folder of each target's model."
    space, cell = study
    folder = tmp_path_factory.mktemp('written')
    kept = {t: find_trained(space, cell.name, t).kept for t in FILES}
    assert kept == {t: t in ('topic', 'spans') for t in FILES}
    for target in FILES: assert answer(['model', str(space.out), cell.name, '--target', target, '--to', str(folder/target)]) == (0, '')
    return folder


@pytest.mark.parametrize('target', FILES)
def test_the_library_reads_a_model_with_equal_logits(study, models, target):
    space, cell = study
    trained, about = find_trained(space, cell.name, target), json.loads((models/target/'xtl.json').read_text())
    own = load_tuned(space, target, space.store.path(trained.step.model))
    made, tokenizer = CLASSES[about['head']].from_pretrained(models/target), AutoTokenizer.from_pretrained(models/target)
    assert check_logits(own, HEAD, made, tokenizer) == 0
    if about['head'] in ('sequence', 'token'): assert list(made.config.id2label.values()) == about['labels']
    assert (models/target/'model.safetensors').is_file()


@pytest.mark.parametrize('target', FILES)
def test_a_model_predicts_what_the_study_predicted(study, models, target, tmp_path):
    space, cell = study
    file, out = space.out.parent/FILES[target], tmp_path/'said.jsonl'
    assert answer(['predict', str(models/target), str(file), '--to', str(out)])[0] == 0
    said = [json.loads(line) for line in out.read_text().splitlines()]
    found = read_predictions(submission_file(space.out/'cells'/cell.name/'predictions', target, 'xx'), target)
    if target == 'spans': assert {row['id']: row['answer'] for row in said} == found
    else: assert [row['tags'] if target == 'tags' else row['label'] for row in said] == found
    assert len(said) == len(found) > 5


def test_a_card_tells_study_scores_compute_data_and_use(study, models):
    card = (models/'tags'/'README.md').read_text()
    head = yaml.safe_load(card.split('---')[1])
    assert head['library_name'] == 'transformers' and head['pipeline_tag'] == 'token-classification'
    for part in ('`own`', study[1].name, 'pairs, tags', '| Example | low |', '| phase 2 | pairs |', '| phase 3 |', 'tags.conll', 'AutoModelForTokenClassification', 'xtl predict'):
        assert part in card, part
    assert str(study[0].out.parent) not in card


def test_plain_lines_are_read_by_a_model_of_one_text(models, tmp_path, capsys):
    (tmp_path/'mine.txt').write_text('zin polu sune\n\nzin miro lado\n')
    assert answer(['predict', str(models/'topic'), str(tmp_path/'mine.txt')]) == (0, '')
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 and {row['label'] for row in lines} <= {'no', 'yes'}
    assert answer(['predict', str(models/'topic'), str(tmp_path/'mine.txt'), '--to', str(tmp_path/'a.csv')])[0] == 0
    assert (tmp_path/'a.csv').read_text().startswith('id,label\n0,')


def test_a_model_goes_to_the_hub(study, tmp_path, monkeypatch, capsys):
    import huggingface_hub
    sent = {}
    class Api:
        def create_repo(self, name, private, exist_ok): return sent.update(name=name, private=private) or f'https://hub/{name}'
        def upload_folder(self, folder_path, repo_id, commit_message): sent['files'] = (repo_id, sorted(p.name for p in type(tmp_path)(folder_path).iterdir()))
    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    space, cell = study
    words = ['model', str(space.out), cell.name, '--target', 'topic', '--to', str(tmp_path/'topic')]
    assert answer([*words, '--push', 'someone/topic', '--private']) == (0, '')
    assert sent['name'] == 'someone/topic' and sent['private'] and {'README.md', 'config.json', 'model.safetensors', 'tokenizer.json', 'xtl.json'} <= {*sent['files'][1]}
    assert 'https://hub/someone/topic' in capsys.readouterr().out and "from_pretrained('someone/topic')" in (tmp_path/'topic'/'README.md').read_text()
    def closed(self, *a, **k): raise ConnectionError('no route')
    monkeypatch.setattr(Api, 'create_repo', closed)
    words[-1] = str(tmp_path/'again')
    assert "did not take 'someone/topic' (ConnectionError: no route)" in answer([*words, '--push', 'someone/topic'])[1]


MISTAKES = {
    ('--target', 'topik'): "did you mean 'topic'", ('--push', 'topic'): 'must be OWNER/NAME', ('--private',): 'only with --push'}


@pytest.mark.parametrize('more', MISTAKES)
def test_mistakes_have_a_line(study, tmp_path, more):
    space, cell = study
    words = ['model', str(space.out), cell.name, '--to', str(tmp_path/'new'), *(() if more[0] == '--target' else ('--target', 'topic')), *more]
    code, said = answer(words)
    assert code == 2 and MISTAKES[more] in said and not (tmp_path/'new').exists()


def test_a_cell_that_is_none_and_a_model_that_is_kept_in_vain(study, tmp_path):
    space, _ = study
    assert "unknown cell 'none-r1'" in answer(['model', str(space.out), 'none-r1', '--target', 'topic', '--to', str(tmp_path/'new')])[1]
    for wrong, says in (('toopic', "did you mean 'topic'"), ('tatoeba', 'unknown value')):
        with pytest.raises(UserError, match=says): space.study.but(device=dict(keep=[wrong]))
