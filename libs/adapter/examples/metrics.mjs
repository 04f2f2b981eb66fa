// Adds up an account's metrics stream in Node, without any package: what docs/metrics.md says, and nothing else.
//
//   node metrics.mjs nats://bus:4222 wallboard.creds ACCOUNT_ID
//
// Prints the totals of each metric as one line of JSON once it has read all that there is, by facts and by deltas.

import { createPrivateKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const [url, credentialsFile, account] = process.argv.slice(2);
const credentials = readFileSync(credentialsFile, 'utf8');
const [, jwt] = credentials.match(/-----BEGIN NATS USER JWT-----\s+(\S+)/);
const [, seed] = credentials.match(/-----BEGIN USER NKEY SEED-----\s+(\S+)/);
const name = JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url')).name;
const inbox = `_INBOX_${name}.reader`;
const filter = `metrics.${account}.>`;
const api = `$JS.API.CONSUMER`;
const BATCH = 500;

// The seed is base32: two bytes of prefix, 32 of the Ed25519 seed, two of checksum.
function privateKey(text) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = '';
  for (const letter of text) bits += alphabet.indexOf(letter).toString(2).padStart(5, '0');
  const bytes = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const prefix = Buffer.from('302e020100300506032b657004220420', 'hex');
  return createPrivateKey({ key: Buffer.concat([prefix, bytes.subarray(2, 34)]), format: 'der', type: 'pkcs8' });
}

const facts = new Map(); // by fact_id: seen twice, it is one fact
const deltas = {};

function take(subject, body) {
  const [, , family, metric] = subject.split('.');
  if (family === 'fact') {
    if (body.replaces) facts.delete(body.replaces);
    facts.set(body.fact_id, { metric, value: body.value });
  } else if (family === 'rollup') {
    const total = (deltas[metric] ??= { count: 0, sum: 0 });
    total.count += body.count;
    total.sum += body.sum;
  }
}

function finish() {
  const added = {};
  for (const { metric, value } of facts.values()) {
    const total = (added[metric] ??= { count: 0, sum: 0 });
    total.count += 1;
    total.sum += value;
  }
  console.log(JSON.stringify({ facts: added, deltas }));
  socket.end();
}

const { hostname, port } = new URL(url);
const socket = connect(Number(port || 4222), hostname);
const publish = (subject, reply, body) => {
  const payload = Buffer.from(JSON.stringify(body));
  socket.write(`PUB ${subject} ${reply} ${payload.length}\r\n`);
  socket.write(payload);
  socket.write('\r\n');
};
const pull = () => publish(`${api}.MSG.NEXT.METRICS.${name}`, `${inbox}.messages`, { batch: BATCH, expires: 5e9 });

let left = 0; // messages of the stream that have not come yet
let due = 0; // of those, how many the last pull asked for and has not had

function onMessage(subject, reply, headers, body) {
  if (subject === `${inbox}.created`) {
    const answer = JSON.parse(body);
    if (answer.error) throw new Error(answer.error.description);
    left = answer.num_pending;
    due = BATCH;
    return left ? pull() : finish();
  }
  if (!reply) return pull(); // a status of the pull: it has expired
  take(subject, JSON.parse(body));
  left -= 1;
  due -= 1;
  if (!left) return finish();
  if (!due) {
    due = BATCH;
    pull();
  }
}

let buffered = Buffer.alloc(0);
socket.on('data', (data) => {
  buffered = Buffer.concat([buffered, data]);
  for (;;) {
    const end = buffered.indexOf('\r\n');
    if (end < 0) return;
    const [verb, ...words] = buffered.subarray(0, end).toString().split(' ');
    let used = end + 2;
    if (verb === 'MSG' || verb === 'HMSG') {
      const size = Number(words.at(-1));
      if (buffered.length < used + size + 2) return;
      const head = verb === 'HMSG' ? Number(words.at(-2)) : 0;
      const reply = words.length === (head ? 5 : 4) ? words[2] : '';
      const headers = buffered.subarray(used, used + head).toString();
      onMessage(words[0], reply, headers, buffered.subarray(used + head, used + size).toString());
      used += size + 2;
    } else if (verb === 'INFO') {
      const { nonce } = JSON.parse(words.join(' '));
      const sig = sign(null, Buffer.from(nonce), privateKey(seed)).toString('base64url');
      const options = { jwt, sig, verbose: false, pedantic: false, headers: true, protocol: 1, lang: 'node', version: '1', name };
      socket.write(`CONNECT ${JSON.stringify(options)}\r\nSUB ${inbox}.> 1\r\n`);
      const config = { name, ack_policy: 'none', deliver_policy: 'all', filter_subject: filter, mem_storage: true };
      config.inactive_threshold = 30e9;
      publish(`${api}.CREATE.METRICS.${name}.${filter}`, `${inbox}.created`, { stream_name: 'METRICS', config });
    } else if (verb === 'PING') {
      socket.write('PONG\r\n');
    } else if (verb === '-ERR') {
      throw new Error(words.join(' '));
    }
    buffered = buffered.subarray(used);
  }
});
