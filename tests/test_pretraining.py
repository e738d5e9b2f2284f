"Pretraining: any script, any interruption, any order."
import json
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import nbformat
import pytest
import torch
from safetensors.torch import load_file

from xtl.core.errors import UserError
from xtl.encoder.pretraining import PretrainSettings, language_shares, pretrain, tokenise, train_tokenizer

TEXTS = {
    'en': ['The cat sleeps in the house.\nWhere does the cat sleep? In the house.', 'A dog runs.'] * 15,
    'ru': ['Кошка спит в доме.', 'Собака бежит по улице.'] * 10,
    'th': ['แมวนอนหลับอยู่ในบ้าน', 'หมากำลังวิ่งอยู่บนถนน'] * 10,
    'zh': ['猫睡在房子里。', '狗在街上跑。'] * 10,
    'ar': ['القطة تنام في البيت.', 'الكلب يجري في الشارع.'] * 10,
}
TINY = PretrainSettings(width=16, heads=2, layers=1, feedforward=32, vocabulary=600, steps=40, documents=6, max_length=24)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder/'model.safetensors')


def same(first: dict, second: dict) -> bool:
    return set(first) == set(second) and all(torch.equal(first[n], second[n]) for n in first)


def test_text_of_every_script_comes_back_whole():
    tokenizer = train_tokenizer(TEXTS, 800)
    for text in [t.split('\n')[0] for texts in TEXTS.values() for t in texts[:2]] + ['Ünïcödé Ωμέγα', 'नमस्ते', '日本語']:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == unicodedata.normalize('NFKC', text)


def test_pieces_point_at_their_characters():
    tokenizer = train_tokenizer(TEXTS, 800)
    text = 'The cat sleeps in the house.'
    for start, end in tokenizer(text, return_offsets_mapping=True).offset_mapping[1:-1]: assert 0 <= start <= end <= len(text)
    assert tokenizer('a', 'b').input_ids.count(tokenizer.sep_token_id) == 3 # <s> a </s></s> b </s>
    assert [tokenizer.convert_tokens_to_ids(t) for t in ('<s>', '<pad>', '</s>', '<unk>')] == [0, 1, 2, 3]


def test_long_documents_are_cut_and_lose_nothing():
    tokenizer = train_tokenizer(TEXTS, 800)
    document = ' '.join(f'The dog runs {i} times.' for i in range(40))
    corpus = tokenise({'en': [document]}, tokenizer, 24)
    inner = [i for a, b in zip(corpus.starts, corpus.starts[1:]) for i in corpus.ids[a + 1:b - 1]]
    assert max(corpus.starts[1:] - corpus.starts[:-1]) == 24
    assert inner == tokenizer(document, add_special_tokens=False).input_ids


def test_small_languages_are_seen_more_often_than_their_share():
    shares = language_shares({'big': 1_000_000, 'small': 1000})
    assert 0.1 < shares['small'] < 0.12 and sum(shares.values()) == pytest.approx(1)


def test_a_language_without_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="no text of language 'xx'"): pretrain(TEXTS | {'xx': ['', ' ']}, tmp_path/'encoder', TINY)
    assert not (tmp_path/'encoder').exists()


def test_the_order_of_languages_does_not_matter(tmp_path):
    forward = pretrain(TEXTS, tmp_path/'forward', TINY)
    backward = pretrain(dict(reversed(TEXTS.items())), tmp_path/'backward', TINY)
    assert same(weights(forward), weights(backward))
    assert (forward/'tokenizer.json').read_text() == (backward/'tokenizer.json').read_text()


def test_seeds_differ(tmp_path):
    first = pretrain(TEXTS, tmp_path/'0', TINY)
    second = pretrain(TEXTS, tmp_path/'1', PretrainSettings(**{**json.loads((first/'pretraining.json').read_text())['settings'], 'seed': 1}))
    assert not same(weights(first), weights(second))


@pytest.mark.parametrize('which', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_ends_with_the_same_weights(tmp_path, which):
    "A killed one goes on from its last checkpoint; one that was asked to stop has saved, without any before."
    script, minutes = tmp_path/'run.py', 0 if which == signal.SIGKILL else 1000
    script.write_text('import signal, sys, time\nsys.path[:0] = sys.argv[2:]\nsignal.signal(signal.SIGINT, signal.default_int_handler) # as in a terminal\n'
                      'from test_pretraining import TEXTS, TINY\nfrom xtl.encoder.pretraining import pretrain\n'
                      "def slow(model, tokenizer): print('step', flush=True); time.sleep(0.05); return {}\n"
                      f"pretrain(TEXTS, sys.argv[1], TINY, watch=slow, watch_every=1, minutes={minutes})\n")
    here = Path(__file__).parent
    command = [sys.executable, str(script), str(tmp_path/'killed'), str(here), str(here.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    state = tmp_path/'killed'/'state.safetensors'
    for _ in range(5): assert process.stdout.readline() == 'step\n'
    if which != signal.SIGKILL: assert not state.exists()
    process.send_signal(which)
    process.communicate()
    assert process.returncode != 0 and state.exists() and not (tmp_path/'killed/model.safetensors').exists()
    whole = pretrain(TEXTS, tmp_path/'whole', TINY)
    assert same(weights(pretrain(TEXTS, tmp_path/'killed', TINY)), weights(whole))


def test_the_template_has_one_cell_of_parameters_and_is_not_run_with_the_library():
    path = Path(__file__).parents[1]/'nbs/experiments/pretrain.ipynb'
    cells = nbformat.read(path, 4).cells
    assert sum('parameters' in c.metadata.get('tags', []) for c in cells) == 1
    assert cells[0].cell_type == 'raw' and 'skip_exec: true' in cells[0].source
    assert not any('#| export' in c.source for c in cells)
