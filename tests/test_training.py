"Runs that are stopped, damaged or repeated end where an undisturbed one does."
import json
import os
import random
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.utils import counters

from xtl.encoder.loading import load_encoder
from xtl.study.presets import read_study
from xtl.training.loop import sources_of, start, train
from xtl.training.state import intact
from xtl.transfer.phase2 import heads_of, intermediate
from xtl.transfer.subset import IntermediateRun
from xtl.transfer.layout import lay_out, open_workspace
from xtl.world.mirror import mini_encoder

TINY = read_study('mini').but(
    name='kill', data=dict(languages=('qab',)), device=dict(checkpoint_seconds=0.05),
    design=dict(intermediate=('mnli', 'csqa'), targets=('tatoeba',), budgets=(1.5e10, 3e10), controls_expected={}, n_tasks=(2,), subset_count=1, controls=()))
PROCESSES = get_context('forkserver') # Each child begins with what is slow to import
PROCESSES.set_forkserver_preload(['xtl.transfer.phase2'])


@pytest.fixture(scope='module')
def laid(tmp_path_factory):
    "The study laid out, for each run to begin with a copy of it."
    out = tmp_path_factory.mktemp('whole')/'laid'
    lay_out(TINY, out)
    return out


@pytest.fixture(scope='module')
def undisturbed(laid):
    space = open_workspace(shutil.copytree(laid, laid.parent/'out'))
    return load_file(intermediate(IntermediateRun(space, ('mnli', 'csqa'), 0), 3e10)/'encoder.safetensors')


def child(out, started, ended):
    "The run, as a process does it that may be killed."
    started.set()
    ended.put(str(intermediate(IntermediateRun(open_workspace(out), ('mnli', 'csqa'), 0), 3e10)))


def newest(out):
    "The state that was written last; one may go while it is looked."
    found = {}
    for state in out.glob('running/*/step-*'):
        with suppress(FileNotFoundError): found[state] = state.stat().st_mtime_ns
    return max(found, key=found.get, default=None)


def run(out, after=None):
    "The run in a process of its own, killed so many seconds after it has written a state. The folder of the result, or none."
    started, ended, before = PROCESSES.Event(), PROCESSES.SimpleQueue(), newest(out)
    process = PROCESSES.Process(target=child, args=(out, started, ended))
    process.start()
    if after is not None and started.wait(300):
        while process.is_alive() and newest(out) == before: time.sleep(0.01)
        time.sleep(after)
        process.kill()
    process.join(600)
    return ended.get() if process.exitcode == 0 else None


def damaged(state, damage):
    "Harms the weights of a state."
    weights = state/'weights.safetensors'
    data = bytearray(weights.read_bytes())
    weights.write_bytes(data[:len(data)//2] if damage == 'cut short' else data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    assert not intact(state)


@pytest.mark.parametrize('damage', ['none', 'cut short', 'flipped byte'])
def test_a_killed_run_ends_with_the_same_bits(laid, undisturbed, tmp_path, damage):
    "With three kills, or as many as XTL_KILLS says; runs that end in spite of theirs begin anew in another folder."
    wanted, rng, killed, rounds = int(os.environ.get('XTL_KILLS', 3)), random.Random(damage), 0, 0
    while killed < wanted:
        out, found = tmp_path/f'out-{rounds}', None
        shutil.copytree(laid, out)
        while found is None and killed < wanted:
            found = run(out, after=rng.uniform(0, 0.5))
            killed += found is None
            if found is None and damage != 'none' and (state := newest(out)) and intact(state): damaged(state, damage)
        ended = load_file(f'{found or run(out)}/encoder.safetensors')
        assert set(ended) == set(undisturbed) and all(ended[n].equal(undisturbed[n]) for n in ended)
        rounds += 1
    print(f'{killed} kills, {damage}: {rounds} runs ended with the bits of an undisturbed one')


@pytest.mark.skipif(not shutil.which('c++'), reason='torch needs a C++ compiler to compile')
def test_a_compiled_run_learns_the_same_with_few_graphs(tmp_path):
    "Over many lengths; a graph for batches with padding, one for those without."
    mini, one_layer = mini_encoder(), tmp_path/'encoder' # as many graphs as with three, in a third of the time
    shutil.copytree(mini, one_layer)
    config = json.loads((mini/'config.json').read_text())
    (one_layer/'config.json').write_text(json.dumps(config | dict(num_hidden_layers=1)))
    weights = {n: t for n, t in load_file(mini/'model.safetensors').items() if not re.search('layer.[12].', n)}
    save_file(weights, one_layer/'model.safetensors', {'format': 'pt'})
    space = lay_out(TINY.but(encoder=dict(name=str(one_layer)), design=dict(intermediate=('mnli', 'squad', 'ccg'), n_tasks=(3,)),
                             phase2=dict(head_first=0.0, head_learning_rate=1e-3)), tmp_path/'out') # the forward pass alone has graphs of its own
    curves = {}
    for compiled in (False, True):
        run = IntermediateRun(replace(space, study=space.study.but(device=dict(compile=compiled))), ('mnli', 'squad', 'ccg'), 0)
        splits = run.splits()
        sources = sources_of(splits, run.shares(splits), dict.fromkeys(splits, 16), heads := heads_of(splits), 0)
        state = start(load_encoder(str(one_layer)), heads, sources, run.settings)
        torch._dynamo.reset(); counters.clear()
        curves[compiled] = [point['loss'] for point in train(state, sources, 2e10, lambda spent: 5e-4, run.settings).curve]
        assert 0 < counters['stats']['unique_graphs'] <= 3 if compiled else not counters['stats']
    assert curves[True] == pytest.approx(curves[False], rel=1e-3)
