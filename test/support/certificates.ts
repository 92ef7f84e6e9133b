// Certificates of a server for tests, made by openssl.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./hosts.ts";

export interface Certificates {
  /** Path of the CA's certificate. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A CA of that name and a certificate of it for an address, in a new folder `at`. */
export async function certificates(at: string, name: string, address: string): Promise<Certificates> {
  mkdirSync(at);
  const file = (what: string) => join(at, what);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const request = (kind: string[], out: string, keyOut: string, subject: string) =>
    must(["openssl", "req", ...kind, ...key, "-keyout", file(keyOut), "-out", file(out), "-subj", subject]);
  await request(["-x509", "-days", "2"], "ca.crt", "ca.key", `/CN=${name}`);
  await request(["-new"], "csr", "key", `/CN=${address}`);
  writeFileSync(file("ext"), `subjectAltName=IP:${address}\n`);
  const signed = ["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2"];
  const output = ["-extfile", file("ext"), "-out", file("crt")];
  await must(["openssl", "x509", "-req", "-in", file("csr"), ...signed, ...output]);
  return {
    ca: file("ca.crt"),
    cert: readFileSync(file("crt"), "utf8"),
    key: readFileSync(file("key"), "utf8"),
  };
}
