// The desk against the real service with its simulated customers.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { png } from "../mock/server.mjs";
import { equal, ok, until } from "./harness.mjs";

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function demo(binary) {
  const dir = await mkdtemp(join(tmpdir(), "switchboard-demo-"));
  const [http, ops] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${http}`;
  const child = spawn(binary, ["demo"], {
    cwd: dir,
    env: {
      ...process.env,
      SWITCHBOARD_DATA_DIR: join(dir, "data"),
      SWITCHBOARD_HTTP_ADDR: `127.0.0.1:${http}`,
      SWITCHBOARD_OPS_ADDR: `127.0.0.1:${ops}`,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  let ended = false;
  child.stdout.on("data", (d) => (said += d));
  child.stderr.on("data", (d) => (said += d));
  const gone = new Promise((resolve) =>
    child.on("exit", () => {
      ended = true;
      resolve();
    }),
  );
  const stop = async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
    await gone;
    clearTimeout(timer);
    await rm(dir, { recursive: true, force: true });
  };
  try {
    const login = await until(
      () => {
        if (ended) throw new Error(`it ended: ${said.slice(-2000)}`);
        const found = /login:\s*(\S+)[\s\S]*?password:\s*(\S+)/.exec(said);
        return found && { login: found[1], password: found[2] };
      },
      "the demo tells its login",
      90_000,
    );
    await until(async () => (await fetch(`http://127.0.0.1:${ops}/readyz`)).ok, "ready", 60_000);
    return { url, stop, ...login };
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${said.slice(-2000)}`);
  }
}

export async function realTests(t, binary) {
  await t.test(
    "the real service: take a chat, answer with text and a picture, resume, sign out",
    async (page, cleanup) => {
      const service = await demo(binary);
      cleanup(service.stop);
      const answer = await page.goto(service.url);
      ok(answer.headers()["content-security-policy"]?.includes("script-src 'self'"), "the policy");
      await page.fill("input[name=login]", service.login);
      await page.fill("input[name=password]", service.password);
      await page.press("input[name=password]", "Enter");
      await page.waitForSelector(".sidebar");
      await page.click("#tab-queue");
      await page.waitForSelector(".line-accept", { timeout: 60_000 });
      await page.click(".take-next button");
      await page.waitForSelector("#composer", { timeout: 20_000 });
      await page.waitForSelector(".message[data-side=in]");

      await page.fill("#composer", "Hello from the desk");
      await page.press("#composer", "Enter");
      const isSent = (status) => ["sent", "delivered", "read"].includes(status);
      const state = (text) =>
        page.locator(".message", { hasText: text }).locator(".status").first().getAttribute("data-status");
      await until(async () => isSent(await state("Hello from the desk")), "sent", 30_000);

      await page.setInputFiles(".composer input[type=file]", [
        { name: "plan.png", mimeType: "image/png", buffer: png(320, 240, [90, 140, 220]) },
      ]);
      await page.waitForSelector(".chip[data-state=ready]");
      await page.fill("#composer", "The plan");
      await page.press("#composer", "Enter");
      await until(async () => isSent(await state("The plan")), "the picture is sent", 30_000);
      await until(
        () =>
          page
            .locator(".message", { hasText: "The plan" })
            .locator("img")
            .evaluate((img) => img.naturalWidth === 320),
        "the picture is shown",
      );

      await page.setInputFiles(".composer input[type=file]", [
        { name: "terms.txt", mimeType: "text/plain", buffer: Buffer.from("The terms.") },
      ]);
      await page.waitForSelector(".chip[data-state=ready]");
      await page.press("#composer", "Enter");
      await until(async () => isSent(await state("terms.txt")), "the file is sent", 30_000);
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.click(".message .file:has-text('terms.txt')"),
      ]);
      equal(download.suggestedFilename(), "terms.txt", "the name");

      // What is there is there after a reload, and what is written without a
      // connection goes out with the next one; everything once.
      await page.reload();
      await page.waitForSelector("#tab-mine");
      await page.click("#tab-mine");
      await page.locator(".line-open").first().click();
      await page.waitForSelector(".message:has-text('The plan')");
      await page.context().setOffline(true);
      await page.fill("#composer", "Written offline");
      await page.press("#composer", "Enter");
      await page.context().setOffline(false);
      await until(async () => isSent(await state("Written offline")), "sent afterwards", 30_000);
      for (const text of ["Hello from the desk", "The plan", "Written offline"]) {
        equal(await page.locator(".message[data-side=out]", { hasText: text }).count(), 1, `copies of ${text}`);
      }

      await page.click(".chat-actions button:has-text('Close chat')");
      await page.click("[role=dialog] button:has-text('Close chat')");
      await page.waitForSelector(".nothing");
      await page.click(".account-button");
      await page.click("[role=menuitem]:has-text('Sign out')");
      await page.waitForSelector("input[name=login]");
    },
  );
}
