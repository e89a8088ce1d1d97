import type { CaptureInterface, CaptureSection, CaptureStatistics } from "../capture_interface.ts";

type Unset<Type> = { -readonly [Name in keyof Type]?: Type[Name] };

/** What a file says beside its packets: sections, interfaces, names. */
export class CaptureTables {
  readonly sections: CaptureSection[] = [];
  readonly interfaces: CaptureInterface[] = [];
  /** Names by the text of their address. */
  readonly names = new Map<string, Set<string>>();

  /** Adds a section. */
  addSection(section: Unset<CaptureSection> & Pick<CaptureSection, "offset" | "byteOrder">): void {
    this.sections.push({
      hardware: undefined,
      os: undefined,
      application: undefined,
      comment: undefined,
      ...section,
    });
  }

  /** Adds an interface to the last section. Returns its index. */
  addInterface(described: Unset<CaptureInterface> & Pick<CaptureInterface, "linkType">): number {
    this.interfaces.push({
      section: this.sections.length - 1,
      snapBytes: 0,
      resolution: 1e6,
      timeOffset: 0,
      checksumBytes: undefined,
      name: undefined,
      description: undefined,
      filter: undefined,
      os: undefined,
      hardware: undefined,
      speed: undefined,
      comment: undefined,
      statistics: undefined,
      ...described,
    });
    return this.interfaces.length - 1;
  }

  /** Says what was counted at an interface. */
  setStatistics(index: number, statistics: CaptureStatistics): void {
    const described = this.interfaces[index];
    if (described) this.interfaces[index] = { ...described, statistics };
  }

  /** Adds the name of an address. */
  addName(address: string, name: string): void {
    const names = this.names.get(address);
    if (names === undefined) this.names.set(address, new Set([name]));
    else names.add(name);
  }
}
