// What a program prints, line by line: a read has several of them, or the beginning of one.

export type Lines = AsyncGenerator<string, undefined>;

export async function* linesOf(stdout: ReadableStream<Uint8Array<ArrayBuffer>>): Lines {
  let rest = "";
  for await (const chunk of stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  return undefined;
}
