import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("the types of the API are those of its description (npm run generate)", () => {
  // In a process of its own, as the generator doesn't run in a browser's environment.
  const script = "import('./scripts/generate.mjs').then(async (g) => process.stdout.write(await g.schema()))";
  const made = execFileSync(process.execPath, ["-e", script], { encoding: "utf8", maxBuffer: 8 << 20 });
  expect(readFileSync("src/api/schema.d.ts", "utf8") === made).toBe(true);
}, 30_000);
