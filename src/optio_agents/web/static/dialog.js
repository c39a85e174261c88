// One question to the person, in front of everything else.

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

export async function prompt(title, value, note) {
  const input = el('input', { type: 'text', value, 'aria-label': title, maxlength: 40 });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault(); // or what has the focus next takes it, too
    dialog().querySelector('.main').click();
  });
  return show(title, el('div', {}, el('p', {}, note), input), [['Cancel', () => null], ['Keep', () => input.value, 'main']]);
}
