// The browser tests: `npm run e2e [part of a name]`. They need a build of the
// desk. Most run against the mock server, which can be made to fail in every
// way; with SWITCHBOARD_BIN set, the real service is used as well.
import { existsSync } from "node:fs";
import { Runner } from "./harness.mjs";
import { mockTests } from "./mock.mjs";
import { realTests } from "./real.mjs";

if (!existsSync(new URL("../dist/index.html", import.meta.url))) {
  console.error("there is no build of the desk: npm run build");
  process.exit(1);
}

const runner = await Runner.start();
try {
  await mockTests(runner);
  if (process.env.SWITCHBOARD_BIN) await realTests(runner, process.env.SWITCHBOARD_BIN);
} finally {
  await runner.end();
}
