/** A native library, embedded in the executable as a file: its path there. */
declare module "*.node" {
  const path: string;
  // biome-ignore lint/style/noDefaultExport: that is how the bundler hands it over
  export default path;
}
