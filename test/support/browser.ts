/**
 * A real browser without a window: Debian's chromium, spoken to in the DevTools protocol through two
 * pipes. It cannot reach a network, and tells of everything that it would have fetched.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** How a page is looked at. */
export interface Look {
  readonly width: number;
  readonly height?: number;
  readonly isDark?: boolean;
  readonly hasScripts?: boolean;
}

/** A page as a browser has shown it. */
export interface Page {
  /** The addresses that it asked for, its own first. */
  readonly requests: readonly string[];
  /** What stood in the console, and exceptions of its scripts. */
  readonly complaints: readonly string[];
  /** The value of an expression in the page: as JSON. */
  evaluate(expression: string): Promise<unknown>;
  /** A PNG of what is between two heights. */
  screenshot(top: number, height: number): Promise<Uint8Array>;
}

// DevTools speaks on these descriptors, each message followed by a zero byte.
const TO_BROWSER = 3;
const FROM_BROWSER = 4;

/** A browser that runs until it is disposed of. */
export class Browser {
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #waiting = new Map<number, PromiseWithResolvers<Message>>();
  readonly #listeners = new Set<(message: Message) => void>();
  #last = 0;

  private constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), "bun-sockets-browser-"));
    this.#process = spawn(
      "chromium",
      [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--proxy-server=127.0.0.1:9",
        `--user-data-dir=${this.#folder}`,
        "--remote-debugging-pipe",
        "about:blank",
      ],
      {
        stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
        env: { ...process.env, HOME: this.#folder },
      },
    );
    for (const end of ["error", "exit"]) {
      this.#process.once(end, (why) => {
        for (const { reject } of this.#waiting.values())
          reject(new Error(`chromium ended: ${why}`));
      });
    }
    this.#listen(this.#process.stdio[FROM_BROWSER] as Readable);
  }

  /** Starts one. */
  static async start(): Promise<Browser> {
    const browser = new Browser();
    await browser.#send("Browser.getVersion");
    return browser;
  }

  /** Opens a file, waits until it is shown, and tells what happened. */
  async open(
    file: string,
    { width, height = 800, isDark = false, hasScripts = false }: Look,
  ): Promise<Page> {
    const { targetId } = await this.#send("Target.createTarget", { url: "about:blank" });
    const attached = await this.#send("Target.attachToTarget", { targetId, flatten: true });
    const session = attached["sessionId"] as string;
    const send = (method: string, params = {}) => this.#send(method, params, session);
    const requests: string[] = [];
    const complaints: string[] = [];
    const loaded = Promise.withResolvers<void>();
    this.#listeners.add((message) => {
      const { method, params = {} } = message;
      if ((message as { sessionId?: string }).sessionId !== session) return;
      if (method === "Network.requestWillBeSent")
        requests.push((params["request"] as { url: string }).url);
      if (method === "Log.entryAdded") complaints.push((params["entry"] as { text: string }).text);
      if (method === "Runtime.consoleAPICalled") complaints.push(JSON.stringify(params["args"]));
      if (method === "Runtime.exceptionThrown") complaints.push(JSON.stringify(params));
      if (method === "Page.loadEventFired") loaded.resolve();
    });
    for (const domain of ["Page", "Network", "Log", "Runtime"]) await send(`${domain}.enable`);
    await send("Emulation.setDeviceMetricsOverride", {
      ...{ width, height, deviceScaleFactor: 1, mobile: width < 600 },
    });
    await send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: isDark ? "dark" : "light" }],
    });
    await send("Emulation.setScriptExecutionDisabled", { value: !hasScripts });
    await send("Page.navigate", { url: Bun.pathToFileURL(file).href });
    await loaded.promise;
    return {
      requests,
      complaints,
      evaluate: async (expression) => {
        const { result, exceptionDetails } = await send("Runtime.evaluate", {
          ...{ expression: `JSON.stringify(${expression})`, returnByValue: true },
        });
        if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
        return JSON.parse((result as { value: string }).value);
      },
      screenshot: async (top, tall) => {
        const { data } = await send("Page.captureScreenshot", {
          captureBeyondViewport: true,
          clip: { x: 0, y: top, width, height: tall, scale: 1 },
        });
        return Uint8Array.fromBase64(data as string);
      },
    };
  }

  async #send(method: string, params = {}, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    const answer = Promise.withResolvers<Message>();
    this.#waiting.set(id, answer);
    const pipe = this.#process.stdio[TO_BROWSER] as Writable;
    pipe.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { result, error } = await answer.promise;
    this.#waiting.delete(id);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  #listen(pipe: Readable): void {
    let text = "";
    pipe.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      const messages = text.split("\0");
      text = messages.pop() as string;
      for (const written of messages) {
        const message: Message = JSON.parse(written);
        if (message.id !== undefined) this.#waiting.get(message.id)?.resolve(message);
        else for (const listener of this.#listeners) listener(message);
      }
    });
  }

  /** Ends it, and leaves nothing behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, "exit");
    // Asked to, it ends its own processes first: one that outlives it would write into the folder.
    await this.#send("Browser.close").catch(() => this.#process.kill("SIGKILL"));
    await ended;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
