"Adapters: what they train, that a run with them survives being stopped, what they cost, and what is refused."
import importlib.util
import json
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import load_file
from studies import tiny
from test_encoders import ENCODERS, write
from test_phase3 import Killed, killing, outcome

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.encoder.loading import load_encoder
from xtl.encoder.lora import Lora, add_lora
from xtl.study.designs import cells
from xtl.study.presets import study_from
from xtl.training.cost import shape_of
from xtl.training.frozen import adapted_shape
from xtl.transfer.cell import run_cell, target_step
from xtl.transfer.layout import lay_out
from xtl.transfer.phase2 import intermediate
from xtl.transfer.subset import IntermediateRun
from xtl.transfer.phase3 import HEAD, load_tuned, target_run
from xtl.transfer.results import write_cell

pytest.importorskip('peft')


@pytest.fixture(scope='module')
def space(tmp_path_factory):
    "A study whose both phases train adapters."
    design = {'intermediate': ['mnli'], 'targets': ['xnli'], 'n_tasks': [1], 'controls': [], 'budgets': [2e9, 4e9]}
    given = tiny(name='adapted', design=design, data={'languages': ['qab'], 'max_test': 30}, lora={'rank': 4, 'phases': ['phase2', 'phase3']},
                 device={'checkpoint_seconds': 1e-3, 'keep': ['intermediate', 'trunk', 'xnli']}, phase3={'target_flops': 3e9, 'select': 'english-dev', 'checkpoints': 2})
    return lay_out(study_from(given, 'adapted'), tmp_path_factory.mktemp('lora')/'out')


def test_phase_2_changes_what_adapters_are_merged_into_and_nothing_else(space):
    run, before = IntermediateRun(space, ('mnli',), 0), load_encoder('mini').state_dict()
    after = load_file(intermediate(run, 4e9)/'encoder.safetensors') # by way of a trunk, from whose state it goes on
    assert set(after) == set(before)
    changed = {n for n in after if not after[n].equal(before[n])}
    assert changed and all(n.endswith(('query.weight', 'value.weight')) for n in changed)


def test_a_cell_with_adapters_spends_its_budget_and_leaves_models_like_any_other(space, tmp_path):
    cell = cells(space.study)[0]
    write_cell(space, cell, run_cell(space, cell))
    folder = space.out/'cells'/cell.name
    ledger, results = pd.read_parquet(folder/'ledger.parquet'), pd.read_parquet(folder/'results.parquet')
    spent = ledger.groupby('phase').executed_flops.sum()
    assert spent['intermediate'] == pytest.approx(2e9, rel=0.05) and spent['target'] == pytest.approx(3e9, rel=0.05)
    assert (results.lora_rank == 4).all() and spent['selection'] == space.beside['selection']['xnli']
    step = target_step(space, cell, 'xnli')
    model = load_tuned(space, 'xnli', space.store.path(step.model))
    assert not [n for n, _ in model.named_parameters() if 'lora' in n] and HEAD in model.heads
    words = ['model', str(space.out), cell.name, '--target', 'xnli', '--to', str(tmp_path/'home')]
    assert answer(words) == (0, '') # with equal logits in the library's own class


def test_a_stopped_run_with_adapters_ends_with_the_same_bits(space, tmp_path):
    whole = target_run(space, ('xnli',), None, 3e9, 1)
    other = replace(space, out=tmp_path/'out')
    with pytest.raises(Killed): target_run(other, ('xnli',), None, 3e9, 1, killing(6))
    assert outcome(target_run(other, ('xnli',), None, 3e9, 1)) == outcome(whole)


def test_the_same_compute_buys_more_steps_and_less_is_trained(space, tmp_path):
    whole = replace(space, study=space.study.but(lora=dict(rank=0, phases=('phase3',)), phase3=dict(select='last', checkpoints=5)), out=tmp_path/'out')
    cell = cells(space.study)[0]
    assert target_step(whole, cell, 'xnli').name != target_step(space, cell, 'xnli').name
    steps = [json.loads((target_run(s, ('xnli',), None, 3e9, 2)/'run.json').read_text())['steps'] for s in (whole, space)]
    assert steps[1] > 1.2*steps[0]
    config, all_of_it = load_encoder('mini').config, shape_of(load_encoder('mini'))
    adapted = adapted_shape(config, 4)
    assert adapted.trained == 4*2*2*config.hidden_size*config.num_hidden_layers and adapted.parameters == all_of_it.parameters + adapted.trained
    assert all_of_it.weights < adapted.weights + adapted.backward < 3*all_of_it.weights


@pytest.mark.parametrize('name', [n for n in ENCODERS if n in ('BERT', 'ELECTRA', 'RoBERTa', 'DeBERTa-v2', 'DistilBERT', 'ModernBERT')])
def test_encoders_of_known_types_take_adapters_and_others_are_refused_in_a_line(name, tmp_path):
    folder = write(tmp_path/'encoder', name)
    encoder = load_encoder(folder)
    if name in ('DistilBERT', 'ModernBERT'):
        with pytest.raises(UserError, match='peft does not know where adapters go in'): add_lora(encoder, Lora(4), 0)
        return
    shape, whole = adapted_shape(encoder.config, 4), shape_of(encoder)
    add_lora(encoder, Lora(4), 0)
    assert shape.trained == sum(p.numel() for p in encoder.parameters() if p.requires_grad) and shape.weights > whole.weights


def test_adapters_without_peft_and_settings_without_effect_are_refused_in_a_line(space, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr('xtl.encoder.lora.find_spec', lambda name: None if name == 'peft' else found(name))
    with pytest.raises(UserError, match=r"`lora.rank` needs peft: pip install 'xtl\[lora\]'"): add_lora(load_encoder('mini'), Lora(4), 0)
    with pytest.raises(UserError, match="needs peft"): lay_out(space.study, tmp_path/'out')
    with pytest.raises(UserError, match='`lora.phases` has an effect only with a `lora.rank` above 0'): space.study.but(lora=dict(rank=0))


def test_a_plan_tells_memory_and_the_cheaper_phase_3(capsys):
    words = ['plan', 'xtreme-base', '--targets', 'panx', '--n-tasks', '0', '--seeds', '0', '--set', 'design.controls=[none]', '--set', 'design.budgets=[]']
    said = []
    for more in ([], ['--set', 'lora.rank=8']):
        assert answer([*words, *more]) == (0, '')
        said.append(capsys.readouterr().out)
    assert 'memory: at most 4.13 GiB for weights' in said[0] and 'memory: at most 4.13 GiB in phase 2, 1.04 GiB in phase 3' in said[1]
    costs = [float(out.split('phase 3: ')[1].split()[0]) for out in said]
    assert 0.6 < costs[1]/costs[0] < 0.75
