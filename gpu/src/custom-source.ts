/**
 * A user's function as gpu.js takes it. The function's text is parsed, and written anew: names are ours, as minifiers may give any;
 * all variables are floats; sequences and the like, which minifiers make of statements, are statements again. What cannot be
 * translated is told by name, where the kernel is defined.
 */

import {
  ARITHMETIC,
  child,
  children,
  Expressions,
  fail,
  type Node,
  nameOf,
  type Source,
} from './custom-expressions.ts';
import { parseExpression } from './gpujs.ts';

export type KernelSource = {
  readonly params: readonly string[];
  /** The function as an expression, for who evaluates it. */
  readonly expression: string;
  /** The body in JavaScript of gpu.js, of arguments `names`; of a function that returns an array, entry `pick` of it. */
  body(names: readonly string[], pick?: Entry): string;
};

/** An entry of the array that a function returns. */
export type Entry = { readonly entry: number; readonly of: number };

/** Parses and checks a function's text. @param who in errors */
export function kernelSource(
  who: string,
  source: string,
  constants: Readonly<Record<string, number>>,
  returns: 'a number' | 'an array',
): KernelSource {
  const { text, fn, expression } = parsed(who, source);
  const params = children(fn, 'params').map(param => {
    if (param.type !== 'Identifier') fail({ who, text }, param, 'arguments are plain names');
    return nameOf(param);
  });
  const body = (names: readonly string[], pick?: Entry) =>
    new Writer({ who, text, fn, constants }, pick).write(params, names);
  if (returns === 'a number') body(params.map((_, i) => `a${i}`));
  return { params, expression, body };
}

type Parsed = { readonly text: string; readonly fn: Node; readonly expression: string };

function parsed(who: string, source: string): Parsed {
  let found: Parsed;
  try {
    found = { text: source, fn: parseExpression(source) as Node, expression: source };
  } catch (error) {
    const method = parsedMethod(who, source);
    if (method === null) {
      const why = error instanceof Error ? error.message : error;
      throw new TypeError(`${who}: expected the text of a function, got ${source.slice(0, 60)} (${why})`);
    }
    found = method;
  }
  const { text, fn } = found;
  if (fn.type !== 'ArrowFunctionExpression' && fn.type !== 'FunctionExpression')
    fail({ who, text }, fn, 'expected a function');
  if (fn.async || fn.generator) fail({ who, text }, fn, 'expected a function that is neither async nor a generator');
  return found;
}

/** A method's text, as `{ m(x) { … } }.m` has it, is no expression: it is the text of a function behind a name. */
function parsedMethod(who: string, source: string): Parsed | null {
  const text = `class {${source}\n}`;
  let tree: Node;
  try {
    tree = parseExpression(text) as Node;
  } catch {
    return null;
  }
  const members = tree.type === 'ClassExpression' ? children(child(tree, 'body'), 'body') : [];
  const [method] = members;
  if (members.length !== 1 || method?.type !== 'MethodDefinition') return null;
  if (method.kind === 'get' || method.kind === 'set')
    fail({ who, text }, method, `expected a function, and this is a ${method.kind}ter`);
  const fn = child(method, 'value');
  return { text, fn, expression: `function ${text.slice(fn.start, fn.end)}` };
}

class Writer extends Expressions {
  readonly #pick: Entry | undefined;
  #count = 0;
  #loops = 0;
  readonly #lines: string[] = [];

  constructor(source: Source, pick: Entry | undefined) {
    super(source);
    this.#pick = pick;
  }

  write(params: readonly string[], names: readonly string[]): string {
    for (const [i, param] of params.entries()) this.#declare(param, names[i]!, false);
    const body = child(this.source.fn, 'body');
    if (this.source.fn.expression) this.#return(body);
    else {
      this.#block(children(body, 'body'));
      if (!ends(children(body, 'body'))) this.fail(this.source.fn, 'it may come to its end without a return');
    }
    return this.#lines.join('\n');
  }

  #declare(name: string, value: string, isConst: boolean): string {
    const own = this.#copy(value);
    this.scopes.at(-1)!.set(name, { own, isConst });
    return own;
  }

  /** A value in a variable of its own, which may be assigned to. */
  #copy(value: string): string {
    const own = `v${this.#count++}`;
    this.#lines.push(`let ${own} = ${value};`);
    return own;
  }

  /** A new scope. Its names are its own from the start, though they may be used only behind their declarations. */
  #enter(statements: readonly Node[]): void {
    const declared = statements.flatMap(n =>
      n.type === 'VariableDeclaration' && n.kind !== 'var' ? children(n, 'declarations') : [],
    );
    this.scopes.push(new Map(declared.map(d => [nameOf(child(d, 'id')), { own: null, isConst: false }])));
  }

  // --- statements ---------------------------------------------------------------------------------------------------

  #block(statements: readonly Node[]): void {
    this.#enter(statements);
    let live = Infinity;
    for (const statement of statements) {
      this.#statement(statement);
      if (ends([statement])) live = Math.min(live, this.#lines.length);
    }
    // What no way leads to is checked, and not written.
    if (live < this.#lines.length) this.#lines.length = live;
    this.scopes.pop();
  }

  #statement(n: Node): void {
    switch (n.type) {
      case 'EmptyStatement':
        return;
      case 'BlockStatement':
        return this.#block(children(n, 'body'));
      case 'VariableDeclaration':
        if (n.kind !== 'let' && n.kind !== 'const') this.fail(n, `${n.kind} is not there, use let`);
        for (const d of children(n, 'declarations')) {
          if (child(d, 'id').type !== 'Identifier') this.fail(d, 'variables are plain names');
          const value = d.init ? this.number(this.#last(child(d, 'init'))) : null;
          const own = this.#declare(nameOf(child(d, 'id')), value ?? '0.0', n.kind === 'const');
          if (value === null) this.unset.add(own);
        }
        return;
      case 'ExpressionStatement':
        return n.directive ? undefined : this.#effect(child(n, 'expression'));
      case 'ReturnStatement':
        if (!n.argument) this.fail(n, 'expected a return with a value');
        return this.#return(child(n, 'argument'));
      case 'IfStatement':
        return this.#if(child(n, 'test'), child(n, 'consequent'), n.alternate ? child(n, 'alternate') : null);
      case 'WhileStatement':
        return this.#loop(null, child(n, 'test'), null, child(n, 'body'));
      case 'ForStatement': {
        const part = (field: string) => (n[field] ? child(n, field) : null);
        return this.#loop(part('init'), part('test'), part('update'), child(n, 'body'));
      }
      case 'DoWhileStatement': {
        const before = new Set(this.unset);
        this.#lines.push('while (0.0 < 1.0) {');
        this.#inLoop(child(n, 'body'));
        this.#lines.push(`if (${this.test(child(n, 'test'))}) {} else { break; } }`);
        this.unset = before; // a break may have come before what was assigned
        return;
      }
      case 'BreakStatement':
        if (n.label || this.#loops === 0) this.refuse(n);
        this.#lines.push('break;');
        return;
      default:
        this.refuse(n);
    }
  }

  #inLoop(body: Node): void {
    this.#loops++;
    this.#block([body]);
    this.#loops--;
  }

  #loop(init: Node | null, test: Node | null, update: Node | null, body: Node): void {
    this.#enter(init === null ? [] : [init]);
    if (init !== null) this.#statementOrEffect(init);
    const before = new Set(this.unset);
    this.#lines.push(`while (${test === null ? '0.0 < 1.0' : this.test(test)}) {`);
    this.#inLoop(body);
    if (update !== null) this.#effect(update);
    this.#lines.push('}');
    this.unset = before; // the body may never have run
    this.scopes.pop();
  }

  #statementOrEffect(n: Node): void {
    if (n.type === 'VariableDeclaration') this.#statement(n);
    else this.#effect(n);
  }

  #if(test: Node, yes: Node, no: Node | null): void {
    const way = (n: Node) => ({ write: () => this.#block([n]), returns: ends([n]) });
    this.#choice(`if (${this.test(this.#last(test))})`, way(yes), no && way(no));
  }

  /** Behind a choice a variable has a value where each way that leads there gave it one. */
  #choice(head: string, yes: Way, no: Way | null): void {
    const before = this.unset;
    const after = new Set<string>();
    const branch = (opening: string, { write, returns }: Way, unset: Set<string>) => {
      this.unset = new Set(unset);
      this.#lines.push(`${opening} {`);
      write();
      this.#lines.push('}');
      if (!returns) for (const own of this.unset) after.add(own);
    };
    branch(head, yes, before);
    if (no !== null) branch('else', no, before);
    else for (const own of before) after.add(own);
    this.unset = after;
  }

  /** The last of a sequence; what comes before it is done. */
  #last(n: Node): Node {
    if (n.type !== 'SequenceExpression') return n;
    const all = children(n, 'expressions');
    for (const one of all.slice(0, -1)) this.#effect(one);
    return this.#last(all.at(-1)!);
  }

  #return(n: Node): void {
    const value = this.#last(n);
    if (value.type === 'ConditionalExpression' && isStatement(value)) {
      const way = (field: string) => ({ write: () => this.#return(child(value, field)), returns: true });
      const head = `if (${this.test(this.#last(child(value, 'test')))})`;
      return this.#choice(head, way('consequent'), way('alternate'));
    }
    this.#lines.push(`return ${this.#pick === undefined ? this.number(value) : this.#entry(value, this.#pick)};`);
  }

  #entry(n: Node, pick: Entry): string {
    if (n.type === 'ConditionalExpression')
      return `(${this.test(child(n, 'test'))} ? ${this.#entry(child(n, 'consequent'), pick)} : ${this.#entry(child(n, 'alternate'), pick)})`;
    const all = n.type === 'ArrayExpression' ? children(n, 'elements') : [];
    if (all.length !== pick.of)
      this.fail(n, `expected an array of ${pick.of}, the gradient by each argument, as the result`);
    return this.number(all[pick.entry]!);
  }

  /** An expression for what it does. */
  #effect(n: Node): void {
    switch (n.type) {
      case 'SequenceExpression':
        for (const one of children(n, 'expressions')) this.#effect(one);
        return;
      case 'LogicalExpression':
      case 'ConditionalExpression': {
        const of = n.type === 'ConditionalExpression' ? ['test', 'consequent', 'alternate'] : ['left', 'right'];
        const [test, yes, no] = of.map(field => child(n, field)) as [Node, Node, Node | undefined];
        if (n.operator === '??') this.refuse(n);
        const condition = this.test(test);
        const way = (one: Node) => ({ write: () => this.#effect(one), returns: false });
        const head = n.operator === '||' ? `if (${condition}) {} else` : `if (${condition})`;
        return this.#choice(head, way(yes), no === undefined ? null : way(no));
      }
      case 'AssignmentExpression': {
        const operator = (n.operator as string).slice(0, -1);
        if (operator !== '' && !ARITHMETIC.includes(operator)) this.fail(n, `the operator ${n.operator} is not there`);
        const [left, right] = [child(n, 'left'), child(n, 'right')];
        const own = this.#target(n, left);
        // What is on the left is read first, and a sequence on the right may assign it.
        let old = operator === '' ? own : this.read(left)!;
        if (operator !== '' && right.type === 'SequenceExpression') old = this.#copy(old);
        const value = this.number(this.#last(right));
        this.#lines.push(`${own} = ${operator === '' ? value : `(${old} ${operator} ${value})`};`);
        this.unset.delete(own);
        return;
      }
      case 'UpdateExpression': {
        const own = this.#target(n, child(n, 'argument'));
        this.read(child(n, 'argument'));
        this.#lines.push(`${own} = (${own} ${(n.operator as string)[0]} 1.0);`);
        return;
      }
      default:
        this.fail(n, 'a statement that assigns nothing');
    }
  }

  #target(n: Node, left: Node): string {
    const target = left.type === 'Identifier' ? this.known(left) : undefined;
    if (target === undefined) this.fail(n, 'assignments are to variables of the function');
    if (target.isConst) this.fail(n, `${nameOf(left)} is const, which has one value; use let`);
    return target.own;
  }
}

/** One way of a choice. */
type Way = { write(): void; readonly returns: boolean };

/** Whether a choice of values does something on its way. */
function isStatement(n: Node): boolean {
  if (n.type !== 'ConditionalExpression') return n.type === 'SequenceExpression';
  return isStatement(child(n, 'consequent')) || isStatement(child(n, 'alternate'));
}

/** Whether every way through the statements returns. */
function ends(statements: readonly Node[]): boolean {
  return statements.some(n => {
    if (n.type === 'ReturnStatement') return true;
    if (n.type === 'BlockStatement') return ends(children(n, 'body'));
    return n.type === 'IfStatement' && !!n.alternate && ends([child(n, 'consequent')]) && ends([child(n, 'alternate')]);
  });
}
