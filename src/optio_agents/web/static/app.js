// The page: what its address names is shown. Nothing of an agent's decides what that is.

import { get, onLeft, post } from './api.js';
import { clear, el } from './dom.js';
import { introduce } from './dialog.js';
import { markdown } from './markdown.js';
import { begin, end, overview } from './overview.js';
import { session } from './session.js';
import { teams, tree } from './teams.js';

const main = document.getElementById('main');
let close = null;
let inside = false;

onLeft((words) => login(words));

function login(words) {
  close?.();
  close = null;
  end();
  inside = false;
  const token = el('input', { type: 'password', autocomplete: 'off', required: true, 'aria-label': 'Token' });
  const note = el('p', { class: 'note', role: 'status' }, words || '');
  clear(main, el('form', { class: 'login', onsubmit: (event) => { event.preventDefault(); enter({ token: token.value }).then(route, (trouble) => { note.textContent = trouble.message; }); } },
    el('h1', {}, 'Who is it?'), note,
    el('p', {}, 'Open the link that `optio-agents serve` prints; Enter in its terminal prints another. Or give the token that it keeps with --token-file:'),
    el('div', { class: 'buttons' }, token, el('button', { class: 'main' }, 'Enter'))));
}

const enter = (given) => post('/api/enter', given);

async function route() {
  const [, where = '', first = '', second = '', third = ''] = location.hash.split('/').map(decodeURIComponent);
  if (where === 'enter') {
    history.replaceState(null, '', '#/'); // it is used up, and kept nowhere
    try {
      await enter({ code: first });
    } catch (trouble) {
      return login(trouble.message);
    }
  }
  if (!inside) {
    try {
      await introduce();
      inside = true;
    } catch (trouble) {
      if (trouble.status !== 401) clear(main, el('p', { class: 'none' }, trouble.message));
      return null;
    }
  }
  begin();
  close?.();
  document.title = 'optio-agents';
  for (const link of document.querySelectorAll('.top nav a')) {
    const here = link.getAttribute('href').split('/')[1];
    const current = here === (where === 'sessions' || where === 'enter' ? '' : where);
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const pages = {
    sessions: () => session(main, first, second === 'requests' ? 'log' : second || 'log', second === 'requests' ? third : ''),
    teams: () => (second ? tree(main, first, second) : teams(main)),
    guide: () => guide(main, first),
  };
  close = (pages[where] || (() => overview(main)))();
  return null;
}

// The guide, as `optio-agents help` has it.

const pageOf = (address) => {
  const found = /^([\w-]+)\.md(#.*)?$/.exec(address);
  return found && `#/guide/${found[1]}`;
};

function guide(main, page) {
  const body = el('article', { class: 'guide' });
  const index = el('nav', { class: 'index', 'aria-label': 'Pages of the guide' });
  clear(main, el('div', { class: 'reading' }, index, body));
  const load = async () => {
    const { pages } = await get('/api/guide');
    const chosen = page || pages[0].page;
    clear(index, pages.map((one) => el('a', { href: `#/guide/${one.page}`, 'aria-current': one.page === chosen ? 'page' : null }, one.title)));
    const { text } = await get(`/api/guide/${encodeURIComponent(chosen)}`);
    clear(body, markdown(text, pageOf));
    document.title = `${text.split('\n')[0].replace(/^# /, '')} · optio-agents`;
  };
  load().catch((trouble) => clear(body, el('p', { class: 'none' }, trouble.message)));
  return null;
}

window.addEventListener('hashchange', route);
route();
