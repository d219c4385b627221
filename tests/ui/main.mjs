// Run by tests/ui_test.py, which starts the servers.
import { chatChecks } from './chat.mjs';
import { finish } from './harness.mjs';
import { hostileChecks } from './hostile.mjs';
import { pageChecks } from './pages.mjs';
import { refusalChecks } from './refusals.mjs';

await chatChecks();
await hostileChecks();
await pageChecks();
await refusalChecks();
await finish();
