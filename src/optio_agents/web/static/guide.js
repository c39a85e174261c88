// The guide, as `optio-agents help` has it.

import { get } from './api.js';
import { clear, el } from './dom.js';
import { markdown } from './markdown.js';

const inside = (address) => {
  const found = /^([\w-]+)\.md(#.*)?$/.exec(address);
  return found && `#/guide/${found[1]}`;
};

export function guide(main, page) {
  const body = el('article', { class: 'guide' });
  const index = el('nav', { class: 'index', 'aria-label': 'Pages of the guide' });
  clear(main, el('div', { class: 'reading' }, index, body));
  const load = async () => {
    const { pages } = await get('/api/guide');
    const chosen = page || pages[0].page;
    clear(index, pages.map((one) => el('a', { href: `#/guide/${one.page}`, 'aria-current': one.page === chosen ? 'page' : null }, one.title)));
    const { text } = await get(`/api/guide/${encodeURIComponent(chosen)}`);
    clear(body, markdown(text, inside));
    document.title = `${text.split('\n')[0].replace(/^# /, '')} · optio-agents`;
  };
  load().catch((trouble) => clear(body, el('p', { class: 'none' }, trouble.message)));
  return null;
}
