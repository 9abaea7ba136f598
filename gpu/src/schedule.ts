/**
 * Which launches become one dispatch. They are kept in order only where one needs what another wrote: a launch joins the first
 * dispatch behind all that it needs in which there is room. Small ones may also join the very dispatch that they need: its parts
 * are then run one after the other, in one workgroup.
 */

import type { Launch, Memory } from './launch.ts';
import { shareVariables } from './shader.ts';

/** What a dispatch binds. */
export type Place = { readonly memory: Memory; readonly type: string; writes: boolean };

/** Joined kernels of which threads wait for each other have at most so many workgroups: large ones need their registers and memory for themselves. */
const MOST_TOGETHER = 512;
/** A launch beside those has at most so many. */
const MOST_BESIDE = 4096;
/** Workgroups of a launch that is run in turn with others, in one workgroup. */
const MOST_IN_TURN = 8;
/** Parts of a dispatch: the numbers of their workgroups fill one slice of constants. */
export const MOST_PARTS = 16;
/** How many dispatches back a launch looks for one with room. */
const LOOK_BACK = 12;

const countOf = ({ groups }: Launch) => groups[0] * groups[1] * groups[2];
const isSmall = (launch: Launch) => countOf(launch) <= (launch.kernel.shader?.together ? 1 : MOST_IN_TURN);

/** What a dispatch has room for: tensors, and bytes that threads of a workgroup share. */
export type Limits = { readonly places: number; readonly shared: number };

export class Group {
  readonly #limits: Limits;
  readonly launches: Launch[] = [];
  /** The place of each of a launch's tensors. */
  readonly slots: number[][] = [];
  /** The launch whose results it takes as they are stored, or −1. */
  readonly parents: number[] = [];
  readonly places: Place[] = [];
  serial = false;
  #isSmall = true;
  #largest = 0;
  /** Threads of kernels whose threads wait for each other, or 0; the most of all. */
  #together = 0;
  #threads = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Takes the launch, beside the others or behind them, if there is room. */
  take(launch: Launch, behind: boolean): boolean {
    if (this.launches.length > 0 && !this.#hasRoom(launch, behind || this.serial)) return false;
    const slots = this.#bind(launch);
    if (slots === null) return false;
    this.launches.push(launch);
    this.slots.push(slots);
    this.parents.push(-1);
    this.serial ||= behind;
    this.#isSmall &&= isSmall(launch);
    this.#largest = Math.max(this.#largest, countOf(launch));
    const { shader } = launch.kernel;
    if (shader !== null) {
      this.#threads = Math.max(this.#threads, shader.threads);
      if (shader.together) this.#together = shader.threads;
    }
    return true;
  }

  /** Takes a launch of which each thread goes on with one result of `parent`, in the thread that stores it. */
  follow(launch: Launch, parent: Launch, memory: Memory): boolean {
    if (launch.kernel.shader === null || parent.kernel.shader === null || this.launches.length === MOST_PARTS)
      return false;
    const slots = this.#bind(launch, memory);
    if (slots === null) return false;
    this.launches.push(launch);
    this.slots.push(slots);
    this.parents.push(this.launches.indexOf(parent));
    return true;
  }

  #hasRoom(launch: Launch, serial: boolean): boolean {
    const { shader } = launch.kernel;
    if (shader === null || this.launches[0]!.kernel.shader === null || this.launches.length === MOST_PARTS)
      return false;
    if (serial && !(this.#isSmall && isSmall(launch))) return false;
    const [count, { together }] = [countOf(launch), shader];
    if (together && count > MOST_TOGETHER) return false;
    if ((together || this.#together > 0) && Math.max(count, this.#largest) > MOST_BESIDE) return false;
    // All have workgroups of one size; where threads wait for each other it is their own, else a part of it.
    const threads = Math.max(this.#threads, shader.threads);
    const fits = (own: number, waits: boolean) => (waits ? own === threads : threads % own === 0);
    if (!fits(shader.threads, together) || !fits(this.#together || this.#threads, this.#together > 0)) return false;
    if (shader.shared.length === 0) return true;
    const shaders = [...this.launches.map(({ kernel }) => kernel.shader!), shader];
    return shareVariables(shaders).variables.reduce((sum, { bytes }) => sum + bytes, 0) <= this.#limits.shared;
  }

  /** Places for a launch's tensors but `taken`, or null. Of what is written there is one place: others of other types would overlap. */
  #bind({ kernel, memories }: Launch, taken?: Memory): number[] | null {
    if (kernel.shader === null) return [];
    const { bindings } = kernel.shader;
    const { places } = this;
    const slots: number[] = [];
    let added = 0;
    // This runs for each launch and each dispatch that might take it: nothing is made but the slots.
    for (let i = 0; i < memories.length; i++) {
      const memory = memories[i]!;
      const { type, writes } = bindings[i]!;
      let [slot, others] = [-1, false];
      if (memory !== taken) {
        for (let k = 0; k < places.length; k++) {
          const place = places[k]!;
          if (place.memory !== memory) continue;
          if (place.type === type) slot = k;
          else if (writes || place.writes) return null;
          else others = true;
        }
        // Of its own tensors the same may come twice, to be read.
        for (let k = 0; k < i && slot < 0; k++)
          if (memories[k] === memory && bindings[k]!.type === type) slot = slots[k]!;
        if (slot < 0) slot = places.length + added++;
        else if (writes && others) return null;
        if (places.length + added > this.#limits.places) return null;
      }
      slots.push(slot);
    }
    slots.forEach((slot, i) => {
      const { type, writes } = bindings[i]!;
      if (slot === places.length) places.push({ memory: memories[i]!, type, writes });
      else if (slot >= 0 && writes) places[slot]!.writes = true;
    });
    return slots;
  }

  /** Workgroups of the joined kernel for a launch: where threads do not wait for each other, one stands for several smaller ones. */
  workgroupsOf(k: number): number {
    const launch = this.launches[k]!;
    const { shader } = launch.kernel;
    const count = countOf(launch);
    return shader === null || shader.together ? count : Math.ceil((count * shader.threads) / this.#threads);
  }

  /** What its shader depends on. */
  get signature(): string {
    const parts = this.launches.map(({ kernel }, k) => `${kernel.id}:${this.slots[k]}<${this.parents[k]}`);
    return `${this.serial ? 'in turn' : 'beside'} ${parts.join(' ')}`;
  }
}

/** The dispatches of a batch, as they come about. */
export class Schedule {
  groups: Group[] = [];
  #number = 1;
  readonly #limits: Limits;
  readonly #joins: boolean;

  /** @param joins or each launch is a dispatch of its own */
  constructor(limits: Limits, joins: boolean) {
    this.#limits = limits;
    this.#joins = joins;
  }

  add(launch: Launch): void {
    const at = this.#placeOf(launch);
    const { writes, adds } = launch.kernel;
    launch.memories.forEach((memory, i) => {
      const { use } = memory;
      if (use.batch !== this.#number)
        Object.assign(use, { batch: this.#number, wrote: -1, read: -1, added: -1, by: null });
      if (adds[i]) use.added = Math.max(use.added, at);
      else if (writes[i]) [use.wrote, use.by] = [at, launch];
      else use.read = Math.max(use.read, at);
    });
  }

  #placeOf(launch: Launch): number {
    // The last group that it needs.
    let needed = -1;
    const { writes, adds } = launch.kernel;
    launch.memories.forEach(({ use }, i) => {
      if (use.batch !== this.#number) return;
      if (adds[i]) needed = Math.max(needed, use.wrote);
      else if (writes[i]) needed = Math.max(needed, use.wrote, use.read, use.added);
      else needed = Math.max(needed, use.wrote, use.added);
    });
    const { groups } = this;
    if (this.#joins) {
      if (launch.flow?.takes !== undefined && needed >= 0 && this.#follows(launch, needed)) return needed;
      if (needed >= 0 && groups[needed]!.take(launch, true)) return needed;
      for (let i = Math.max(needed + 1, groups.length - LOOK_BACK); i < groups.length; i++)
        if (groups[i]!.take(launch, false)) return i;
    }
    const group = new Group(this.#limits);
    group.take(launch, false);
    groups.push(group);
    return groups.length - 1;
  }

  /** Whether it goes on with what a launch of that group stores, and needs nothing else of the group. */
  #follows(launch: Launch, at: number): boolean {
    const { kernel, memories, flow } = launch;
    const taken = memories.find(
      ({ use }, i) => !kernel.writes[i] && use.batch === this.#number && use.wrote === at && flow!.takes![i],
    );
    const parent = taken?.use.by?.flow;
    if (taken === undefined || parent?.stores === undefined || parent.count !== flow!.count) return false;
    if (taken.use.by!.memories[parent.stores] !== taken) return false;
    for (const [i, memory] of memories.entries()) {
      const { use } = memory;
      if (memory === taken ? !flow!.takes![i] : use.batch === this.#number && Math.max(use.wrote, use.added) >= at)
        return false;
      if (kernel.writes[i] && use.batch === this.#number && use.read >= at) return false;
    }
    return this.groups[at]!.follow(launch, taken.use.by!, taken);
  }

  /** The dispatches so far, and from here on a new batch. */
  end(): Group[] {
    const { groups } = this;
    this.groups = [];
    this.#number++;
    return groups;
  }
}
