// Just enough of Go's text/template for "weave report -f": paths and their JSON, between other text, as in
// "{{.Router.Name}}" and "{{json .IPAM.Entries}}".

/** A format that cannot be followed; the message says where. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** Fills a format with values of `data`; throws TemplateError. */
export function fillTemplate(format: string, data: unknown, toJson: (value: unknown) => string): string {
  return format.replace(/\{\{(.*?)\}\}/gs, (_, action: string) => {
    const match = /^\s*(json\s+)?((?:\.[A-Za-z0-9_]+)+|\.)\s*$/.exec(action);
    if (!match?.[2])
      throw new TemplateError(`cannot follow "{{${action}}}": use {{.Path}} or {{json .Path}}`);
    const value = resolve(match[2], data);
    return match[1] || typeof value === "object" ? toJson(value) : String(value);
  });
}

function resolve(path: string, data: unknown): unknown {
  let value = data;
  for (const key of path.split(".").filter(Boolean)) {
    if (typeof value !== "object" || value === null || !(key in value)) {
      throw new TemplateError(`there is no ${path} in the report ("${key}" is missing)`);
    }
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}
