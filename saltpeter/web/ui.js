// What every module draws with: preact, written as tagged templates, so that there is no build step.

import htm from './vendor/htm.js';
import { h } from './vendor/preact.js';

export { Component, render } from './vendor/preact.js';
export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from './vendor/hooks.js';

export const html = htm.bind(h);
