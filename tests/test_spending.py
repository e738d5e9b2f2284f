"Ways to spend phase 2's compute: arms of one study, each the study that it would be alone."
import pandas as pd
import pytest
from studies import tiny

from xtl.study.designs import cells
from xtl.study.plan import disk_needed, plan_rows
from xtl.study.presets import read_study, study_from, study_yaml
from xtl.transfer.cell import planned_cell, run_cell
from xtl.transfer.collected import collect
from xtl.transfer.layout import lay_out
from xtl.transfer.results import cell_key, stale_cells, write_cell

SMALL = dict(design={'targets': ['tatoeba'], 'intermediate': ['mnli', 'csqa'], 'n_tasks': [0, 1, 2], 'budgets': [2e9, 4e9], 'subset_count': 1})
ARMS = {'even': {}, 'capped': {'sampling': 'capped', 'cap': 100}}
AT = ['target', 'language', 'metric']


def study(**changes):
    return study_from(tiny(**SMALL, **changes), 'a study')


def finished(space, chosen):
    for cell in chosen: write_cell(space, cell, run_cell(space, cell))
    return space


@pytest.fixture(scope='module')
def armed(tmp_path_factory):
    space = lay_out(study(arms=ARMS), tmp_path_factory.mktemp('armed')/'out')
    finished(space, cells(space.study))
    collect(space.out)
    return space


def scores(space, name):
    return pd.read_parquet(space.out/'cells'/name/'results.parquet').set_index(AT).score


def test_an_arm_gives_what_a_study_with_its_settings_gives(armed, tmp_path):
    for arm in ARMS:
        alone = armed.study.of_arm(arm)
        assert not alone.arms
        cell = next(c for c in cells(alone) if len(c.tasks) == 2 and c.budget == 4e9)
        space = finished(lay_out(alone, tmp_path/arm), [cell])
        assert scores(space, cell.name).equals(scores(armed, f'{arm}-{cell.name}'))
        key, own = cell_key(space, cell), cell_key(armed, next(c for c in cells(armed.study) if c.name == f'{arm}-{cell.name}'))
        assert 'arm' not in key['cell'] and own == key | dict(cell=key['cell'] | dict(arm=arm))


def test_controls_are_run_once_and_equal_arms_train_once(armed):
    results, segments = (pd.read_parquet(armed.out/f'{name}.parquet') for name in ('results', 'segments'))
    assert set(results[results.control != 'intermediate'].arm) == {''}
    assert set(results[results.control == 'intermediate'].arm) == set(ARMS)
    one = results[results.n_tasks == 1].drop_duplicates('cell').set_index('cell')
    shared = segments[segments.cell.isin(one.index)].groupby('segment').cell.agg(set)
    assert all({one.arm[c] for c in together} == set(ARMS) for together in shared)
    assert not stale_cells(armed)


def test_a_further_arm_leaves_finished_cells_as_they_are(armed):
    more = lay_out(armed.study.but(arms=ARMS | {'odd': {'sampling': 'proportional'}}), armed.out)
    stale = stale_cells(more)
    assert stale and all(name.startswith('odd-') for name in stale)
    lay_out(armed.study, armed.out)


def test_the_plan_counts_what_arms_share_once(armed):
    plan = pd.DataFrame(plan_rows(armed.study, armed.target_costs)).set_index('cell')
    done = pd.read_parquet(armed.out/'segments.parquet').drop_duplicates('segment')
    assert plan.to_do_intermediate.sum() == pytest.approx(done[done.phase == 'intermediate'].executed_flops.sum(), rel=0.03)
    assert plan.arm.equals(pd.Series({c.name: c.arm for c in cells(armed.study)}, name='arm').rename_axis('cell'))
    assert disk_needed(armed.study, armed.target_costs, 1).written == 16*2*(2*2 - 1)


def test_a_study_with_arms_is_written_and_read_as_it_is(armed):
    assert read_study(str(armed.out/'study.yaml')) == armed.study
    assert "arms: {}" in study_yaml(study())
    chosen = next(c for c in cells(armed.study) if c.arm == 'capped')
    assert planned_cell(armed.study, chosen) == chosen
