"Times the exact search of n against n vectors, both ways, and tells its peak memory: python tests/benchmarks/retrieval.py --n 100000 --width 768"
import argparse
import resource
import time

import numpy as np
import torch

from xtl.evaluation.neighbours import nearest, nearest_both

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('--n', type=int, default=100_000, help='vectors on each side')
parser.add_argument('--width', type=int, default=768, help='width of a vector')
parser.add_argument('--k', type=int, default=4, help='neighbours wanted')
parser.add_argument('--chunk', type=int, default=8192, help='rows and columns of a block')
parser.add_argument('--threads', type=int, default=1, help='threads on the CPU')
parser.add_argument('--one-way', action='store_true', help='search in one direction only')
options = parser.parse_args()

torch.set_num_threads(options.threads)
rng = np.random.default_rng(0)
source, target = (rng.standard_normal((options.n, options.width), dtype=np.float32) for _ in range(2))

def peak() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

before, start = peak(), time.perf_counter()
if options.one_way: nearest(source, target, options.k, options.chunk)
else: nearest_both(source, target, options.k, options.chunk)
seconds = time.perf_counter() - start
product = 2 * options.n**2 * options.width / seconds / 1e9
where = 'GPU' if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} thread(s)'
print(f"{options.n:,} x {options.n:,}, width {options.width}, k = {options.k}, {'one way' if options.one_way else 'both ways'}, {where}: {seconds:.1f} s "
      f"({product:.0f} GFLOP/s), peak memory {peak():.2f} GiB, of which the vectors and libraries {before:.2f} GiB")
