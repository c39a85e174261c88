// All sessions: what waits for a person first, then what runs, then what is over.

import { Stream } from './api.js';
import { clear, day, el, money, soon, span } from './dom.js';

const STEP = 100; // sessions that are over, shown at once
const FILTERS = { all: 'All', waiting: 'Waiting', running: 'Running', over: 'Over' };
const sessions = new Map();
const texts = new Map(); // what a search looks at
let stream = null;
let changed = () => {};

function take({ sessions: rows, gone }) {
  for (const row of rows) {
    sessions.set(row.session, row);
    texts.set(row.session, [row.session, row.name, row.text, row.agent, row.host, row.state, row.last].filter(Boolean).join(' ').toLowerCase());
  }
  for (const id of gone) sessions.delete(id);
  changed();
}

export function begin() {
  stream ??= new Stream('/api/sessions/events', {
    all: () => sessions.clear(),
    message: take,
  });
}

export function end() {
  stream?.end();
  stream = null;
}

export const kind = (row) => {
  if (row.over) return row.outcome === 'done' ? 'done' : row.outcome === 'cancelled' ? 'quiet' : 'failed';
  if (row.waits) return 'waits';
  return /^(unattended|link down)/.test(row.state) ? 'away' : 'works';
};

export const stateWords = (row) => row.state + (row.verified ? ', verified' : '');

export function progress(row) {
  const percent = row.outcome === 'done' ? 100 : row.percent;
  if (percent === null || percent === undefined) return el('span', { class: 'progress' });
  return el('span', { class: 'progress' },
    el('progress', { max: 100, value: percent, 'aria-label': 'how far' }), el('span', {}, `${percent}%`));
}

const short = (path) => (path || '').split('/').pop();

function render(row) {
  const age = row.at ? span(Date.now() / 1000 - row.at) : '';
  return el('li', { class: `row ${kind(row)}`, 'data-id': row.session },
    el('a', { class: 'name', href: `#/sessions/${row.session}` }, row.name || row.session),
    el('span', { class: 'title' }, row.text || ''),
    el('span', { class: 'state' }, stateWords(row)),
    progress(row),
    el('span', { class: 'facts' },
      el('span', { class: 'age', title: row.at ? `began ${day(row.at)}` : '' }, age),
      el('span', { class: 'cost' }, money(row.usd)),
      el('span', {}, short(row.agent)), el('span', {}, row.host)),
    el('span', { class: 'last' }, row.last || ''));
}

// Keep what is there and put in what is new: who points at something still points at it.
function reconcile(list, rows, nodes) {
  let at = list.firstElementChild;
  const wanted = new Set(rows.map((row) => row.session));
  for (const node of [...list.children]) {
    if (!wanted.has(node.dataset.id)) {
      if (node === at) at = at.nextElementSibling;
      node.remove();
    }
  }
  for (const row of rows) {
    const known = nodes.get(row.session);
    let node = known?.node;
    if (known?.row !== row) {
      const fresh = render(row);
      if (node) {
        node.className = fresh.className;
        node.querySelector('.name').textContent = fresh.querySelector('.name').textContent;
        [...node.children].slice(1).forEach((one) => one.remove());
        node.append(...[...fresh.children].slice(1));
      } else node = fresh;
      nodes.set(row.session, { row, node });
    }
    if (node === at) at = at.nextElementSibling;
    else list.insertBefore(node, at);
  }
}

export function overview(main) {
  const nodes = new Map();
  const heads = { waiting: 'Waits for you', running: 'At work', over: 'Over' };
  const sections = Object.entries(heads).map(([name, words]) => {
    const count = el('span', { class: 'count' });
    const list = el('ul', { class: 'rows' });
    return { name, count, list, node: el('section', { class: name, hidden: true, 'aria-label': words }, el('h2', {}, words, ' ', count), list) };
  });
  let shown = STEP;
  let filter = 'all';
  const search = el('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search the sessions', oninput: () => { shown = STEP; draw(); } });
  const chips = Object.entries(FILTERS).map(([name, words]) => el('button', { type: 'button', 'aria-pressed': name === filter, onclick: (event) => {
    filter = name;
    shown = STEP;
    chips.forEach((chip) => chip.setAttribute('aria-pressed', chip === event.currentTarget));
    draw();
  } }, words));
  const more = el('button', { type: 'button', class: 'more', hidden: true, onclick: () => { shown += STEP; draw(); } });
  const none = el('p', { class: 'none', hidden: true });
  const draw = soon(() => {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const groups = { waiting: [], running: [], over: [] };
    for (const row of [...sessions.values()].reverse()) {
      const group = row.over ? 'over' : row.waits ? 'waiting' : 'running';
      const fits = filter === 'all' || filter === group || (filter === 'running' && !row.over);
      if (fits && wanted.every((word) => texts.get(row.session).includes(word))) groups[group].push(row);
    }
    for (const rows of Object.values(groups)) rows.sort((a, b) => b.at - a.at);
    for (const { name, count, list, node } of sections) {
      node.hidden = !groups[name].length;
      count.textContent = groups[name].length;
      reconcile(list, name === 'over' ? groups.over.slice(0, shown) : groups[name], nodes);
    }
    more.hidden = groups.over.length <= shown;
    more.textContent = `${groups.over.length - shown} more`;
    none.hidden = Object.values(groups).some((rows) => rows.length);
    none.textContent = sessions.size ? 'No session is like that.' : 'There are no sessions yet: `optio-agents run` starts one.';
    document.title = groups.waiting.length ? `(${groups.waiting.length}) optio-agents` : 'optio-agents';
  });
  const seen = new IntersectionObserver((found) => { if (found[0].isIntersecting && !more.hidden) more.click(); });
  seen.observe(more);
  clear(main, el('div', { class: 'overview' },
    el('h1', { class: 'unseen' }, 'Sessions'),
    el('div', { class: 'tools' }, search, el('div', { class: 'chips', role: 'group', 'aria-label': 'Which' }, chips)),
    sections.map(({ node }) => node), none, more));
  changed = draw;
  const ageing = setInterval(() => {
    for (const { node, row } of nodes.values()) {
      if (!row.over && row.at && node.isConnected) node.querySelector('.age').textContent = span(Date.now() / 1000 - row.at);
    }
  }, 10_000);
  draw();
  return () => {
    clearInterval(ageing);
    seen.disconnect();
    changed = () => {};
  };
}
