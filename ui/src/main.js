import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/shell.css';
import './styles/chat.css';
import './styles/pages.css';
import { html } from './lib/html.js';
import { openLibrary } from './state/library.js';
import { startWatching } from './state/server.js';
import { applyTheme } from './state/settings.js';
import { App } from './views/app.js';

applyTheme();
openLibrary();
startWatching();
render(html`<${App} />`, document.getElementById('app'));
