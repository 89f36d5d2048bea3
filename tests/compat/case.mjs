/** One case: what a client is asked to do, and the outcome as one text that can be compared. */
import { ask, meshctrl } from './client.mjs';
import { canonical, plain, shape } from './plain.mjs';
import { fetchFrom } from './servers.mjs';

const value = (of, server) => (typeof of === 'function' ? of(server.ids, server) : of);

/** The outcome on one server. What a case captures is kept in the server's ids by name. */
export async function perform(one, server) {
  if (one.only && one.only !== server.kind) return '(not asked)';
  try {
    const outcome = one.run ? await one.run(server) : one.ask ? await asked(one, server) : one.http ? await fetched(one, server) : await commanded(one, server);
    for (const [name, pattern] of Object.entries(one.capture ?? {})) {
      const found = pattern.exec(outcome.raw ?? outcome);
      if (found) server.ids[name] = found[1];
    }
    let text = outcome.raw ?? outcome;
    // What is printed as JSON is compared field by field, whatever their order.
    if (one.json && (outcome.exit ?? 0) === 0) text = canonical(one.json(JSON.parse(text), server.ids));
    text = plain(text, server);
    if (one.lines) text = text.split('\n').filter((line) => one.lines.test(line)).join('\n');
    if (one.clean) text = one.clean(text);
    if (one.sorted) text = text.split('\n').sort().join('\n');
    return (outcome.exit === undefined || outcome.exit === 0 ? text : outcome.exit === 'waits' ? `(no answer) ${text}` : `(exit ${outcome.exit}) ${text}`).trim();
  } catch (error) {
    return `(failed) ${error.message}`;
  }
}

async function commanded(one, server, tries = 3) {
  const { as, patience, input, until, cwd } = one;
  const { exit, output } = await meshctrl(server, one.command, value(one.args ?? [], server), { as, patience, input, until, cwd, credentials: value(one.credentials, server) });
  // meshctrl spoils every twentieth cookie of a tunnel (two `$` in a row become one); Outpost gives none of these out.
  if (server.kind === 'meshcentral' && tries > 1 && /^(shell|upload|download)$/.test(one.command) && !/Connected/.test(output)) return commanded(one, server, tries - 1);
  return { exit, raw: output };
}

async function asked(one, server) {
  const actions = one.answers ?? value(one.ask, server).map((message) => message.action);
  const enough = one.count ? (_, answers) => answers.filter((message) => actions.includes(message.action)).length >= one.count : undefined;
  const answers = await ask(server, value(one.ask, server), { as: one.as, wait: one.patience, enough });
  const wanted = answers.filter((message) => actions.includes(message.action));
  const shown = wanted.map((message) => (one.see ? one.see(message, server) : one.shape ? `${message.action} ${shape(message)}` : JSON.stringify(message, Object.keys(message).sort())));
  return { raw: shown.join('\n') || '(no answer)' };
}

async function fetched(one, server) {
  const how = value(one.http, server);
  const answer = await fetchFrom(server, how.path, how);
  const type = (answer.headers['content-type'] ?? 'none').split(';')[0];
  const parts = [`${answer.status}`];
  if (!how.statusOnly) parts.push(type);
  if (how.location) parts.push(answer.headers.location ?? '');
  if (how.body2text) parts.push(how.body2text(answer.body, answer));
  return { raw: parts.join(' ') };
}
