"What a GPU has to do as a processor does. Only where there is one: see `conftest.py`. XTL_GPU=cpu tries the tests themselves."
import copy
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch._dynamo.utils import counters

from xtl.data.batches import collate
from xtl.encoder.loading import load_encoder
from xtl.encoder.packing import encode_batch, tensors
from xtl.encoder.pretraining import PretrainSettings, pretrain
from xtl.evaluation.neighbours import nearest
from xtl.study.presets import read_study
from xtl.training.loop import sources_of, start, train
from xtl.training.state import load_state, save_state
from xtl.transfer.layout import lay_out
from xtl.transfer.phase2 import heads_of
from xtl.transfer.subset import IntermediateRun

DEVICE = torch.device(os.environ.get('XTL_GPU', 'cuda'))
SMALL = read_study('mini').but(
    name='gpu', data=dict(languages=('qab',)),
    design=dict(intermediate=('mnli', 'squad', 'ccg'), targets=('tatoeba',), budgets=(2e10,), controls_expected={}, n_tasks=(3,), subset_count=1, controls=()))


@pytest.fixture(scope='module')
def space(tmp_path_factory): return lay_out(SMALL, tmp_path_factory.mktemp('gpu')/'out')


class Run:
    "A run of three tasks with some settings of the device."
    def __init__(self, space, **device):
        self.run = IntermediateRun(replace(space, study=space.study.but(device=device)), ('mnli', 'squad', 'ccg'), 0)
        self.splits = self.run.splits()
        self.heads = heads_of(self.splits)
        self.sources = sources_of(self.splits, self.run.shares(self.splits), dict.fromkeys(self.splits, 16), self.heads, 0)

    def fresh(self):
        AcceleratorState._reset_state() # one process has one precision otherwise
        return start(load_encoder('mini'), self.heads, self.sources, self.run.settings)

    def train(self, state, upto):
        AcceleratorState._reset_state()
        return train(state, self.sources, upto, lambda spent: 5e-4, self.run.settings)


def weights(state): return {n: t.detach().cpu() for n, t in state.model.state_dict().items()}


def same(one, two): return set(one) == set(two) and all(torch.equal(one[n], two[n]) for n in one)


WAYS = [dict(precision='no'), dict(precision='bf16'), dict(precision='bf16', packing=True), dict(precision='no', packing=True)]


@pytest.mark.parametrize('way', WAYS, ids=lambda way: '-'.join(f'{v}' for v in way.values()))
def test_a_run_repeats_and_goes_on_bit_for_bit(space, tmp_path, way):
    run = Run(space, **way)
    whole, again = run.train(run.fresh(), 2e10), run.train(run.fresh(), 2e10)
    assert {p.device.type for p in whole.model.parameters()} == {DEVICE.type}
    assert same(weights(whole), weights(again))
    save_state(run.train(run.fresh(), 1e10), tmp_path/'half')
    state = load_state(tmp_path/'half', run.fresh().model, run.run.settings.weight_decay)
    assert same(weights(run.train(state, 2e10)), weights(whole))


def test_16_bits_learn_what_32_do(space):
    plain, short = (Run(space, precision=p) for p in ('no', 'bf16'))
    one, two = ([c['loss'] for c in r.train(r.fresh(), 2e10).curve] for r in (plain, short))
    assert len(one) == len(two) > 5 and np.abs(np.array(one) - two).mean() < 0.02


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_real_tokens_alone_give_what_padded_rows_give(space, dtype, tolerance):
    "Hidden states and the gradient of the first layer, without dropout, as parts of their length."
    encoded = Run(space).splits['mnli']
    batch = collate(encoded, np.argsort(encoded.lengths)[::len(encoded.lengths)//16], 1)
    encoder = load_encoder('mini').to(DEVICE).eval()
    encoder.set_attn_implementation('packed')
    found = []
    for packing in (False, True):
        given, model = tensors(batch, DEVICE, packing), copy.deepcopy(encoder)
        with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
            hidden = encode_batch(model, given['input_ids'], given['attention_mask'], given['packed'])
        hidden = hidden.float()[torch.from_numpy(batch['attention_mask']).bool().to(DEVICE)]
        hidden.square().mean().backward()
        found.append((hidden, model.encoder.layer[0].attention.self.query.weight.grad))
    for one, two in zip(*found): assert float((one - two).norm()/one.norm()) < tolerance


def test_a_compiled_run_learns_the_same_with_few_graphs(space):
    curves = {}
    for compiled in (False, True):
        run = Run(space, precision='bf16', compile=compiled)
        torch._dynamo.reset(); counters.clear()
        curves[compiled] = [c['loss'] for c in run.train(run.fresh(), 2e10).curve]
    assert 0 < counters['stats']['unique_graphs'] <= 3
    assert np.abs(np.array(curves[True]) - curves[False]).mean() < 0.02


def test_the_rows_in_use_are_trained_as_the_whole_table_is(space):
    class Whole(torch.nn.Embedding): "A table that `start` leaves as it is."
    run = Run(space)
    used = run.train(run.fresh(), 1e10)
    encoder = load_encoder('mini')
    encoder.get_input_embeddings().__class__ = Whole
    whole = run.train(start(encoder, run.heads, run.sources, run.run.settings), 1e10)
    one, two = (s.model.encoder.get_input_embeddings() for s in (used, whole))
    ids = torch.arange(two.num_embeddings, device=DEVICE)
    with torch.no_grad(): np.testing.assert_allclose(one(ids).cpu(), two(ids).cpu(), atol=2e-3)


def test_neighbours_are_those_that_a_processor_finds():
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(n, 64)).astype(np.float32) for n in (3000, 5000))
    found = nearest(source, target, 4)
    source, target = (v/np.linalg.norm(v, axis=1, keepdims=True) for v in (source, target))
    cosines = np.sort(source.astype(np.float64) @ target.T)[:, :-5:-1]
    np.testing.assert_allclose(found.scores, cosines, atol=1e-5)


def test_pretraining_in_16_bits_repeats_itself(tmp_path):
    AcceleratorState._reset_state()
    texts = {'en': ['The cat sleeps in the house.', 'A dog runs in the street.']*20, 'ru': ['Кошка спит в доме.']*20}
    settings = PretrainSettings(width=64, heads=2, layers=2, feedforward=128, vocabulary=400, steps=200, documents=16, max_length=24, precision='bf16')
    one, two = (pretrain(texts, tmp_path/n, settings) for n in 'ab')
    assert (one/'model.safetensors').read_bytes() == (two/'model.safetensors').read_bytes()
