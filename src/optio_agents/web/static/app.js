// The page: what its address names is shown. Nothing of an agent's decides what that is.

import { onLeft, post } from './api.js';
import { clear, el } from './dom.js';
import { guide } from './guide.js';
import { introduce } from './me.js';
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

window.addEventListener('hashchange', route);
route();
