"""How are cells best laid out on the cores of a machine? Trains an encoder in one process a core, in one process on all cores, and in between, at the same time each; prints useful tokens a second of all processes together.

    python tests/benchmarks/threads.py [--encoder mini] [--steps 150]

`base` is XLM-R's shape with random weights; give it few steps.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WORK = '''
import sys, time, torch
from transformers import AutoModel, XLMRobertaConfig
from xtl.encoder.loading import load_encoder
from xtl.transfer.subset import IntermediateRun
from xtl.transfer.layout import open_workspace
from xtl.training.loop import sources_of, start, train
out, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
run = IntermediateRun(open_workspace(out), ('mnli', 'squad'), 0)
splits = run.splits()
encoder = load_encoder('mini') if name == 'mini' else AutoModel.from_config(XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1), add_pooling_layer=False)
sources = sources_of(splits, run.shares(splits), dict.fromkeys(splits, 32), run.heads(splits), 0)
state = start(encoder, run.heads(splits), sources, run.settings)
def step(count):
    for _ in range(count): train(state, sources, state.flops + 1, lambda spent: 1e-5, run.settings)
    return sum(c.tokens for c in state.spent.values())
before, started = step(1 + steps//10), time.perf_counter()
print((step(steps) - before)/(time.perf_counter() - started))
'''


def together(out: Path, encoder: str, steps: int, processes: int, threads: int) -> float:
    "Useful tokens a second of some processes at once."
    command = [sys.executable, '-c', WORK, str(out), encoder, str(steps)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {'OMP_NUM_THREADS': str(threads)}) for _ in range(processes)]
    said = [p.communicate()[0] for p in running]
    assert not any(p.returncode for p in running)
    return sum(float(text.split()[-1]) for text in said)


def main(encoder: str, steps: int, repeats: int) -> None:
    "Prints a line a layout, the most processes first."
    from xtl.study.presets import read_study
    from xtl.transfer.layout import lay_out
    cores = len(os.sched_getaffinity(0))
    layouts = [(cores//t, t) for t in range(1, cores + 1) if cores % t == 0]
    with tempfile.TemporaryDirectory() as folder:
        out = lay_out(read_study('mini').but(
            data=dict(languages=('qab',)), design=dict(intermediate=('mnli', 'squad'), controls_expected={}, n_tasks=(2,), targets=('tatoeba',), controls=())), Path(folder)/'out').out
        speeds = {layout: [] for layout in layouts}
        for _ in range(repeats): # in turns
            for layout in layouts: speeds[layout].append(together(out, encoder, steps, *layout))
    first = speeds[layouts[0]]
    for (processes, threads), found in speeds.items():
        ratios = sorted(f/one for f, one in zip(found, first))
        print(f'{encoder}: {processes} process(es) of {threads} thread(s): {sum(found)/repeats:,.0f} tokens/s, {ratios[len(ratios)//2]:.2f} times one thread a process ({ratios[0]:.2f} to {ratios[-1]:.2f})')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--encoder', choices=['mini', 'base'], default='mini', help='what is trained')
    parser.add_argument('--steps', type=int, default=150, help='timed steps of each process')
    parser.add_argument('--repeats', type=int, default=3, help='turns')
    given = parser.parse_args()
    main(given.encoder, given.steps, given.repeats)
