// Keys. A page binds what it does for as long as it is shown; `?` lists them all.

import { useLayoutEffect } from './ui.js';

const PAUSE_MS = 1000; // between the keys of `g j`

const layers = [];
let first = ''; // the first of two keys
let firstAt = 0;

/** Bind keys such as `j`, `Enter` or `g n`, above what is bound already. Returns what unbinds them. */
export function bindKeys(actions) {
  layers.unshift(actions);
  return () => layers.splice(layers.indexOf(actions), 1);
}

/** The same for as long as a component is shown, from the moment that it is. */
export function useKeys(actions) {
  useLayoutEffect(() => {
    const unbind = bindKeys(actions);
    return () => void unbind();
  });
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (isTyping(event.target) && !(event.key === 'Escape' || isList(event))) return;
  const action = lookUp(event);
  if (action === undefined) return;
  event.preventDefault();
  action(event);
});

function lookUp(event) {
  const both = event.timeStamp - firstAt < PAUSE_MS ? `${first} ${event.key}` : event.key;
  [first, firstAt] = [event.key, event.timeStamp];
  const find = (key) => layers.find((layer) => key in layer)?.[key];
  if (event.key === 'Enter' && event.target.closest?.('a, button, summary')) return undefined; // it has its own
  return find(both) ?? find(event.key);
}

const isTyping = (element) => element.matches?.('input:not([type=checkbox]), textarea, select');

/** Arrows and Enter in a search field move in the list below it. */
const isList = (event) => event.target.type === 'search' && ['ArrowDown', 'ArrowUp', 'Enter'].includes(event.key);
