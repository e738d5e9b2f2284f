"Properties of the search, of mining and of pooling, and the files of BUCC."
import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.neighbors import NearestNeighbors

from xtl.data.bucc import BuccSplit, Corpus, MissingCorpus, read_bucc
from xtl.core.errors import UserError
from xtl.evaluation.metrics import score
from xtl.evaluation.submission import score_submission, write_gold, write_predictions
from xtl.evaluation.mining import Mined, accept, best_threshold, candidate_pairs, mine, one_to_one
from xtl.evaluation.neighbours import (
    default_layer, layer_curve, nearest, nearest_both, pool, tatoeba_accuracy, tatoeba_predictions, xtreme_layer)

LIMITS = settings(deadline=None, max_examples=40)

def normal(seed, *shape): return np.random.default_rng(seed).normal(size=shape).astype('float32')

def two_sides(seed, n, width=8, noise=.8):
    meaning = normal(seed, n, width)
    return meaning + noise * normal(seed + 1, n, width), meaning + noise * normal(seed + 2, n, width)

# The search

@LIMITS
@given(seed=st.integers(0, 999), n=st.integers(1, 70), m=st.integers(1, 150), k=st.integers(1, 6), chunk=st.integers(1, 160))
def test_the_neighbours_are_those_of_scikit_learn(seed, n, m, k, chunk):
    source, target = normal(seed, n, 8), normal(seed + 1, m, 8)
    for near, queries, others in zip(nearest_both(source, target, k, chunk), (source, target), (target, source)):
        distances, indices = NearestNeighbors(n_neighbors=min(k, len(others)), metric='cosine', algorithm='brute').fit(others).kneighbors(queries)
        assert np.array_equal(near.indices, indices)
        assert np.allclose(near.scores, 1 - distances, atol=1e-5)
    assert np.array_equal(nearest(source, target, k, chunk).indices, nearest_both(source, target, k, chunk)[0].indices)

@LIMITS
@given(seed=st.integers(0, 999), n=st.integers(2, 60), chunks=st.tuples(st.integers(1, 64), st.integers(1, 64)), how=st.sampled_from(['cosine', 'margin']))
def test_the_chunk_size_changes_no_score(seed, n, chunks, how):
    sides = two_sides(seed, n)
    a, b = (tatoeba_predictions(*sides, score=how, chunk=c).tolist() for c in chunks)
    assert a == b
    a, b = (mine(*sides, score=how, chunk=c) for c in chunks)
    assert np.array_equal(a.pairs, b.pairs) and np.allclose(a.scores, b.scores, rtol=1e-4)

@LIMITS
@given(seed=st.integers(0, 999), n=st.integers(2, 60), how=st.sampled_from(['cosine', 'margin']))
def test_the_order_of_the_sentences_changes_no_score(seed, n, how):
    foreign, english = two_sides(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    assert tatoeba_accuracy(foreign, english, how) == tatoeba_accuracy(foreign[order], english[order], how)
    plain, moved = mine(foreign, english, score=how), mine(foreign[order], english[order], score=how)
    assert {tuple(p) for p in plain.pairs.tolist()} == {(order[s], order[t]) for s, t in moved.pairs.tolist()}

@LIMITS
@given(seed=st.integers(0, 999), n=st.integers(1, 50))
def test_identical_sides_score_100(seed, n):
    side = normal(seed, n, 8)
    assert tatoeba_accuracy(side, side) == 100.

@pytest.mark.parametrize('chunk', [1, 2, 3, 7, 100])
def test_among_equals_the_first_is_found(chunk):
    corners = np.array(list(itertools.product([1, -1], repeat=4)), dtype='float32') # unit length 2: every cosine is exact
    twice = np.concatenate([corners, corners])
    assert nearest(corners, twice, chunk=chunk).indices[:, 0].tolist() == list(range(16))

def test_arrays_tensors_and_memory_maps_give_the_same(tmp_path):
    source, target = two_sides(3, 40)
    np.save(tmp_path/'target.npy', target)
    expected = nearest(source, target, 4)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for other in (torch.from_numpy(target), np.load(tmp_path/'target.npy', mmap_mode='r'), target.astype('float64'), np.asfortranarray(target)):
            assert np.array_equal(nearest(source, other, 4).indices, expected.indices)

def test_length_means_nothing():
    source, target = two_sides(4, 30)
    assert np.array_equal(nearest(source, target).indices, nearest(100 * source, target * np.linspace(.1, 9, 30, dtype='float32')[:, None]).indices)

@pytest.mark.parametrize('source, target, message', [
    (normal(0, 3, 4), normal(0, 3, 5), 'width 4 cannot be compared with vectors of width 5'),
    (normal(0, 0, 4), normal(0, 3, 4), 'no sentence vectors'),
    (normal(0, 3, 4), np.full((3, 4), np.inf, 'float32'), 'sentence vector 0 is not finite'),
])
def test_vectors_that_cannot_be_searched_are_refused(source, target, message):
    with pytest.raises(UserError, match=message): nearest_both(source, target)

def test_sides_of_unequal_length_are_refused():
    with pytest.raises(UserError, match='cannot be the translations'): tatoeba_accuracy(normal(0, 3, 4), normal(0, 2, 4))

# Layers

@LIMITS
@given(seed=st.integers(0, 99), depth=st.integers(1, 30))
def test_the_curve_at_the_chosen_layer_is_the_single_layer_run(seed, depth):
    layers = [two_sides(seed + layer, 20) for layer in range(depth + 1)]
    curve = layer_curve([f for f, _ in layers], [e for _, e in layers])
    chosen = default_layer(depth)
    assert len(curve) == depth + 1 and curve[chosen] == tatoeba_accuracy(*layers[chosen])

def test_layers_are_xtremes_where_xtreme_has_any():
    assert (xtreme_layer(13), xtreme_layer(7)) == (14, 8) == (default_layer(24), default_layer(12))
    assert all(1 <= default_layer(depth) <= depth for depth in range(1, 100))

@LIMITS
@given(seed=st.integers(0, 999), lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5), how=st.sampled_from(['mean', 'cls']), special=st.booleans(), padding=st.integers(0, 5))
def test_padding_changes_no_sentence_vector(seed, lengths, how, special, padding):
    width, longest = 6, max(lengths) + padding
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(len(lengths), longest, width, generator=generator) for _ in range(3)]
    attention = torch.tensor([[int(t < n) for t in range(longest)] for n in lengths])
    specials = torch.tensor([[int(t == 0 or t >= n - 1) for t in range(longest)] for n in lengths])
    vectors = pool(layers, attention, specials, how, special)
    assert vectors.shape == (3, len(lengths), width)
    for s, n in enumerate(lengths):
        for l, layer in enumerate(layers):
            tokens = layer[s, :1] if how == 'cls' else layer[s, :n] if special or n == 2 else layer[s, 1:n - 1]
            assert torch.allclose(vectors[l, s], tokens.mean(0), atol=1e-5)
        left = pool([layer[s:s + 1].roll(padding, 1) for layer in layers], attention[s:s + 1].roll(padding, 1), specials[s:s + 1].roll(padding, 1), how, special)
        assert n + padding > longest or torch.allclose(left[:, 0], vectors[:, s], atol=1e-5)

def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="did you mean 'mean'"): pool([], torch.ones(1, 1), torch.ones(1, 1), 'means')

# Mining

scored_pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([.5, .8, 1., 1.1, 1.2, 1.5])), min_size=1, max_size=40)

@LIMITS
@given(pairs=scored_pairs, seed=st.integers(0, 99))
def test_greedy_matching_uses_no_sentence_twice_and_leaves_no_better_pair(pairs, seed):
    def matched(rows): return one_to_one(Mined(np.array([r[:2] for r in rows]), np.array([r[2] for r in rows])))
    kept = matched(pairs)
    assert len(set(kept.pairs[:, 0])) == len(set(kept.pairs[:, 1])) == len(kept.pairs)
    assert (np.diff(kept.scores) <= 0).all()
    taken = [(*p, s) for p, s in zip(kept.pairs.tolist(), kept.scores)]
    for s, t, points in pairs: assert any((a == s or b == t) and p >= points for a, b, p in taken)
    other = matched([pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))])
    assert np.array_equal(kept.pairs, other.pairs) and np.array_equal(kept.scores, other.scores)

candidates = st.lists(st.tuples(st.integers(0, 15).map('s{}'.format), st.integers(0, 15).map('t{}'.format), st.sampled_from([.9, 1., 1.01, 1.2, np.nextafter(1.2, 2)])),
                      min_size=1, max_size=30, unique_by=lambda c: c[:2])

@LIMITS
@given(found=candidates, gold=st.sets(st.tuples(st.integers(0, 15).map('s{}'.format), st.integers(0, 15).map('t{}'.format)), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_no_other_threshold_is_better_on_the_development_pairs(found, gold, seed):
    def f1(threshold): return score('bucc', 'de', gold, accept(found, threshold))['f1']
    threshold = best_threshold(found, gold)
    assert f1(threshold) == pytest.approx(max(f1(t) for t in [-np.inf, np.inf, *(c[2] for c in found)]))
    assert threshold == best_threshold([found[i] for i in np.random.default_rng(seed).permutation(len(found))], gold)
    assert len({c[2] >= threshold for c in found if c[2] == found[0][2]}) == 1

def test_the_best_cut_may_be_the_last():
    assert best_threshold([('s1', 't1', 1.2), ('s2', 't2', 1.1)], {('s1', 't1'), ('s2', 't2')}) == 1.1

def test_without_candidates_or_right_ones_all_are_kept():
    assert best_threshold([], {('s', 't')}) == best_threshold([('a', 'b', 1.)], {('s', 't')}) == -np.inf
    with pytest.raises(UserError, match='needs gold pairs'): best_threshold([('a', 'b', 1.)], [])

# BUCC

def corpus(code, n): return Corpus(tuple(f'{code}-{i:03}' for i in range(n)), tuple(f'{code} sentence {i}' for i in range(n)))

def write_bucc(folder, stem, sides, gold):
    folder.mkdir(parents=True, exist_ok=True)
    for code, side in sides.items(): (folder/f'{stem}.{code}').write_text(''.join(f'{i}\t{s}\n' for i, s in zip(side.ids, side.sentences)), encoding='utf-8')
    (folder/f'{stem}.gold').write_text(''.join(f'{s}\t{t}\n' for s, t in sorted(gold)), encoding='utf-8')

@pytest.mark.parametrize('where', ['bucc2018', 'bucc2018/fr-en', '.'])
def test_original_files_are_read_as_xtreme_splits_them(tmp_path, where):
    small, large = (corpus('fr', 3), corpus('en', 4)), (corpus('fr', 5), corpus('en', 6))
    for name, sides in (('sample', small), ('training', large)): write_bucc(tmp_path/where, f'fr-en.{name}', dict(zip(('fr', 'en'), sides)), {('fr-001', 'en-002')})
    for split, sides in (('dev', small), ('test', large)): assert read_bucc(tmp_path, 'fr', split) == BuccSplit(*sides, frozenset({('fr-001', 'en-002')}))

def test_faulty_bucc_files_are_refused(tmp_path):
    with pytest.raises(MissingCorpus, match='comparable.limsi.fr'): read_bucc(tmp_path, 'fr', 'dev')
    with pytest.raises(UserError, match="unknown split 'training'"): read_bucc(tmp_path, 'fr', 'training')
    sides = dict(fr=corpus('fr', 3), en=corpus('en', 3))
    write_bucc(tmp_path, 'fr-en.sample', sides, {('fr-001', 'en-009')})
    with pytest.raises(UserError, match='line 1: there is no sentence en-009'): read_bucc(tmp_path, 'fr', 'dev')
    write_bucc(tmp_path, 'fr-en.sample', sides, {('fr-001', 'en-001')})
    (tmp_path/'fr-en.sample.en').write_text('en-001\tYes.\nen-002 No.\n')
    with pytest.raises(UserError, match='line 2: no tab'): read_bucc(tmp_path, 'fr', 'dev')
    (tmp_path/'fr-en.sample.en').write_text('en-001\tYes.\nen-001\tNo.\n')
    with pytest.raises(UserError, match='en-001 stands there twice'): read_bucc(tmp_path, 'fr', 'dev')

def test_a_sentence_of_several_names_is_never_mined():
    assert [c[:2] for c in candidate_pairs([None, 's1'], ['t0', 't1'], np.eye(2), np.eye(2), score='cosine')] == [('s1', 't1')]
    with pytest.raises(UserError, match='3 vectors for 2 sentences'): candidate_pairs([None, 's1'], ['t0', 't1'], np.eye(3), np.eye(2))

def test_mined_pairs_score_the_same_through_files(tmp_path):
    n = 60
    sides = corpus('ru', n), corpus('en', n)
    gold = set(zip(sides[0].ids, sides[1].ids))
    write_bucc(tmp_path/'bucc2018', 'ru-en.sample', dict(zip(('ru', 'en'), sides)), gold)
    split = read_bucc(tmp_path, 'ru', 'dev')
    found = candidate_pairs(split.source.ids, split.target.ids, *two_sides(5, n, 16))
    kept = accept(found, best_threshold(found, split.gold))
    write_gold(tmp_path/'gold', 'bucc', 'ru', sorted(split.gold))
    write_predictions(tmp_path/'predictions', 'bucc', 'ru', kept)
    table = score_submission(tmp_path/'predictions', tmp_path/'gold').set_index('metric').score
    assert table.to_dict() == score('bucc', 'ru', split.gold, kept) and table['f1'] > 50
