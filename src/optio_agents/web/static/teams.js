// Teams: who called whom, how long each took and what it used, while it happens.

import { Stream, get, post } from './api.js';
import { me } from './dialog.js';
import { amount, clear, clock, day, el, money, span } from './dom.js';
import { markdown } from './markdown.js';

// What waits for people, each answered here or anywhere; one that is being answered stays.
class Questions {
  constructor() {
    this.cards = new Map();
    this.node = el('section', { class: 'asked', 'aria-label': 'What waits for people' });
  }

  async load() {
    const { questions } = await get('/api/questions');
    const wanted = new Map(questions.map((one) => [`${one.team} ${one.turn} ${one.number}`, one]));
    for (const [key, card] of this.cards) {
      if (!wanted.has(key)) { card.remove(); this.cards.delete(key); }
    }
    for (const [key, one] of wanted) {
      if (!this.cards.has(key)) { this.cards.set(key, this.card(one)); this.node.append(this.cards.get(key)); }
    }
  }

  card(one) {
    const words = el('textarea', { rows: 2, 'aria-label': `Answer of ${one.name}`, placeholder: 'The answer' });
    const note = el('p', { class: 'note', role: 'status' }, one.refused && `the last answer does not fit: ${one.refused}`);
    const send = async (event) => {
      event.preventDefault();
      if (!words.value.trim()) return;
      try {
        const path = `/api/turns/${encodeURIComponent(one.team)}/${encodeURIComponent(one.turn)}/answer`;
        const { receipt } = await post(path, { text: words.value, number: one.number, by: me() });
        note.textContent = receipt === 'late' ? 'it was answered before' : 'answered';
      } catch (trouble) {
        note.textContent = `not answered: ${trouble.message}`;
      }
    };
    return el('form', { class: 'request', onsubmit: send },
      el('h3', {}, `${one.sender || 'Somebody'} asks ${one.name}`), markdown(one.words), words,
      el('div', { class: 'buttons' }, el('button', { class: 'main' }, 'Answer')), note);
  }
}

export function teams(main) {
  const list = el('ul', { class: 'rows' });
  const asked = new Questions();
  clear(main, el('div', { class: 'overview' }, asked.node, el('h1', {}, 'What was asked of teams'), list));
  let timer = 0;
  const load = async () => {
    try {
      await asked.load();
      const { turns } = await get('/api/turns');
      clear(list, turns.length ? turns.map((one) => el('li', { class: `row ${kind(one)}` },
        el('a', { class: 'name', href: `#/teams/${encodeURIComponent(one.team)}/${encodeURIComponent(one.turn)}` }, `${one.team}: ${one.name}`),
        el('span', { class: 'title' }, ''), el('span', { class: 'state' }, one.state), el('span', { class: 'progress' }),
        el('span', { class: 'facts' }, el('span', { title: day(one.created) }, took(one)), used(one)),
        el('span', { class: 'last' }, one.asked.slice(0, 300)))) : el('li', { class: 'none' }, 'No team keeps its turns in this journal.'));
    } catch (trouble) {
      clear(list, el('li', { class: 'none' }, trouble.message));
    }
    timer = setTimeout(load, 5000);
  };
  load();
  return () => clearTimeout(timer);
}

const kind = (one) => ({ completed: 'done', running: 'works', ready: 'quiet', sleeping: 'away', cancelled: 'quiet' }[one.state] || 'failed');
const took = (one) => span((one.ended || Date.now() / 1000) - (one.started || one.created));

function used({ used: found }) {
  const parts = [found.tokens && `${amount(found.tokens)} tokens`, found.steps && `${amount(found.steps)} steps`, found.usd && money(found.usd)];
  return parts.filter(Boolean).map((one) => el('span', {}, one));
}

export function tree(main, team, root) {
  const turns = new Map();
  const nodes = new Map(); // of each turn: where it stands, and where what it called stands
  const top = el('ul', { class: 'tree', role: 'tree', 'aria-label': 'Turns' });
  const draw = (one) => {
    let known = nodes.get(one.turn);
    if (!known) {
      const line = el('div', {});
      const below = el('ul', { role: 'group' });
      const item = el('li', { role: 'treeitem', 'aria-selected': 'false' }, line, below);
      known = { line, below };
      nodes.set(one.turn, known);
      (nodes.get(one.parent)?.below || top).append(item);
    }
    const open = known.line.querySelector('details')?.open;
    known.line.className = kind(one);
    const details = el('details', { open }, el('summary', {},
      el('span', { class: 'name' }, one.name), el('span', { class: 'state' }, one.state === 'sleeping' && one.until ? `sleeping until ${clock(one.until)}` : one.state),
      el('span', { class: 'facts' }, el('span', { class: 'took' }, took(one)), used(one))),
    el('h3', {}, 'Asked'), markdown(one.asked || '(nothing)'), el('h3', {}, 'Answered'), markdown(one.said || '(nothing yet)'),
    el('p', { class: 'dim' }, `turn ${one.turn}, `, el('a', { href: `#/sessions/${encodeURIComponent(one.turn)}` }, 'its session'), ', where it is an agent'));
    clear(known.line, details);
  };
  const stream = new Stream(`/api/turns/${encodeURIComponent(team)}/${encodeURIComponent(root)}`, {
    message: ({ turns: rows }) => rows.forEach((one) => { turns.set(one.turn, one); draw(one); }),
    over: () => { if (!turns.size) clear(top, el('li', { class: 'none' }, 'There is no such turn.')); },
  });
  const ticking = setInterval(() => turns.forEach((one) => { if (!one.over) nodes.get(one.turn).line.querySelector('.took').textContent = took(one); }), 1000);
  clear(main, el('div', { class: 'overview' }, el('p', {}, el('a', { href: '#/teams' }, 'All teams')), el('h1', {}, team), top));
  return () => {
    clearInterval(ticking);
    stream.end();
  };
}
