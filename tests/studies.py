"A small study as a user writes it, changes to it by group, and a study that was run in this process."

ROWS = {'max_length': 96, 'batch_size': 16, 'stride': 24}
TINY = {
    'name': 'tiny',
    'encoder': {'name': 'mini'},
    'data': {'source': 'mini', 'source_language': 'qaa', 'languages': ['qab', 'qcc'],
             'sources': {'ccg': {'repository': 'pmb/ccg_supertags', 'config': 'en'}}},
    'design': {'intermediate': ['mnli', 'csqa'], 'targets': ['xnli', 'xquad', 'panx', 'tatoeba', 'bucc'],
               'budgets': [4e9, 8e9], 'n_tasks': [0, 2], 'subset_count': 1},
    'phase2': {'learning_rate': 5e-4},
    'phase3': {'target_flops': 4e9, 'recipes': {'all': {'learning_rate': 5e-4} | ROWS}},
}


def tiny(**changes):
    "`TINY` with settings changed: a group's as a dictionary, which leaves the rest of the group as it is."
    kept = {k: dict(v) if isinstance(v, dict) else v for k, v in TINY.items()}
    return kept | {k: kept.get(k, {}) | v if isinstance(v, dict) else v for k, v in changes.items()}


def computed(space, chosen):
    "Runs cells one after the other in this process and writes what they found."
    from xtl.transfer.cell import run_cell
    from xtl.transfer.results import write_cell
    for cell in chosen: write_cell(space, cell, run_cell(space, cell))


def finished(space, chosen=None):
    """A study that was laid out, with these cells, else all, run in this process and the tables collected; where it has
    two stages, and all cells the first, with those that go on."""
    from xtl.study.designs import cells
    from xtl.transfer.collected import collect
    from xtl.transfer.results import leave_phase2, stale_cells
    from xtl.transfer.stages import decide
    computed(space, cells(space.study) if chosen is None else chosen)
    if (space := decide(space)).kept is not None:
        stale = stale_cells(space)
        computed(space, [cell for cell in cells(space.study) if cell.name in stale])
        leave_phase2(space.out)
    collect(space.out)
    return space
