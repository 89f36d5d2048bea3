/** docs/compatibility.md, made of what a run found. */

/** Whether an outcome is the one that was written down. */
export const matches = (wanted, found) => (wanted instanceof RegExp ? wanted.test(found) : wanted === found);

const cell = (text) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const said = (outcome) => {
  if (outcome instanceof RegExp) return '';
  const line = outcome.split('\n').find((one) => one.trim()) ?? '(nothing)';
  return line.length > 60 ? `${line.slice(0, 57)}…` : line;
};

/** The document. It holds nothing that changes from run to run. */
export function document(rows) {
  const explained = rows.filter((row) => row.known);
  const lines = [
    '# What MeshCentral’s clients find in Outpost',
    '',
    '`make compat` runs the same commands with the same `meshctrl.js`, control socket, HTTP and libmeshctrl clients against',
    'MeshCentral 1.1.55 and Outpost, side by side, and compares exit codes and what is printed. ✓ means the same; else',
    'both outcomes and the reason are given. This file is written by that run (`tests/compat/run.mjs --write`), and the run',
    'fails when it finds something else.',
    '',
    `${rows.length} cases: ${rows.length - explained.length} the same, ${explained.length} intended differences.`,
  ];
  let chapter;
  for (const row of rows) {
    if (row.chapter !== chapter) {
      chapter = row.chapter;
      lines.push('', `## ${chapter}`, '', '| Command | Case | Result |', '| --- | --- | --- |');
    }
    let result = '✓';
    if (row.known) {
      const [theirs, ours] = [said(row.known.meshcentral), said(row.known.outpost)];
      const both = [theirs && `MeshCentral: \`${theirs}\`.`, ours && `Outpost: \`${ours}\`.`].filter(Boolean).join(' ');
      result = `${both} ${row.known.reason}`.trim();
    }
    lines.push(`| ${cell(row.command)} | ${cell(row.what)} | ${cell(result)} |`);
  }
  return `${lines.join('\n')}\n`;
}
