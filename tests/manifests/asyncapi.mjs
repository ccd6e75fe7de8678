// Asks AsyncAPI's own parser whether a document is one. Takes the folder with node_modules, and the document.
import { createRequire } from "node:module";

const [folder, document] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${folder}/`)("@asyncapi/parser");
const { document: parsed, diagnostics } = await fromFile(new Parser(), document).parse();
// 0 is an error, 1 a warning; the rest says that there is a newer version of AsyncAPI.
const findings = diagnostics.filter((it) => it.severity <= 1);
for (const it of findings) console.error(`${document}: ${it.path.join(".")}: ${it.message}`);
if (!parsed || findings.length) process.exit(1);
