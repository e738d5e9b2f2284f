"Every architecture, through every head, from tiny random weights; and folders that are wrong in one thing."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from xtl.core.errors import UserError
from xtl.data.tokens import word_pieces
from xtl.encoder.checks import check_encoder
from xtl.encoder.heads import HeadSpec
from xtl.encoder.loading import PROBES, encoder_identity, encoder_place, load_encoder, load_tokenizer
from xtl.encoder.model import TransferModel, label_count, loss_sum
from xtl.encoder.packing import encode_batch, hidden_states

TEXT = [*PROBES, 'the old boat sank near the harbour', 'der alte Kahn liegt am Ufer', 'лодка у берега', '船は港の近くで沈んだ',
        'where is the boat now ?', 'it lies under water , near the lake']*20
SMALL = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64)


def fast(tokenizer, begin, end, pad='<pad>', unk='<unk>', parts=(0, 0), **more):
    "A tokenizer with a template for one text and for two."
    at = [(t, tokenizer.token_to_id(t)) for t in (begin, end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{begin}:0 $A:0 {end}:0', pair=f'{begin}:0 $A:0 {end}:{parts[0]} $B:{parts[1]} {end}:{parts[1]}', special_tokens=at)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token=begin, sep_token=end, pad_token=pad, unk_token=unk, **more)


def wordpiece():
    "BERT's: parts of a pair are told apart."
    tokenizer = Tokenizer(models.WordPiece(unk_token='[UNK]'))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    return fast(tokenizer, '[CLS]', '[SEP]', '[PAD]', '[UNK]', parts=(0, 1), mask_token='[MASK]', model_max_length=512)


def unigram():
    "As DeBERTa's, RemBERT's and ALBERT's."
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always')
    special = ['[PAD]', '[CLS]', '[SEP]', '[UNK]', '[MASK]']
    tokenizer.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token='[UNK]', show_progress=False))
    return fast(tokenizer, '[CLS]', '[SEP]', '[PAD]', '[UNK]', parts=(0, 1), mask_token='[MASK]')


def bytelevel():
    "As RoBERTa's: a space is part of the word behind it."
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special, show_progress=False))
    return fast(tokenizer, '<s>', '</s>', mask_token='<mask>', model_max_length=512)


def gemma():
    "As Gemma's, which ModernBERT's multilingual kin has: spaces become a mark, bytes stand for the unknown."
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token='<unk>'))
    tokenizer.normalizer = normalizers.Replace(' ', '▁')
    tokenizer.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
    special = ['<pad>', '<eos>', '<bos>', '<unk>', '<mask>'] + [f'<0x{i:02X}>' for i in range(256)]
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False, max_token_length=8))
    return fast(tokenizer, '<bos>', '<eos>', mask_token='<mask>', model_max_length=8192)


def sentencepiece():
    "XLM-R's, as the embedded encoder has it."
    return load_tokenizer('mini')


def positions(n): return dict(max_position_embeddings=n)


ENCODERS = {
    'XLM-R': (sentencepiece, hf.XLMRobertaConfig, SMALL | positions(130) | dict(type_vocab_size=1)),
    'XLM-R-XL': (sentencepiece, hf.XLMRobertaXLConfig, SMALL | positions(130)),
    'X-MOD': (sentencepiece, hf.XmodConfig, SMALL | positions(130) | dict(languages=['en_XX', 'de_DE'], default_language='en_XX')),
    'RoBERTa': (bytelevel, hf.RobertaConfig, SMALL | positions(130)),
    'BERT': (wordpiece, hf.BertConfig, SMALL),
    'ELECTRA': (wordpiece, hf.ElectraConfig, SMALL | dict(embedding_size=16)),
    'DistilBERT': (wordpiece, hf.DistilBertConfig, dict(dim=32, n_layers=3, n_heads=2, hidden_dim=64)),
    'XLM': (wordpiece, hf.XLMConfig, dict(emb_dim=32, n_layers=3, n_heads=2, pad_index=0)),
    'DeBERTa-v2': (unigram, hf.DebertaV2Config, SMALL | positions(512) | dict(
        relative_attention=True, position_buckets=64, norm_rel_ebd='layer_norm', share_att_key=True, pos_att_type=['p2c', 'c2p'],
        position_biased_input=False, type_vocab_size=0, max_relative_positions=-1)),
    'RemBERT': (unigram, hf.RemBertConfig, SMALL | dict(input_embedding_size=16, output_embedding_size=32)),
    'ALBERT': (unigram, hf.AlbertConfig, SMALL | dict(embedding_size=16)),
    'ModernBERT': (gemma, hf.ModernBertConfig, SMALL | positions(512) | dict(
        pad_token_id=0, bos_token_id=2, eos_token_id=1, cls_token_id=2, sep_token_id=1, local_attention=16, global_attn_every_n_layers=3)),
}
HEADS = {'sequence': HeadSpec('sequence', 3), 'choice': HeadSpec('choice', 4), 'token': HeadSpec('token', 7), 'span': HeadSpec('span', 0)}
SEGMENTED = {'BERT', 'ELECTRA', 'RemBERT', 'ALBERT'} # told the parts of a pair


def write(folder, name):
    "An encoder of an architecture with its tokenizer, weights random."
    make, config, shape = ENCODERS[name]
    tokenizer = make()
    # large weights, so that attention matters; padding of the tokenizer
    config = config(**{'vocab_size': len(tokenizer), 'pad_token_id': tokenizer.pad_token_id, 'initializer_range': 0.2} | shape)
    torch.manual_seed(0)
    hf.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    "The folder of each architecture, made once."
    made = {}
    def of(name):
        if name not in made: made[name] = write(tmp_path_factory.mktemp('encoder')/name, name)
        return made[name]
    return of


def batch_of(tokenizer, pad):
    "Eight pairs of unequal length, padded; the lengths."
    rows = [tokenizer(TEXT[i % 10], TEXT[(3*i + 1) % 10])['input_ids'] for i in range(8)]
    longest = max(map(len, rows))
    ids = torch.tensor([r + [pad]*(longest - len(r)) for r in rows])
    return ids, torch.tensor([[1]*len(r) + [0]*(longest - len(r)) for r in rows]), list(map(len, rows))


def labels_of(kind, ids, lengths):
    "Any labels of the right form."
    rows = torch.arange(len(ids))
    if kind == 'sequence': return rows % 3
    if kind == 'choice': return torch.tensor([1, 3])
    if kind == 'span': return torch.stack([rows % 3, rows % 3 + 1], 1)
    tags = ids % 7
    for row, n in enumerate(lengths): tags[row, n:] = -100
    return tags


def alone(model, task, ids, lengths):
    "The logits of each item read for itself, without padding that only others need."
    unit, found = HEADS[task].labels if task == 'choice' else 1, []
    for i in range(0, len(ids), unit):
        n = max(lengths[i:i + unit])
        part = ids[i:i + unit, :n]
        mask = torch.tensor([[1]*l + [0]*(n - l) for l in lengths[i:i + unit]])
        found.append(model(task, part, None if mask.all() else mask))
    return found


def real(logits, task, lengths):
    "The logits that count: of real tokens."
    rows = [row for part in logits for row in part]
    return torch.cat([r[:n] if task in ('token', 'span') else r[None] for r, n in zip(rows, lengths)])


def trained(model, task, ids, mask, labels):
    "One step of the head and the encoder with a fixed seed; loss and the norm of the encoder's gradient."
    model.train()
    model.zero_grad()
    torch.manual_seed(7)
    loss = loss_sum(task, model(task, ids, mask), labels, mask)/label_count(task, labels.numpy())
    loss.backward()
    norm = sum(float(p.grad.square().sum()) for p in model.encoder.parameters() if p.grad is not None)**0.5
    model.eval()
    return float(loss), norm


@pytest.mark.parametrize('name', ENCODERS)
def test_every_architecture_runs_through_every_head(written, tmp_path, name):
    folder = written(name)
    encoder, tokenizer = load_encoder(folder).eval(), load_tokenizer(folder)
    check_encoder(encoder, tokenizer, longest=96)
    assert (encoder.segment_token is not None) == (name in SEGMENTED)
    pad = encoder.config.pad_token_id
    ids, mask, lengths = batch_of(tokenizer, pad)
    model = TransferModel(encoder, HEADS, seed=0).eval()
    save_file({k: t.contiguous().clone() for k, t in model.state_dict().items()}, tmp_path/'model.safetensors')
    again = TransferModel(load_encoder(folder), HEADS, seed=1).eval()
    again.load_state_dict(load_file(tmp_path/'model.safetensors'))
    rows = []
    for task in HEADS:
        with torch.no_grad():
            together, apart = real([model(task, ids, mask)], task, lengths), real(alone(model, task, ids, lengths), task, lengths)
            same = torch.equal(real([again(task, ids, mask)], task, lengths), together)
        labels = labels_of(task, ids.clone(), lengths)
        (loss, norm), second = trained(model, task, ids, mask, labels), trained(model, task, ids, mask, labels)
        rows.append(dict(encoder=name, head=task, padding=float((together - apart).abs().max()/max(1, apart.abs().max())), loss=loss,
                         gradient=norm, repeated=(loss, norm) == second, reloaded=same))
    with torch.no_grad():
        layers, last = hidden_states(encoder, ids, mask), encode_batch(encoder, ids, mask)
        single = [hidden_states(encoder, ids[i:i + 1, :n], None) for i, n in enumerate(lengths)]
        away = max(float((layers[l][i, :n] - single[i][l][0]).abs().max()) for l in range(len(layers)) for i, n in enumerate(lengths))
        assert torch.allclose(layers[-1][mask.bool()], last[mask.bool()], atol=1e-5) # heads and retrieval read the same
        same = all(torch.equal(a[mask.bool()], b[mask.bool()]) for a, b in zip(hidden_states(again.encoder, ids, mask), layers))
    assert len(layers) == encoder.config.num_hidden_layers + 1
    rows.append(dict(encoder=name, head='retrieval', padding=away/max(1, float(last[mask.bool()].abs().max())), reloaded=same))
    table = pd.DataFrame(rows)
    print('\n' + table.to_string(index=False, float_format='{:.2g}'.format))
    assert (table.padding < 1e-4).all() and table.reloaded.all() and table.repeated.dropna().all()
    assert np.isfinite(table[['loss', 'gradient']].dropna()).all(axis=None) and (table.gradient.dropna() > 0).all()


@pytest.mark.parametrize('name', sorted(SEGMENTED))
def test_parts_of_a_pair_are_told_as_the_tokenizer_tells_them(written, name):
    encoder = load_encoder(written(name)).eval()
    whole = Tokenizer.from_file(f'{written(name)}/tokenizer.json').encode('The boat sank.', 'It is under water.')
    ids, parts = torch.tensor([whole.ids]), torch.tensor([whole.type_ids])
    assert 0 < parts.sum() < parts.numel()
    with torch.no_grad():
        own = encoder(input_ids=ids, token_type_ids=parts).last_hidden_state
        assert torch.equal(encode_batch(encoder, ids, None), own)
        assert not torch.equal(encoder(input_ids=ids).last_hidden_state, own)


def altered(folder, tmp_path, file, **settings):
    "A copy with other values in one of its files; those that are none are taken out."
    copy = tmp_path/'altered'
    shutil.copytree(folder, copy)
    known = json.loads((copy/file).read_text()) | settings
    (copy/file).write_text(json.dumps({k: v for k, v in known.items() if v != 'out'}))
    return str(copy)


def refused(folder, longest=1):
    "The one line that a user gets."
    with pytest.raises(UserError) as caught: check_encoder(load_encoder(folder), load_tokenizer(folder), longest)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_a_tokenizer_of_another_class_gives_the_tokens_of_its_file(tmp_path):
    own = Tokenizer.from_file(encoder_place('mini') + '/tokenizer.json')
    for kind in ('BertTokenizer', 'XLMRobertaTokenizer', 'out'):
        folder = altered(encoder_place('mini'), tmp_path/kind, 'tokenizer_config.json', tokenizer_class=kind)
        tokenizer = load_tokenizer(folder)
        for text in (*PROBES, "Une journée d'été à Łódź, 東京."): assert tokenizer(text)['input_ids'] == own.encode(text).ids


@pytest.mark.parametrize('pad', [None, 700_000, -1])
def test_padding_is_a_token(written, tmp_path, pad):
    assert 'pad' in refused(altered(written('XLM-R'), tmp_path, 'config.json', pad_token_id=pad)).lower().replace(str(tmp_path), '')


def test_positions_are_counted_from_the_tokenizers_padding(written, tmp_path):
    assert 'positions would be counted wrongly' in refused(altered(written('XLM-R'), tmp_path, 'config.json', pad_token_id=0))


def test_a_vocabulary_larger_than_the_table_is_refused(written, tmp_path):
    folder = altered(written('BERT'), tmp_path, 'config.json')
    hf.AutoModel.from_config(hf.BertConfig(vocab_size=90, **SMALL)).save_pretrained(folder)
    assert 'the table has 90 rows' in refused(folder).replace("encoder's table", 'table')


def test_rows_that_are_longer_than_the_positions_are_refused(written):
    encoder, tokenizer = load_encoder(written('XLM-R')), load_tokenizer(written('XLM-R'))
    assert tokenizer.model_max_length == 96 # the tokenizer's own limit; the table of positions has 130 less 2
    with pytest.raises(UserError, match='rows of up to 200 tokens are wanted, but this encoder reads at most 96'): check_encoder(encoder, tokenizer, 200)
    assert load_tokenizer(written('DeBERTa-v2')).model_max_length == 512 # of the configuration, where the tokenizer's is 1e30


@pytest.mark.parametrize('config, kind', [(hf.MT5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=50), 'an encoder-decoder'),
                                          (hf.LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=50), 'a decoder'),
                                          (hf.XGLMConfig(d_model=8, ffn_dim=8, num_layers=1, attention_heads=2, vocab_size=50), 'a decoder')])
def test_what_is_no_encoder_is_refused_by_its_name(tmp_path, config, kind):
    config.save_pretrained(tmp_path/'other')
    for file in ('model.safetensors', 'tokenizer.json'): (tmp_path/'other'/file).write_text('{}') # neither is read
    assert f"is of type '{config.model_type}', {kind}" in refused(str(tmp_path/'other'))


@pytest.mark.parametrize('text', ['[]', '{}', '{"model_type": "no-such"}', 'null', '', '{"model_type": "bert", "hidden_size": "wide"}'])
def test_a_configuration_that_is_none_is_refused_in_a_line(tmp_path, text):
    shutil.copytree(encoder_place('mini'), tmp_path/'e')
    (tmp_path/'e/config.json').write_text(text)
    refused(str(tmp_path/'e'))


@pytest.mark.parametrize('text', ['[]', '{}', 'null', '', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n'])
@pytest.mark.parametrize('file', ['tokenizer.json', 'model.safetensors'])
def test_a_file_that_is_none_is_refused_in_a_line(tmp_path, file, text):
    shutil.copytree(encoder_place('mini'), tmp_path/'e')
    (tmp_path/'e'/file).write_text(text)
    refused(str(tmp_path/'e'))


def test_everything_that_changes_tokens_or_weights_is_in_the_identity(tmp_path):
    shutil.copytree(encoder_place('mini'), tmp_path/'e')
    seen = {encoder_identity(str(tmp_path/'e'))['fingerprint']}
    for file in ('config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json', 'sentencepiece.bpe.model', 'model.safetensors'):
        with open(tmp_path/'e'/file, 'ab') as f: f.write(b' ')
        seen.add(encoder_identity(str(tmp_path/'e'))['fingerprint'])
    assert len(seen) == 8
    (tmp_path/'e'/'README.md').write_text('about')
    assert encoder_identity(str(tmp_path/'e'))['fingerprint'] in seen


@pytest.mark.parametrize('make', [sentencepiece, bytelevel, gemma, wordpiece, unigram])
def test_words_of_a_tagged_sentence_are_read_as_in_running_text(make):
    tokenizer, words = make(), 'the old boat sank , near the lake'.split()
    pieces = next(word_pieces([words], tokenizer))
    assert len(pieces) == len(words)
    if make is gemma: # its few pieces cross words in running text, which a tagged word's cannot; the mark before a word is what counts
        assert [tokenizer.convert_ids_to_tokens(p)[0][0] for p in pieces[1:]] == ['▁']*(len(words) - 1)
    else: assert sum(pieces, []) == tokenizer(' '.join(words), add_special_tokens=False)['input_ids']
