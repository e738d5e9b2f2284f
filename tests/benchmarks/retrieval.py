"""How long does the exact search of n among n vectors take? Beside faiss's exact search, where that can be imported.

    python tests/benchmarks/retrieval.py [--n 10000 30000] [--threads 1 2] [--repeats 3] [--ways 'both ways'] [--keep nbs/images/retrieval/cpu.json]

Both search the same random vectors of length 1, float32, in turns. "one way" is what Tatoeba needs, `nearest` with k = 1: faiss
fills an `IndexFlatIP` with the candidates and searches once. "both ways" is what mining needs, `nearest_both` with k = 4: faiss
fills an index with each side and searches twice, because it has no search that serves both directions. The package normalises
its vectors, which is in its time; faiss gets them as they are. Without faiss the package's own times and peak memory are told.
"""
import argparse
import json
import platform
import resource
import time
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from xtl.evaluation.neighbours import nearest, nearest_both

try: import faiss
except ImportError: faiss = None

WAYS = ['one way', 'both ways']


def flat(queries, candidates, k):
    "Scores and indices of faiss's exact search."
    index = faiss.IndexFlatIP(candidates.shape[1])
    index.add(candidates)
    return index.search(queries, k)


def vectors(n: int, width: int, rng) -> np.ndarray:
    made = rng.standard_normal((n, width), dtype=np.float32)
    return made/np.linalg.norm(made, axis=1, keepdims=True)


def peak() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20


def clocked(work) -> tuple[float, float, list]:
    "Seconds on the wall, seconds of processors, and what was found: scores and indices of each direction."
    wall, busy = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - busy, found


def ways(source, target, chunk: int, device: str | None) -> dict[str, tuple]:
    "Name -> k, the package's search and faiss's, each of which gives scores and indices of every direction."
    def pairs(*found): return [(f.scores, f.indices) for f in found]
    return {
        'one way': (1, lambda: pairs(nearest(source, target, 1, chunk, device)), lambda: [flat(source, target, 1)]),
        'both ways': (4, lambda: pairs(*nearest_both(source, target, 4, chunk, device)),
                      lambda: [flat(source, target, 4), flat(target, source, 4)])}


def same(ours: list, theirs: list) -> tuple[float, float]:
    "The share of neighbours that are the same, and the largest difference between two scores."
    equal = np.mean([np.mean(a[1] == b[1]) for a, b in zip(ours, theirs)])
    return float(equal), max(float(np.abs(a[0] - b[0]).max()) for a, b in zip(ours, theirs))


def compare(n: int, wanted: list[str], width: int, chunk: int, threads: int, repeats: int, device: str | None) -> list[dict]:
    "A row a way of searching."
    torch.set_num_threads(threads)
    threadpool_limits(threads) # of numpy's products, and of faiss's
    if faiss: faiss.omp_set_num_threads(threads)
    rng, rows = np.random.default_rng(0), []
    known = ways(*(vectors(n, width, rng) for _ in range(2)), chunk, device)
    for way in wanted:
        (k, ours, theirs), turns = known[way], []
        for turn in range(repeats):
            pair = [ours, theirs] if faiss else [ours]
            results = [clocked(work) for work in pair[::-1 if turn % 2 else 1]][::-1 if turn % 2 else 1]
            turns.append([r[:2] for r in results])
        row = dict(n=n, width=width, k=k, way=way, threads=threads, turns=repeats, seconds=median(t[0][0] for t in turns))
        if faiss:
            equal, apart = same(*(r[2] for r in results))
            row |= dict(faiss_seconds=median(t[1][0] for t in turns), times_faiss=median(t[1][0]/t[0][0] for t in turns),
                        times_faiss_processor=median(t[1][1]/t[0][1] for t in turns), same=equal, apart=apart)
        rows.append(row)
        print(*(f'{name} {value:.4g}' if isinstance(value, float) else f'{name} {value}' for name, value in row.items()), sep=', ', flush=True)
    return rows


def main() -> None:
    "Measures, prints, and keeps a table where that is wanted."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, nargs='+', default=[10_000, 30_000], help='vectors on each side')
    parser.add_argument('--width', type=int, default=768, help='width of a vector')
    parser.add_argument('--chunk', type=int, default=8192, help='rows and columns of a block')
    parser.add_argument('--threads', type=int, nargs='+', default=[1], help='threads on the CPU')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS, help='of searching')
    parser.add_argument('--repeats', type=int, default=3, help='turns of each')
    parser.add_argument('--keep', type=Path, help='JSON file that the rows join, instead of those of the same size')
    options = parser.parse_args()
    device = 'cpu' if faiss else None # against faiss's search on the processor
    measure = partial(compare, wanted=options.ways, width=options.width, chunk=options.chunk, repeats=options.repeats, device=device)
    rows = [row for n in options.n for threads in options.threads for row in measure(n, threads=threads)]
    print(f"peak memory {peak():.2f} GiB, of which the two sides {2*max(options.n)*options.width*4/2**30:.2f} GiB")
    if not options.keep: return
    about = dict(device=device or ('cuda' if torch.cuda.is_available() else 'cpu'), machine=platform.machine(), torch=torch.__version__,
                 faiss=faiss.__version__ if faiss else None, date=str(date.today()))
    def size(row): return row['n'], row['threads'], row['way']
    before = json.loads(options.keep.read_text())['searches'] if options.keep.exists() else []
    rows += [r for r in before if size(r) not in map(size, rows)]
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    options.keep.write_text(json.dumps(about | dict(searches=sorted(rows, key=size)), indent=1) + '\n')

if __name__ == '__main__': main()
