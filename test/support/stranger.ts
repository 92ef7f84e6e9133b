// What somebody who is no peer can do to a router's port; tests run it in a host's namespace.
// usage: bun stranger.ts IP resets | silent | version1 NAME
import { connect, type Socket } from "node:net";
import { loadNacl } from "../../lib/crypto/nacl.ts";
import { Handshake } from "../../lib/mesh/handshake.ts";

const [ip = "", mode, name = ""] = process.argv.slice(2);

function open(): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(6783, ip);
    socket.on("error", () => resolve(socket));
    socket.once("connect", () => resolve(socket));
  });
}

if (mode === "resets") {
  for (let i = 0; i < 1500; i++) (await open()).resetAndDestroy();
} else if (mode === "silent") {
  await Promise.all(Array.from({ length: 600 }, open));
  console.log("600 connections");
  await new Promise(() => {});
} else {
  const encryption = { nacl: await loadNacl(), password: new TextEncoder().encode("another") };
  const features = { PeerNameFlavour: "mac", Name: name, NickName: "x", UID: "9", ConnID: "0" };
  const socket = await open();
  const handshake = new Handshake(
    { outbound: true, features: new Map(Object.entries(features)), encryption, maxVersion: 1 },
    (bytes) => socket.write(bytes),
  );
  socket.on("data", (bytes: Buffer) => {
    try {
      handshake.receive(bytes);
    } catch (error) {
      console.log(String(error));
    }
  });
  await new Promise((resolve) => socket.once("close", resolve));
  console.log("closed");
}
