// YAML for kubectl, which reads it as 1.1 has it: there "yes", 10:20 and 2021-01-01 are no strings.
import { Document, visit } from "yaml";

/** What is a string to all who read YAML. */
const PLAIN = /^[A-Za-z/][\w./-]*$/;

/** One value as a document. */
export function yamlText(value: object): string {
  const document = new Document(value, { version: "1.1", aliasDuplicateObjects: false });
  document.directives = undefined;
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value === "string" && !PLAIN.test(node.value)) node.type = "QUOTE_DOUBLE";
    },
  });
  return document.toString({ lineWidth: 0 });
}

/** Objects of Kubernetes as one that kubectl takes. */
export function manifestText(items: readonly object[]): string {
  return yamlText({ apiVersion: "v1", kind: "List", items });
}
