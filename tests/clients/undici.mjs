// undici, which has no Digest, with what its users write themselves: undici.mjs URL USER PASSWORD FILE.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [url, user, password, file] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const { request } = require("undici");
console.log(`${require("undici/package.json").version}, Node ${process.versions.node}`);

const hash = (text) => createHash("sha256").update(text).digest("hex");
const post = (headers) =>
  request(url, { method: "POST", body: readFileSync(file), headers: { "Content-Type": "text/xml", ...headers } });
let challenge;
let count = 0;

function authorization() {
  const part = (name) => challenge.match(new RegExp(`${name}="([^"]*)"`))[1];
  const uri = new URL(url).pathname;
  const nc = String(++count).padStart(8, "0");
  const cnonce = randomBytes(8).toString("hex");
  const ha1 = hash(`${user}:${part("realm")}:${password}`);
  const response = hash(`${ha1}:${part("nonce")}:${nc}:${cnonce}:auth:${hash(`POST:${uri}`)}`);
  return (
    `Digest username="${user}", realm="${part("realm")}", nonce="${part("nonce")}", uri="${uri}", ` +
    `algorithm=SHA-256, qop=auth, nc=${nc}, cnonce="${cnonce}", response="${response}"`
  );
}

for (let i = 0; i < 2; i++) {
  let answer = await post(challenge ? { Authorization: authorization() } : {});
  await answer.body.dump();
  if (answer.statusCode === 401) {
    challenge = [answer.headers["www-authenticate"]].flat().find((one) => one.includes("algorithm=SHA-256"));
    count = 0;
    answer = await post({ Authorization: authorization() });
    await answer.body.dump();
  }
  if (answer.statusCode !== 200) process.exit(1);
}
