// Reads manifests of custom resources as JSON and prints what is wrong with them, as a JSON list of sentences.
// The validators check values but accept unknown fields; tsc checks the fields against the types.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "networking.gke.io": "gke",
  "cloud.google.com": "gke",
  "monitoring.coreos.com": "prometheus-operator",
};
const OPTIONS = { noEmit: true, strict: true, skipLibCheck: true, types: [], moduleDetection: ts.ModuleDetectionKind.Force };
const RESOLVED = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };

const module = ({ apiVersion, kind }) => `@kubernetes-models/${PACKAGES[apiVersion.split("/")[0]]}/${apiVersion}/${kind}`;

async function validatorError(manifest) {
  try {
    const models = await import(module(manifest));
    new models[manifest.kind](manifest).validate();
  } catch (error) {
    return `${manifest.kind}/${manifest.metadata.name}: ${error.message}`;
  }
}

function typeErrors(manifests) {
  const file = fileURLToPath(new URL(`./manifests-${process.pid}.ts`, import.meta.url));
  const lines = manifests.map((manifest, at) => {
    const from = `import type { I${manifest.kind} as T${at} } from "${module(manifest)}";`;
    return `${from} export const m${at}: T${at} = ${JSON.stringify(manifest)};`;
  });
  writeFileSync(file, lines.join("\n"));
  try {
    const program = ts.createProgram([file], { ...OPTIONS, ...RESOLVED });
    return ts.getPreEmitDiagnostics(program).map((found) => {
      const { kind, metadata } = manifests[found.file ? found.file.getLineAndCharacterOfPosition(found.start).line : 0];
      return `${kind}/${metadata.name}: ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`;
    });
  } finally {
    rmSync(file);
  }
}

const manifests = JSON.parse(readFileSync(0, "utf8"));
const ofValidators = await Promise.all(manifests.map(validatorError));
process.stdout.write(JSON.stringify([...ofValidators.filter(Boolean), ...typeErrors(manifests)]));
