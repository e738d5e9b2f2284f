"Masked language modelling in phase 2: beside tasks and alone, on text that holds no test row."
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate import Accelerator
from studies import ROWS, finished, tiny
from test_spending import SMALL as ALONE
from test_spending import study, trained
from transformers import XLMRobertaForMaskedLM

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.core.files import read_json
from xtl.data.corpus import text_hash
from xtl.data.preparation import Preparation, to_tokenise
from xtl.encoder.loading import load_tokenizer
from xtl.report.claims import NOT_COMPARED, claims
from xtl.report.findings import find
from xtl.report.method import text_design
from xtl.report.spending import table_arms
from xtl.study.designs import cells
from xtl.tasks.paper import task
from xtl.tasks.recipes import Recipe
from xtl.training.batches import make_batch
from xtl.training.cost import shape_of
from xtl.training.loop import train_step
from xtl.transfer.layout import lay_out
from xtl.transfer.places import data_settings
from xtl.transfer.phase2 import _all_sources, _fresh, intermediate
from xtl.transfer.results import cell_key, stale_cells
from xtl.transfer.subset import run_of
from xtl.transfer.text import text_name
from xtl.world.mirror import mini_encoder

TEXT = {'share': 0.2, 'batch_size': 2}
ARMS = {'english': {}, 'text': {'mlm': TEXT}, 'turns': {'order': 'sequence', 'mlm': TEXT | {'share': 0.3}}}
SMALL = dict(arms=ARMS, mlm={'languages': 'targets', 'batch_size': 2},
             phase2={'score_intermediate': False}, phase3={'recipes': {'all': ROWS | {'batch_size': 2, 'learning_rate': 5e-4}}},
             design={'targets': ['tatoeba'], 'intermediate': ['mnli', 'qqp'], 'n_tasks': [0, 2], 'budgets': [4e9, 8e9], 'controls': ['none', 'target-only', 'mlm']})


@pytest.fixture(scope='module')
def read(tmp_path_factory):
    "A study with text in three arms and alone, laid out."
    return lay_out(study(**SMALL), tmp_path_factory.mktemp('read')/'out')


def of(space, arm, budget=8e9):
    control = 'intermediate' if arm else 'mlm'
    return next(c for c in cells(space.study) if (c.control, c.arm, c.budget) == (control, arm, budget))


@pytest.fixture(scope='module')
def done(read):
    "The same with English tasks, text beside them and text alone run."
    return finished(read, [c for c in cells(read.study) if c.arm in ('', 'english', 'text')])


# -- equal compute

def test_text_costs_what_it_replaces_within_a_hundredth(read):
    "At both budgets, by the ledger, the output layer counted; alone it has all of a budget."
    spent = {}
    for cell in (c for c in cells(read.study) if c.has_phase2):
        record = read_json(intermediate(run_of(read, cell), cell.budget)/'run.json')
        each = {t: c['executed_flops'] for t, c in record['spent'].items()}
        spent[cell.arm or 'alone', cell.budget] = sum(each.values())
        share = {'': 1.0, 'english': 0.0, 'turns': 0.3}.get(cell.arm, 0.2)
        assert record['shares'].get('mlm', 0.0) == pytest.approx(share) and sum(record['shares'].values()) == pytest.approx(1)
        assert each.get('mlm', 0.0)/sum(each.values()) == pytest.approx(share, abs=0.05)
        assert not share or (record['mlm']['head'], set(record['mlm']['sequences'])) == ('checkpoint', {'qab'})
    for budget in (4e9, 8e9):
        each = {arm: flops for (arm, at), flops in spent.items() if at == budget}
        assert set(each) == {*ARMS, 'alone'} and budget <= min(each.values()) and max(each.values()) < 1.01*min(each.values()), each


@pytest.mark.parametrize('arm', ['', 'turns'])
def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_bits(read, tmp_path, monkeypatch, arm):
    monkeypatch.setattr('xtl.training.loop.BLOCK', 1) # a checkpoint after every step
    often, cell = read.study.but(device=dict(checkpoint_seconds=1e-9)), of(read, arm, 4e9)
    whole, stopped = (replace(read, study=often, out=tmp_path/n) for n in ('whole', 'stopped'))
    undisturbed = trained(whole, cell, monkeypatch)
    again = trained(stopped, cell, monkeypatch, stops=(1, 3, 8, 14))
    assert again.keys() == undisturbed.keys() and all(undisturbed[n].equal(t) for n, t in again.items())


# -- what is learnt

def batch_of(space, arm, limit=10**6):
    "A state, and the first batch of text of a cell."
    run = run_of(space, of(space, arm))
    settings = replace(run.settings, micro_batch_tokens=limit, max_grad_norm=0.0)
    state, sources = _fresh(run, run.splits()), _all_sources(run, run.splits())
    state.model.eval()
    return state, settings, make_batch('mlm', sources['mlm'], 0, math.inf, shape_of(state.model.encoder), 1, settings, Accelerator())


def gradient(space, limit):
    "Of the embedding table, which is the output layer too, and the loss."
    state, settings, batch = batch_of(space, '', limit)
    table = state.model.encoder.get_input_embeddings().weight
    state.optimizer.step = lambda: state.__dict__.update(gradient=table.grad.clone())
    return train_step(state, batch, 0.0, settings, Accelerator()).item(), state.gradient, len(batch.micro_batches)


def test_loss_and_gradient_are_those_of_the_model_that_was_pretrained(read):
    state, _, batch = batch_of(read, '')
    [part] = batch.micro_batches
    wanted = torch.full(part['input_ids'].shape, -100).flatten()
    wanted[part['places']] = part['labels']
    model = XLMRobertaForMaskedLM.from_pretrained(mini_encoder()).eval()
    whole = model(part['input_ids'], attention_mask=part['attention_mask'], labels=wanted.view(part['input_ids'].shape))
    whole.loss.backward()
    loss, own, _ = gradient(read, 10**6)
    assert loss == pytest.approx(whole.loss.item(), rel=1e-5)
    torch.testing.assert_close(own, model.get_input_embeddings().weight.grad, rtol=1e-4, atol=1e-6)


def test_a_batch_in_pieces_has_the_same_gradient(read):
    (one, own, n), (other, cut, more) = gradient(read, 10**6), gradient(read, 1)
    assert (n, more) == (1, 2) and one == pytest.approx(other, rel=1e-5)
    torch.testing.assert_close(own, cut, rtol=1e-4, atol=1e-6)


def test_whole_words_are_hidden_whole(read):
    run = run_of(read, of(read, 'text'))
    single = _all_sources(run, run.splits())['mlm']
    source = replace(single, whole_words=True)
    word, start = (single.sampler.encoded.arrays[n] for n in ('word', 'start'))
    def torn(task, row):
        own, hidden = word[start[row]:start[row + 1]], task.hidden(0, row)
        return not np.isin(np.flatnonzero(np.isin(own, own[hidden])), hidden).all()
    assert not any(torn(source, row) for row in range(200)) and any(torn(single, row) for row in range(200))


# -- never a test row

def test_no_test_row_is_trained_on(tmp_path):
    "A folder that holds test rows of both targets, each alone, shouted or as a line of a longer text."
    own, tokenizer = tmp_path/'own', load_tokenizer('mini')
    own.mkdir()
    (own/'qab.txt').write_text('ba hehel poto')
    design = SMALL['design'] | {'targets': ['xnli', 'panx', 'tatoeba'], 'controls': ['none', 'mlm'], 'budgets': [4e9]}
    wanted = study(design=design, mlm={'text': str(own), 'languages': ['qab']})
    clean = lay_out(wanted, tmp_path/'clean')
    rows = {}
    work = Preparation(data_settings(wanted.but(data=dict(max_test=None))), clean.store, tokenizer, 'mini')
    for target in design['targets']:
        read = to_tokenise(work, task(target), 'test', 'qab', Recipe(max_length=96))[0].rows
        plain = [' '.join(t) if isinstance(t, list) else t for column in read.texts for t in column]
        rows[target] = plain
    barred = {text_hash(t) for texts in rows.values() for t in texts}
    held = [rows['xnli'][0], rows['xnli'][-1].upper(), rows['panx'][3], f"ba hehel poto ho\n{rows['tatoeba'][5]}\nba zis", rows['tatoeba'][-1]]
    (own/'qab.txt').write_text('\n\n'.join(['ba hehel poto', *held]))
    space = lay_out(wanted, tmp_path/'out')
    text = space.prepared.load('mlm', 'text', text_name(wanted.mlm))
    ids, start = text.arrays['tokens'], text.arrays['start']
    said = [tokenizer.decode(ids[a:b], skip_special_tokens=True) for a, b in zip(start, start[1:])]
    assert len(said) == 2 and not {text_hash(t) for t in said} & barred
    [record] = [r for r in space.prepared.records if r['task'] == 'mlm']
    assert (record['rows'], record['dropped'], record['reasons']) == (6, 5, {'it is a test row': 5})
    assert '5 texts or lines say what a test row says' in record['note']
    with pytest.raises(UserError, match='no text'):
        (own/'qab.txt').write_text(held[0])
        lay_out(wanted, tmp_path/'none')


# -- what results depend on, and what is told

def test_text_changes_the_keys_of_cells_that_read_it_alone(read):
    plain = replace(read, study=read.study.but(arms={'english': {}}, mlm=dict(languages='all', batch_size=32), design=dict(controls=['none', 'target-only'])))
    same = [c for c in cells(plain.study)]
    assert len(same) == 5 and all(cell_key(read, c) == cell_key(plain, c) for c in same)
    assert 'mlm' not in cell_key(read, of(read, 'english')) and run_of(read, of(read, 'english')).key == run_of(plain, of(plain, 'english')).key
    keys = [run_of(read, of(read, arm)).key['mlm'] for arm in ('', 'text', 'turns')]
    assert len({str(k) for k in keys}) == 3 and len({k['rows'] for k in keys}) == 1


def test_the_report_says_what_was_read_and_compares_it(done):
    assert not [name for name in stale_cells(done) if not name.startswith('turns')]
    found = find(done.out)
    results = found.outcome.results
    shares = results.groupby([results.control, results.arm]).mlm_share.unique()
    assert [shares['intermediate', 'text'], shares['intermediate', 'english'], shares['mlm', '']] == [[0.2], [0.0], [1.0]]
    assert set(results.mlm_whole_words) == {False} and set(found.levels.control) == {'none', 'target-only', 'mlm', 'intermediate'}
    assert set(found.best.n_tasks) == {0, 2} and len(found.best[(found.best.group == 'all') & (found.best.budget_flops == 4e9)]) == 2
    rows = found.gains['mlm']
    assert set(rows.budget_flops) == {4e9, 8e9} and np.isfinite(rows.gain).all()
    ledger = found.outcome.ledger.query('phase == "intermediate" and task == "mlm"').set_index('cell').wanted_share
    assert ledger.to_dict() == {c.name: 0.2 if c.arm else 1.0 for c in cells(done.study) if c.arm == 'text' or c.control == 'mlm'}
    sentence = 'Phase 2 had text without labels in qab, for masked language modelling'
    assert sentence in text_design(found).data and '2 with it spent on text alone' in text_design(found).data
    assert sentence in table_arms(found).data and 'text' in found.arms.arm.tolist()


def test_a_cell_that_reads_text_no_more_runs_again(done):
    cell = of(done, 'text')
    without = replace(done, study=done.study.but(arms={'text': {}, 'english': {'mlm': TEXT}}))
    assert stale_cells(without, some=[cell]) == {cell.name: 'changed since: mlm'}
    other = of(done, 'english')
    assert stale_cells(without, some=[other]) == {other.name: 'changed since: mlm'}


def test_a_claim_about_text_is_judged_by_two_arms(done):
    six = claims(find(done.out))[5]
    assert '“english” above “text” (multilingual MLM mixed in)' in six.measured and six.why != NOT_COMPARED
    results = pd.read_parquet(done.out/'results.parquet')
    by_arm = results[results.control == 'intermediate'].groupby('arm').score.mean()
    assert f'{by_arm.english - by_arm.text:+.1f}'.replace('-', '−') in six.measured


@pytest.mark.parametrize('changes, says', [
    (dict(mlm={'share': 1}), '`mlm.share` must be below 1'),
    (dict(mlm={'share': 0.2, 'languages': 'target'}), "did you mean 'targets'"),
    (dict(mlm={'exponent': 0.5}), 'has an effect only with an `mlm.share` above 0'),
    (dict(mlm={'share': 0.2, 'languages': ['qqx']}), '`mlm.languages` has an unknown language'),
    (dict(mlm={'share': 0.2}, design=SMALL['design'] | {'n_tasks': [0]}), 'an intermediate task'),
    (dict(arms={'a': {'mlm': 0.2}}), '`arms: a`: `mlm` must be a mapping'),
    (dict(arms={'a': {'mlm': {'shares': 0.2}}}), "unknown setting in `mlm` 'shares'"),
    (dict(arms={'a': {}, 'b': {'mlm': {}}}), 'spend the compute alike')])
def test_settings_without_sense_are_refused_in_a_line(changes, says):
    with pytest.raises(UserError) as error: study(**changes)
    assert says in str(error.value) and '\n' not in str(error.value)


def test_a_folder_without_text_ends_with_2(tmp_path):
    (tmp_path/'empty').mkdir()
    (tmp_path/'s.yaml').write_text(yaml.safe_dump(tiny(**ALONE | dict(mlm={'share': 0.2, 'text': str(tmp_path/'empty')}))))
    code, line = answer(['run', str(tmp_path/'s.yaml'), '--out', str(tmp_path/'out')])
    assert code == 2 and f"no text in '{tmp_path/'empty'}'" in line
