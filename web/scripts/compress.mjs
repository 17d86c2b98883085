// Puts a gzip copy beside every text file of the build, and the placeholder
// back that lets the Go package compile without a build.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

const dist = new URL("../dist/", import.meta.url).pathname;
// Below this a copy saves less than its own header and the round trip's packet.
const worthwhile = 1024;

for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !/\.(js|css|svg|html|json)$/.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const content = await readFile(path);
  if (content.length < worthwhile) continue;
  const packed = await promisify(gzip)(content, { level: 9 });
  await writeFile(`${path}.gz`, packed);
}
await writeFile(join(dist, ".gitkeep"), "The build of the desk goes here (make build).\n");
