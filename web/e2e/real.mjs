// The desk against the real service: `switchboard demo`, whose simulated
// customers write by themselves.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, open, signIn, until } from "./browser.mjs";

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts the demo, and gives what it prints about the desk. */
async function startDemo(binary) {
  const folder = await mkdtemp(join(tmpdir(), "switchboard-e2e-"));
  const demo = spawn(binary, ["demo"], {
    env: {
      ...process.env,
      SWITCHBOARD_DATA_DIR: folder,
      SWITCHBOARD_HTTP_ADDR: `127.0.0.1:${await freePort()}`,
      SWITCHBOARD_OPS_ADDR: `127.0.0.1:${await freePort()}`,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => demo.once("exit", resolve));
  let text = "";
  let errors = "";
  demo.stderr.on("data", (chunk) => {
    errors = (errors + chunk).slice(-8000);
  });
  const facts = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the demo did not start:\n${text}\n${errors}`)), 60_000);
    demo.stdout.on("data", (chunk) => {
      text += chunk;
      const find = (name) => new RegExp(`${name}: (\\S+)`).exec(text)?.[1];
      const found = { url: find("desk"), login: find("login"), password: find("password") };
      if (found.url && found.login && found.password) {
        clearTimeout(timer);
        resolve(found);
      }
    });
    ended.then((code) => reject(new Error(`the demo ended with ${code}:\n${errors}`)));
  });
  return {
    ...facts,
    stop: async () => {
      demo.kill("SIGTERM");
      const timer = setTimeout(() => demo.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(timer);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export async function testReal(binary) {
  const demo = await startDemo(binary);
  const browser = await launch();
  try {
    const { page, calm, context } = await open(browser, demo.url);
    await page.getByLabel("Login").fill(demo.login);
    await page.getByLabel("Password", { exact: true }).fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").waitFor();
    await signIn(page, demo.login, demo.password);

    // A customer writes, and the operator takes the chat.
    await page.getByRole("tab", { name: /Queue/ }).click();
    await page.getByRole("button", { name: "Accept" }).first().waitFor({ timeout: 60_000 });
    await page.getByRole("button", { name: "Accept" }).first().click();
    const field = page.getByLabel("Message", { exact: true });
    await field.waitFor();
    await page.locator("[data-side=in] .bubble").first().waitFor();

    // The answer reaches the platform.
    await field.fill("Hello from the desk");
    await field.press("Enter");
    const answer = page.locator("[data-side=out]", { hasText: "Hello from the desk" });
    await answer.locator(":is([data-status=sent], [data-status=delivered], [data-status=read])").waitFor();
    assert.equal(await answer.count(), 1);

    // A file goes the same way.
    await page.locator("input[type=file]").setInputFiles({
      name: "terms.txt",
      mimeType: "text/plain",
      buffer: Buffer.from("The terms."),
    });
    await page.locator(".chip[data-state=ready]").waitFor();
    await field.press("Enter");
    const file = page.locator("[data-side=out]", { hasText: "terms.txt" });
    await file.locator(":is([data-status=sent], [data-status=delivered], [data-status=read])").waitFor();
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      file.getByRole("button", { name: /terms\.txt/ }).click(),
    ]);
    assert.equal(download.suggestedFilename(), "terms.txt");

    // What is written without a connection is kept over a reload, and sent once.
    await page.reload();
    await page.getByRole("tab", { name: /Mine/ }).click();
    await page.locator(".line-open").first().click();
    await field.waitFor();
    await answer.waitFor();
    assert.equal(await answer.count(), 1);
    await context.setOffline(true);
    await field.fill("Written offline");
    await field.press("Enter");
    await context.setOffline(false);
    const late = page.locator("[data-side=out]", { hasText: "Written offline" });
    await late.locator(":is([data-status=sent], [data-status=delivered], [data-status=read])").waitFor();
    assert.equal(await late.count(), 1);

    // The chat ends, and so does the session.
    await page.getByRole("button", { name: "Close chat" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Close chat" }).click();
    await until(async () => assert.equal(await page.locator(".conversation").count(), 0));
    await page.locator(".account-button").click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await page.getByLabel("Login").waitFor();
    calm();
    console.log("ok    the desk against switchboard demo");
  } finally {
    await browser.close();
    await demo.stop();
  }
}
