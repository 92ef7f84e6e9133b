// YAML 1.1 for kubectl: "yes", 10:20 and 2021-01-01 are not strings there.
import { Document, visit } from "yaml";

/** Text that every YAML version reads as a string. */
const PLAIN = /^[A-Za-z/][\w./-]*$/;

/** Return a value as a YAML document. */
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

/** Return objects of Kubernetes as one List for kubectl. */
export function manifestText(items: readonly object[]): string {
  return yamlText({ apiVersion: "v1", kind: "List", items });
}
