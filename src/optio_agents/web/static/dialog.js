// One question to the person, in front of everything else; and who they are.

import { get } from './api.js';
import { clear, el } from './dom.js';

const dialog = () => document.getElementById('dialog');

function show(title, body, buttons) {
  return new Promise((resolve) => {
    const box = dialog();
    const close = (value) => () => { box.onclose = null; box.close(); resolve(value()); };
    clear(box, el('h2', { id: 'dialog-title' }, title), body, el('div', { class: 'buttons' },
      buttons.map(([words, value, kind]) => el('button', { type: 'button', class: kind || '', onclick: close(value) }, words))));
    box.onclose = () => resolve(null);
    box.showModal();
  });
}

export const ask = (title, text, yes, kind = 'main') => show(title, el('p', { class: 'quoted' }, text), [
  ['Cancel', () => false], [yes, () => true, kind],
]);

async function prompt(title, value, note) {
  const input = el('input', { type: 'text', value, 'aria-label': title, maxlength: 40 });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault(); // or what has the focus next takes it, too
    dialog().querySelector('.main').click();
  });
  return show(title, el('div', {}, el('p', {}, note), input), [['Cancel', () => null], ['Keep', () => input.value, 'main']]);
}

// Who acts here, as others read it beside what was decided.

let fallback = '';

export const me = () => localStorage.getItem('me') || fallback;

export async function introduce() {
  const button = document.getElementById('me');
  const { name } = await get('/api/about');
  fallback = name;
  const show = () => { button.textContent = `You: ${me()}`; button.setAttribute('aria-label', `You are ${me()}; change it`); };
  button.onclick = async () => {
    const said = await prompt('Who are you?', me(), 'Others read this beside what you decide.');
    if (said !== null) localStorage.setItem('me', said.trim());
    show();
  };
  show();
}
