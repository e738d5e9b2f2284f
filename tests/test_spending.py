"Ways to spend phase 2's compute: arms of one study, each the study that it would be alone."
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from studies import ROWS, finished, tiny

from xtl.core.errors import UserError
from xtl.core.files import read_json
from xtl.encoder.model import TransferModel, distillation_sum
from xtl.study.designs import cells
from xtl.study.plan import disk_needed, plan_rows
from xtl.study.presets import read_study, study_from, study_yaml
from xtl.training.state import Checkpoints
from xtl.report.findings import find
from xtl.report.spending import fig_arms, table_arms, table_forgotten
from xtl.transfer.cell import planned_cell, run_cell
from xtl.transfer.layout import lay_out
from xtl.core.steps import obtain
from xtl.transfer.learned import intermediate_scores
from xtl.transfer.phase2 import (
    Cooldown, StageRun, Trunk, _begun, _sources, encoder_after, heads_of, intermediate, model_after, states_before)
from xtl.transfer.subset import run_of
from xtl.transfer.results import cell_key, stale_cells

SMALL = dict(data={'languages': ['qab'], 'max_test': 20, 'max_train': 300}, phase3={'target_flops': 1e9},
             design={'targets': ['tatoeba'], 'intermediate': ['mnli', 'csqa'], 'n_tasks': [0, 1, 2], 'budgets': [2e9, 4e9], 'subset_count': 1})
ARMS = {'mixed': {}, 'turns': {'order': 'sequence', 'replay': 0.2, 'memory': 40}}
AT = ['target', 'language', 'metric']


def study(**changes):
    return study_from(tiny(**SMALL | changes), 'a study')


@pytest.fixture(scope='module')
def armed(tmp_path_factory):
    return finished(lay_out(study(arms=ARMS), tmp_path_factory.mktemp('armed')/'out'))


def table(space, name): return pd.read_parquet(space.out/f'{name}.parquet')


def scores(space, name): return pd.read_parquet(space.out/'cells'/name/'results.parquet').set_index(AT).score


def largest(study, arm=''): return next(c for c in cells(study) if c.arm == arm and len(c.tasks) == 2 and c.budget == 4e9)


# -- arms

@pytest.mark.parametrize('arm', ARMS)
def test_an_arm_gives_what_a_study_with_its_settings_gives(armed, tmp_path, arm):
    alone, cell = replace(armed, study=armed.study.of_arm(arm), out=tmp_path), largest(armed.study, arm)
    own = replace(cell, arm='')
    found = pd.read_parquet(run_cell(alone, own)[0].folder/'scores.parquet').set_index(AT).score
    assert found.equals(scores(armed, cell.name))
    key = cell_key(alone, own)
    assert 'arm' not in key['cell'] and cell_key(armed, cell) == key | dict(cell=key['cell'] | dict(arm=arm))


def test_controls_are_run_once_and_what_arms_share_is_trained_once(armed):
    results, segments = table(armed, 'results'), table(armed, 'segments')
    assert set(results[results.control != 'intermediate'].arm) == {''}
    assert set(results[results.control == 'intermediate'].arm) == set(ARMS)
    assert set(results.mixture_order[results.arm == 'turns']) == {'sequence'} and set(results.mixture_order[results.arm != 'turns']) == {'mixed'}
    one = results[results.n_tasks == 1].drop_duplicates('cell').set_index('cell')
    shared = segments[segments.cell.isin(one.index)].groupby('segment').cell.agg(set)
    assert len(shared) and all({one.arm[c] for c in together} == set(ARMS) for together in shared)
    assert not stale_cells(armed)


def test_a_further_arm_leaves_finished_cells_as_they_are(armed):
    more = replace(armed, study=armed.study.but(arms=ARMS | {'odd': {'sampling': 'proportional'}}))
    stale = stale_cells(more)
    assert stale and all(name.startswith('odd-') for name in stale)


def test_the_plan_counts_what_arms_share_once(armed):
    plan = pd.DataFrame(plan_rows(armed.study, armed.target_costs)).set_index('cell')
    segments = table(armed, 'segments').drop_duplicates('segment')
    done = segments[segments.phase == 'intermediate'].executed_flops.sum()
    assert plan.to_do_intermediate.sum() == pytest.approx(done, rel=0.1) # a trunk of so few steps ends a good bit late
    assert plan.arm.to_dict() == {c.name: c.arm for c in cells(armed.study)}
    assert disk_needed(armed.study, armed.target_costs, 1).written == 16*2*(2*2 - 1)


def test_a_study_with_arms_is_written_and_read_as_it_is(armed):
    assert read_study(str(armed.out/'study.yaml')) == armed.study
    assert 'arms: {}' in study_yaml(study())
    assert planned_cell(armed.study, chosen := largest(armed.study, 'turns')) == chosen
    with pytest.raises(UserError, match='cell of this study'): planned_cell(armed.study, replace(chosen, arm=''))


# -- tasks in sequence

def test_a_sequence_spends_each_stage_on_its_task_and_on_what_it_repeats(armed):
    cell = largest(armed.study, 'turns')
    ledger = pd.read_parquet(armed.out/'cells'/cell.name/'ledger.parquet').query('phase == "intermediate"').set_index('task')
    assert ledger.wanted_share.to_dict() == pytest.approx({'mnli': 0.6, 'csqa': 0.4})
    assert (ledger.realised_share - ledger.wanted_share).abs().max() < 0.1
    assert ledger.executed_flops.sum() == pytest.approx(cell.budget, rel=0.03)
    curve = pd.read_parquet(armed.out/'cells'/cell.name/'curves.parquet').query('phase == "intermediate"')
    assert curve.flops[curve.task == 'csqa'].min() > cell.budget/2 # nothing of the second before the first has had its share
    assert curve.flops[curve.task == 'mnli'].max() > 0.7*cell.budget # and the first comes back


def test_what_is_forgotten_is_in_the_table(armed):
    rows = table(armed, 'intermediate')
    two = rows[(rows.arm == 'turns') & (rows.n_tasks == 2)]
    assert {(r.task, r.stage) for r in two.itertuples()} == {('mnli', 1), ('mnli', 2), ('csqa', 2)}
    assert {(r.task, r.place) for r in two.itertuples()} == {('mnli', 1), ('csqa', 2)}
    assert (rows.stage[rows.arm == 'mixed'] == 1).all() and (rows.stages[rows.arm == 'mixed'] == 1).all()


class Stopped(Exception):
    "A run that somebody ended."


def trained(space, cell, monkeypatch, stops=()):
    "The weights after a cell's phase 2, which is stopped after each of these steps of its stretches and taken up again."
    left, offer = list(stops), Checkpoints.offer
    def stopping(self, state):
        offer(self, state)
        if left and state.step >= left[0]:
            left.pop(0)
            raise Stopped
    monkeypatch.setattr(Checkpoints, 'offer', stopping)
    while True:
        try: folder = intermediate(run_of(space, cell), cell.budget)
        except Stopped: assert list((space.out/'running').glob('*/step-*'))
        else: break
    monkeypatch.setattr(Checkpoints, 'offer', offer)
    assert not left and not list((space.out/'running').glob('*'))
    return load_file(folder/'encoder.safetensors') | load_file(folder/'heads.safetensors')


@pytest.mark.parametrize('arm', ARMS)
def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_bits(armed, tmp_path, monkeypatch, arm):
    monkeypatch.setattr('xtl.training.loop.BLOCK', 1) # a checkpoint after every step
    often, cell = armed.study.but(device=dict(checkpoint_seconds=1e-9)), largest(armed.study, arm)
    whole, stopped = (replace(armed, study=often, out=tmp_path/n) for n in ('whole', 'stopped'))
    undisturbed = trained(whole, cell, monkeypatch)
    again = trained(stopped, cell, monkeypatch, stops=(1, 3, 4, 6, 7))
    assert again.keys() == undisturbed.keys() and all(undisturbed[n].equal(t) for n, t in again.items())


def test_a_state_of_a_sequence_goes_when_the_next_stage_is_there_and_it_is_scored(armed, tmp_path):
    linear = armed.study.of_arm('turns').but(phase2=dict(schedule='linear'))
    space, cell = replace(armed, study=linear, out=tmp_path), replace(largest(armed.study, 'turns'), arm='')
    run = run_of(space, cell)
    assert [type(s) for s in states_before(run_of(armed, largest(armed.study, 'turns')), 4e9)] == [Trunk]
    [stage] = states_before(run, cell.budget)
    assert isinstance(stage, StageRun) and not space.store.made(stage)
    end = Cooldown(space, run, cell.budget)
    obtain(space.store, end)
    assert space.store.path(stage).exists()
    kept = pd.read_parquet(intermediate_scores(end)/'scores.parquet')
    assert kept.stage.tolist() == [1, 2, 2] and space.store.made(stage) and not space.store.path(stage).exists()


# -- distillation

KEPT = {'order': 'sequence', 'replay': 0.3, 'memory': 40, 'distill': 1.0}


def distilling(armed, folder, weight, **changes):
    "The study with such a weight of distillation alone, in one length."
    small = armed.study.but(arms={}, mixture=KEPT | dict(distill=weight), phase2=dict(score_intermediate=False), **changes)
    return replace(armed, study=small, out=folder, phase2_budgets=(4e9,))


def test_distillation_keeps_what_earlier_heads_say_of_replayed_rows(armed, tmp_path):
    apart = {}
    for weight in (0.0, 50.0):
        space = distilling(armed, tmp_path/str(weight), weight, device=dict(keep=['trunk']))
        run = run_of(space, replace(largest(space.study), arm=''))
        intermediate(run, 4e9)
        begun = _begun(end := Cooldown(space, run, 4e9), run, states_before(run, 4e9)[-1], 1)
        source = begun.sources['mnli']
        assert (begun.state.earlier is None) == (weight == 0) and begun.sources['csqa'].distill == 0
        earlier = model_after(run, space.store.path(states_before(run, 4e9)[-1])/'state').eval()
        batch = {k: torch.from_numpy(v) for k, v in source.arrays(0, source.sampler.rows(0), 1).items()}
        now = TransferModel(encoder_after(space, space.store.path(end)), heads_of(run.splits()), 0).eval()
        now.heads.load_state_dict(load_file(space.store.path(end)/'heads.safetensors'))
        with torch.no_grad(): said = [m('mnli', batch['input_ids'], batch['attention_mask']) for m in (now, earlier)]
        apart[weight] = distillation_sum('sequence', *said, batch['labels'], None).item()
    assert apart[50.0] < apart[0.0]/2, apart


def test_reading_replayed_rows_with_the_earlier_model_is_counted(armed, tmp_path):
    spent = {}
    for weight in (0.0, 1.0):
        space = distilling(armed, tmp_path/str(weight), weight, phase3=dict(recipes={'all': ROWS | dict(batch_size=2, learning_rate=5e-4)}))
        run = run_of(space, replace(largest(space.study), arm=''))
        source, shape = _sources(run, run.splits(), 1)['mnli'], space.shape
        rows = source.sampler.rows(0)
        spent[weight] = source.cost(0, rows, shape, False)
        record = read_json(intermediate(run, 4e9)/'run.json')
        assert 4e9 <= sum(c['executed_flops'] for c in record['spent'].values()) < 1.06*4e9
    assert spent[1.0].executed_flops == pytest.approx(spent[0.0].executed_flops*4/3) and spent[1.0].tokens == spent[0.0].tokens


def test_a_run_that_distils_is_stopped_and_ends_with_the_same_bits(armed, tmp_path, monkeypatch):
    monkeypatch.setattr('xtl.training.loop.BLOCK', 1)
    whole, stopped = (distilling(armed, tmp_path/n, 1.0, device=dict(checkpoint_seconds=1e-9)) for n in ('whole', 'stopped'))
    cell = replace(largest(whole.study), arm='')
    assert run_of(whole, cell).key != run_of(distilling(armed, tmp_path, 0.0), cell).key
    undisturbed = trained(whole, cell, monkeypatch)
    again = trained(stopped, cell, monkeypatch, stops=(3, 6, 8))
    assert again.keys() == undisturbed.keys() and all(undisturbed[n].equal(t) for n, t in again.items())


# -- equal compute

def test_every_arm_executes_the_same_operations_within_a_hundredth(armed, tmp_path):
    "At both budgets, by the ledger; small batches, as a trunk ends with the batch that it is in."
    ways = ARMS | {'drawn': {'order': 'sequence-by-seed'}}
    small = armed.study.but(arms=ways, design=dict(budgets=[4e9, 8e9]), phase3=dict(recipes={'all': ROWS | dict(batch_size=2, learning_rate=5e-4)}), phase2=dict(score_intermediate=False))
    space, spent = replace(armed, study=small, out=tmp_path, phase2_budgets=(4e9, 8e9)), {}
    for cell in (c for c in cells(small) if len(c.tasks) == 2):
        record = read_json(intermediate(run_of(space, cell), cell.budget)/'run.json')
        spent[cell.arm, cell.budget] = sum(c['executed_flops'] for c in record['spent'].values())
        assert sum(record['shares'].values()) == pytest.approx(1)
    for budget in (4e9, 8e9):
        each = {arm: flops for (arm, of), flops in spent.items() if of == budget}
        assert set(each) == set(ways) and budget <= min(each.values()) and max(each.values()) < 1.01*min(each.values()), each


# -- what is reported

def test_the_report_holds_arms_against_the_first_which_all_else_is_about(armed):
    found = find(armed.out)
    assert set(found.outcome.results.arm[found.outcome.results.cell.isin(found.panel.cells.cell)]) == {'', 'mixed'}
    assert found.panel.cells.groupby('control').size().to_dict() == {'none': 1, 'target-only': 2, 'intermediate': 4}
    rows = found.arms[(found.arms.kind == 'role') & (found.arms.group == 'retrieval') & found.arms.n_tasks.notna()]
    assert list(zip(rows.arm, rows.n_tasks, rows.pairs)) == [('turns', 2, 1)]*2 # with one task both arms are the same run
    seen = {b: scores(armed, f'turns-k2-s0-b{b}-r0').xs('tatoeba').mean() - scores(armed, f'mixed-k2-s0-b{b}-r0').xs('tatoeba').mean() for b in ('2e9', '4e9')}
    assert rows.difference.tolist() == pytest.approx(list(seen.values()))
    assert 'turns' in table_arms(found).data and '<figure' in fig_arms(found).data
    assert found.forgotten.runs.tolist() == [1, 1] and 'too few runs' not in table_forgotten(found).data


def test_other_runs_say_that_they_have_one_way(armed, tmp_path):
    table(armed, 'results').query('arm != "turns"').drop(columns='arm').to_parquet(tmp_path/'results.parquet') # as of an older version
    (tmp_path/'study.yaml').write_text('{name: alone, data: {source_language: qaa}}')
    found = find(tmp_path)
    assert len(found.panel.cells) == 7 and all('this study has one' in draw(found).data for draw in (table_arms, fig_arms))


# -- what cannot be

@pytest.mark.parametrize('changes, says', [
    (dict(mixture={'replay': 0.1}), 'has an effect only with `mixture.order: sequence`'),
    (dict(mixture={'order': 'sequence', 'memory': 9}), 'has an effect only with `mixture.replay`'),
    (dict(mixture={'order': 'sequence', 'distill': 1}), 'has an effect only with `mixture.replay`'),
    (dict(mixture={'order': 'sequential'}), "did you mean 'sequence'"),
    (dict(arms={'a': {'score_intermediate': False}}), 'unknown setting of `arms: a`'),
    (dict(arms=['a']), '`arms` must be a mapping')])
def test_settings_without_sense_are_refused_in_a_line(changes, says):
    with pytest.raises(UserError) as error: study(**changes)
    assert says in str(error.value) and '\n' not in str(error.value)
