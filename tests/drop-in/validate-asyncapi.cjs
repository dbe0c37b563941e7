// Prints what the official parser has to say about an AsyncAPI document; ends with 0 only if that is nothing of weight.
const { readFileSync } = require('node:fs');
const { Parser } = require('@asyncapi/parser');

async function main(path) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(path, 'utf8'), { source: path });
  for (const { severity, code, message, path: where } of diagnostics)
    if (code !== 'asyncapi-latest-version') console.log(['error', 'warning', 'information', 'hint'][severity], code, where.join('.'), message);
  if (!document || diagnostics.some(({ severity }) => severity < 2)) process.exit(1);
  console.log(document.operations().all().map((operation) => `${operation.action()} ${operation.channels().all()[0].address()}`).join('\n'));
}

main(process.argv[2]);
