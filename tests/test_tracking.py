"Tracking: what training observes reaches TensorBoard's files, changes no key and no bit, and is refused where its package is not there."
from dataclasses import replace

import pandas as pd
import pytest
from test_phase3 import small

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.execution.tracking import tracking
from xtl.study.designs import cells
from xtl.transfer.cell import run_cell
from xtl.transfer.layout import lay_out
from xtl.transfer.results import cell_key, write_cell

RESULTS = ['target', 'language', 'metric', 'score', 'flops_target']


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "A study without a tracker; its cell, run."
    space = lay_out(small('told'), tmp_path_factory.mktemp('told')/'out')
    cell, = cells(space.study)
    return space, cell, write_cell(space, cell, run_cell(space, cell))


def tracked(space, name, out):
    "The same study with a tracker, in another folder."
    return replace(space, study=space.study.but(device=dict(track=name)), out=out)


def test_losses_rates_and_norms_reach_tensorboard_and_no_result_changes(plain, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    space, cell, before = plain
    other, heard = tracked(space, 'tensorboard', tmp_path/'out'), []
    assert cell_key(other, cell) == cell_key(space, cell)
    with tracking(other, cell, heard.append) as observe: found = run_cell(other, cell, observe)
    tables = [pd.read_parquet(f/'results.parquet')[RESULTS] for f in (before, write_cell(other, cell, found))]
    assert tables[0].equals(tables[1]) and heard
    curves = pd.read_parquet(other.out/'cells'/cell.name/'curves.parquet')
    events = EventAccumulator(str(other.out/'tracks'/cell.name))
    events.Reload()
    names = events.Tags()['scalars']
    assert {f'target/xnli/{k}' for k in ('loss', 'learning_rate', 'flops', 'norm of layer 0', 'norm of embeddings')} <= set(names)
    told = {k: [(e.step, e.value) for e in events.Scalars(f'target/xnli/{k}')] for k in ('loss', 'learning_rate', 'norm of layer 0')}
    assert [step for step, _ in told['loss']] == curves.step.tolist()
    assert [rate for _, rate in told['learning_rate']] == pytest.approx(curves.learning_rate.tolist(), rel=1e-5)
    assert all(norm > 1 for _, norm in told['norm of layer 0'])


@pytest.mark.parametrize('name', ['wandb', 'mlflow', 'trackio'])
def test_a_tracker_that_is_not_installed_is_refused_in_a_line_before_anything_runs(plain, tmp_path, name, monkeypatch):
    monkeypatch.setattr('xtl.execution.tracking.find_spec', lambda name: None)
    space, cell, _ = plain
    with pytest.raises(UserError, match=f'`device.track: {name}` needs {name}: pip install {name}'):
        with tracking(tracked(space, name, tmp_path/'out'), cell, print): pass
    code, said = answer(['run', 'mini', '--set', f'device.track={name}', '--out', str(tmp_path/'run')])
    assert code == 2 and f'needs {name}' in said and not (tmp_path/'run').exists()


def test_without_a_tracker_nothing_listens(plain):
    space, cell, _ = plain
    with tracking(space, cell, print) as observe: assert observe is print
    assert not (space.out/'tracks').exists()
