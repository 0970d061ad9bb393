// digest-fetch with Node's own fetch: digest_fetch.mjs URL USER PASSWORD FILE. NODE_PATH does not reach modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [url, user, password, file] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const { default: DigestClient } = await import(require.resolve("digest-fetch"));
const about = JSON.parse(readFileSync("node_modules/digest-fetch/package.json"));
console.log(`${about.version}, Node ${process.versions.node}`);
const client = new DigestClient(user, password);
for (let i = 0; i < 2; i++) {
  const options = { method: "POST", body: readFileSync(file), headers: { "Content-Type": "text/xml" } };
  const answer = await client.fetch(url, options);
  if (answer.status !== 200) process.exit(1);
}
