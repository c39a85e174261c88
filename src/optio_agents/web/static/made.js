// What the agent handed over, and what it changed: to look at, and to take away.

import { get } from './api.js';
import { clear, diff, el, size } from './dom.js';
import { markdown } from './markdown.js';

const at = (path, part, name) => `${path}/${part}/${name.split('/').map(encodeURIComponent).join('/')}`;

export function made(body, path) {
  const list = el('ul', { class: 'made' });
  const pane = el('div', { class: 'pane', tabindex: '0', role: 'region', 'aria-label': 'What it made' }, list);
  let timer = 0;
  let before = '';
  async function load() {
    try {
      const { deliverables } = await get(`${path}/deliverables`);
      const now = JSON.stringify(deliverables);
      if (now !== before) clear(list, deliverables.length ? deliverables.map((one) => row(path, one)) : el('li', { class: 'none' }, 'It has handed nothing over yet.'));
      before = now;
    } catch (trouble) {
      clear(list, el('li', { class: 'none' }, trouble.message));
    }
    timer = setTimeout(load, 5000);
  }
  clear(body, pane);
  load();
  return () => clearTimeout(timer);
}

function row(path, one) {
  const inner = el('div', { class: 'shown', hidden: true });
  const button = el('button', { type: 'button', 'aria-expanded': 'false', onclick: async () => {
    inner.hidden = !inner.hidden;
    button.setAttribute('aria-expanded', String(!inner.hidden));
    if (inner.hidden || inner.dataset.done) return;
    clear(inner, el('p', { class: 'dim' }, 'bringing it here …'));
    try {
      clear(inner, show(path, one, await get(at(path, 'text', one.path))));
      inner.dataset.done = 'yes';
    } catch (trouble) {
      clear(inner, el('p', { class: 'note' }, trouble.message));
    }
  } }, 'Show');
  const reply = one.reply?.replace(`deliverable ${one.path}: `, '') || (one.size === null ? 'announced' : 'fetched');
  return el('li', {}, el('span', { class: 'name' }, one.words), el('span', { class: 'dim' }, size(one.size)), el('span', { class: 'dim' }, reply),
    el('span', { class: 'buttons' }, button, el('a', { class: 'button', href: at(path, 'deliverables', one.path), download: '' }, 'Download')), inner);
}

function show(path, one, { picture, text, cut }) {
  if (picture) return el('img', { src: at(path, 'deliverables', one.path), alt: one.words });
  if (text === null) return el('p', { class: 'dim' }, 'This is neither text nor a picture: download it.');
  return [
    /\.(md|markdown)$/i.test(one.path) ? markdown(text) : /\.(diff|patch)$/i.test(one.path) ? diff(text) : el('pre', { tabindex: '0' }, text),
    cut && el('p', { class: 'dim' }, 'This is its beginning: download it for all of it.'),
  ];
}

export function changes(body, path) {
  const pane = el('div', { class: 'pane', tabindex: '0', role: 'region', 'aria-label': 'What it changed' });
  const load = async () => {
    clear(pane, el('p', { class: 'dim' }, 'asking git on its host …'));
    const again = el('button', { type: 'button', onclick: load }, 'Look again');
    try {
      const { text, cut } = await get(`${path}/changes`);
      clear(pane, again, text ? diff(text) : el('p', { class: 'none' }, 'Nothing has changed since it began.'), cut && el('p', { class: 'dim' }, 'There is more: `optio-agents diff` has all of it.'));
    } catch (trouble) {
      clear(pane, again, el('p', { class: 'none' }, trouble.message));
    }
  };
  clear(body, pane);
  load();
  return null;
}
