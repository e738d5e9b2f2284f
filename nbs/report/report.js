(() => {
  const value = cell => cell.dataset.sort ?? cell.textContent.trim();
  const compare = (a, b) => {
    if (a === '' || b === '') return (a === '') - (b === '');
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sort = button => {
    const head = button.closest('th'), table = button.closest('table'), body = table.tBodies[0];
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const rows = [...body.rows].sort((r, s) => (down ? -1 : 1) * compare(value(r.cells[head.cellIndex]), value(s.cells[head.cellIndex])));
    body.append(...rows);
  };
  document.addEventListener('click', event => {
    const button = event.target.closest('.xtl-table thead button');
    if (button) sort(button);
  });
})();
