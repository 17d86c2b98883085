// Runs the browser tests: each gets a page of its own, and any error that the
// page reports (an exception, a breach of the content security policy, an
// unexpected line on the console) fails it.
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const results = new URL("../test-results/", import.meta.url).pathname;

function executable() {
  const found = [
    process.env.CHROMIUM,
    "/usr/bin/chromium",
    "/usr/bin/google-chrome-stable",
    "/usr/bin/google-chrome",
  ].find((path) => path && existsSync(path));
  if (!found) throw new Error("no browser: install chromium, or name one in CHROMIUM");
  return found;
}

export function equal(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: got ${a}, want ${b}`);
}

export function ok(value, what) {
  if (!value) throw new Error(what);
}

/** Waits until probe gives something true; for what has no element to wait for. */
export async function until(probe, what, timeout = 10_000) {
  const end = Date.now() + timeout;
  let last;
  while (Date.now() < end) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(
    `${what}: not within ${timeout} ms; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`,
  );
}

export class Runner {
  passed = 0;
  failed = 0;

  static async start() {
    const runner = new Runner();
    // A profile of its own, so that no test meets what another left.
    runner.profile = await mkdtemp(join(tmpdir(), "switchboard-e2e-"));
    runner.browser = await chromium.launch({
      executablePath: executable(),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        `--disk-cache-dir=${runner.profile}`,
      ],
    });
    return runner;
  }

  /** only names tests to run, by a part of their names. */
  only = process.argv[2] ?? "";

  async test(name, run, { prefs = { language: "en" }, context: options = {} } = {}) {
    if (!name.includes(this.only)) return;
    const context = await this.browser.newContext({
      viewport: { width: 1280, height: 800 },
      locale: "en-GB",
      ...options,
    });
    await context.addInitScript((stored) => {
      if (!localStorage.getItem("switchboard.prefs")) localStorage.setItem("switchboard.prefs", JSON.stringify(stored));
      document.addEventListener("securitypolicyviolation", (e) => {
        console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`);
      });
    }, prefs);
    context.setDefaultTimeout(15_000);
    const page = await context.newPage();
    const problems = [];
    // What the browser itself says of refused requests and cut connections is
    // what some tests are about.
    const expected = /Failed to load resource|WebSocket connection|net::ERR_/;
    page.on("pageerror", (e) => problems.push(`exception: ${e.message}`));
    page.on("console", (m) => {
      if (["error", "warning"].includes(m.type()) && !expected.test(m.text())) problems.push(`console: ${m.text()}`);
    });
    const start = Date.now();
    const cleanups = [];
    try {
      await run(page, (cleanup) => cleanups.push(cleanup));
      if (problems.length > 0) throw new Error(`the page reported:\n  ${problems.join("\n  ")}`);
      this.passed++;
      console.log(`ok    ${name} (${Date.now() - start} ms)`);
    } catch (error) {
      this.failed++;
      console.log(
        `FAIL  ${name} (${Date.now() - start} ms)\n  ${String(error.stack ?? error).replaceAll("\n", "\n  ")}`,
      );
      for (const p of problems) console.log(`  ${p}`);
      await mkdir(results, { recursive: true });
      const shot = join(results, `${name.replace(/[^\p{L}\p{N}]+/gu, "-")}.png`);
      await page.screenshot({ path: shot, timeout: 5000 }).then(
        () => console.log(`  picture: ${shot}`),
        () => undefined,
      );
    } finally {
      await context.close();
      for (const cleanup of cleanups.reverse()) await cleanup();
    }
  }

  async end() {
    await this.browser.close();
    await rm(this.profile, { recursive: true, force: true });
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.failed > 0 || this.passed === 0 ? 1 : 0;
  }
}

/** Serious breaches of the accessibility rules on the page as it is. */
export async function accessibility(page, what) {
  const axe = new URL("../node_modules/axe-core/axe.min.js", import.meta.url).pathname;
  const { readFile } = await import("node:fs/promises");
  // Evaluated through the debugger: the policy would forbid a script element.
  await page.evaluate(await readFile(axe, "utf8"));
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
      // A desk is one application: not all of it is in landmarks.
      rules: { region: { enabled: false } },
    });
    return violations
      .filter((v) => v.impact === "serious" || v.impact === "critical" || v.impact === "moderate")
      .map(
        (v) =>
          `${v.id} (${v.impact}): ${v.nodes
            .slice(0, 3)
            .map((n) => `${n.target.join(" ")} ${n.any[0]?.message ?? ""}`)
            .join(" | ")}`,
      );
  });
  if (found.length > 0) throw new Error(`${what}, accessibility:\n  ${found.join("\n  ")}`);
}
