// Run by tests/ui_test.py, which starts the servers.
import { chatChecks } from './chat.mjs';
import { finish, order, until } from './harness.mjs';
import { hostileChecks } from './hostile.mjs';
import { pageChecks } from './pages.mjs';
import { refusalChecks } from './refusals.mjs';

await hostileChecks();
await refusalChecks();
// The learning system starts behind the model; by now it mostly has.
await until('the learning system', async () => (await fetch(`${order.open}/v1/sona/status`)).ok, 120_000);
await chatChecks();
await pageChecks();
await finish();
