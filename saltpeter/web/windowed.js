// A list of which only the rows in sight exist, however long it is. Rows are of one height.

import { html, useEffect, useLayoutEffect, useRef, useState } from './ui.js';

const MARGIN = 8; // rows drawn beyond each edge, for scrolling before the next frame

/** The rows [first, end) to draw of `count` rows, scrolled to `top` in a window of `height` pixels. Where the list has
    just become shorter than that, those are its last rows: the browser is about to scroll there. */
export function inSight(count, rowHeight, top, height) {
  const last = Math.max(0, count * rowHeight - height);
  const from = Math.min(top, last);
  const first = Math.max(0, Math.floor(from / rowHeight) - MARGIN);
  return [first, Math.min(count, Math.ceil((from + height) / rowHeight) + MARGIN)];
}

/** `row(index)` draws one row; `selected` is kept in sight when it changes, the end always if `stick`.
    `onScrolled(element, wentUp)` and `onSize(element)` tell of the box; further properties go to it. */
export function Windowed({ count, rowHeight, row, selected = -1, head = null, headHeight = 0, stick, onScrolled, onSize, ...box }) {
  const element = useRef(null);
  const lastTop = useRef(0);
  const [view, setView] = useState({ top: 0, height: 800 });
  const look = () => {
    const { scrollTop, clientHeight } = element.current;
    setView((old) => (old.top === scrollTop && old.height === clientHeight ? old : { top: scrollTop, height: clientHeight }));
  };
  useLayoutEffect(() => {
    look();
    const observer = new ResizeObserver(() => (look(), onSize?.(element.current)));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => keepInSight(element.current, selected, rowHeight, headHeight), [selected]);
  useLayoutEffect(() => {
    if (stick) element.current.scrollTop = element.current.scrollHeight;
  });
  const scrolled = () => {
    onScrolled?.(element.current, element.current.scrollTop < lastTop.current);
    lastTop.current = element.current.scrollTop;
    look();
  };
  const [first, end] = inSight(count, rowHeight, view.top - headHeight, view.height);
  const rows = [];
  for (let index = first; index < end; index += 1) rows.push(row(index));
  return html`<div ...${box} ref=${element} onScroll=${scrolled} class="windowed ${box.class ?? ''}">
    ${head}
    <div class="all-rows" role="presentation" style=${{ height: `${count * rowHeight}px` }}>
      <div class="rows-in-sight" role="presentation" style=${{ transform: `translateY(${first * rowHeight}px)` }}>${rows}</div>
    </div>
  </div>`;
}

function keepInSight(element, index, rowHeight, headHeight) {
  if (index < 0) return;
  const top = index * rowHeight;
  const room = element.clientHeight - headHeight;
  if (top < element.scrollTop) element.scrollTop = top;
  else if (top + rowHeight > element.scrollTop + room) element.scrollTop = top + rowHeight - room;
}
