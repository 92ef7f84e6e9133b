/** A page, embedded in the executable: its text. */
declare module "*.md" {
  const text: string;
  // biome-ignore lint/style/noDefaultExport: that is how the bundler hands it over
  export default text;
}
