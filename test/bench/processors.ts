// What the machine's processors have worked.
import { readFileSync } from "node:fs";

/**
 * Return the time that all processors together have been busy since the machine started, in seconds: user, nice, system, interrupts and
 * soft interrupts (proc_stat(5)), in which the kernel receives and forwards packets. os.cpus() leaves the last out.
 */
export function busySeconds(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    readFileSync("/proc/stat", "utf8").split("\n")[0] ?? ""
  )
    .split(/ +/)
    .map(Number);
  return (user + nice + system + irq + softirq) / 100;
}
